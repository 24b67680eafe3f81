"""What a running station shows of itself: ``status.json`` for pages, ``metrics.prom`` for Prometheus."""

from __future__ import annotations

import json
import os
import shutil
import time
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gonogo.station.gate import Gate

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


def publish(gate: Gate, health: Health) -> None:
    """Write both files; a disk that does not take them is shown by a beat that stands still."""
    folder = gate.settings.state_dir
    status = snapshot(gate, health)
    gate.published = json.dumps(status, indent=1), prometheus(gate)
    try:
        _replace(folder / STATUS, gate.published[0].encode())
        _replace(folder / METRICS, gate.published[1].encode())
        gate.metrics.status_trouble = ""
    except OSError as error:
        gate.metrics.events["status_not_written"] += 1
        gate.metrics.status_trouble = f"{folder}: {error.strerror or error}"


def snapshot(gate: Gate, health: Health) -> dict[str, Any]:
    """The status as plain JSON values."""
    metrics, told = gate.metrics, gate.told
    alarms = [bundle["trouble"] for bundle in told.get("bundles", []) if bundle["trouble"]]
    alarms += [
        text for text in (told.get("held", ""), gate.reused, *gate.backlog_alarms, metrics.status_trouble) if text
    ]
    if gate.faulting:
        alarms.append(f"every part is a fault: {gate.faulting}")
    if health.value == "down":
        alarms.append("the worker keeps dying and may not be restarted yet: every part is a fault")
    return {
        "station": metrics.station,
        "health": health.value,
        "beat": datetime.now(UTC).isoformat(),
        "since": metrics.started.isoformat(),
        "pid": os.getpid(),
        "worker_pid": gate.worker_pid,
        "alarms": alarms,
        "faulting": gate.faulting,
        "answers": {state.value: count for state, count in metrics.answers.items()},
        "faults": dict(metrics.faults),
        "events": dict(metrics.events),
        "waiting": gate.waiting,
        "unrecorded": gate.unrecorded,
        "stages": metrics.stages(),
        "latest": metrics.latest(),
        "bundles": told.get("bundles", []),
        "pictures": told.get("pictures", {}),
        "challenge_due": told.get("challenge_due"),
        "challenge_passed": told.get("challenge_passed"),
        "ledger": str(gate.settings.ledger),
        "free_mb": round(_free_bytes(gate) / 1e6),
    }


def prometheus(gate: Gate) -> str:
    """The metrics as Prometheus text."""
    health = gate.health.value
    gauges = {
        "up": float(health in ("running", "held") and not gate.faulting),
        "held": float(health == "held"),
        "waiting": float(gate.waiting),
        "unrecorded": float(gate.unrecorded),
        "beat_timestamp_seconds": time.time(),
        "free_bytes": float(_free_bytes(gate)),
    }
    return gate.metrics.prometheus(gauges, gate.told.get("pictures", {}))


def read_status(state_dir: Path) -> dict[str, Any] | None:
    """The last status that a station wrote, ``None`` where there is none; ``alive`` says whether it is still true."""
    try:
        status: dict[str, Any] = json.loads((state_dir / STATUS).read_bytes())
        beat = datetime.fromisoformat(status["beat"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    silent_s = (datetime.now(UTC) - beat).total_seconds()
    # A beat from the future is old as well: the clock was set back since.
    return {**status, "alive": status["health"] != "stopped" and abs(silent_s) < _BEATS_MISSED}


def _free_bytes(gate: Gate) -> int:
    """What is left for the state; 0 where its disk is gone, which must not take the gate along."""
    try:
        return shutil.disk_usage(gate.settings.state_dir).free
    except OSError:
        return 0


def _replace(path: Path, data: bytes) -> None:
    """Whole or not at all, but not synced: a second later there is a newer one."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_bytes(data)
    partial.replace(path)
