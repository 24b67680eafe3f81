"""The PLC's side of the bit handshake: the Python twin of the function block in ``docs/modbus.md``."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from gonogo.line.plc_image import Control, Inputs, Outputs, ResultCode, Status

_VERDICTS = {Status.JOB_PASS: ResultCode.GO, Status.NO_GO: ResultCode.NO_GO, Status.REVIEW: ResultCode.REVIEW}
_ALL = Status.JOB_PASS | Status.NO_GO | Status.REVIEW | Status.FAULT


class Step(StrEnum):
    """What the PLC waits for."""

    NOTHING = "nothing"
    READY = "ready"
    TRIGGER_ACK = "trigger_ack"
    RESULT = "result"
    RELEASE = "release"


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What became of a part."""

    part: str
    inspection_id: int
    """0 if there was no result."""
    verdict: ResultCode
    """``NONE`` if the station did not answer in time: the part must be treated as a fault."""
    score: float = 0.0
    fault_code: int = 0
    after_s: float = field(default=0.0, compare=False)
    """Seconds from `PlcProgram.ask` to the result."""


class PlcProgram:
    """Triggers one part at a time and takes its result; call `scan` in every cycle.

    The verdict counts only when the station says that the acknowledgement was in time, so both keep the same books.
    """

    def __init__(self, *, timeout_s: float = 3.0, buffering: bool = True) -> None:
        """Wait for a part.

        Args:
            timeout_s: Longest time of one step; afterwards the part has no result.
            buffering: Set ``BUFFER_RESULTS_ENABLE``.
        """
        self.step = Step.NOTHING
        self.taken: list[Taken] = []
        """What became of the parts, in order."""
        self._timeout_s = timeout_s
        self._always = Control.TRIGGER_ENABLE | (Control.BUFFER_RESULTS_ENABLE if buffering else Control(0))
        self._part, self._number, self._since_s, self._asked_s = "", 0, 0.0, 0.0
        self._verdict: Taken | None = None

    def ask(self, part: str, now_s: float) -> None:
        """Ask for the verdict of a part."""
        self._part, self._number, self._asked_s, self._verdict = part, 0, now_s, None
        self._go(Step.READY, now_s)

    def scan(self, read: Outputs, now_s: float, *, heartbeat: bool = False) -> Inputs:
        """Take what was read from the station, and return what is to be written."""
        if self.step is not Step.NOTHING and now_s - self._since_s > self._timeout_s:
            self._end(None)
        control = self._always | (Control.HEARTBEAT if heartbeat else Control(0))
        match self.step:
            case Step.READY if Status.TRIGGER_READY in read.status:
                self._go(Step.TRIGGER_ACK, now_s)
            case Step.TRIGGER_ACK if Status.TRIGGER_ACK in read.status:
                self._number = read.acquisition_id
                self._go(Step.RESULT, now_s)
            case Step.RESULT if Status.RESULTS_VALID in read.status and read.inspection_id == self._number:
                self._verdict = self._latched(read, now_s)
                self._go(Step.RELEASE, now_s)
            case Step.RELEASE if Status.RESULTS_VALID not in read.status:
                taken = Status.RESULT_TAKEN in read.status and read.inspection_id == self._number
                self._end(self._verdict if taken else None)
            case Step.RELEASE if Status.FAULT in read.status and self._verdict != self._latched(read, now_s):
                self._go(Step.RESULT, now_s)  # withdrawn before the acknowledgement arrived: take it again
        if self.step is Step.TRIGGER_ACK:
            control |= Control.TRIGGER
        if self.step is Step.RELEASE:
            control |= Control.INSPECTION_RESULTS_ACK
        return Inputs(control=control, part=self._part)

    def _latched(self, read: Outputs, now_s: float) -> Taken:
        verdict = _VERDICTS.get(read.status & _ALL, ResultCode.FAULT)
        return Taken(
            part=self._part,
            inspection_id=read.inspection_id,
            verdict=verdict,
            score=read.score,
            fault_code=read.fault_code,
            after_s=now_s - self._asked_s,
        )

    def _end(self, verdict: Taken | None) -> None:
        self.taken.append(verdict or Taken(part=self._part, inspection_id=0, verdict=ResultCode.NONE))
        self.step = Step.NOTHING

    def _go(self, step: Step, now_s: float) -> None:
        self.step, self._since_s = step, now_s
