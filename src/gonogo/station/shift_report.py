"""The figures of a shift report, computed from the ledger alone."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta, tzinfo
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from gonogo.errors import InputError
from gonogo.ledger import REVIEW, Action, ChainHead, Ledger, Row, VerdictRecord, Where, verify
from gonogo.schema import Label, State
from gonogo.station.challenge import ACKNOWLEDGE, CHALLENGE
from gonogo.station.changeover import REFUSED, SELECTED
from gonogo.station.judging import ANSWERED_FAULT

SHIFT_NAMES = ("early", "late", "night")
_SAME_EVENT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class Shifts:
    """Start hours of the shifts, in the local time of a time zone."""

    starts_h: tuple[int, ...] = (6, 14, 22)
    zone: tzinfo = UTC

    def of(self, moment: datetime) -> datetime:
        """Return the start of the shift that a moment belongs to, in local time."""
        local = moment.astimezone(self.zone)
        today = [datetime.combine(local.date(), time(hour), self.zone) for hour in self.starts_h]
        before = [start for start in today if start <= local]
        return before[-1] if before else today[-1] - timedelta(days=1)

    def name(self, start: datetime) -> str:
        """Return the name of a shift, for example ``Mon 5 Jan, early``."""
        number = self.starts_h.index(start.hour)
        name = SHIFT_NAMES[number] if len(self.starts_h) <= len(SHIFT_NAMES) else f"from {start.hour} h"
        return f"{start:%a} {start.day} {start:%b}, {name}"


def parse_shifts(hours: str, zone: str) -> Shifts:
    """Parse hours such as ``6,14,22`` and the name of a time zone.

    Raises:
        InputError: the hours are not ascending hours of a day, or the zone is unknown.
    """
    try:
        starts_h = tuple(int(hour) for hour in hours.split(","))
    except ValueError:
        starts_h = ()
    if not starts_h or list(starts_h) != sorted(set(starts_h)) or not 0 <= starts_h[0] <= starts_h[-1] <= 23:
        raise InputError(f"expected the ascending start hours of the shifts, such as 6,14,22, found {hours!r}.")
    try:
        return Shifts(starts_h=starts_h, zone=ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise InputError(f"expected a time zone such as Europe/Berlin, found {zone!r} ({error}).") from error


@dataclass(kw_only=True)
class ShiftTally:
    """Counts for the parts of one shift, lot or bundle."""

    name: str
    states: Counter[State] = field(default_factory=Counter)
    first: datetime | None = None
    last: datetime | None = None

    def add(self, row: Row[VerdictRecord]) -> None:
        """Count one part."""
        self.states[row.record.state] += 1
        self.first = min(filter(None, (self.first, row.record.triggered_at)))
        self.last = max(filter(None, (self.last, row.record.triggered_at)))

    @property
    def parts(self) -> int:
        """Number of parts."""
        return self.states.total()

    @property
    def first_pass(self) -> float | None:
        """Share of parts that passed without a review."""
        return self.states[State.GO] / self.parts if self.parts else None


@dataclass(frozen=True, kw_only=True)
class DefectCount:
    """Parts with one defect kind, as named in reviews."""

    name: str
    count: int
    rows: tuple[Row[VerdictRecord], ...]


@dataclass(frozen=True, kw_only=True)
class Event:
    """Consecutive faults of one cause, with at most ten minutes between one and the next."""

    cause: str
    first: datetime
    last: datetime
    parts: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class ReviewLoad:
    """Parts sent to review, and the decisions on them."""

    sent: int
    """Parts sent to review."""
    decided: int
    good: int
    bad: int
    open: int
    median_min: float | None
    """Median minutes from verdict to decision."""
    rejected_good: int
    """Rejected parts that a person labelled good."""
    rejected_seen: int
    """Rejected parts that a person has reviewed."""


@dataclass(frozen=True, kw_only=True)
class Period:
    """The figures of one station for a period of time."""

    station: str
    since: datetime
    until: datetime
    total: ShiftTally
    shifts: tuple[ShiftTally, ...]
    lots: tuple[ShiftTally, ...]
    """Lowest first-pass yield first."""
    products: tuple[ShiftTally, ...]
    """Empty where no part has a product."""
    switches: int
    """Number of changes of the product."""
    bundles: tuple[ShiftTally, ...]
    """Named by the SHA-256 of the bundle."""
    kinds: tuple[DefectCount, ...]
    """Most frequent first."""
    reviews: ReviewLoad
    events: tuple[Event, ...]
    challenges: tuple[Row[Action], ...]
    notable: tuple[Row[Action], ...]
    """Swaps, refusals, restarts, acknowledgements, in order."""
    faults: Counter[str]
    late_answers: int
    """Recorded verdicts that came too late, so that the line received ``fault``."""
    head_seq: int
    head_sha256: str
    broken: int
    """Signs of tampering found in the chain; 0 if it is intact."""


def gather(
    path: Path,
    *,
    station: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    shifts: Shifts | None = None,
) -> Period:
    """Compute the figures of a period from a ledger.

    Args:
        path: The ledger.
        station: Name of the station; may be omitted if the ledger holds only one.
        since: Include parts triggered at or after this time. Default: all.
        until: Include parts triggered before this time. Default: all.
        shifts: Start hours of the shifts. Default: 6, 14 and 22 h UTC.

    Raises:
        InputError: the station is unknown, or judged no part in the period.
    """
    shifts = shifts or Shifts()
    read = _read(path, station, since, until)
    rows, known = read.rows, {row.seq: row for row in read.rows}
    within = [each for each in read.actions if _within(each.at, since, until)]
    decisions = {each.record.about: each for each in read.actions if each.record.action == REVIEW}
    names = {name: shifts.name(name) for name in {shifts.of(row.record.triggered_at) for row in rows}}
    return Period(
        station=read.station,
        since=since or rows[0].record.triggered_at,
        until=until or rows[-1].record.triggered_at,
        total=_tallied(rows, lambda row: read.station)[0],
        shifts=tuple(_tallied(rows, lambda row: names[shifts.of(row.record.triggered_at)])),
        lots=tuple(sorted(_tallied(rows, lambda row: row.record.lot), key=lambda lot: (lot.first_pass or 0, lot.name))),
        products=tuple(_tallied(rows, lambda row: row.record.product)),
        switches=sum(each.record.action == SELECTED for each in within),
        bundles=tuple(_tallied(rows, lambda row: row.record.bundle_sha256)),
        kinds=_kinds(known, decisions),
        reviews=_review_load(rows, decisions),
        events=_events(rows),
        challenges=tuple(each for each in within if each.record.action == CHALLENGE),
        notable=tuple(each for each in within if _notable(each.record)),
        faults=Counter(row.record.cause for row in rows if row.record.cause is not None),
        late_answers=sum(each.record.action == ANSWERED_FAULT and each.record.about in known for each in read.actions),
        head_seq=read.head.seq,
        head_sha256=read.head.sha256,
        broken=len(verify(path)),
    )


@dataclass(frozen=True, kw_only=True)
class _Read:
    """The rows of one station in a ledger."""

    station: str
    rows: list[Row[VerdictRecord]]
    """The parts of the period."""
    actions: list[Row[Action]]
    """Actions of the station or about these parts, of all times."""
    head: ChainHead


def _read(path: Path, station: str | None, since: datetime | None, until: datetime | None) -> _Read:
    with Ledger.open(path, create=False, read_only=True) as ledger:
        station = station or _only_station(ledger, path)
        verdicts = list(ledger.verdicts(Where(station=station)))
        actions = list(ledger.actions())
        head = ledger.head()
    # Exclude challenge parts, which would distort the figures.
    tests = {action.record.about for action in actions if action.record.action == CHALLENGE}
    rows = [row for row in verdicts if _within(row.record.triggered_at, since, until) and row.seq not in tests]
    if not rows:
        raise InputError(f"{path}: expected parts of station {station} in this period, found none.")
    known = {row.seq for row in rows}
    concerned = [action for action in actions if action.record.station == station or action.record.about in known]
    return _Read(station=station, rows=rows, actions=concerned, head=head)


NOTABLE = {
    "started": "the station started",
    "bundle_swapped": "the bundle was replaced",
    "bundle_refused": "a new bundle was refused",
    SELECTED: "the product was changed",
    REFUSED: "a product that a person selected was refused",
    "worker_restarted": "the worker was restarted",
    "undelivered": "an answer did not reach the line",
    ACKNOWLEDGE: "a person acknowledged, so parts may pass again",
}
"""Actions that the shift report lists, with their descriptions."""


def _notable(action: Action) -> bool:
    """Whether an action is listed; a line may change its product with every part, so only people's changes are."""
    return action.action in NOTABLE and (action.action != SELECTED or action.details.get("by") == "person")


def _within(moment: datetime, since: datetime | None, until: datetime | None) -> bool:
    return (since is None or moment >= since) and (until is None or moment < until)


def _only_station(ledger: Ledger, path: Path) -> str:
    names = {row.record.station for row in ledger.verdicts()}
    if len(names) != 1:
        raise InputError(
            f"{path}: expected one station, found {', '.join(sorted(names)) or 'no verdict'}. Choose one with --station"
        )
    return names.pop()


def _tallied(
    rows: Iterable[Row[VerdictRecord]], name_of: Callable[[Row[VerdictRecord]], str | None]
) -> list[ShiftTally]:
    tallies: dict[str, ShiftTally] = {}
    for row in rows:
        name = name_of(row)
        if name is not None:
            tallies.setdefault(name, ShiftTally(name=name)).add(row)
    return list(tallies.values())


def _kinds(known: dict[int, Row[VerdictRecord]], decisions: dict[int | None, Row[Action]]) -> tuple[DefectCount, ...]:
    found: dict[str, list[Row[VerdictRecord]]] = defaultdict(list)
    for seq, decision in decisions.items():
        if seq in known and decision.record.label is Label.BAD:
            found[decision.record.defect or "not named"].append(known[seq])
    kinds = (DefectCount(name=name, count=len(rows), rows=tuple(rows)) for name, rows in found.items())
    return tuple(sorted(kinds, key=lambda kind: (-kind.count, kind.name)))


def _review_load(rows: Sequence[Row[VerdictRecord]], decisions: dict[int | None, Row[Action]]) -> ReviewLoad:
    sent = [row for row in rows if row.record.state is State.REVIEW]
    decided = [(row, decisions[row.seq]) for row in sent if row.seq in decisions]
    waits = sorted((decision.at - row.at).total_seconds() / 60 for row, decision in decided)
    rejected = [
        decisions[row.seq].record.label for row in rows if row.record.state is State.NO_GO and row.seq in decisions
    ]
    labels = Counter(decision.record.label for _, decision in decided)
    return ReviewLoad(
        sent=len(sent),
        decided=len(decided),
        good=labels[Label.GOOD],
        bad=labels[Label.BAD],
        open=len(sent) - len(decided),
        median_min=waits[len(waits) // 2] if waits else None,
        rejected_good=sum(label is Label.GOOD for label in rejected),
        rejected_seen=len(rejected),
    )


def _events(rows: Sequence[Row[VerdictRecord]]) -> tuple[Event, ...]:
    by_cause: dict[str, list[Row[VerdictRecord]]] = defaultdict(list)
    for row in rows:
        if row.record.cause is not None:
            by_cause[row.record.cause].append(row)
    events = []
    for cause, found in by_cause.items():
        runs = [[found[0]]]
        for before, row in pairwise(found):
            apart_s = (row.record.triggered_at - before.record.triggered_at).total_seconds()
            if apart_s > _SAME_EVENT_S:
                runs.append([])
            runs[-1].append(row)
        events += [
            Event(
                cause=cause,
                first=run[0].record.triggered_at,
                last=run[-1].record.triggered_at,
                parts=len(run),
                reason=run[0].record.reason,
            )
            for run in runs
        ]
    return tuple(sorted(events, key=lambda event: event.first))
