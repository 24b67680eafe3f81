"""The settings of the adapters: the ``[[adapters]]`` tables of ``station.toml``."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Field

from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.line.plc_settings import EtherNetIp, ModbusClient, ModbusServer, TcpClient, TcpServer

AdapterSettings: TypeAlias = Annotated[
    TcpServer | TcpClient | ModbusServer | ModbusClient | EtherNetIp | OpcuaServer | OpcuaClient | Mqtt,
    Field(discriminator="kind"),
]
"""Every kind of adapter; `gonogo.line.opening` opens them."""
