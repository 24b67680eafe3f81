"""The live feed of the station page, read from the ledger and the station's status file."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gonogo.errors import GonogoError
from gonogo.ledger import By, Row, VerdictRecord, Where
from gonogo.schema import State
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.station.belt import Belt, read_belt
from gonogo.station.status import read_station_status

RECENT = 60
"""Number of verdicts in the trend."""
FAULTS = 5
"""Number of faults in the list."""
POLL_S = 0.25
CURRENT_S = 60.0
"""Maximum age of a verdict that is shown as current."""
_CLOCK_SLACK_S = 5.0  # a verdict from the future is old: the clock has been set back
MAX_PER_PERSON = 4
"""Maximum live pages per person or key; a browser opens at most six connections to one server."""
_TALLY_SHARE = 20  # limits counting to 5 % of the time


class TooManyStreamsError(GonogoError):
    """Too many live pages are open, in total or for this person."""


@dataclass(frozen=True, kw_only=True)
class StationStatus:
    """The latest status of the station."""

    alive: bool
    """Whether it is running and its heartbeat is not overdue."""
    stopped: bool
    """Whether it was stopped on purpose."""
    alarms: tuple[str, ...]
    """Alarms, one sentence each."""
    at: datetime
    """Time of the status, to the minute while the station is alive."""
    since: datetime | None
    """Start time."""
    name: str = ""
    products: tuple[str, ...] = ()
    """The products that it can make; empty at a station for one product."""
    product: str | None = None
    """The selected one; ``None`` before the first selection."""
    selected_by: str | None = None
    """``trigger``, ``code``, ``person``, or ``ledger`` after a restart."""
    belt: Belt | None = None
    """The parts between camera and gate; ``None`` if the station does not track them."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Snapshot:
    """Snapshot of everything that the station page shows."""

    version: int
    recent: tuple[Row[VerdictRecord], ...] = ()
    """Oldest first."""
    since: datetime
    """Start of the counters: local midnight."""
    counts: Mapping[State, int] = field(default_factory=dict)
    causes: Mapping[str, int] = field(default_factory=dict)
    """Faults since then by cause, most frequent first."""
    faults: tuple[Row[VerdictRecord], ...] = ()
    """The latest faults since then, newest first."""
    station: StationStatus | None = None
    """``None`` if no station has run in this workspace."""
    problem: str = ""
    """Why the ledger cannot be read; empty if it can."""
    idle: bool = False
    """Whether the latest verdict is too old or from before the station's start."""
    at: datetime
    """Time of the snapshot."""

    @property
    def last(self) -> Row[VerdictRecord] | None:
        """The latest verdict."""
        return self.recent[-1] if self.recent else None

    @property
    def believable(self) -> bool:
        """Whether the snapshot shows the current state."""
        return not self.problem and (self.station is None or self.station.alive)

    @property
    def current(self) -> Row[VerdictRecord] | None:
        """The latest verdict if it is current, else ``None``."""
        return self.last if self.believable and not self.idle else None


@dataclass(frozen=True, kw_only=True)
class _Count:
    since: datetime
    last: int
    due: float
    counts: Mapping[State, int]
    causes: Mapping[str, int]


class Feed:
    """Polls while pages are open; a slow page skips to the latest snapshot."""

    def __init__(self, ledger_pool: LedgerPool, state_dir: Path, *, max_streams: int) -> None:
        self._ledger_pool, self._state_dir, self._max_streams = ledger_pool, state_dir, max_streams
        self._latest: Snapshot | None = None
        self._changed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._rows: tuple[object, tuple[Row[VerdictRecord], ...], tuple[Row[VerdictRecord], ...]] | None = None
        self._counted: _Count | None = None
        self._watchers: Counter[str] = Counter()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)

    @property
    def watchers(self) -> int:
        """Number of open live pages."""
        return self._watchers.total()

    @asynccontextmanager
    async def watched(self, who: str) -> AsyncIterator[None]:
        """Keep the feed running for the duration of the block.

        Args:
            who: Name of the person or key.

        Raises:
            TooManyStreamsError: too many live pages are open, in total or for this person.
        """
        for limit, taken in ((self._max_streams, self.watchers), (MAX_PER_PERSON, self._watchers[who])):
            if taken >= limit:
                raise TooManyStreamsError(f"expected at most {limit} live pages, found one more.")
        self._watchers[who] += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watchers[who] -= 1
            self._watchers += Counter()  # drops closed pages
            if self.watchers == 0:
                await self.stop()

    async def stop(self) -> None:
        """Stop polling."""
        poller, self._poller = self._poller, None
        if poller is not None:
            poller.cancel()
            await asyncio.gather(poller, return_exceptions=True)

    async def next(self, seen: int, timeout_s: float) -> Snapshot | None:
        """Wait for a snapshot newer than ``seen``; ``None`` after the timeout."""
        deadline = time.monotonic() + timeout_s
        while self._latest is None or self._latest.version == seen:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                await asyncio.wait_for(self._changed.wait(), left)
            except TimeoutError:
                return None
        return self._latest

    def read(self) -> Snapshot:
        """Read the current snapshot."""
        since = datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
        station, now = self._station(), self.now()
        try:
            recent, faults = self._read_rows(since)
            last = recent[-1].seq if recent else 0
            counted = self._count(since, last)
        except GonogoError as error:
            return Snapshot(version=0, since=since, station=station, problem=str(error), at=now)
        return Snapshot(
            version=last,
            recent=recent,
            since=since,
            counts=counted.counts,
            causes=counted.causes,
            faults=faults,
            station=station,
            idle=bool(recent) and _is_old(recent[-1], station, now),
            at=now,
        )

    def _read_rows(self, since: datetime) -> tuple[tuple[Row[VerdictRecord], ...], tuple[Row[VerdictRecord], ...]]:
        with self._ledger_pool.reading() as ledger:
            key = (ledger.head().seq, since)
            if self._rows is None or self._rows[0] != key:
                recent = tuple(ledger.verdicts(newest_first=True, limit=RECENT))[::-1]
                today = Where(since=since, states=(State.FAULT,))
                self._rows = (key, recent, tuple(ledger.verdicts(today, newest_first=True, limit=FAULTS)))
        return self._rows[1:]

    def _count(self, since: datetime, last: int) -> _Count:
        begun, known = time.monotonic(), self._counted
        if known is not None and known.since == since and (known.last == last or begun < known.due):
            return known
        with self._ledger_pool.reading() as ledger:
            where = Where(since=since)
            states = ledger.tally((By.STATE,), where)
            causes = ledger.tally((By.CAUSE,), where)
        ended = time.monotonic()
        self._counted = _Count(
            since=since,
            last=last,
            due=ended + _TALLY_SHARE * (ended - begun),
            counts={State(str(state)): count for (state,), count in states.items()},
            causes={str(cause): count for (cause,), count in sorted(causes.items(), key=lambda it: -it[1]) if cause},
        )
        return self._counted

    def _station(self) -> StationStatus | None:
        status = read_station_status(self._state_dir)
        if status is None:
            return None
        beat = datetime.fromisoformat(status["beat"])
        return StationStatus(
            alive=bool(status["alive"]),
            stopped=status["health"] == "stopped",
            alarms=tuple(str(alarm) for alarm in status["alarms"]),
            # Otherwise every heartbeat would count as a change.
            at=beat.replace(second=0, microsecond=0) if status["alive"] else beat,
            since=datetime.fromisoformat(status["since"]) if "since" in status else None,
            name=str(status.get("station", "")),
            products=tuple(str(name) for name in status.get("products", ())),
            product=status.get("product"),
            selected_by=status.get("selected_by"),
            belt=read_belt(status.get("tracking")),
        )

    async def _poll(self) -> None:
        shown: object = None
        version = self._latest.version if self._latest else 0
        while True:
            found = await asyncio.to_thread(self.read)
            looks = (found.version, found.since, found.counts, found.station, found.problem, found.idle)
            if looks != shown:
                shown, version = looks, version + 1
                self._latest = Snapshot(**{**vars(found), "version": version})
                self._changed.set()
                self._changed = asyncio.Event()
            await asyncio.sleep(POLL_S)


def _is_old(row: Row[VerdictRecord], station: StationStatus | None, now: datetime) -> bool:
    age = now - row.at
    if not timedelta(seconds=-_CLOCK_SLACK_S) <= age <= timedelta(seconds=CURRENT_S):
        return True
    return station is not None and station.since is not None and row.at < station.since
