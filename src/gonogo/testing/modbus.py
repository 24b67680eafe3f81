"""PLCs that speak Modbus TCP, for tests: as the client of a station, and as the server that a station polls."""

from __future__ import annotations

import asyncio
import ssl
import threading
import time

from pymodbus.client import ModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.server import ModbusTcpServer, ModbusTlsServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gonogo.line.plc_image import (
    CONTROL_REGISTERS,
    STATUS_REGISTERS,
    Outputs,
    control_registers,
    status_outputs,
)
from gonogo.testing.plc_program import PlcProgram, Step, Taken
from gonogo.testing.station import patiently

_CONTROL, _STATUS = 0, 100
_READ_HOLDING, _WRITE_HOLDING = 3, 16


class ModbusPlc:
    """A PLC that is the Modbus client of a station with ``kind = "modbus_server"``."""

    def __init__(self, port: int, *, program: PlcProgram | None = None, timeout_s: float = 1.0) -> None:
        """Store the arguments; the first `ask` connects.

        Args:
            port: Port of the station on this machine.
            program: The PLC's program.
            timeout_s: Longest time of one request.
        """
        self.program = program or PlcProgram()
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=timeout_s, retries=0)

    def ask(self, part: str, *, pause_s: float = 0.002) -> Taken:
        """Ask for the verdict of a part, and wait for it.

        Args:
            part: Name of the part.
            pause_s: Pause between two cycles.

        Raises:
            OSError: the connection is lost; the part has no verdict.
        """
        program = self.program
        program.ask(part, time.monotonic())
        try:
            while True:
                inputs = program.scan(self.read(), time.monotonic())
                self.client.write_registers(_CONTROL, control_registers(inputs))
                if program.step is Step.NOTHING:
                    return program.taken[-1]
                time.sleep(pause_s)
        except ModbusException as error:
            self.close()
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Close the connection; the next `ask` opens a new one."""
        self.client.close()  # type: ignore[no-untyped-call]

    def read(self) -> Outputs:
        """Return what the station says.

        Raises:
            OSError: the connection is lost.
        """
        try:
            found = self.client.read_input_registers(0, count=STATUS_REGISTERS)
        except ModbusException as error:
            self.close()
            raise OSError(str(error)) from error
        if found.isError():
            raise OSError(str(found))
        return status_outputs(found.registers)


class ModbusPlcServer:
    """A PLC that is the Modbus server of a station with ``kind = "modbus_client"``; it runs in a thread."""

    def __init__(
        self,
        port: int,
        *,
        program: PlcProgram | None = None,
        cycle_s: float = 0.002,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Store the arguments; `start` opens the port.

        Args:
            port: Port on this machine.
            program: The PLC's program.
            cycle_s: Pause between two cycles.
            tls: Encrypts the connections.
        """
        self.program = program or PlcProgram()
        self._tls = tls
        self._port, self._cycle_s = port, cycle_s
        self._asked: str | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self.read: Outputs = Outputs()
        """What the station wrote last."""

    def start(self) -> None:
        """Open the port."""
        self._thread.start()

    def stop(self) -> None:
        """Close the port and all connections."""
        self._stopping.set()
        self._thread.join()

    def ask(self, part: str) -> Taken:
        """Ask for the verdict of a part, and wait for it."""
        before = len(self.program.taken)
        self._asked = part
        patiently(lambda: len(self.program.taken) > before, "the part has no verdict")
        return self.program.taken[-1]

    async def _serve(self) -> None:
        registers = SimData(_CONTROL, count=_STATUS + STATUS_REGISTERS, values=0, datatype=DataType.REGISTERS)
        device, address = SimDevice(1, simdata=[registers]), ("127.0.0.1", self._port)
        server = (
            ModbusTcpServer(device, address=address)
            if self._tls is None
            else ModbusTlsServer(device, address=address, sslctx=self._tls)
        )
        await server.serve_forever(background=True)
        try:
            while not self._stopping.is_set():
                await self._scan(server)
                await asyncio.sleep(self._cycle_s)
        finally:
            await server.shutdown()  # type: ignore[no-untyped-call]

    async def _scan(self, server: ModbusTcpServer) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self.program.ask(asked, time.monotonic())
        found = await server.async_getValues(1, _READ_HOLDING, _STATUS, STATUS_REGISTERS)
        self.read = status_outputs([int(each) for each in found])
        inputs = self.program.scan(self.read, time.monotonic())
        registers = control_registers(inputs)
        assert len(registers) == CONTROL_REGISTERS
        await server.async_setValues(1, _WRITE_HOLDING, _CONTROL, registers)
