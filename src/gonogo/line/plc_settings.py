"""The settings of the adapters for PLCs: plain lines, Modbus, EtherNet/IP."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, IPvAnyNetwork, model_validator

from gonogo.capture.settings import Port, require_token
from gonogo.config import Strict
from gonogo.line.named import AdapterName, Seconds
from gonogo.line.plc_image import CONTROL_REGISTERS, STATUS_REGISTERS, FloatOrder


class TcpLines(Strict):
    """What plain text lines over TCP have in common; see `gonogo.line.tcp`."""

    terminator: Literal["lf", "crlf", "cr"] = "lf"
    """The end of every line, in both directions; ``crlf`` also accepts ``lf`` from the peer."""
    answers: Literal["json", "short"] = "json"
    """``short``: ``7;go;-1.53``."""
    heartbeat_s: Seconds | None = None
    """Send a line with a counter this often. Default: none."""


class TcpClient(TcpLines):
    """The same lines, at a PLC that listens."""

    kind: Literal["tcp_client"]
    name: AdapterName = "tcp"
    host: str
    port: Port
    token_file: Path | None = None
    """File with the token that the station sends as its first line."""
    timeout_s: Seconds = 5.0
    """Longest time to connect."""


class TcpServer(TcpLines):
    """Plain text lines over TCP: a trigger per line, answered by a line."""

    kind: Literal["tcp"]
    name: AdapterName = "tcp"
    host: str = "127.0.0.1"
    port: Port
    token_file: Path | None = None
    """File with the token that a client sends as its first line."""
    allow_without_token: bool = False
    """Accept triggers from every program that can reach the port."""
    clients: int = Field(default=8, ge=1, le=100)
    """Largest number of clients at a time."""

    @model_validator(mode="after")
    def _has_a_token(self) -> TcpServer:
        require_token("tcp: a trigger", self.token_file, allowed_without=self.allow_without_token)
        return self


class TlsServer(Strict):
    """Certificates of a server that asks its clients for theirs."""

    certificate: Path
    """PEM file with the certificate of the station."""
    key: Path
    """PEM file with its private key, which only this user may open."""
    client_ca: Path
    """PEM file with the certificates that sign those of the clients."""


class TlsClient(Strict):
    """Certificates of a client."""

    ca: Path
    """PEM file with the certificates that sign that of the peer."""
    certificate: Path | None = None
    """PEM file with the station's own certificate, if the peer asks for it."""
    key: Path | None = None
    """PEM file with its private key, which only this user may open."""

    @model_validator(mode="after")
    def _is_whole(self) -> TlsClient:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("expected certificate and key, found one of them")
        return self


class HandshakeSettings(Strict):
    """What all PLCs with the bit handshake have in common; see `gonogo.line.handshake`."""

    products: tuple[str, ...] = ()
    """The products with the numbers 1, 2, ... of ``Command``. Default: the station's products, in their order there."""
    part_is_id: bool = False
    """The part's name is unique for ever, and is the trigger's id: a repeated trigger gets the stored answer."""
    plc_timeout_s: Seconds = 2.0
    """A PLC that is silent for this long is gone."""
    plc_heartbeat_s: Seconds | None = None
    """A PLC that does not toggle its heartbeat bit for this long is gone. Default: the bit is not watched."""
    heartbeat_s: Seconds = 0.5
    """Interval of the station's heartbeat."""


class ModbusServer(HandshakeSettings):
    """The station is a Modbus TCP server, and the PLC its client."""

    kind: Literal["modbus_server"]
    name: AdapterName = "modbus"
    host: str = "127.0.0.1"
    port: Port
    """Usually 502, with TLS 802."""
    allow: tuple[IPvAnyNetwork, ...] = ()
    """Addresses or networks that may connect, as Modbus has no passwords."""
    allow_any_address: bool = False
    """Accept connections from every program that can reach the port."""
    clients: int = Field(default=8, ge=1, le=100)
    """Largest number of connections at a time; only one of them may write."""
    float_order: FloatOrder = "high_first"
    """Which half of the score lies in the register with the lower address."""
    tls: TlsServer | None = None
    """Encrypt, and accept only clients with a certificate (Modbus/TCP Security)."""

    @model_validator(mode="after")
    def _limits_its_clients(self) -> ModbusServer:
        if not (self.allow or self.allow_any_address or self.tls):
            raise ValueError(
                "modbus_server: Modbus has no passwords: expected allow, the addresses that may connect "
                '(allow = ["192.168.0.10"]), tls with the certificates of the clients, or allow_any_address = true'
            )
        return self


class ModbusClient(HandshakeSettings):
    """The PLC is a Modbus TCP server, and the station polls it and writes back."""

    kind: Literal["modbus_client"]
    name: AdapterName = "modbus"
    host: str
    port: Port = 502
    unit: int = Field(default=1, ge=0, le=255)
    control_address: int = Field(default=0, ge=0, le=65_000)
    """First of the holding registers that the PLC writes."""
    status_address: int = Field(default=100, ge=0, le=65_000)
    """First of the holding registers that the station writes."""
    poll_s: Seconds = 0.02
    """Pause between two readings."""
    timeout_s: Seconds = 1.0
    """Longest time of one request."""
    float_order: FloatOrder = "high_first"
    """Which half of the score lies in the register with the lower address."""
    tls: TlsClient | None = None

    @model_validator(mode="after")
    def _blocks_are_apart(self) -> ModbusClient:
        control, status = self.control_address, self.status_address
        if control < status + STATUS_REGISTERS and status < control + CONTROL_REGISTERS:
            raise ValueError(
                f"modbus_client: expected {CONTROL_REGISTERS} control and {STATUS_REGISTERS} status registers that "
                f"do not overlap, found them from {control} and from {status} on"
            )
        return self


TagName: TypeAlias = Annotated[str, Field(pattern=r"^(Program:\w{1,40}\.)?[A-Za-z_]\w{0,39}$")]


class EtherNetIp(HandshakeSettings):
    """A Logix controller with two INT arrays that hold the words of the map; the station is the client."""

    kind: Literal["ethernet_ip"]
    name: AdapterName = "ethernet_ip"
    path: str = Field(min_length=1, max_length=200)
    """Address of the controller, and its slot: ``192.168.0.10/0``."""
    control_tag: TagName = "Gonogo_Control"
    """INT array that the PLC writes."""
    status_tag: TagName = "Gonogo_Status"
    """INT array that the station writes."""
    poll_s: Seconds = 0.02
    """Pause between two readings."""
    timeout_s: Seconds = 1.0
    """Longest time of one message."""
    float_order: FloatOrder = "low_first"
    """Which half of the score lies in the element with the lower index; Logix copies (COP) the lower half first."""

    @model_validator(mode="after")
    def _tags_are_apart(self) -> EtherNetIp:
        if self.control_tag.lower() == self.status_tag.lower():
            raise ValueError(f"ethernet_ip: expected two tags, found {self.control_tag} for control and for status")
        return self
