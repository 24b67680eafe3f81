"""What a running station shows of itself: ``status.json`` for pages, ``metrics.prom`` for Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from gonogo.station.messages import WorkerReport

STATUS, METRICS = "status.json", "metrics.prom"
_BEATS_MISSED = 5.0
"""Seconds without a new beat after which a station counts as not running."""


class Health(StrEnum):
    """What the status shows first."""

    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    """Running, but nothing may pass until a person acknowledges."""
    DOWN = "down"
    """No worker, and no restart left: every part is a fault."""
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class StationState:
    """A station at one moment, as its supervisor knows it."""

    health: Health
    worker_pid: int | None
    report: WorkerReport
    """The worker's last one."""
    faulting: str
    """Why every part is a fault though the worker runs; empty where parts are judged."""
    alarms: tuple[str, ...]
    """Of the triggers and of what is not on record."""
    waiting: int
    """Parts that wait for the worker."""
    unrecorded: int
    """Faults that are not on record yet."""


def read_station_status(state_dir: Path) -> dict[str, Any] | None:
    """The last status that a station wrote, ``None`` where there is none; ``alive`` says whether it is still true."""
    try:
        status: dict[str, Any] = json.loads((state_dir / STATUS).read_bytes())
        beat = datetime.fromisoformat(status["beat"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    silent_s = (datetime.now(UTC) - beat).total_seconds()
    # A beat from the future is old as well: the clock was set back since.
    return {**status, "alive": status["health"] != "stopped" and abs(silent_s) < _BEATS_MISSED}
