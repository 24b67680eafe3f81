"""Several stations on one screen: the latest verdict of each station in the ledger, readable from five metres."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from fastapi import Request
from fastapi.responses import Response

from gonogo.ledger import By, Ledger, Row, VerdictRecord, Where
from gonogo.schema import State
from gonogo.server import responses
from gonogo.server.account.screens import keep_login
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.context import Use
from gonogo.server.ledger_pool import REACH, LedgerPool
from gonogo.server.station.feed import CURRENT_S, Feed, Snapshot, StationStatus, status_of
from gonogo.server.stations.stations import Stations

_SHOWN_FOR = timedelta(days=1)
"""A station without a verdict for this long is not shown any more."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One station."""

    name: str
    last: Row[VerdictRecord] | None
    """``None`` if it has judged nothing in the last day."""
    current: bool
    """Whether the last verdict is from the last minute, and the station is not known to be silent."""
    counts: Mapping[State, int]
    """Verdicts since midnight."""
    alarms: tuple[str, ...]
    broken: str = ""
    """Why it does not judge, although it should; empty if all is well."""
    stopped: bool = False
    """Whether a person has stopped it."""

    @property
    def state(self) -> State | None:
        """What the tile shows: never an old verdict, and never that of a station that does not judge."""
        if self.broken:
            return State.FAULT
        return self.last.record.state if self.last is not None and self.current else None


def wall_page(
    request: Request,
    accounts: Use[Accounts],
    feed: Use[Feed],
    stations: Use[Stations],
    ledger_pool: Use[LedgerPool],
    me: Me,
) -> Response:
    """The page; its script keeps the tiles up to date."""
    snapshot = feed.read()
    tiles = _tiles(ledger_pool, stations, snapshot, me)
    drawn = responses.fill_template(me.language, "station/tiles.html", tiles=tiles, at=snapshot.at)
    answer = responses.page(request, "wall.html", snapshot=snapshot, tiles=drawn)
    if me.screen is not None:
        keep_login(accounts, answer, request.cookies[accounts.screen_cookie])
    return answer


def wall_tiles(feed: Use[Feed], stations: Use[Stations], ledger_pool: Use[LedgerPool], me: Me) -> Response:
    """The tiles as a page fragment, the newest row and the state of each station."""
    snapshot = feed.read()
    tiles = _tiles(ledger_pool, stations, snapshot, me)
    return responses.answer(
        tiles=responses.fill_template(me.language, "station/tiles.html", tiles=tiles, at=snapshot.at),
        states={tile.name: [tile.last.seq if tile.last else 0, tile.state or ""] for tile in tiles},
    )


def read_tiles(ledger: Ledger, snapshot: Snapshot, kept: Mapping[str, StationStatus] | None = None) -> tuple[Tile, ...]:
    """Return the stations with a verdict in the last day, by name, and those that the pages have started.

    Args:
        ledger: The ledger.
        snapshot: State of the station page.
        kept: What the stations of the workspace do.
    """
    own = dict(kept or {})
    if snapshot.station is not None and snapshot.station.name:
        own.setdefault(snapshot.station.name, snapshot.station)
    counts: dict[str, dict[State, int]] = {}
    for (station, state), count in ledger.tally((By.STATION, By.STATE), Where(since=snapshot.since)).items():
        counts.setdefault(str(station), {})[State(str(state))] = count
    recent = Where(since=snapshot.at - _SHOWN_FOR)
    names = {str(name) for (name,) in ledger.tally((By.STATION,), recent) if name is not None}
    after, tiles = max(0, ledger.head().seq - REACH), []
    for name in sorted(names | set(kept or {})):
        where = Where(station=name, since=recent.since)
        last = next(ledger.verdicts(where, after=after, newest_first=True, limit=1), None)
        tiles.append(_tile(name, last, counts.get(name, {}), own.get(name), snapshot.at))
    return tuple(tiles)


def _tile(
    name: str,
    last: Row[VerdictRecord] | None,
    counts: Mapping[State, int],
    own: StationStatus | None,
    now: datetime,
) -> Tile:
    return Tile(
        name=name,
        last=last,
        current=last is not None and _is_current(last.at, now) and _counts(last.at, own),
        counts=counts,
        alarms=() if own is None else own.alarms,
        broken="" if own is None else own.broken,
        stopped=own is not None and own.stopped,
    )


def _counts(at: datetime, own: StationStatus | None) -> bool:
    """Whether a verdict was given by the run of the station that goes on now; unknown stations are believed."""
    return own is None or (own.alive and (own.since is None or at >= own.since))


def _is_current(at: datetime, now: datetime) -> bool:
    return timedelta(seconds=-CURRENT_S) <= now - at <= timedelta(seconds=CURRENT_S)


def _tiles(ledger_pool: LedgerPool, stations: Stations, snapshot: Snapshot, me: Visitor) -> tuple[Tile, ...]:
    """The tiles of the stations that the visitor may see: a wall screen is bound to some."""
    kept = {
        each.name: status for each in stations.all() if not each.by_hand and (status := status_of(each)) is not None
    }
    with ledger_pool.reading() as ledger:
        tiles = read_tiles(ledger, snapshot, kept)
    return tuple(tile for tile in tiles if me.screen is None or me.screen.shows(tile.name))
