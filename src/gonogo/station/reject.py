"""The station's side of tracking: feeds the `Tracker`, keeps what a restart must know, and passes on the records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, TypeAdapter, ValidationError

from gonogo.config import Strict
from gonogo.errors import InputError
from gonogo.ledger import Action, Ledger, Where
from gonogo.line.messages import Answer
from gonogo.schema import State
from gonogo.station.settings import StationSettings
from gonogo.station.tracking import Carried, LineTotals, Tracker
from gonogo.station.tracking_settings import RejectSettings

LINE_STOPPED, LINE_ACKNOWLEDGED = "line_stopped", "line_acknowledged"
_CARRIED = "tracking.json"
_CARRIED_TYPE = TypeAdapter(Carried)


class _Report(Strict):
    """The body of ``POST /line``."""

    count: int = Field(ge=0)
    gate: int = Field(ge=0)
    rejected: int = Field(ge=0)


def parse_line(text: str, settings: RejectSettings) -> LineTotals:
    """Parse a report of the line: ``{"count": 4711, "gate": 17, "rejected": 3}``.

    Raises:
        ValueError: the text is something else, or a total does not fit into ``counter_bits``.
    """
    try:
        found = _Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "the report"
        raise ValueError(
            f'expected {{"count": ..., "gate": ..., "rejected": ...}}, found {place}: {first["msg"]}'
        ) from error
    highest = max(found.count, found.gate, found.rejected)
    if highest >> settings.counter_bits:
        raise ValueError(f"expected totals below 2^{settings.counter_bits} (counter_bits), found {highest}")
    return LineTotals(count=found.count, gate=found.gate, rejected=found.rejected)


@dataclass(frozen=True, kw_only=True)
class TrackingState:
    """Snapshot of the tracking, for status, metrics and page."""

    track: str
    distance: int
    parts: tuple[Mapping[str, Any], ...]
    """``id``, ``left`` (counts or places to the gate), ``verdict`` (``None`` before it is known) and ``rejected``."""
    unconfirmed: int
    silent: bool
    heard: bool
    """The line has reported at least once."""
    stopped: str
    stop_id: str
    counts: Mapping[str, int]

    @property
    def alarm(self) -> str:
        """What a person must know; empty if nothing."""
        if self.stopped:
            return (
                f"The line is stopped, and every part is a fault: {self.stopped}. Clear the belt between camera and "
                "gate, then: gonogo station acknowledge STATION.TOML --what line --who NAME"
            )
        if self.silent or not self.heard:
            return "The line does not report its belt: every part is rejected at the gate"
        return ""


class RejectControl:
    """Tracking in a running station; used only by the supervisor's thread."""

    def __init__(
        self, settings: RejectSettings, state_dir: Path, note: Callable[[str, Mapping[str, object]], None]
    ) -> None:
        """Read what an earlier run left behind.

        Args:
            settings: Distances and windows.
            state_dir: Folder for `tracking.json`.
            note: Records an event, with the name of the action and its details.
        """
        self._settings, self._path, self._note = settings, state_dir / _CARRIED, note
        self._saved, self._heard = Carried(), False
        self.trouble = ""
        """Why the copy on disk is out of date; empty if it is not."""
        self._tracker = Tracker(settings, self._read())
        self._record()

    @property
    def stopped(self) -> str:
        """Why the line is stopped; empty if it is not."""
        stop = self._tracker.stopped
        return "" if stop is None else f"the line is stopped: {stop.why}"

    def came(self, trigger_id: str, count: int | None) -> None:
        """A part is in front of the camera."""
        self._tracker.part(trigger_id, count)

    def answered(self, answer: Answer) -> None:
        """A part was answered. A fault counts like every verdict that is not go."""
        self._tracker.judged(answer.trigger_id, State(answer.state))

    def line(self, totals: LineTotals) -> dict[str, Any]:
        """Take a report of the line; return the orders for it."""
        self._heard = True
        self._tracker.line(totals, time.monotonic())
        self._record()
        order = self._tracker.order
        return {"fire": None if order is None else asdict(order), "stop": self.stopped}

    def tick(self) -> None:
        """Check overdue confirmations and a silent line."""
        self._tracker.tick(time.monotonic())
        self._record()

    def acknowledged(self, stop_id: str) -> None:
        """A person has acknowledged a stop."""
        self._tracker.acknowledge(stop_id)
        self._record()

    def state(self) -> TrackingState:
        """Return a snapshot."""
        tracker = self._tracker
        parts = tuple(
            {
                "id": each.id,
                "left": tracker.distance_left(each),
                "verdict": None if each.verdict is None else each.verdict.value,
                "rejected": tracker.rejects(each),
            }
            for each in tracker.in_flight
        )
        return TrackingState(
            track=self._settings.track,
            distance=self._settings.distance,
            parts=parts,
            unconfirmed=tracker.unconfirmed,
            silent=tracker.silent,
            heard=self._heard,
            stopped="" if tracker.stopped is None else tracker.stopped.why,
            stop_id="" if tracker.stopped is None else tracker.stopped.id,
            counts=dict(tracker.counts),
        )

    def _record(self) -> None:
        """Pass on the records, and save what a restart must know."""
        for each in self._tracker.take():
            self._note(each.action, each.details)
        now = self._tracker.carried()
        if _without_count(now) == _without_count(self._saved) and not self.trouble:
            return
        try:
            partial = self._path.with_name(f".{self._path.name}.new")
            partial.write_text(json.dumps(asdict(now)), encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"
        else:
            self._saved, self.trouble = now, ""

    def _read(self) -> Carried:
        try:
            return _CARRIED_TYPE.validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return Carried()
        except (OSError, ValueError):  # unreadable: as after an unconfirmed reject
            return Carried(unconfirmed=(f"a part (the file {self._path.name} cannot be read)",))


def _without_count(carried: Carried) -> object:
    """Return what is worth saving: not the belt's count, which changes all the time."""
    totals = carried.totals
    return (
        carried.fired,
        carried.unconfirmed,
        carried.in_flight,
        carried.stop,
        None if totals is None else (totals.gate, totals.rejected),
    )


def acknowledged_stop(ledger: Ledger, station: str) -> str:
    """Return the id of the stop that was acknowledged last; empty if none was."""
    where = Where(action=LINE_ACKNOWLEDGED, station=station)
    row = next(ledger.actions(where, newest_first=True, limit=1), None)
    return "" if row is None else str(row.record.details.get("stop", ""))


def acknowledge_line(settings: StationSettings, *, who: str, note: str) -> int:
    """Record that a person has cleared the belt after the line was stopped.

    Returns:
        Number of the row.

    Raises:
        InputError: the station does not track parts, or its line was never stopped.
        LedgerError: the ledger cannot be used.
    """
    if settings.reject is None:
        raise InputError(f"{settings.station}: expected a station with [reject], found one that tracks no parts.")
    with Ledger.open(settings.ledger, create=False) as ledger:
        where = Where(action=LINE_STOPPED, station=settings.station)
        row = next(ledger.actions(where, newest_first=True, limit=1), None)
        if row is None:
            raise InputError(f"{settings.station}: expected a stopped line, found none on record. See the status.")
        stop = str(row.record.details.get("stop", ""))
        if acknowledged_stop(ledger, settings.station) == stop:
            raise InputError(f"{settings.station}: the last stop (row {row.seq}) is already acknowledged.")
        details = {"stop": stop, "note": note}
        action = Action(
            action=LINE_ACKNOWLEDGED, who=who, station=settings.station, about=row.seq, details=dict(details)
        )
        return ledger.append_action(action).seq
