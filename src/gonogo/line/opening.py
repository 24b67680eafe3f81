"""Open the adapters that the settings of a station name."""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from functools import partial

from gonogo.line.adapter import Adapter, Link, StationPort
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.line.plc_settings import EtherNetIp, ModbusClient, ModbusServer, TcpClient, TcpServer
from gonogo.line.settings import AdapterSettings


def open_adapter(settings: AdapterSettings, station: StationPort, *, window_s: float) -> Adapter:
    """Return an adapter, not started yet.

    Args:
        settings: One of the ``[[adapters]]``.
        station: The station.
        window_s: Time limit for an answer, from the trigger on.

    Raises:
        InputError: a file that the settings name cannot be read.
    """
    return Adapter(_served(settings), Link(station, name=settings.name, kind=settings.kind, window_s=window_s))


def _served(settings: AdapterSettings) -> Callable[[Link], Awaitable[None]]:
    match settings:
        case TcpServer():
            from gonogo.line import tcp  # imported here so that a station imports only the protocols that it speaks

            return partial(tcp.serve, settings)
        case TcpClient():
            from gonogo.line import tcp

            return partial(tcp.serve_client, settings)
        case ModbusServer():
            from gonogo.line import modbus_server

            return partial(modbus_server.serve, settings)
        case ModbusClient():
            from gonogo.line import modbus_client

            return partial(modbus_client.serve, settings)
        case EtherNetIp():
            from gonogo.line import ethernet_ip

            return partial(ethernet_ip.serve, settings)
        case Mqtt():
            from gonogo.line import mqtt

            return partial(mqtt.serve, settings, connections=itertools.count())
        case OpcuaServer():
            from gonogo.line.opcua import server

            return partial(server.serve, settings)
        case OpcuaClient():
            from gonogo.line.opcua import client

            return partial(client.serve, settings)
