"""The files of one station that people start and stop from the pages: what they want of it, and what it does.

::

    NAME/station.toml     the settings, as ``gonogo station run`` reads them
        /wish.json        what people want: running or not
        /running.json     the process that runs it
        /ended.json       why the last one ended
        /run.lock         held by that process
        /log.txt          what it complained about

The process is `gonogo.station.kept`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from gonogo import locks
from gonogo.files import write_beside
from gonogo.line.state import Health
from gonogo.station.status import read_station_status

SLOW_START_S = 120.0
"""A station that gives no sign of life for this long is silent."""
_LOG_TAIL_BYTES = 8_000


class Phase(StrEnum):
    """What a station does."""

    OFF = "off"
    STARTING = "starting"
    RUNNING = "running"
    FAULT = "fault"
    """It runs, but every part is a fault, or it has gone silent."""
    STOPPING = "stopping"
    FAILED = "failed"
    """It should run and does not."""
    ELSEWHERE = "elsewhere"
    """It was started by something else than the pages."""

    @property
    def holds_camera(self) -> bool:
        """Whether a process of the station may be using its camera."""
        return self not in (Phase.OFF, Phase.FAILED)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


_AnyRecord = TypeVar("_AnyRecord", bound=_Record)


class Wish(_Record):
    """What people want of a station."""

    run: bool = False
    number: int = 0
    """Increases with every start and restart; a process with another number ends."""
    who: str = ""
    at: datetime | None = None


class Running(_Record):
    """The process that runs a station."""

    pid: int
    number: int
    at: datetime


class Ended(_Record):
    """Why the last process of a station ended."""

    number: int
    why: str
    """Empty if people wanted it to end."""
    at: datetime


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a station does, and why."""

    phase: Phase
    why: str = ""
    """In English, as the station said it; empty if there is nothing to explain."""
    since: datetime | None = None
    """Since when its process runs, or when it ended."""
    alarms: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Place:
    """The files of one station of a workspace."""

    folder: Path

    @property
    def toml(self) -> Path:
        """Its settings."""
        return self.folder / "station.toml"

    @property
    def log(self) -> Path:
        """What its process complained about."""
        return self.folder / "log.txt"

    @property
    def run_lock(self) -> Path:
        """Held by its process."""
        return self.folder / "run.lock"

    def wish(self) -> Wish:
        """Read what people want of it."""
        return _read(self.folder / "wish.json", Wish) or Wish()

    def write_wish(self, wish: Wish) -> None:
        """Write what people want of it."""
        _write(self.folder / "wish.json", wish)

    def running(self) -> Running | None:
        """Read which process runs it, or ran it last."""
        return _read(self.folder / "running.json", Running)

    def write_running(self, running: Running) -> None:
        """Write which process runs it; called by that process, which holds `run_lock`."""
        _write(self.folder / "running.json", running)

    def ended(self) -> Ended | None:
        """Read why its last process ended."""
        return _read(self.folder / "ended.json", Ended)

    def write_ended(self, ended: Ended) -> None:
        """Write why its process ended."""
        _write(self.folder / "ended.json", ended)

    def is_held(self) -> bool:
        """Whether a process that the pages started runs it."""
        return _is_locked(self.run_lock)

    def log_tail(self) -> str:
        """Return the end of the log."""
        if not self.log.is_file():
            return ""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - _LOG_TAIL_BYTES))
            return file.read().decode(errors="replace")

    def standing(self, state_dir: Path | None, *, now: datetime | None = None) -> Standing:
        """Find out what it does.

        Args:
            state_dir: The state folder in its settings; ``None`` if they cannot be read.
            now: The time.
        """
        wish = self.wish()
        if self.is_held():
            return self._held(wish, state_dir, now or datetime.now(UTC))
        ended, running = self.ended(), self.running()
        status = None if state_dir is None else read_station_status(state_dir)
        # Its lock is not tried: that could make a start at the same moment fail.
        if status is not None and status["alive"] and (running is None or status.get("pid") != running.pid):
            return _said(status, Phase.ELSEWHERE)
        if not wish.run:
            return Standing(phase=Phase.OFF, since=None if ended is None else ended.at)
        if ended is not None and ended.number == wish.number:
            return Standing(phase=Phase.FAILED, why=ended.why, since=ended.at)
        if running is not None and running.number == wish.number:
            why = "its process ended without a word: it was killed, or the machine was restarted"
            return Standing(phase=Phase.FAILED, why=why, since=running.at)
        return Standing(phase=Phase.STARTING, since=wish.at)

    def _held(self, wish: Wish, state_dir: Path | None, now: datetime) -> Standing:
        running = self.running()
        if running is None or state_dir is None:
            return Standing(phase=Phase.STARTING)
        if not wish.run or running.number != wish.number:
            return Standing(phase=Phase.STOPPING, since=running.at)
        status = read_station_status(state_dir)
        if status is None or status.get("pid") != running.pid:  # the file of an earlier run
            if (now - running.at).total_seconds() < SLOW_START_S:
                return Standing(phase=Phase.STARTING, since=running.at)
            return Standing(phase=Phase.FAULT, why="it gives no sign of life", since=running.at)
        if not status["alive"]:
            return Standing(phase=Phase.FAULT, why="it has stopped sending its status", since=running.at)
        return _said(status, Phase.RUNNING)


def _said(status: Mapping[str, Any], phase: Phase) -> Standing:
    """What a station says of itself, in a status that is up to date."""
    since = datetime.fromisoformat(status["since"]) if "since" in status else None
    alarms, faulting = tuple(str(each) for each in status["alarms"]), str(status.get("faulting", ""))
    if status["health"] == Health.STARTING and phase is Phase.RUNNING:
        phase = Phase.STARTING
    if status["health"] == Health.DOWN or faulting:
        phase = phase if phase is Phase.ELSEWHERE else Phase.FAULT
    return Standing(phase=phase, why=faulting, since=since, alarms=alarms)


def _is_locked(path: Path) -> bool:
    if not path.exists():
        return False
    with path.open("ab") as file:
        return not locks.try_lock(file, shared=True)  # shared, so that concurrent checks do not block each other


def _read(path: Path, kind: type[_AnyRecord]) -> _AnyRecord | None:
    try:
        return kind.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None  # not written yet


def _write(path: Path, record: _Record) -> None:
    write_beside(path, json.dumps(record.model_dump(mode="json")).encode())
