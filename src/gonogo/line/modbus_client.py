"""The station as a Modbus TCP client: it polls the control registers of a PLC's server and writes the status back.

After every connection the first write sets all outputs to 0, so nothing of an earlier connection is left in the PLC.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from typing import Any

from pymodbus.client import AsyncModbusTcpClient, AsyncModbusTlsClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from gonogo.line.adapter import AdapterError, Link
from gonogo.line.plc import Plc, poll
from gonogo.line.plc_image import CONTROL_REGISTERS, Outputs, status_registers
from gonogo.line.plc_settings import ModbusClient
from gonogo.line.tls import client_context


async def serve(settings: ModbusClient, link: Link) -> None:
    """Serve one connection until it is lost; see `gonogo.line.adapter`.

    Raises:
        AdapterError: the PLC cannot be reached, does not answer in time, or refuses a request.
        InputError: a certificate file cannot be used.
    """
    logging.getLogger("pymodbus").setLevel(logging.CRITICAL)  # it dumps every lost connection; the link says why
    connection = _Connection(settings)
    plc = Plc(settings, link)
    try:
        await connection.open()
        await connection.write(Outputs())
        link.connected()
        await poll(connection, plc, poll_s=settings.poll_s)
    except ModbusException as error:
        raise AdapterError(f"{settings.host}:{settings.port}: {error}") from error
    finally:
        plc.lose("the connection to the PLC is lost")
        connection.close()


class _Connection:
    """One connection to the PLC; a request ends at once when it is lost."""

    def __init__(self, settings: ModbusClient) -> None:
        self._settings = settings
        self._lost = asyncio.Event()
        common: dict[str, Any] = {
            "port": settings.port,
            "timeout": settings.timeout_s,
            "retries": 0,
            "reconnect_delay": 0,
            "trace_connect": self._connects,
        }
        self._client = (
            AsyncModbusTcpClient(settings.host, **common)
            if settings.tls is None
            else AsyncModbusTlsClient(settings.host, sslctx=client_context(settings.tls), **common)
        )

    async def open(self) -> None:
        if not await self._client.connect():
            raise AdapterError(
                f"{self._settings.host}:{self._settings.port} cannot be reached. Is the PLC's Modbus server on?"
            )

    async def read(self) -> list[int]:
        """Return the control registers."""
        first, unit = self._settings.control_address, self._settings.unit
        found = await self._answer(self._client.read_holding_registers(first, count=CONTROL_REGISTERS, device_id=unit))
        if len(found.registers) != CONTROL_REGISTERS:
            raise AdapterError(f"expected {CONTROL_REGISTERS} registers from the PLC, found {len(found.registers)}")
        return list(found.registers)

    async def write(self, outputs: Outputs) -> None:
        """Write all status registers in one request, so the PLC never sees half of a change."""
        registers = status_registers(outputs, order=self._settings.float_order)
        first, unit = self._settings.status_address, self._settings.unit
        await self._answer(self._client.write_registers(first, registers, device_id=unit))

    def close(self) -> None:
        self._client.close()

    def _connects(self, connected: bool) -> None:
        if not connected:
            self._lost.set()

    async def _answer(self, request: Awaitable[ModbusPDU]) -> ModbusPDU:
        asked, lost = asyncio.ensure_future(request), asyncio.ensure_future(self._lost.wait())
        try:
            await asyncio.wait({asked, lost}, return_when=asyncio.FIRST_COMPLETED)
            if not asked.done():
                raise AdapterError("the PLC has closed the connection")
            response = asked.result()
        finally:
            asked.cancel()
            lost.cancel()
        if response.isError():
            raise AdapterError(
                f"the PLC refused a request with exception {response.exception_code}. Are control_address, "
                "status_address and unit those of the PLC?"
            )
        return response
