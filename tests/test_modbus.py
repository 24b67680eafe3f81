"""Modbus TCP: pymodbus' client and server are the PLC, and the station is the other end."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pymodbus.client import AsyncModbusTlsClient, ModbusTcpClient
from pymodbus.exceptions import ModbusException

from certificates_kit import make_certificates
from gonogo.errors import InputError
from gonogo.line import Adapter, open_adapter
from gonogo.line.plc_image import (
    OWN_CODES,
    REFUSED_PART,
    STATUS_REGISTERS,
    Control,
    Inputs,
    ResultCode,
    Status,
    control_registers,
    status_outputs,
)
from gonogo.line.plc_settings import ModbusClient, ModbusServer, TlsClient, TlsServer
from gonogo.line.tls import client_context, server_context
from gonogo.station import parse_settings
from gonogo.testing.line import FakeStation
from gonogo.testing.modbus import ModbusPlc, ModbusPlcServer
from gonogo.testing.plc_program import PlcProgram
from gonogo.testing.station import patiently

WINDOW_S = 5.0


def free_port() -> int:
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def serving(station: FakeStation, **given: Any) -> Iterator[tuple[Adapter, int]]:
    port = free_port()
    settings = ModbusServer(kind="modbus_server", port=port, **{"allow": ("127.0.0.1",), **given})
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    try:
        patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
        yield adapter, port
    finally:
        adapter.stop()


@contextmanager
def client_of(port: int) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=20, retries=0)
    assert client.connect()
    try:
        yield client
    finally:
        client.close()


def status_of(client: ModbusTcpClient) -> Status:
    return status_outputs(client.read_input_registers(0, count=STATUS_REGISTERS).registers).status


def write(client: ModbusTcpClient, control: Control, part: str = "") -> None:
    assert not client.write_registers(0, control_registers(Inputs(control=control, part=part))).isError()


def test_parts_are_judged_for_a_plc_that_is_the_client() -> None:
    station = FakeStation()
    with serving(station) as (adapter, port):
        plc = ModbusPlc(port, program=PlcProgram(timeout_s=60.0))
        taken = [plc.ask(f"part-{number}") for number in range(3)]
        plc.close()
        state = adapter.link.snapshot()
    assert [(each.part, each.verdict, each.score) for each in taken] == [
        (f"part-{number}", ResultCode.GO, -1.5) for number in range(3)
    ]
    assert [each["part"] for _, each in station.triggers] == ["part-0", "part-1", "part-2"]
    assert len({trigger_id for trigger_id, _ in station.triggers}) == 3
    assert (state.triggers, state.delivered, state.undelivered) == (3, 3, 0)


def test_parts_are_judged_for_a_plc_that_is_the_server() -> None:
    station, port = FakeStation(), free_port()
    plc = ModbusPlcServer(port, program=PlcProgram(timeout_s=60.0))
    plc.start()
    settings = ModbusClient(kind="modbus_client", host="127.0.0.1", port=port, part_is_id=True, poll_s=0.001)
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    try:
        taken = [plc.ask(f"part-{number}") for number in range(3)]
    finally:
        adapter.stop()
        plc.stop()
    assert [(each.part, each.verdict) for each in taken] == [(f"part-{number}", ResultCode.GO) for number in range(3)]
    assert [trigger_id for trigger_id, _ in station.triggers] == ["part-0", "part-1", "part-2"]


def test_a_plcs_server_with_tls_is_polled(certificates: Path) -> None:
    station, port = FakeStation(), free_port()
    tls = TlsServer(**own(certificates, "plc"), client_ca=certificates / "ca.pem")
    plc = ModbusPlcServer(port, program=PlcProgram(timeout_s=60.0), tls=server_context(tls))
    plc.start()
    stranger = {"certificate": None, "key": None}
    for given, connects in ((own(certificates, "station"), True), (stranger, False)):
        settings = ModbusClient(
            kind="modbus_client",
            host="127.0.0.1",
            port=port,
            tls=TlsClient(ca=certificates / "ca.pem", **given),
        )
        adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
        try:
            if connects:
                assert plc.ask("A").verdict is ResultCode.GO
            else:
                patiently(lambda a=adapter: a.link.snapshot().trouble != "not connected yet", "no trouble")  # type: ignore[misc]
                assert not adapter.link.snapshot().connected
        finally:
            adapter.stop()
    plc.stop()


def test_after_a_restart_of_the_plcs_server_the_station_comes_back_with_safe_outputs() -> None:
    station, port = FakeStation(), free_port()
    settings = ModbusClient(kind="modbus_client", host="127.0.0.1", port=port, poll_s=0.001, timeout_s=20.0)
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    try:
        for part in ("A", "B"):
            plc = ModbusPlcServer(port, program=PlcProgram(timeout_s=60.0))
            plc.start()
            assert plc.ask(part).verdict is ResultCode.GO
            plc.stop()
            patiently(lambda: not adapter.link.snapshot().connected, "the lost connection is not noticed")
    finally:
        adapter.stop()
    assert len(station.triggers) == 2


def test_bits_and_registers_are_the_same_image() -> None:
    with serving(FakeStation()) as (_, port), client_of(port) as client:
        assert not client.write_coil(0, True).isError()
        assert client.read_holding_registers(0, count=2).registers == [1, 0]
        assert client.read_coils(0, count=32).bits == [True] + [False] * 31
        bits = client.read_discrete_inputs(0, count=32).bits
        assert [place for place, on in enumerate(bits) if on and place != 24] == [0, 7]
        high = client.read_holding_registers(100, count=STATUS_REGISTERS).registers
        assert high[0] == client.read_input_registers(0, count=1).registers[0] == 0b1000_0001


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda client: client.write_registers(100, [1]), 2),
        (lambda client: client.write_registers(18, [1, 1]), 2),
        (lambda client: client.write_coils(31, [True, True]), 2),
        (lambda client: client.write_register(0, 1 << 5), 3),
        (lambda client: client.write_coil(25, True), 3),
        (lambda client: client.read_holding_registers(19, count=1), 2),
        (lambda client: client.read_holding_registers(100, count=STATUS_REGISTERS + 1), 2),
        (lambda client: client.read_input_registers(STATUS_REGISTERS, count=1), 2),
        (lambda client: client.read_discrete_inputs(0, count=33), 2),
        (lambda client: client.read_exception_status(), 1),
        (lambda client: client.diag_force_listen_only(no_response_expected=False), 1),
    ],
)
def test_what_is_not_in_the_map_is_refused_with_its_exception(call: Any, code: int) -> None:
    with serving(FakeStation()) as (_, port), client_of(port) as client:
        found = call(client)
        assert found.isError()
        assert found.exception_code == code


def test_only_one_connection_may_write() -> None:
    with serving(FakeStation()) as (_, port), client_of(port) as first:
        write(first, Control.TRIGGER_ENABLE)
        with client_of(port) as second:
            assert second.write_registers(0, [0]).exception_code == 6
            assert Status.TRIGGER_READY in status_of(second)
            first.close()
            patiently(lambda: not second.write_registers(0, [0]).isError(), "the second one may not write")


def test_a_silent_connection_does_not_keep_the_next_plc_out() -> None:
    with serving(FakeStation(), plc_timeout_s=0.05) as (_, port), client_of(port) as silent:
        write(silent, Control.TRIGGER_ENABLE)
        with client_of(port) as second:
            patiently(lambda: not second.write_registers(0, [1]).isError(), "the second one may not write")


def test_a_verdict_for_a_plc_that_has_gone_is_recorded_as_a_fault() -> None:
    station = FakeStation(delay_s=0.3)
    with serving(station) as (adapter, port):
        with client_of(port) as client:
            write(client, Control.TRIGGER_ENABLE)
            write(client, Control.TRIGGER_ENABLE | Control.TRIGGER, "A")
        patiently(lambda: adapter.link.snapshot().undelivered == 1, "it is not reported")
        assert adapter.link.snapshot().delivered == 0
    assert len(station.late) == 1


def test_a_second_trigger_makes_both_parts_faults() -> None:
    station = FakeStation(delay_s=0.3)
    with serving(station, plc_timeout_s=30.0) as (adapter, port), client_of(port) as client:
        write(client, Control.TRIGGER_ENABLE)
        for part in ("A", "B"):
            write(client, Control.TRIGGER_ENABLE)
            write(client, Control.TRIGGER_ENABLE | Control.TRIGGER, part)
        patiently(lambda: Status.RESULTS_VALID in status_of(client), "no result")
        assert status_of(client) & (Status.JOB_PASS | Status.FAULT) == Status.FAULT
        write(client, Control.TRIGGER_ENABLE | Control.INSPECTION_RESULTS_ACK)
        patiently(lambda: len(station.late) == 2, "both are not recorded")
        assert adapter.link.snapshot().delivered == 1


def test_a_product_is_selected_by_its_number() -> None:
    station = FakeStation(products=("chip", "pill"))
    with serving(station) as (_, port), client_of(port) as client:
        write(client, Control.TRIGGER_ENABLE)
        command = Control.TRIGGER_ENABLE | Control.EXECUTE_COMMAND
        client.write_registers(0, control_registers(Inputs(control=command, command=2)))
        patiently(lambda: Status.COMMAND_COMPLETED in status_of(client), "the product is not changed")
        assert client.read_input_registers(2, count=1).registers == [2]
        write(client, Control.TRIGGER_ENABLE)
        client.write_registers(0, control_registers(Inputs(control=command, command=3)))
        assert Status.COMMAND_FAILED in status_of(client)
    assert station.selected == [("pill", "modbus_server modbus")]


def test_a_name_that_is_not_allowed_is_a_fault() -> None:
    with serving(FakeStation()) as (_, port):
        plc = ModbusPlc(port, program=PlcProgram(timeout_s=60.0))
        taken = plc.ask("a\x07b")
        plc.close()
    assert (taken.verdict, taken.fault_code) == (ResultCode.FAULT, REFUSED_PART)
    assert REFUSED_PART in OWN_CODES


def test_requests_in_one_packet_are_all_answered_in_order() -> None:
    with serving(FakeStation()) as (_, port), socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
        read = struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 0, 1)
        peer.sendall(read + struct.pack(">HHHBBHH", 8, 0, 6, 1, 4, 0, 1))
        stream = peer.makefile("rb")
        assert [stream.read(11)[:2] for _ in range(2)] == [b"\0\7", b"\0\x08"]


@pytest.mark.parametrize(
    ("sent", "closed"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", True),
        (struct.pack(">HHHB", 1, 0, 0, 1), True),
        (struct.pack(">HHHBB", 1, 0, 2, 1, 16), False),
        (struct.pack(">HHHBBHHB", 1, 0, 7, 1, 16, 0, 9, 200), False),
        (struct.pack(">HHHBB", 1, 0, 2, 1, 0x90), False),
    ],
)
def test_malformed_requests_end_nothing_but_themselves(sent: bytes, closed: bool) -> None:
    with serving(FakeStation()) as (_, port):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
            peer.sendall(sent)
            found = peer.recv(100)
            assert (found == b"") is closed
            assert closed or found[7] > 0x80
        assert ModbusPlc(port, program=PlcProgram(timeout_s=60.0)).ask("A").verdict is ResultCode.GO


def test_other_addresses_and_too_many_clients_are_refused() -> None:
    with serving(FakeStation(), allow=("10.0.0.0/8",)) as (adapter, port):
        client = ModbusTcpClient("127.0.0.1", port=port, timeout=20, retries=0)
        client.connect()
        with pytest.raises((ModbusException, OSError)):
            client.read_coils(0)
        assert "10.0.0.0/8" not in adapter.link.trouble
        assert "127.0.0.1" in adapter.link.trouble
    with serving(FakeStation(), clients=1) as (_, port), client_of(port) as first:
        write(first, Control.TRIGGER_ENABLE)
        second = ModbusTcpClient("127.0.0.1", port=port, timeout=20, retries=0)
        second.connect()
        with pytest.raises((ModbusException, OSError)):
            second.read_coils(0)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, certificates of a station and a PLC, and those of a stranger."""
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("station", "plc"))


def own(folder: Path, name: str) -> dict[str, Path]:
    return {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}


def asks_in_vain(port: int, context: ssl.SSLContext) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as plain:
        try:
            secured = context.wrap_socket(plain, server_hostname="127.0.0.1")
            secured.sendall(struct.pack(">HHHBBHH", 7, 0, 6, 1, 4, 0, 1))
            return secured.recv(1) == b""
        except OSError:
            return True


async def writes_a_coil(port: int, context: ssl.SSLContext) -> bool:
    client = AsyncModbusTlsClient("127.0.0.1", port=port, sslctx=context, timeout=20, retries=0, reconnect_delay=0)
    assert await client.connect()
    try:
        return not (await client.write_coil(0, True)).isError()
    finally:
        client.close()


def test_with_tls_only_a_plc_with_a_certificate_is_served(certificates: Path) -> None:
    tls = TlsServer(**own(certificates, "station"), client_ca=certificates / "ca.pem")
    with serving(FakeStation(), allow=(), tls=tls) as (_, port):
        context = client_context(TlsClient(ca=certificates / "ca.pem", **own(certificates, "plc")))
        assert asyncio.run(writes_a_coil(port, context))
        strangers = [
            TlsClient(ca=certificates / "ca.pem"),
            TlsClient(ca=certificates / "ca.pem", **own(certificates, "stranger")),
        ]
        for each in strangers:
            assert asks_in_vain(port, client_context(each))


def test_a_key_that_others_may_open_is_refused(certificates: Path) -> None:
    (certificates / "plc.key").chmod(0o644)
    try:
        with pytest.raises(InputError, match="chmod 600"):
            client_context(TlsClient(ca=certificates / "ca.pem", **own(certificates, "plc")))
    finally:
        (certificates / "plc.key").chmod(0o600)
    with pytest.raises(InputError, match="PEM"):
        server_context(TlsServer(**own(certificates, "plc"), client_ca=certificates / "none.pem"))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"kind": "modbus_server", "port": 502}, "no passwords"),
        ({"kind": "modbus_server", "port": 502, "allow": ("everyone",)}, "allow"),
        ({"kind": "modbus_client", "host": "a", "status_address": 10}, "overlap"),
    ],
)
def test_unsafe_settings_are_refused(given: dict[str, Any], why: str) -> None:
    kind = ModbusServer if given["kind"] == "modbus_server" else ModbusClient
    with pytest.raises(ValidationError, match=why):
        kind(**given)


def test_half_of_a_certificate_is_refused() -> None:
    with pytest.raises(ValidationError, match="certificate and key"):
        TlsClient(ca=Path("a"), key=Path("b"))


@pytest.mark.parametrize(
    "adapter",
    [
        'kind = "modbus_server"\nport = 502\nallow = ["192.168.0.10", "10.0.0.0/8"]',
        'kind = "modbus_client"\nhost = "192.168.0.10"\nproducts = ["chip"]',
    ],
)
def test_a_station_reads_the_settings(adapter: str) -> None:
    text = f"""
station = "line1"
bundle = "b"
ledger = "l.ledger"
state_dir = "state"
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[[adapters]]
{adapter}
"""
    assert parse_settings(text).adapters[0].name == "modbus"
