"""The status of a running station: ``status.json`` for the pages, ``metrics.prom`` for Prometheus."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gonogo.line.state import AdapterState, Health
from gonogo.station.messages import WorkerReport
from gonogo.station.reject import TrackingState

STATUS, METRICS = "status.json", "metrics.prom"
_BEATS_MISSED = 5.0
"""Seconds without a new ``beat`` after which a station counts as not running."""


@dataclass(frozen=True, kw_only=True)
class StationState:
    """Snapshot of a station, from its supervisor."""

    health: Health
    worker_pid: int | None
    report: WorkerReport
    """The worker's last report."""
    faulting: str
    """Why every part is a fault although the worker runs; empty if parts are judged."""
    alarms: tuple[str, ...]
    """Alarms about triggers and about faults that are not recorded."""
    waiting: int
    """Number of parts that wait for the worker."""
    unrecorded: int
    """Number of faults that are not recorded yet."""
    tracking: TrackingState | None = None
    """Where the parts between camera and gate are; ``None`` for a station that does not track them."""
    adapters: tuple[AdapterState, ...] = ()


def read_station_status(state_dir: Path) -> dict[str, Any] | None:
    """Read the last status of a station; ``None`` if there is none. ``alive`` says whether the station still runs."""
    try:
        status: dict[str, Any] = json.loads((state_dir / STATUS).read_bytes())
        beat = datetime.fromisoformat(status["beat"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    silent_s = (datetime.now(UTC) - beat).total_seconds()
    # A beat in the future is outdated too: the clock was set back.
    return {**status, "alive": status["health"] != "stopped" and abs(silent_s) < _BEATS_MISSED}
