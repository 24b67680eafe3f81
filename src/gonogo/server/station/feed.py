"""The live feed of the station page, read from the ledger and the station's status file."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from gonogo.errors import GonogoError
from gonogo.ledger import By, Row, VerdictRecord, Where
from gonogo.schema import State
from gonogo.server.ledger_pool import REACH, LedgerPool
from gonogo.server.station.belt import Belt, read_belt
from gonogo.server.stations.stations import Station, Stations
from gonogo.station.place import Phase
from gonogo.station.status import read_station_status

RECENT = 60
"""Number of verdicts in the trend."""
FAULTS = 5
REJECTS = 8
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
    broken: str = ""
    """Why a station that should judge does not, or judges every part a fault; empty if all is well."""
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
    rejects: tuple[Row[VerdictRecord], ...] = ()
    """The latest parts since then with the verdict no-go, newest first."""
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


_Rows = tuple[Row[VerdictRecord], ...]


class Feed:
    """Polls while pages are open; a slow page skips to the latest snapshot."""

    def __init__(
        self, ledger_pool: LedgerPool, state_dir: Path, stations: Stations, *, max_streams: int, name: str = ""
    ) -> None:
        """Store the arguments; nothing is read yet.

        Args:
            ledger_pool: The ledger.
            state_dir: State folder of the station at the top of the workspace.
            stations: The stations of the workspace.
            max_streams: Largest number of open live pages.
            name: Follow only this station; by default all of them together.
        """
        self._ledger_pool, self._state_dir, self._max_streams = ledger_pool, state_dir, max_streams
        self._stations, self._name = stations, name
        self._of: dict[str, Feed] = {}
        self._own = 0
        self._latest: Snapshot | None = None
        self._changed = asyncio.Event()
        self._poller: asyncio.Task[None] | None = None
        self._rows: tuple[object, _Rows, _Rows, _Rows] | None = None
        self._counted: _Count | None = None
        self._watchers: Counter[str] = Counter()
        self.now: Callable[[], datetime] = lambda: datetime.now(UTC)

    def of(self, name: str) -> Feed:
        """Return the feed of one station; of all of them for an empty name.

        Raises:
            RefusedError: there is no such station.
        """
        if not name:
            return self
        name = self._stations.find(name).name
        if name not in self._of:
            feed = Feed(self._ledger_pool, self._state_dir, self._stations, max_streams=self._max_streams, name=name)
            feed._watchers, feed.now = self._watchers, lambda: self.now()
            self._of[name] = feed
        return self._of[name]

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
        self._own += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll())
        try:
            yield
        finally:
            self._watchers[who] -= 1
            self._own -= 1
            if self._watchers[who] == 0:
                del self._watchers[who]  # the feeds of single stations share this counter
            if self._own == 0:
                await self._stop_polling()

    async def stop(self) -> None:
        """Stop polling, for every station."""
        for feed in (self, *self._of.values()):
            await feed._stop_polling()

    async def _stop_polling(self) -> None:
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
            recent, faults, rejects = self._read_rows(since)
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
            rejects=rejects,
            station=station,
            idle=bool(recent) and _is_old(recent[-1], station, now),
            at=now,
        )

    def _read_rows(self, since: datetime) -> tuple[_Rows, _Rows, _Rows]:
        with self._ledger_pool.reading() as ledger:
            key = (ledger.head().seq, since)
            if self._rows is None or self._rows[0] != key:
                only = self._name or None
                after = None if only is None else max(0, key[0] - REACH)
                newest = ledger.verdicts(Where(station=only), after=after, newest_first=True, limit=RECENT)
                recent = tuple(newest)[::-1]
                faults, rejects = (
                    tuple(ledger.verdicts(where, after=after, newest_first=True, limit=limit))
                    for where, limit in (
                        (Where(since=since, states=(State.FAULT,), station=only), FAULTS),
                        (Where(since=since, states=(State.NO_GO,), station=only), REJECTS),
                    )
                )
                self._rows = (key, recent, faults, rejects)
        return self._rows[1:]

    def _count(self, since: datetime, last: int) -> _Count:
        begun, known = time.monotonic(), self._counted
        if known is not None and known.since == since and (known.last == last or begun < known.due):
            return known
        with self._ledger_pool.reading() as ledger:
            where = Where(since=since, station=self._name or None)
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
        if self._name:
            try:
                return status_of(self._stations.find(self._name))
            except GonogoError as error:  # its folder was removed
                return StationStatus(
                    alive=False, stopped=False, alarms=(), at=self.now(), since=None, broken=str(error)
                )
        top = read_status(self._state_dir)
        kept = [status_of(each) for each in self._stations.all() if not each.by_hand]
        found = ([] if top is None else [top]) + [each for each in kept if each is not None]
        return found[0] if len(found) == 1 else _together(found) if found else None

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


def read_status(state_dir: Path) -> StationStatus | None:
    """Read the status that a station writes; ``None`` if none has run there."""
    status = read_station_status(state_dir)
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


def status_of(station: Station) -> StationStatus | None:
    """Return the status of a station; ``None`` if it has never run.

    Its process is asked for, not only the status that it wrote: one that was killed a second ago is already a fault.
    """
    standing, settings = station.standing, station.settings
    said = None if settings is None else read_status(settings.state_dir)
    if station.by_hand:
        return said
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    at = standing.since or now
    if standing.phase is Phase.OFF:
        if said is None:
            return None
        return replace(said, alive=False, stopped=True, alarms=(), at=max(said.at, at), name=station.name)
    if standing.phase in (Phase.FAILED, Phase.FAULT) or settings is None:
        why = standing.why or station.problem or "every part is a fault"
        base = said or StationStatus(alive=False, stopped=False, alarms=(), at=at, since=None)
        broken = f"{station.name}: {why}"
        return replace(base, alive=False, stopped=False, alarms=standing.alarms, broken=broken, name=station.name)
    if standing.phase is Phase.STARTING or said is None:  # nothing from before the start is current
        return StationStatus(alive=True, stopped=False, alarms=standing.alarms, at=now, since=at, name=station.name)
    return replace(said, stopped=False, name=station.name)


def _together(found: Sequence[StationStatus]) -> StationStatus:
    """The status of several stations as one: it is only as good as the worst of those that should run."""
    wanted = [each for each in found if not each.stopped]
    return StationStatus(
        alive=bool(wanted) and all(each.alive for each in wanted),
        stopped=not wanted,
        alarms=tuple(f"{each.name}: {alarm}" for each in wanted for alarm in each.alarms),
        at=max(each.at for each in found),
        since=None,
        broken="; ".join(each.broken for each in wanted if each.broken),
    )


def _is_old(row: Row[VerdictRecord], station: StationStatus | None, now: datetime) -> bool:
    age = now - row.at
    if not timedelta(seconds=-_CLOCK_SLACK_S) <= age <= timedelta(seconds=CURRENT_S):
        return True
    return station is not None and station.since is not None and row.at < station.since
