"""A fake belt for tests of tracking: camera, belt, gate sensor, actuator and confirmation, with faults of each.

It behaves like a line whose PLC follows ``docs/reject.md``: it reports its totals, fires once for each number of an
order, fires on its own if the station does not answer, and stops when it is asked to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from gonogo.schema import State
from gonogo.station.tracking import LineTotals, Order, Tracker
from gonogo.station.tracking_settings import RejectSettings

STEP_S = 0.01
"""Time of one step of a `FakeBelt` in seconds."""
_CONFIRMED_AFTER_S = 0.05


@dataclass(kw_only=True, eq=False)
class PhysicalPart:
    """One part that is put on the belt, with what will happen to it."""

    place: int
    """Where it lies on the belt: the way of the belt until it is in front of the camera."""
    verdict: State = State.GO
    judged_after: int | None = 100
    """Way from the camera until its verdict comes; ``None``: never."""
    foreign: bool = False
    """Put on the belt behind the camera: nobody has judged it."""
    lost: bool = False
    """Falls off the belt between camera and gate."""
    slip: int = 0
    """How far it slides on the belt, forward if positive."""
    stays: bool = False
    """The actuator fires and misses it."""
    triggers: list[str] = field(default_factory=list)
    """Ids of its triggers: several, if the belt ran back and it came to the camera again."""
    behind: bool = False
    """It has passed the gate."""
    gone: bool = False
    """It was rejected, fell off, was taken off, or is far behind the gate."""

    @property
    def bad(self) -> bool:
        """Whether it must not pass the gate."""
        return self.foreign or self.verdict is not State.GO


class Station(Protocol):
    """What the belt needs of a station; `TrackedStation` is one without processes."""

    def part(self, part_id: str, count: int) -> None:
        """A part is in front of the camera."""

    def judged(self, part_id: str, verdict: State) -> None:
        """A part has its verdict."""

    def line(self, totals: LineTotals, now_s: float) -> tuple[Order | None, bool] | None:
        """Take a report; return the order and whether to stop, or ``None`` if the station does not answer."""

    def acknowledge(self) -> None:
        """A person acknowledges the stop."""


class TrackedStation:
    """A station that consists of its `Tracker` alone."""

    def __init__(self, settings: RejectSettings) -> None:
        self._settings = settings
        self.tracker = Tracker(settings)
        self.stops: list[str] = []
        """Reason of every stop."""
        self.orders: list[Order] = []

    def restart(self) -> None:
        """Forget everything but what a station keeps on disk."""
        self.tracker = Tracker(self._settings, self.tracker.carried())

    def part(self, part_id: str, count: int) -> None:
        """See `Station.part`."""
        self.tracker.part(part_id, count)

    def judged(self, part_id: str, verdict: State) -> None:
        """See `Station.judged`."""
        self.tracker.judged(part_id, verdict)

    def line(self, totals: LineTotals, now_s: float) -> tuple[Order | None, bool] | None:
        """See `Station.line`."""
        self.tracker.line(totals, now_s)
        for each in self.tracker.take():
            if each.action == "line_stopped":
                self.stops.append(each.details["why"])
        order = self.tracker.order
        if order is not None and (not self.orders or self.orders[-1].number != order.number):
            self.orders.append(order)
        return order, self.tracker.stopped is not None

    def acknowledge(self) -> None:
        """See `Station.acknowledge`."""
        if self.tracker.stopped is not None:
            self.tracker.acknowledge(self.tracker.stopped.id)


@dataclass(kw_only=True)
class FakeBelt:
    """A belt that moves step by step; `run` puts parts on it until the last one is past the gate."""

    settings: RejectSettings
    station: Station
    speed: int = 10
    """Counts per step."""
    offset: int = 0
    """The encoder's count at the start; it wraps at ``counter_bits``."""
    jitter: Callable[[], int] = lambda: 0
    """Error of each reported count."""
    moves: Callable[[], int] = lambda: 1
    """Direction of the next step: 1, 0 (the belt stands) or -1 (it runs back)."""
    bounces: Callable[[], bool] = lambda: False
    """Whether the second sensor sees the next reject twice."""
    answers: Callable[[], bool] = lambda: True
    """Whether the station answers the next report."""
    passed: list[PhysicalPart] = field(default_factory=list)
    """Parts that passed the gate, in order."""
    unnoticed: list[PhysicalPart] = field(default_factory=list)
    """Bad parts that passed the gate and were one ``distance`` behind it before the line stopped."""
    noticed: list[PhysicalPart] = field(default_factory=list)
    """Bad parts that passed the gate, and the line stopped in time."""
    rejected: list[PhysicalPart] = field(default_factory=list)
    empty_pulses: int = 0
    """Pulses that hit no part."""
    wrong_pulses: list[PhysicalPart] = field(default_factory=list)
    """Parts that were hit by an order for another part."""

    def __post_init__(self) -> None:
        self.position, self.now_s = 0, 0.0
        self._gate = self._rejected = self._fired = self._triggers = 0
        self._live: deque[PhysicalPart] = deque()
        self._confirm_at_s: deque[float] = deque()
        self._loose: list[tuple[int, PhysicalPart]] = []

    def run(self, parts: Iterable[PhysicalPart], *, between: Callable[[], None] = lambda: None) -> None:
        """Put the parts on the belt and move it until all are gone; ``between`` is called once per step."""
        waiting = deque(sorted(parts, key=lambda part: part.place))
        self._report(None)
        while waiting or any(not part.gone for part in self._live) or self._loose or self._confirm_at_s:
            while waiting and waiting[0].place <= self.position + self.speed:
                self._live.append(waiting.popleft())
            before, self.position = self.position, self.position + self.speed * self.moves()
            self.now_s += STEP_S
            between()
            self._step(before)

    def _step(self, before: int) -> None:
        for part in list(self._live):
            self._camera(part, before)
            self._gate_sensor(part, before)
        while self._live and self._live[0].gone:
            self._live.popleft()
        while self._confirm_at_s and self._confirm_at_s[0] <= self.now_s:
            self._confirm_at_s.popleft()
            self._rejected += 1
        self._report(None)
        for at, part in [each for each in self._loose if self.position > each[0] + self.settings.distance]:
            self._loose.remove((at, part))
            self.unnoticed.append(part)

    def _camera(self, part: PhysicalPart, before: int) -> None:
        if part.foreign or part.gone:
            return
        if before < part.place <= self.position:  # also once more, after the belt ran back
            self._triggers += 1
            part.triggers.append(f"T{self._triggers}")
            self.station.part(part.triggers[-1], self._count())
        if part.judged_after is not None and before < part.place + part.judged_after <= self.position:
            for each in part.triggers[-1:]:
                self.station.judged(each, part.verdict)

    def _gate_sensor(self, part: PhysicalPart, before: int) -> None:
        gate_at = part.place + self.settings.distance - part.slip
        if part.gone:
            return
        falls = part.lost and self.position - part.place > self.settings.distance // 2
        if falls or self.position > gate_at + self.settings.distance:
            part.gone = True
        elif (before < gate_at) != (self.position < gate_at):  # the sensor sees it in both directions
            self._gate += 1
            self._report(part)

    def _report(self, at_gate: PhysicalPart | None) -> None:
        count = self._count()
        wrap = 1 << self.settings.counter_bits
        totals = LineTotals(count=count, gate=self._gate % wrap, rejected=self._rejected % wrap)
        answer = self.station.line(totals, self.now_s) if self.answers() else None
        order, stop = (None, False) if answer is None else answer
        if order is not None and order.number != self._fired:
            self._fired = order.number
            self._fire(at_gate, order)
        elif answer is None and at_gate is not None:
            self._fire(at_gate, None)  # silence is a fault
        elif at_gate is not None:
            self._passes(at_gate)
        if stop:
            self._clear()

    def _fire(self, part: PhysicalPart | None, order: Order | None) -> None:
        if part is None:
            self.empty_pulses += 1
            return
        if part.stays:
            self._passes(part)
            return
        if order is not None and order.part is not None and order.part not in part.triggers and not part.bad:
            self.wrong_pulses.append(part)
        part.gone = True
        self._loose = [each for each in self._loose if each[1] is not part]
        self.rejected.append(part)
        self._confirm_at_s.append(self.now_s + _CONFIRMED_AFTER_S)
        if self.bounces():
            self._confirm_at_s.append(self.now_s + _CONFIRMED_AFTER_S + STEP_S)

    def _passes(self, part: PhysicalPart) -> None:
        if part.behind:
            return  # the belt ran back, and it passes once more
        part.behind = True
        self.passed.append(part)
        if part.bad:
            self._loose.append((self.position, part))

    def _clear(self) -> None:
        """The line stands; a person takes every part between camera and gate off it, looks behind it, acknowledges."""
        self.noticed += [part for _, part in self._loose]
        self._loose.clear()
        for part in self._live:
            part.gone = part.gone or part.place <= self.position
        self._rejected += len(self._confirm_at_s)
        self._confirm_at_s.clear()
        self.now_s += 1.0
        self.station.acknowledge()

    def _count(self) -> int:
        return (self.offset + self.position + self.jitter()) % (1 << self.settings.counter_bits)
