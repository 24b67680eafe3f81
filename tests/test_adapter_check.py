"""``gonogo station check`` reads the files of the adapters, and does nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from gonogo.errors import InputError
from gonogo.line.checking import check_adapter
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.line.plc_settings import EtherNetIp, ModbusClient, ModbusServer, TcpClient, TcpServer, TlsClient, TlsServer
from gonogo.line.settings import AdapterSettings
from gonogo.station.checking import check_station
from gonogo.testing.station import settings_for

NEEDS_FILES: tuple[AdapterSettings, ...] = (
    TcpServer(kind="tcp", port=9, token_file=Path("none")),
    TcpClient(kind="tcp_client", host="plc", port=9, token_file=Path("none")),
    ModbusServer(
        kind="modbus_server",
        port=9,
        tls=TlsServer(certificate=Path("none"), key=Path("none"), client_ca=Path("none")),
    ),
    ModbusClient(kind="modbus_client", host="plc", tls=TlsClient(ca=Path("none"))),
    Mqtt(kind="mqtt", user="line", password_file=Path("none")),
    Mqtt(kind="mqtt", tls=True, ca_file=Path("none"), allow_without_password=True),
    OpcuaServer(kind="opcua_server", users_file=Path("none")),
    OpcuaServer(kind="opcua_server", nodeset=Path("none")),
    OpcuaClient.model_validate(
        {
            "kind": "opcua_client",
            "url": "opc.tcp://plc:4840",
            "tags": dict.fromkeys(("trigger", "ready", "valid", "verdict"), "i=1"),
            "server_certificate": Path("none"),
        }
    ),
)
NEEDS_NONE: tuple[AdapterSettings, ...] = (
    TcpServer(kind="tcp", port=9, allow_without_token=True),
    ModbusServer(kind="modbus_server", port=9, allow_any_address=True),
    EtherNetIp(kind="ethernet_ip", path="192.168.0.10/0"),
    OpcuaServer(kind="opcua_server"),
)


@pytest.mark.parametrize("settings", NEEDS_FILES, ids=lambda each: each.kind)
def test_a_missing_file_is_found(settings: AdapterSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="none"):
        check_adapter(settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("settings", NEEDS_NONE, ids=lambda each: each.kind)
def test_an_adapter_without_files_is_fine(
    settings: AdapterSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert check_adapter(settings) == f"{settings.kind}; no files"
    assert not list(tmp_path.iterdir())


def test_the_check_of_a_station_has_a_line_for_each_adapter(tmp_path: Path) -> None:
    token = tmp_path / "token"
    adapters = (
        TcpServer(kind="tcp", name="left", port=9, token_file=token),
        TcpServer(kind="tcp", name="right", port=10, allow_without_token=True),
    )
    settings = settings_for(tmp_path).model_copy(update={"adapters": adapters})

    def found() -> dict[str, tuple[bool, str]]:
        checked = check_station(settings)
        return {each.what: (each.passed, each.detail) for each in checked if each.what.startswith("adapter")}

    before = found()
    assert list(before) == ["adapter left", "adapter right"]
    assert not before["adapter left"][0]
    assert str(token) in before["adapter left"][1]
    token.write_text("secret\n")
    token.chmod(0o600)
    assert found() == {"adapter left": (True, "tcp; token"), "adapter right": (True, "tcp; no files")}
