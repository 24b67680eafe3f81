"""One look at all stations: bundle, health, yield, drift, clock, lag, and what is due; from ledgers and stations."""

from __future__ import annotations

import http.client
import json
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from gonogo.drift import DRIFT, DriftTest, Signs, Watch, read_watches
from gonogo.fleet.agent import HALTED, REFUSED, TAKEN
from gonogo.fleet.evidence import Place
from gonogo.fleet.requalification import Due, Limits, due
from gonogo.fleet.shelf import Shelf
from gonogo.ledger import By, Ledger, Row, VerdictRecord, Where
from gonogo.schema import State
from gonogo.station import read_station_status

_MOST_STATUS_BYTES = 4_000_000
_MOST_DRIFT_PARTS = 5_000


@dataclass(frozen=True, kw_only=True)
class HealthReport:
    """What a station says of itself at its address."""

    station: str
    health: str
    alarms: tuple[str, ...]
    clock_offset_s: float | None
    """How far its clock is ahead of this machine's; ``None`` if it was read from a file."""


@dataclass(frozen=True, kw_only=True)
class StationReport:
    """One station."""

    station: str
    health: str
    """``running``, ``held``, ...; ``unknown`` if it was not asked, ``silent`` if it did not answer."""
    alarms: tuple[str, ...]
    bundle_sha256: str | None
    """Bundle of its last verdict."""
    release: int | None
    """Number of the last release that it took."""
    refused: str
    """Why it refuses the latest release, or has left a roll-out by itself; empty if neither."""
    parts: int
    """Verdicts within the last 24 hours."""
    go: int
    no_go: int
    review: int
    fault: int
    last: datetime | None
    """Time of its last verdict, by its clock."""
    lag_s: float | None
    """Age of its last verdict here; negative if its clock is ahead."""
    clock_offset_s: float | None
    drift: str
    """Sentence of the score's drift alarm; empty without one."""
    due: tuple[Due, ...]
    """Why it must be requalified."""

    @property
    def yield_share(self) -> float | None:
        """Share of go among the judged parts; ``None`` without any."""
        judged = self.go + self.no_go + self.review
        return self.go / judged if judged else None


def fleet_status(
    places: Sequence[Place],
    *,
    health: Mapping[str, HealthReport] | None = None,
    shelf: Shelf | None = None,
    limits: Limits | None = None,
    now: datetime | None = None,
) -> list[StationReport]:
    """Report on every station that has a verdict in one of the ledgers or has been asked, by name.

    Args:
        places: The ledgers.
        health: What the stations say of themselves, see `ask_station`.
        shelf: The release server's bundles, for the drift alarm; without it drift is not tested.
        limits: Limits of the requalification.
        now: The time.

    Raises:
        LedgerError: a ledger cannot be read.
    """
    health, limits, now = dict(health or {}), limits or Limits(), now or datetime.now(UTC)
    found: dict[str, StationReport] = {}
    for place in places:
        with place.open() as ledger:
            names = [str(name) for (name,) in ledger.tally((By.STATION,)) if name is not None]
            for name in names:
                found[name] = _report(ledger, name, health.get(name), shelf, limits, now)
    for name, said in health.items():
        found.setdefault(name, _without_rows(said))
    return [found[name] for name in sorted(found)]


def ask_station(address: str, *, timeout_s: float = 3.0) -> HealthReport:
    """Ask a station for its status, at its HTTP address or in its state folder; silence is a report too."""
    if not address.startswith(("http://", "https://")):
        status = read_station_status(Path(address))
        if status is None:
            return _silent(address, "has no status: the station has never run there")
        return _health_of(status, alive=bool(status["alive"]), offset_s=None)
    begun = time.time()
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/status", timeout=timeout_s) as answer:
            status = json.loads(answer.read(_MOST_STATUS_BYTES))
        ended = time.time()
        beat = datetime.fromisoformat(str(status["beat"])).timestamp()
        # The status is written every heartbeat, so it is half a heartbeat old on average: good for seconds, not less.
        return _health_of(status, alive=True, offset_s=round(beat - (begun + ended) / 2, 1))
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        return _silent(address, f"does not answer ({error})")


def _health_of(status: Mapping[str, Any], *, alive: bool, offset_s: float | None) -> HealthReport:
    return HealthReport(
        station=str(status["station"]),
        health=str(status["health"]) if alive else "silent",
        alarms=tuple(map(str, status.get("alarms", ()))),
        clock_offset_s=offset_s,
    )


def _silent(address: str, why: str) -> HealthReport:
    return HealthReport(station=address, health="silent", alarms=(f"{address} {why}",), clock_offset_s=None)


def _report(
    ledger: Ledger, name: str, said: HealthReport | None, shelf: Shelf | None, limits: Limits, now: datetime
) -> StationReport:
    last = next(ledger.verdicts(Where(station=name), newest_first=True, limit=1), None)
    tally = ledger.tally((By.STATE,), Where(station=name, since=now - timedelta(days=1)))
    counts = {State(str(state)): count for (state,), count in tally.items()}
    drift = "" if shelf is None or last is None else _score_drift(ledger, name, last, shelf)
    return StationReport(
        station=name,
        health="unknown" if said is None else said.health,
        alarms=() if said is None else said.alarms,
        bundle_sha256=None if last is None else last.record.bundle_sha256,
        release=_last_release(ledger, name),
        refused=_refusal(ledger, name),
        parts=sum(counts.values()),
        **{state.value: counts.get(state, 0) for state in State},
        last=None if last is None else last.at,
        lag_s=None if last is None else round((now - last.at).total_seconds(), 1),
        clock_offset_s=None if said is None else said.clock_offset_s,
        drift=drift,
        due=due(ledger, name, limits=limits, now=now, drift=drift),
    )


def _without_rows(said: HealthReport) -> StationReport:
    return StationReport(
        station=said.station,
        health=said.health,
        alarms=said.alarms,
        bundle_sha256=None,
        release=None,
        refused="",
        parts=0,
        go=0,
        no_go=0,
        review=0,
        fault=0,
        last=None,
        lag_s=None,
        clock_offset_s=said.clock_offset_s,
        drift="",
        due=(),
    )


def _last_release(ledger: Ledger, station: str) -> int | None:
    taken = next(ledger.actions(Where(action=TAKEN, station=station), newest_first=True, limit=1), None)
    return None if taken is None else int(str(taken.record.details["sequence"]))


def _refusal(ledger: Ledger, station: str) -> str:
    """The last refusal or stop, unless a release was taken since."""
    rows = [
        row
        for action in (TAKEN, REFUSED, HALTED)
        for row in ledger.actions(Where(action=action, station=station), newest_first=True, limit=1)
    ]
    newest = max(rows, key=lambda row: row.seq, default=None)
    if newest is None or newest.record.action == TAKEN:
        return ""
    if newest.record.action == REFUSED:
        return str(newest.record.details.get("reason"))
    reasons = newest.record.details.get("reasons")
    said = " ".join(map(str, reasons)) if isinstance(reasons, list) else ""
    return f"has left the roll-out by itself. {said}"


def _score_drift(ledger: Ledger, station: str, last: Row[VerdictRecord], shelf: Shelf) -> str:
    """Run the bundle's drift alarm on its latest scores in the ledger; light and sharpness need the pictures.

    The latest parts are tested anew at every look, so this is a pointer; the alarm of the Understand page is the proof.
    """
    sha256 = last.record.bundle_sha256
    watches = () if sha256 is None else tuple(w for w in _watches(shelf, sha256) if w.sign == "score")
    if not watches:
        return ""
    test = DriftTest.start(watches)
    newest = ledger.verdicts(Where(station=station), newest_first=True, limit=_MOST_DRIFT_PARTS)
    scores = [row.record.score for row in newest if row.record.bundle_sha256 == sha256 and row.record.score is not None]
    for score in reversed(scores):
        test = test.update(Signs(score=score, distance=0.0, brightness=0.0, sharpness=0.0))
    return "; ".join(test.reasons)


def _watches(shelf: Shelf, sha256: str) -> tuple[Watch, ...]:
    data = shelf.file(sha256, DRIFT)
    if data is None:
        return ()
    return read_watches(data)
