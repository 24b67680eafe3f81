"""Tracks parts from the camera to the gate, and decides at the gate: pass, reject, or stop the line.

A pure state machine: no clock, no files, no threads. Events come in through `Tracker.part` (a part is in front of the
camera), `Tracker.judged` (it has a verdict), `Tracker.line` (belt, gate and confirmations, as running totals) and
`Tracker.tick` (time passes). Orders are `Tracker.order` (fire the gate now) and `Tracker.stopped` (stop the line);
`Tracker.take` returns what happened, for the record. An adapter of another protocol needs nothing else.

A part passes only if it comes to the gate where exactly one trigger expects it, and that trigger's verdict is go.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from gonogo.schema import State
from gonogo.station.tracking_settings import Deviation, RejectSettings

_PASSED_KEPT = 16


@dataclass(frozen=True, kw_only=True)
class LineTotals:
    """A report of the line: three totals that only count up, except that an encoder may run back, and wrap around."""

    count: int
    """Encoder counts, or clocks of the shift register."""
    gate: int
    """Parts that the sensor at the gate has seen."""
    rejected: int
    """Rejects that the second sensor has confirmed."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """The order to fire the gate now; the line fires once for each number."""

    number: int
    part: str | None
    """Trigger id of the part; ``None`` for a part that belongs to no trigger."""
    count: int
    """The line's count at the gate, as it was reported."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Stop:
    """The order to stop the line, until a person acknowledges it."""

    id: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Carried:
    """What a station must still know after a restart."""

    totals: LineTotals | None = None
    fired: int = 0
    unconfirmed: tuple[str, ...] = ()
    in_flight: int = 0
    stop: Stop | None = None


@dataclass(frozen=True, kw_only=True)
class Happening:
    """Something to record."""

    action: str
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False)
class TrackedPart:
    """A part between camera and gate."""

    id: str
    gate_at: int
    """Position of the belt at which it reaches the gate."""
    verdict: State | None = None
    doubt: str = ""
    """Why it must be rejected whatever its verdict."""


@dataclass(kw_only=True, eq=False)
class _Awaited:
    """A reject that waits for its confirmation."""

    order: Order
    from_s: float
    until_s: float


class Tracker:
    """Follows every part from its trigger to the gate. Every method may be called at any time, in any order."""

    def __init__(
        self,
        settings: RejectSettings,
        before: Carried = Carried(),
        *,
        new_id: Callable[[], str] = lambda: secrets.token_hex(4),
    ) -> None:
        """Start with an empty list of parts: a part that is already on the belt belongs to no trigger and is rejected.

        Args:
            settings: Distances and windows.
            before: What an earlier run left behind.
            new_id: Returns the id of a new stop.
        """
        self._settings, self._before, self._new_id = settings, before, new_id
        self._parts: list[TrackedPart] = []
        self._passed: deque[TrackedPart] = deque(maxlen=_PASSED_KEPT)
        self._pending: deque[_Awaited] = deque()
        self._totals: LineTotals | None = None
        self._position = self._highest = self._trusted_from = self._order_at = 0
        self._untrusted, self._ran_back = "", False
        self._heard_s: float | None = None
        self._fired = before.fired
        self._happenings: list[Happening] = []
        self.silent = False
        """The line has not reported for ``silent_s``."""
        self.stopped = before.stop
        self.order: Order | None = None
        """The latest order, while its part is at the gate."""
        self.counts: Counter[str] = Counter()
        """passed, fired, confirmed, unconfirmed, unasked, missing, unknown, stops."""
        if before.stop is not None:  # once more, in case the first row was lost with the process
            self._note("line_stopped", stop=before.stop.id, why=before.stop.why)
        if before.in_flight:
            self._note("tracking_lost", why="the station was restarted", parts=before.in_flight)
        if before.unconfirmed:
            self._stop(f"before a restart, {_listed(before.unconfirmed)} was rejected without a confirmation")

    # --- events

    def part(self, part_id: str, count: int | None = None) -> None:
        """A part is in front of the camera.

        Args:
            part_id: Id of its trigger.
            count: The line's count at the trigger; ``None`` takes the one that was reported last.
        """
        if self._totals is None:
            return  # its place is unknown: it will be rejected at the gate
        ahead = 0 if count is None else self._signed(count - self._totals.count)
        part = TrackedPart(id=part_id, gate_at=self._position + ahead + self._settings.distance)
        if self.silent and count is None:
            part.doubt = "the line did not report where it was"
        after = next((n for n, each in enumerate(self._parts) if each.gate_at > part.gate_at), len(self._parts))
        self._parts.insert(after, part)

    def judged(self, part_id: str, verdict: State) -> None:
        """A part has its verdict. A second one can only make it worse."""
        for part in self._parts:
            if part.id == part_id and (part.verdict is None or not self._passes(verdict)):
                part.verdict = verdict

    def line(self, totals: LineTotals, now_s: float) -> None:
        """The line reports its totals; a repeated report changes nothing.

        Args:
            totals: The present totals.
            now_s: Any clock that only runs forward, in seconds.
        """
        self._heard_s, self.silent = now_s, False
        self.tick(now_s)
        before, self._totals = self._totals, totals
        if before is None:
            self._begin(totals)
            return
        self._position += self._signed(totals.count - before.count)
        self._check_direction()
        for _ in range(self._steps(before.rejected, totals.rejected, "the total of confirmed rejects")):
            self._confirm(now_s)
        seen = self._steps(before.gate, totals.gate, "the total of parts at the gate")
        if seen > 1:
            self._stop(f"{seen} parts came to the gate between two reports, {seen - 1} of them without an order")
        if seen:
            self._at_gate(now_s)
        self._close_windows()
        if self.order is not None and self._position > self._settings.tolerance + self._order_at:
            self.order = None  # its part has left the gate: a pulse now would hit another one

    def tick(self, now_s: float) -> None:
        """Time has passed: a confirmation may be overdue, or the line silent."""
        while self._pending and now_s > self._pending[0].until_s:
            late = self._pending.popleft()
            self._note("reject_unconfirmed", number=late.order.number, trigger_id=late.order.part)
            self.counts["unconfirmed"] += 1
            self._stop(f"the reject of {_name(late.order.part)} was not confirmed in time")
        if self._heard_s is not None and not self.silent and now_s - self._heard_s > self._settings.silent_s:
            self.silent = True
            self._lose("silent", f"the line has not reported for {self._settings.silent_s:g} s")

    def acknowledge(self, stop_id: str) -> None:
        """A person has cleared the belt: parts pass again, from the next trigger on. Ignored for another stop."""
        if self.stopped is None or self.stopped.id != stop_id:
            return
        self.stopped, self.order = None, None
        self._parts.clear()
        self._passed.clear()
        self._pending.clear()
        self._trust_from_here("it was on the belt before the line was released")
        self._note("line_released", stop=stop_id)

    # --- what is known

    @property
    def in_flight(self) -> Sequence[TrackedPart]:
        """The parts between camera and gate, the next one at the gate first."""
        return self._parts

    def distance_left(self, part: TrackedPart) -> int:
        """Return how far a part is from the gate, in counts or places."""
        return part.gate_at - self._position

    def rejects(self, part: TrackedPart) -> bool:
        """Whether a part would be rejected if it came to the gate now."""
        return self.stopped is not None or bool(part.doubt) or not self._passes(part.verdict)

    @property
    def unconfirmed(self) -> int:
        """Number of rejects that wait for their confirmation."""
        return len(self._pending)

    def carried(self) -> Carried:
        """Return what the next run must know."""
        return Carried(
            totals=self._totals or self._before.totals,
            fired=self._fired,
            unconfirmed=tuple(_name(each.order.part) for each in self._pending),
            in_flight=len(self._parts),
            stop=self.stopped,
        )

    def take(self) -> list[Happening]:
        """Return what has happened since the last call."""
        found, self._happenings = self._happenings, []
        return found

    # --- the belt

    def _begin(self, totals: LineTotals) -> None:
        """Compare the first report with the last one of an earlier run."""
        self._trust_from_here("it was on the belt before the station started")
        old = self._before.totals
        if old is None:
            return
        half = 1 << self._settings.counter_bits - 1
        seen, rejected = self._unsigned(totals.gate - old.gate), self._unsigned(totals.rejected - old.rejected)
        if rejected < seen < half:  # beyond it, the line was restarted as well and counts from 0
            self._stop(f"{seen} parts came to the gate while the station was away, and {rejected} were rejected")

    def _trust_from_here(self, untrusted: str) -> None:
        self._untrusted, self._ran_back = untrusted, False
        self._highest = self._position
        self._trusted_from = self._position + self._settings.distance - self._settings.tolerance

    def _check_direction(self) -> None:
        back = self._highest - self._position
        if back <= 0:
            self._highest, self._ran_back = self._position, False
        elif back > self._settings.tolerance and not self._ran_back:
            self._ran_back = True
            self._passed.clear()  # they may come to the gate again
            self._trusted_from = max(self._trusted_from, self._highest + 1)
            self._untrusted = "it may have passed the gate before the count ran back"
            self._lose("backwards", f"the count ran back by {back}")

    def _signed(self, difference: int) -> int:
        half = 1 << self._settings.counter_bits - 1
        return self._unsigned(difference + half) - half

    def _unsigned(self, difference: int) -> int:
        return difference % (1 << self._settings.counter_bits)

    def _steps(self, before: int, now: int, what: str) -> int:
        """Return how far a total has advanced, at most 8; more or less than possible stops the line."""
        steps = self._unsigned(now - before)
        if steps > 8:
            self._stop(f"{what} went from {before} to {now}")
        return min(steps, 8)

    # --- at the gate

    def _at_gate(self, now_s: float) -> None:
        near = [each for each in self._parts if abs(self.distance_left(each)) <= self._settings.tolerance]
        if not near:
            self._unknown_at_gate(now_s)
            return
        part = near[0]  # parts keep their order on the belt
        self._parts.remove(part)
        why = self._why_reject(near)
        if not why:
            self._passed.append(part)
            self.counts["passed"] += 1
            return
        for other in near[1:]:
            other.doubt = other.doubt or f"it cannot be told from {part.id}"
        self._fire(part.id, why, now_s)

    def _why_reject(self, near: Sequence[TrackedPart]) -> str:
        """Return why the part at the gate is rejected; empty if it passes."""
        part = near[0]
        if self.stopped is not None:
            return f"the line is stopped: {self.stopped.why}"
        if part.doubt:
            return part.doubt
        if part.verdict is None:
            return "it has no verdict yet"
        if not self._passes(part.verdict):
            return f"judged {part.verdict.value}"
        worse = next((each for each in near if self.rejects(each)), None)
        return "" if worse is None else f"it cannot be told from {worse.id}"

    def _unknown_at_gate(self, now_s: float) -> None:
        self.counts["unknown"] += 1
        here, tolerance = self._position, self._settings.tolerance
        twice = next((each for each in self._passed if abs(each.gate_at - here) <= tolerance), None)
        why = "it belongs to no trigger"
        if twice is not None:
            why = f"two parts came to the gate in the place of {twice.id}, and one of them has passed"
            self._stop(why)
        elif here < self._trusted_from:
            why = self._untrusted
        else:
            self._lose("unexpected", "a part came to the gate that belongs to no trigger")
        self._fire(None, why, now_s)

    def _close_windows(self) -> None:
        while self._parts and self.distance_left(self._parts[0]) < -self._settings.tolerance:
            part = self._parts.pop(0)
            self.counts["missing"] += 1
            if self._passes(part.verdict):
                self._lose("missing", f"{part.id} did not come to the gate")
            else:
                self._stop(f"{part.id} had to be rejected ({_said(part)}) and did not come to the gate")

    def _passes(self, verdict: State | None) -> bool:
        return verdict is State.GO or (verdict is State.REVIEW and self._settings.pass_review)

    # --- orders

    def _fire(self, part: str | None, why: str, now_s: float) -> None:
        assert self._totals is not None, "parts are seen only after the first report"
        self._fired += 1
        self.counts["fired"] += 1
        self.order = Order(number=self._fired, part=part, count=self._totals.count, why=why)
        self._order_at = self._position
        earliest_s = now_s + self._settings.confirm_after_s
        for each in self._pending:  # from then on, its confirmation could not be told from this one's
            each.until_s = min(each.until_s, earliest_s)
        until_s = now_s + self._settings.confirm_within_s
        self._pending.append(_Awaited(order=self.order, from_s=earliest_s, until_s=until_s))
        self._note("reject_ordered", number=self._fired, trigger_id=part, count=self._totals.count, why=why)

    def _confirm(self, now_s: float) -> None:
        if not self._pending or now_s < self._pending[0].from_s:
            self.counts["unasked"] += 1
            self._note("reject_unasked")
            if "unasked" in self._settings.stop_on:
                self._stop("the second sensor confirmed a reject that was not ordered")
            return
        order = self._pending.popleft().order
        self.counts["confirmed"] += 1
        self._note("reject_confirmed", number=order.number, trigger_id=order.part)

    def _lose(self, what: Deviation, why: str) -> None:
        """Reject every part in flight, because the places of the parts can no longer be trusted."""
        self._note("tracking_lost", what=what, why=why, parts=len(self._parts))
        for part in self._parts:
            part.doubt = part.doubt or why
        if what in self._settings.stop_on:
            self._stop(why)

    def _stop(self, why: str) -> None:
        if self.stopped is None:
            self.stopped = Stop(id=self._new_id(), why=why)
            self.counts["stops"] += 1
            self._note("line_stopped", stop=self.stopped.id, why=why)

    def _note(self, action: str, **details: Any) -> None:
        self._happenings.append(Happening(action=action, details=details))


def _said(part: TrackedPart) -> str:
    return "no verdict" if part.verdict is None else part.verdict.value


def _name(part: str | None) -> str:
    return part or "a part without a trigger"


def _listed(parts: Sequence[str | None]) -> str:
    return ", ".join(_name(each) for each in parts)
