"""The bit handshake between a PLC and a station, without any input or output: what came in, and when, decides.

A part goes through ``IDLE``, ``JUDGING``, ``RESULT`` and ``RELEASING``; in ``GONE`` no PLC is there. Go is on the
outputs only in ``RESULT``, together with ``RESULTS_VALID``. It disappears when the PLC acknowledges it, at its
deadline, when the next trigger comes, and when the PLC is gone, and it never comes back.

Time is the monotonic clock of the caller, so setting the clock of the machine changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeAlias

from gonogo.line.messages import Cause
from gonogo.line.plc_image import COMMAND_LATE, FAULT_CODES, Control, Inputs, Outputs, ResultCode, Status

_VERDICT = {
    ResultCode.NONE: Status(0),
    ResultCode.GO: Status.JOB_PASS,
    ResultCode.NO_GO: Status.NO_GO,
    ResultCode.REVIEW: Status.REVIEW,
    ResultCode.FAULT: Status.FAULT,
}
_COMMAND_S = 30.0
"""Longest time of a changeover."""
_OFFLINE_STATION, _OFFLINE_PLC = 1, 3


class Phase(StrEnum):
    """Where the part in hand is."""

    GONE = "gone"
    """No PLC, or one that has to show that it is alive."""
    IDLE = "idle"
    JUDGING = "judging"
    RESULT = "result"
    """The result waits for its acknowledgement."""
    RELEASING = "releasing"
    """The result was acknowledged, and the acknowledgement is still there."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """An answer to a trigger, for the outputs."""

    code: ResultCode
    due_s: float
    """Deadline on the monotonic clock; afterwards it is a fault."""
    score: float = 0.0
    fault_code: int = 0
    part: str = ""

    def as_fault(self, cause: Cause) -> Result:
        """Return this result as a fault, which has no deadline."""
        return replace(self, code=ResultCode.FAULT, score=0.0, fault_code=FAULT_CODES[cause])


@dataclass(frozen=True, kw_only=True)
class StationView:
    """What the handshake needs to know of its station."""

    ready: bool
    job_id: int
    """Number of the selected product; 0 if it has none."""


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Submit a trigger. Its answer goes to `Handshake.answered`."""

    number: int
    part: str
    missed: bool = False
    """It came without ``TRIGGER_READY``: it is recorded, and never delivered."""


@dataclass(frozen=True, kw_only=True)
class Delivered:
    """The PLC has acknowledged the result of this trigger."""

    number: int


@dataclass(frozen=True, kw_only=True)
class Withdrawn:
    """The result of this trigger is on the outputs as a fault from now on."""

    number: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Undelivered:
    """The PLC has not taken the result of this trigger, and will not get it."""

    number: int
    why: str


@dataclass(frozen=True, kw_only=True)
class Select:
    """Select the product with this number; `Handshake.command_refused` if there is none."""

    job_id: int


Action: TypeAlias = Judge | Delivered | Withdrawn | Undelivered | Select
"""What the caller has to do."""


class Handshake:
    """The state machine of one PLC; every method that changes it returns what is to be done."""

    def __init__(
        self,
        *,
        plc_timeout_s: float = 2.0,
        plc_heartbeat_s: float | None = None,
        heartbeat_s: float = 0.5,
        first: int = 0,
    ) -> None:
        """Start without a PLC.

        Args:
            plc_timeout_s: A PLC that is silent for this long is gone.
            plc_heartbeat_s: A PLC whose heartbeat bit does not change for this long is gone; ``None``: not watched.
            heartbeat_s: Interval of the station's heartbeat.
            first: The number before that of the first trigger.
        """
        self.phase = Phase.GONE
        self._plc_timeout_s, self._plc_heartbeat_s, self._heartbeat_s = plc_timeout_s, plc_heartbeat_s, heartbeat_s
        self._seen, self._seen_s, self._beat_s = Control(0), 0.0, 0.0
        self._sighted = False
        self._trigger_ack = self._missed = self._overrun = self._exposed = self._completed = False
        self._number = self._in_hand = self._acquisition = self._inspection = first
        self._doom: tuple[Cause, str] | None = None
        """Why the part in hand is a fault whatever its verdict."""
        self._result: Result | None = None
        self._ack_from_s = 0.0
        """From when on an acknowledgement counts that was there before the result became a fault."""
        self._orphans: dict[int, str] = {}
        """The triggers whose answers have nowhere to go, and why."""
        self._error = 0
        self._command: int | None = None
        """The product that is being selected, or that waits for the part in hand."""
        self._command_until_s: float | None = None
        self._command_done: Status = Status(0)
        self._station = StationView(ready=False, job_id=0)

    # --- what happens

    def step(self, inputs: Inputs, station: StationView, now_s: float) -> list[Action]:
        """Handle what the PLC has written, or that it has read and written nothing new."""
        done = self.tick(station, now_s)
        if not self._present(inputs.control, now_s):
            return done
        control, before = inputs.control, self._seen
        rose = control & ~before
        self._seen = control
        if Control.TRIGGER not in control:
            self._trigger_ack = False
        if Control.TRIGGER_ENABLE not in control:
            self._missed = False
        if Control.CLEAR_ERROR in rose:
            self._error, self._missed, self._overrun = 0, False, False
        if Control.CLEAR_EXPOSURE_COMPLETE in control:
            self._exposed = False
        done += self._acknowledge(now_s)
        done += self._take_command(inputs, rose, now_s)
        if Control.TRIGGER in rose and Control.TRIGGER_ENABLE in control:
            done += self._trigger(inputs.part, now_s)
        return done

    def tick(self, station: StationView, now_s: float) -> list[Action]:
        """Let time pass: call it before the outputs are read, and every few hundredths of a second."""
        self._station = station
        done = list[Action]()
        if self.phase is not Phase.GONE and now_s - self._seen_s > self._plc_timeout_s:
            done += self.lose("the PLC is silent")
        if self.phase is not Phase.GONE and self._heart_stopped(now_s):
            done += self.lose("the PLC's heartbeat has stopped")
        shown = self._result
        if shown is not None and shown.code is not ResultCode.FAULT and now_s > shown.due_s:
            done += self._withdraw(Cause.LATE, "the result was not acknowledged in time", now_s)
        if self._command is not None and self._command_until_s is not None:
            if station.job_id == self._command:
                self._end_command(Status.COMMAND_COMPLETED)
            elif now_s > self._command_until_s:
                self._error = COMMAND_LATE
                self._end_command(Status.COMMAND_FAILED)
        return done

    def answered(self, number: int, result: Result, now_s: float) -> list[Action]:
        """Take the answer to a trigger."""
        if (why := self._orphans.pop(number, None)) is not None:
            return [Undelivered(number=number, why=why)]
        if number != self._in_hand or self.phase is not Phase.JUDGING or self._result is not None:
            return [Undelivered(number=number, why="it was not expected any more")]
        self._result, self._exposed = result, True
        late = (Cause.LATE, "the answer came too late") if now_s > result.due_s else None
        doom = self._doom or late
        done = [] if doom is None or result.code is ResultCode.FAULT else self._withdraw(*doom, now_s)
        self._show()
        return done

    def command_refused(self, code: int) -> None:
        """Report that a product cannot be selected."""
        self._error = code
        self._end_command(Status.COMMAND_FAILED)

    def lose(self, why: str) -> list[Action]:
        """Report that the PLC is gone: the outputs are safe at once, and no result is kept for it."""
        done = list[Action]()
        if self._result is not None:
            self._overrun = True
            done.append(Undelivered(number=self._in_hand, why=why))
        elif self.phase is Phase.JUDGING:
            self._orphans[self._in_hand] = why
        self.phase, self._result, self._doom = Phase.GONE, None, None
        self._trigger_ack = self._exposed = self._sighted = False
        self._command, self._command_until_s, self._command_done = None, None, Status(0)
        self._seen = Control(0)
        return done

    # --- what the PLC reads

    def outputs(self, now_s: float) -> Outputs:
        """Return the outputs; call `tick` first."""
        beats = int(now_s / self._heartbeat_s)
        shown = self._result if self.phase is Phase.RESULT else None
        return Outputs(
            status=self._status(shown, beats),
            current_job_id=self._station.job_id,
            error_code=self._error,
            acquisition_id=_word(self._acquisition),
            inspection_id=_word(self._inspection),
            result_code=ResultCode.NONE if shown is None else shown.code,
            score=0.0 if shown is None else shown.score,
            fault_code=0 if shown is None else shown.fault_code,
            trigger_count=_word(self._number),
            heartbeat=beats & 0xFFFF,
            part="" if shown is None else shown.part,
        )

    def _status(self, shown: Result | None, beats: int) -> Status:
        flags = (
            (Status.TRIGGER_READY, self._trigger_ready),
            (Status.TRIGGER_ACK, self._trigger_ack),
            (Status.MISSED_ACQ, self._missed),
            (Status.ONLINE, not self._offline),
            (Status.SYSTEM_BUSY, self.phase is Phase.JUDGING),
            (Status.INSPECTION_COMPLETED, self._completed),
            (Status.RESULTS_BUFFER_OVERRUN, self._overrun),
            (Status.RESULTS_VALID, shown is not None),
            (Status.COMMAND_EXECUTING, self._command is not None),
            (Status.ERROR, self._error != 0),
            (Status.SET_USER_DATA_ACK, Control.SET_USER_DATA in self._seen),
            (Status.EXPOSURE_COMPLETE, self._exposed),
            (Status.HEARTBEAT, beats % 2 == 1),
            (Status.RESULT_TAKEN, self.phase is Phase.RELEASING),
        )
        found = self._command_done | (Status(0) if shown is None else _VERDICT[shown.code])
        for flag, on in flags:
            found |= flag if on else Status(0)
        return found | Status(self._offline << 4)

    @property
    def _offline(self) -> int:
        """Why the station is offline; 0 if it is not."""
        if Control.SET_OFFLINE in self._seen:
            return _OFFLINE_PLC
        return 0 if self._station.ready else _OFFLINE_STATION

    @property
    def _trigger_ready(self) -> bool:
        free = self.phase is Phase.IDLE or (
            self.phase is Phase.RESULT and Control.BUFFER_RESULTS_ENABLE not in self._seen
        )
        wanted = Control.TRIGGER_ENABLE in self._seen and Control.TRIGGER not in self._seen
        return free and wanted and self._may_trigger

    @property
    def _may_trigger(self) -> bool:
        return not self._offline and self._command is None

    # --- the steps

    def _present(self, control: Control, now_s: float) -> bool:
        """Return whether the PLC is there; its first sight is only what edges are compared with."""
        self._seen_s = now_s
        beat = (control ^ self._seen) & Control.HEARTBEAT
        if self.phase is not Phase.GONE:
            self._beat_s = now_s if beat else self._beat_s
            return True
        first, self._sighted, self._seen = not self._sighted, True, control
        if self._plc_heartbeat_s is not None and (first or not beat):
            return False
        self.phase, self._beat_s = Phase.IDLE, now_s
        return True

    def _heart_stopped(self, now_s: float) -> bool:
        return self._plc_heartbeat_s is not None and now_s - self._beat_s > self._plc_heartbeat_s

    def _trigger(self, part: str, now_s: float) -> list[Action]:
        buffering = Control.BUFFER_RESULTS_ENABLE in self._seen
        self._number += 1
        free = self.phase is Phase.IDLE or (self.phase is Phase.RESULT and not buffering)
        if not (free and self._may_trigger):
            return self._miss(part, now_s)
        done = list[Action]()
        if self.phase is Phase.RESULT:
            self._overrun = True
            done.append(Undelivered(number=self._in_hand, why="the next trigger came before the acknowledgement"))
        self.phase, self._result, self._doom = Phase.JUDGING, None, None
        self._in_hand = self._acquisition = self._number
        self._trigger_ack, self._missed, self._exposed = True, False, False
        return [*done, Judge(number=self._number, part=part)]

    def _miss(self, part: str, now_s: float) -> list[Action]:
        """Handle a trigger that came without ``TRIGGER_READY``: neither it nor the part in hand may pass."""
        why = "a second trigger came while a part was in hand"
        self._missed, self._error = True, FAULT_CODES[Cause.OVERRUN]
        self._orphans[self._number] = "the trigger came without TriggerReady"
        missed = Judge(number=self._number, part=part, missed=True)
        if self.phase is Phase.JUDGING:
            self._doom = Cause.OVERRUN, why
        verdict = self._result is not None and self._result.code is not ResultCode.FAULT
        return [*(self._withdraw(Cause.OVERRUN, why, now_s) if verdict else []), missed]

    def _withdraw(self, cause: Cause, why: str, now_s: float) -> list[Action]:
        assert self._result is not None, "checked by the caller"
        self._result = self._result.as_fault(cause)
        self._error = self._result.fault_code
        self._ack_from_s = now_s + self._plc_timeout_s
        return [Withdrawn(number=self._in_hand, why=why)]

    def _show(self) -> None:
        """Show the result, unless the acknowledgement of the one before is still there."""
        if self._result is None or Control.INSPECTION_RESULTS_ACK in self._seen:
            return
        self.phase, self._inspection, self._completed = Phase.RESULT, self._in_hand, not self._completed
        self._ack_from_s = 0.0
        self._error = self._result.fault_code or self._error

    def _acknowledge(self, now_s: float) -> list[Action]:
        acknowledged = Control.INSPECTION_RESULTS_ACK in self._seen
        if not acknowledged:
            self._ack_from_s = 0.0
        if self.phase is Phase.RELEASING and not acknowledged:
            self.phase = Phase.IDLE
        elif self.phase is Phase.JUDGING and not acknowledged:
            self._show()
        elif self.phase is Phase.RESULT and acknowledged and now_s >= self._ack_from_s:
            self.phase, self._result, self._overrun = Phase.RELEASING, None, False
            return [Delivered(number=self._in_hand)]
        return []

    def _take_command(self, inputs: Inputs, rose: Control, now_s: float) -> list[Action]:
        """Select a product, but only when no part is in hand."""
        if Control.EXECUTE_COMMAND not in inputs.control:
            self._command_done = Status(0)
        if Control.EXECUTE_COMMAND in rose and self._command is None:
            self._command, self._command_until_s = inputs.command, None
        if self._command is None or self._command_until_s is not None:
            return []
        if self.phase is not Phase.IDLE:
            return []
        self._command_until_s = now_s + _COMMAND_S
        return [Select(job_id=self._command)]

    def _end_command(self, outcome: Status) -> None:
        self._command, self._command_until_s = None, None
        self._command_done = outcome if Control.EXECUTE_COMMAND in self._seen else Status(0)


def _word(number: int) -> int:
    """Return a number as 16 bits, from 1 to 65,535; 0 stays 0."""
    return (number - 1) % 0xFFFF + 1 if number else 0
