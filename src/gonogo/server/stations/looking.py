"""What the cameras of a station see: the camera itself while the station is stopped, its last part while it runs."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from typing import Any

from gonogo.capture import HealthLimits, PictureFacts, measure
from gonogo.errors import GonogoError
from gonogo.images.health import focus_grid, problem_of
from gonogo.ledger import VerdictRecord, Where
from gonogo.server.ledger_pool import REACH, LedgerPool
from gonogo.server.stations.previews import Previews
from gonogo.server.stations.stations import Station, Stations

_REMEMBERED = 32


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one camera sees."""

    number: int
    """Changes with every picture; 0 before the first."""
    picture: str = ""
    """Address of the picture."""
    facts: dict[str, Any] | None = None
    """See `gonogo.images.health.PictureFacts`."""
    limits: HealthLimits
    problem: dict[str, Any] | None = None
    """The limit that the picture violates."""
    grid: dict[str, Any] | None = None
    """See `gonogo.images.health.FocusGrid`."""
    trouble: str = ""
    """Why there is no new picture."""
    part: str = ""
    """The part that it shows, while the station runs."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What a station sees."""

    source: str
    """``camera``, ``part``, or empty if there is nothing to see."""
    cameras: tuple[Seen, ...] = ()
    tried: dict[str, Any] | None = None
    """The last try, see `gonogo.station.preview`."""


class Eyes:
    """Looks through the cameras of stations."""

    def __init__(self, stations: Stations, previews: Previews, ledger_pool: LedgerPool) -> None:
        self.stations, self.previews, self._ledger_pool = stations, previews, ledger_pool
        self._measured: OrderedDict[str, tuple[PictureFacts, dict[str, Any]]] = OrderedDict()
        self._lock = threading.Lock()

    def look(self, station: Station, *, preview: bool) -> View:
        """Return what a station sees now.

        Args:
            station: The station.
            preview: Whether its camera may be opened for that, if the station does not run.

        Raises:
            RefusedError: too many stations are looked at.
        """
        if station.settings is None:
            return View(source="")
        if station.standing.phase.holds_camera:
            self.previews.stop(station.name)
            return self._last_part(station)
        if not preview:
            return View(source="")
        found = self.previews.look(station)
        seen = (found["look"] or {}).get("cameras") or [{"number": 0, "trouble": found.get("ended", "")}]
        health = [each.health for each in station.settings.cameras]
        cameras = tuple(
            Seen(
                number=each["number"],
                picture=f"/stations/{station.name}/picture.jpg?camera={number}&n={each['number']}"
                if each["number"]
                else "",
                facts=each.get("facts"),
                limits=health[number],
                problem=each.get("problem"),
                grid=each.get("grid"),
                trouble=found.get("ended") or each["trouble"],
            )
            for number, each in enumerate(seen)
        )
        return View(source="camera", cameras=cameras, tried=found["tried"])

    def _last_part(self, station: Station) -> View:
        assert station.settings is not None, "checked by the caller"
        with self._ledger_pool.reading() as ledger:
            after = max(0, ledger.head().seq - REACH)
            row = next(ledger.verdicts(Where(station=station.name), after=after, newest_first=True, limit=1), None)
        if row is None:
            return View(source="part")
        cameras = []
        for number, camera in enumerate(station.settings.cameras):
            facts, grid = self._facts(row.record, number)
            problem = None if facts is None else problem_of(facts, camera.health)
            cameras.append(
                Seen(
                    number=row.seq,
                    picture=f"/parts/{row.seq}/picture.jpg?view={number}&width=960" if facts is not None else "",
                    facts=None if facts is None else asdict(facts),
                    limits=camera.health,
                    problem=None if problem is None else asdict(problem),
                    grid=grid,
                    trouble="" if facts is not None else row.record.reason,
                    part=row.record.part or row.record.trigger_id,
                )
            )
        return View(source="part", cameras=tuple(cameras))

    def _facts(self, record: VerdictRecord, view: int) -> tuple[PictureFacts | None, dict[str, Any] | None]:
        sha256 = record.views[view].frame_sha256 if view < len(record.views) else None
        if sha256 is None:
            return None, None
        with self._lock:
            if sha256 in self._measured:
                return self._measured[sha256]
        try:
            with self._ledger_pool.reading() as ledger:
                frame = ledger.frames.photograph(sha256).frame
            found = measure(frame), asdict(focus_grid(frame))
        except (GonogoError, OSError):
            return None, None  # the frame was not kept
        with self._lock:
            self._measured[sha256] = found
            while len(self._measured) > _REMEMBERED:
                self._measured.popitem(last=False)
        return found
