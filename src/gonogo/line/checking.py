"""Check the files of an adapter, as ``gonogo station check`` does: nothing is opened, written or sent."""

from __future__ import annotations

from pathlib import Path

from gonogo.capture import read_token
from gonogo.errors import InputError
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.line.plc_settings import EtherNetIp, ModbusClient, ModbusServer, TcpClient, TcpServer
from gonogo.line.settings import AdapterSettings


def check_adapter(settings: AdapterSettings) -> str:
    """Read the files that an adapter needs, and return which are good. Whether the peer answers shows when it runs.

    Args:
        settings: One of the ``[[adapters]]``.

    Raises:
        InputError: a file is missing, cannot be used, or is open to other users.
        MissingExtraError: the package for the protocol is not installed.
    """
    files = _checked(settings)
    named = ", ".join(path.name for path in files) or "no files"
    return f"{settings.kind}; {named}"


def _checked(settings: AdapterSettings) -> list[Path]:
    match settings:
        case TcpServer() | TcpClient():
            read_token(settings.token_file)
            return _given(settings.token_file)
        case ModbusServer() | ModbusClient():
            return _modbus(settings)
        case EtherNetIp():
            from gonogo.line import ethernet_ip  # noqa: F401  as at the start: is the package installed?

            return []
        case Mqtt():
            return _mqtt(settings)
        case OpcuaServer():
            return _opcua_server(settings)
        case OpcuaClient():
            return _opcua_client(settings)


def _modbus(settings: ModbusServer | ModbusClient) -> list[Path]:
    from gonogo.line import modbus_client, modbus_server, tls  # noqa: F401  as at the start

    if settings.tls is None:
        return []
    if isinstance(settings, ModbusServer):
        tls.server_context(settings.tls)
        return _given(settings.tls.client_ca, settings.tls.certificate, settings.tls.key)
    tls.client_context(settings.tls)
    return _given(settings.tls.ca, settings.tls.certificate, settings.tls.key)


def _mqtt(settings: Mqtt) -> list[Path]:
    from gonogo.line import mqtt  # noqa: F401  as at the start: are the packages installed?
    from gonogo.line.mqtt_connection import read_secret, tls_context

    if settings.password_file is not None:
        read_secret(settings.password_file)
    tls_context(settings)
    return _given(settings.password_file, settings.ca_file, settings.certificate_file, settings.key_file)


def _opcua_server(settings: OpcuaServer) -> list[Path]:
    from gonogo.line.opcua.security import read_accounts

    if settings.users_file is not None:
        read_accounts(settings.users_file)
    if settings.nodeset is not None and not settings.nodeset.is_file():
        raise InputError(f"{settings.nodeset}: expected the official nodeset, found no file. Or leave nodeset out.")
    return _given(settings.users_file, settings.nodeset)


def _opcua_client(settings: OpcuaClient) -> list[Path]:
    from gonogo.line.opcua.security import read_certificate

    read_token(settings.password_file)
    if settings.server_certificate is not None:
        read_certificate(settings.server_certificate)
    return _given(settings.password_file, settings.server_certificate)


def _given(*files: Path | None) -> list[Path]:
    return [each for each in files if each is not None]
