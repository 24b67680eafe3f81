"""Publish the status and metrics of a station; see `gonogo.station.status` for the files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gonogo.line.state import Health
from gonogo.station.forwarder import LinkState, read_link
from gonogo.station.metrics import Metrics
from gonogo.station.outbox import DestinationState, read_destinations
from gonogo.station.settings import StationSettings
from gonogo.station.status import METRICS, STATUS, StationState


def publish(settings: StationSettings, metrics: Metrics, state: StationState) -> tuple[str, str]:
    """Write status and metrics. If the disk fails, readers see that the ``beat`` is old.

    Returns:
        The text of the status and of the metrics.
    """
    from gonogo.station.exposition import exposition  # imported here so that workers start faster

    folder = settings.state_dir
    free = _free_bytes(folder)
    link, results = read_link(settings), read_destinations(settings)
    status = json.dumps(snapshot(settings, metrics, state, free_bytes=free, link=link, results=results), indent=1)
    text = exposition(metrics, state, free_bytes=free, link=link, results=results)
    try:
        _replace(folder / STATUS, status.encode())
        _replace(folder / METRICS, text.encode())
        metrics.status_trouble = ""
    except OSError as error:
        metrics.events["status_not_written"] += 1
        metrics.status_trouble = f"{folder}: {error.strerror or error}"
    return status, text


def snapshot(
    settings: StationSettings,
    metrics: Metrics,
    state: StationState,
    *,
    free_bytes: int,
    link: LinkState | None = None,
    results: Sequence[DestinationState] = (),
) -> dict[str, Any]:
    """Return the status as plain JSON values."""
    report = state.report
    return {
        "station": metrics.station,
        "health": state.health.value,
        "beat": datetime.now(UTC).isoformat(),
        "since": metrics.started.isoformat(),
        "pid": os.getpid(),
        "worker_pid": state.worker_pid,
        "alarms": [
            *_alarms(metrics, state),
            *([link.alarm] if link is not None and link.alarm else []),
            *(each.alarm for each in results if each.alarm),
        ],
        "faulting": state.faulting,
        "answers": {answer.value: count for answer, count in metrics.answers.items()},
        "faults": dict(metrics.faults),
        "events": dict(metrics.events),
        "waiting": state.waiting,
        "unrecorded": state.unrecorded,
        "stages": metrics.stages(),
        "latest": metrics.latest(),
        "bundles": [asdict(bundle) for bundle in report.bundles],
        "products": list(settings.products),
        "product": report.product,
        "selected_by": report.selected_by,
        "resident_mb": report.resident_mb,
        "pictures": report.pictures,
        "challenge_due": _iso(report.challenge_due),
        "challenge_passed": _iso(report.challenge_passed),
        "ledger": str(settings.ledger),
        "free_mb": round(free_bytes / 1e6),
        "centre": None if link is None else asdict(link),
        "adapters": [asdict(adapter) for adapter in state.adapters],
        "results": [asdict(each) for each in results],
        "tracking": None if state.tracking is None else asdict(state.tracking),
    }


def _alarms(metrics: Metrics, state: StationState) -> list[str]:
    found = [
        f"product {bundle.product}: {bundle.trouble}" if bundle.product and bundle.trouble else bundle.trouble
        for bundle in state.report.bundles
    ]
    found += [bundle.expiry for bundle in state.report.bundles]
    found += [f"device {bundle.device}" for bundle in state.report.bundles if bundle.fell_back]
    found += [*state.report.warnings, state.report.held, *state.alarms, metrics.status_trouble]
    found += [] if state.tracking is None else [state.tracking.alarm]
    found += [f"{adapter.kind} {adapter.name}: {adapter.trouble}" for adapter in state.adapters if adapter.trouble]
    if state.faulting:
        found.append(f"every part is a fault: {state.faulting}")
    if state.health is Health.DOWN:
        found.append("the worker keeps crashing and may not be restarted yet: every part is a fault")
    return [each for each in found if each]


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _free_bytes(folder: Path) -> int:
    """Return the free space of the state folder; 0 if its disk is missing, which must not stop the supervisor."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return 0


def _replace(path: Path, data: bytes) -> None:
    """Replace a file atomically, without a sync: the next version follows a second later."""
    partial = path.with_name(f".{path.name}.new")
    partial.write_bytes(data)
    partial.replace(path)
