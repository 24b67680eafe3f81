"""PLCs with EtherNet/IP, for tests: a driver that is a controller in memory, and a PLC's program beside a simulator."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pycomm3 import CommError, PycommError
from pycomm3.tag import Tag as Answered

from gonogo.line.adapter import AdapterError
from gonogo.line.ethernet_ip import LogixArrays
from gonogo.line.plc_image import CONTROL_REGISTERS, STATUS_REGISTERS, control_registers, status_outputs
from gonogo.testing.plc_program import PlcProgram, Step, Taken
from gonogo.testing.station import patiently

CONTROL, STATUS = "Gonogo_Control", "Gonogo_Status"


@dataclass(kw_only=True)
class FakeController:
    """A Logix controller in memory, whose program runs whenever the station reads; put it where pycomm3's driver is.

    Attributes:
        program: The PLC's program.
        tags: Signed words of each array.
        writes: What was written, in order: tag with range, and words.
        off: Refuse every call, as if the cable were out.
    """

    program: PlcProgram = field(default_factory=PlcProgram)
    tags: dict[str, list[int]] = field(
        default_factory=lambda: {CONTROL: [0] * CONTROL_REGISTERS, STATUS: [0] * STATUS_REGISTERS}
    )
    writes: list[tuple[str, list[int]]] = field(default_factory=list)
    off: bool = False
    _asked: str | None = None

    def __call__(self, path: str, **options: Any) -> FakeController:
        """Connect, as ``LogixDriver(path)`` does."""
        self._cfg: dict[str, Any] = {}
        self.socket_timeout = 0.0
        return self

    def ask(self, part: str) -> Taken:
        """Ask for the verdict of a part, and wait for it."""
        before = len(self.program.taken)
        self._asked = part
        patiently(lambda: len(self.program.taken) > before, "the part has no verdict")
        return self.program.taken[-1]

    def open(self) -> bool:
        """Connect."""
        if self.off:
            raise CommError("no route to host")
        return True

    def close(self) -> None:
        """Disconnect."""

    def read(self, tag: str) -> Answered:
        """Run the program, and read an array."""
        name, _, _ = _parsed(tag)
        self.open()
        if name not in self.tags:
            return Answered(tag, None, None, "Path segment error")
        self._scan()
        return Answered(tag, list(self.tags[name]), "INT", None)

    def write(self, *given: tuple[str, list[int]]) -> list[Answered]:
        """Write parts of arrays."""
        self.open()
        answered = []
        for tag, words in given:
            name, first, count = _parsed(tag)
            fits = name in self.tags and len(words) == count and first + count <= len(self.tags[name])
            if fits:
                self.tags[name][first : first + count] = words
                self.writes.append((tag, words))
            answered.append(Answered(tag, words, "INT", None if fits else "Access beyond end of the object"))
        return answered

    def _scan(self) -> None:
        asked, self._asked = self._asked, None
        if asked is not None:
            self.program.ask(asked, time.monotonic())
        status = status_outputs([word & 0xFFFF for word in self.tags[STATUS]], order="low_first")
        self.tags[CONTROL] = _signed(control_registers(self.program.scan(status, time.monotonic())))


class LogixPlc:
    """A PLC's program that runs outside a simulated controller, and reads and writes its arrays."""

    def __init__(self, path: str, *, program: PlcProgram | None = None, timeout_s: float = 1.0) -> None:
        """Store the arguments; the first `ask` connects.

        Args:
            path: Path of the simulated controller.
            program: The PLC's program.
            timeout_s: Longest time of one request.
        """
        self.program = program or PlcProgram()
        self._path, self._timeout_s = path, timeout_s
        self._arrays: LogixArrays | None = None

    def ask(self, part: str, *, pause_s: float = 0.002) -> Taken:
        """Ask for the verdict of a part, and wait for it.

        Raises:
            OSError: the connection is lost; the part has no verdict.
        """
        try:
            arrays = self._connected()
            self.program.ask(part, time.monotonic())
            while True:
                status = status_outputs(arrays.read(STATUS), order="low_first")
                arrays.write(CONTROL, control_registers(self.program.scan(status, time.monotonic())))
                if self.program.step is Step.NOTHING:
                    return self.program.taken[-1]
                time.sleep(pause_s)
        except (PycommError, AdapterError) as error:
            self.close()
            raise OSError(str(error)) from error

    def close(self) -> None:
        """Close the connection; the next `ask` opens a new one."""
        arrays, self._arrays = self._arrays, None
        if arrays is not None:
            arrays.close()

    def _connected(self) -> LogixArrays:
        if self._arrays is None:
            sizes = {CONTROL: CONTROL_REGISTERS, STATUS: STATUS_REGISTERS}
            arrays = LogixArrays(self._path, sizes, timeout_s=self._timeout_s)
            arrays.open()
            self._arrays = arrays
        return self._arrays


def _parsed(tag: str) -> tuple[str, int, int]:
    """Return name, first element and count of ``name[first]{count}``."""
    name, _, count = tag.removesuffix("}").partition("{")
    name, _, first = name.removesuffix("]").partition("[")
    return name, int(first or 0), int(count or 1)


def _signed(words: Sequence[int]) -> list[int]:
    return [word - 0x10000 if word >= 0x8000 else word for word in words]
