"""The station as a Modbus TCP server: the PLC writes control bits and reads status bits.

Requests are decoded and answered by pymodbus; the connections are handled here, because each needs to be known: one
connection at a time may write, and it is the PLC. Only the function codes that the documented map needs are answered.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import struct
from dataclasses import dataclass, field
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.pdu import DecodePDU, ExceptionResponse

from gonogo.line.adapter import Link
from gonogo.line.plc import Plc
from gonogo.line.plc_image import (
    CONTROL_REGISTERS,
    KNOWN_CONTROL,
    control_inputs,
    status_registers,
)
from gonogo.line.plc_settings import ModbusServer
from gonogo.line.tls import server_context

STATUS_ADDRESS = 100
"""Where the status can also be read as holding registers."""
BITS = 32
_COILS, _DISCRETE, _HOLDING, _INPUT = (1, 5, 15), (2,), (3, 6, 16, 22, 23), (4,)
FUNCTIONS = {*_COILS, *_DISCRETE, *_HOLDING, *_INPUT}
_BROKEN = (OSError, TimeoutError, asyncio.IncompleteReadError)
_IDLE_S = 60.0
"""A connection that asks nothing for this long is closed."""


@dataclass(kw_only=True, eq=False)
class _Registers:
    """The registers of one connection, with the methods that pymodbus' requests call."""

    shared: _Image
    writer: object
    """Identity of the connection."""

    async def async_getValues(  # noqa: N802  pymodbus' name
        self, device_id: int, func_code: int, address: int, count: int = 1
    ) -> list[int] | list[bool] | ExcCodes:
        """Return ``count`` coils, inputs or registers, or why they cannot be read."""
        return self.shared.read(self.writer, func_code, address, count)

    async def async_setValues(  # noqa: N802  pymodbus' name
        self, device_id: int, func_code: int, address: int, values: list[int] | list[bool]
    ) -> ExcCodes | None:
        """Write coils or registers; return why they cannot be written."""
        return self.shared.write(self.writer, func_code, address, [int(each) for each in values])


@dataclass(kw_only=True, eq=False)
class _Image:
    """The registers, shared by all connections."""

    settings: ModbusServer
    link: Link
    plc: Plc
    control: list[int] = field(default_factory=lambda: [0] * CONTROL_REGISTERS)
    owner: object | None = None
    """The connection that writes: the PLC."""

    def read(self, who: object, function: int, address: int, count: int) -> list[int] | list[bool] | ExcCodes:
        if who is self.owner:
            self.plc.step(control_inputs(self.control))  # the PLC is alive
        if function in _HOLDING and address < STATUS_ADDRESS:
            return _cut(self.control, address, count)
        if function in _COILS:
            return _cut(_bits(self.control), address, count)
        status = status_registers(self.plc.outputs(), order=self.settings.float_order)
        if function in _DISCRETE:
            return _cut(_bits(status), address, count)
        return _cut(status, address - STATUS_ADDRESS if function in _HOLDING else address, count)

    def write(self, who: object, function: int, address: int, values: list[int]) -> ExcCodes | None:
        if self.owner is not who:
            if self.owner is not None and self.plc.present:
                return ExcCodes.DEVICE_BUSY
            self.owner, self.control = None, [0] * CONTROL_REGISTERS  # nobody, or a connection that is silent
        wanted = list(self.control)
        if function in _COILS:
            if address + len(values) > BITS:
                return ExcCodes.ILLEGAL_ADDRESS
            bits = wanted[0] | wanted[1] << 16
            for place, value in enumerate(values, address):
                bits = bits | 1 << place if value else bits & ~(1 << place)
            wanted[:2] = bits & 0xFFFF, bits >> 16
        elif address + len(values) > CONTROL_REGISTERS:
            return ExcCodes.ILLEGAL_ADDRESS
        else:
            wanted[address : address + len(values)] = values
        if (wanted[0] | wanted[1] << 16) & ~KNOWN_CONTROL:
            return ExcCodes.ILLEGAL_VALUE
        self.owner, self.control = who, wanted
        self.plc.step(control_inputs(wanted))
        return None

    def gone(self, who: object) -> None:
        """Forget a connection that is closed."""
        if who is self.owner:
            self.owner, self.control = None, [0] * CONTROL_REGISTERS
            self.plc.lose("the PLC has closed the connection")


def _bits(registers: list[int]) -> list[bool]:
    return [bool(registers[place // 16] >> place % 16 & 1) for place in range(BITS)]


def _cut(values: list[Any], address: int, count: int) -> list[Any] | ExcCodes:
    return values[address : address + count] if address + count <= len(values) else ExcCodes.ILLEGAL_ADDRESS


async def serve(settings: ModbusServer, link: Link) -> None:
    """Listen until cancelled; see `gonogo.line.adapter`."""
    context: ssl.SSLContext | None = None if settings.tls is None else server_context(settings.tls)
    plc = Plc(settings, link)
    image = _Image(settings=settings, link=link, plc=plc)
    clients: set[asyncio.StreamWriter] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(clients) >= settings.clients or not _allowed(settings, writer, link):
            writer.close()
            return
        clients.add(writer)
        try:
            with contextlib.suppress(*_BROKEN, asyncio.CancelledError):  # cancelled when the adapter stops
                await _converse(reader, writer, image)
        finally:
            clients.discard(writer)
            image.gone(writer)
            writer.close()

    server = await asyncio.start_server(client, settings.host, settings.port, ssl=context)
    link.connected()
    try:
        async with asyncio.TaskGroup() as running:
            running.create_task(server.serve_forever())
            running.create_task(plc.keep_time())
    finally:
        plc.lose("the adapter has ended")
        for each in list(clients):
            each.close()


def _allowed(settings: ModbusServer, writer: asyncio.StreamWriter, link: Link) -> bool:
    if settings.allow_any_address or (settings.tls is not None and not settings.allow):
        return True
    address = ipaddress.ip_address(str(writer.get_extra_info("peername")[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None) or address
    if any(mapped in network for network in settings.allow):
        return True
    link.refused(f"a connection from {mapped}, which is not in allow")
    return False


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, image: _Image) -> None:
    registers, decoder = _Registers(shared=image, writer=writer), DecodePDU(True)
    while True:
        async with asyncio.timeout(_IDLE_S):
            transaction, protocol, length, unit = struct.unpack(">HHHB", await reader.readexactly(7))
            if protocol != 0 or not 2 <= length <= 254:
                image.link.refused("a message that is not Modbus TCP")
                return
            request = await reader.readexactly(length - 1)
        answer = await _answer(request, unit, registers, decoder)
        if answer[0] > 0x80:
            image.link.refused(f"function {request[0]}: exception {answer[1]}")
        writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        await writer.drain()


async def _answer(request: bytes, unit: int, registers: _Registers, decoder: DecodePDU) -> bytes:
    """Return the response to the bytes of a request, from its function code on."""
    if request[0] not in FUNCTIONS:
        return bytes((request[0] | 0x80, ExcCodes.ILLEGAL_FUNCTION))
    decoded = decoder.decode(request)
    if decoded is None:
        return bytes((request[0] | 0x80, ExcCodes.ILLEGAL_VALUE))
    try:
        response = await decoded.datastore_update(registers, unit)  # type: ignore[arg-type]
    except (struct.error, IndexError, ValueError):  # a request that is shorter than it says
        response = ExceptionResponse(request[0], ExcCodes.ILLEGAL_VALUE)
    return bytes((response.function_code,)) + response.encode()
