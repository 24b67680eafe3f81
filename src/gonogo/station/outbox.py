"""The process that delivers a station's results, and what the station shows of it.

It is ``gonogo ledger publish``, started and restarted by the station. The line does not wait for it: it only reads the
ledger, and has a lower priority.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gonogo.errors import InputError
from gonogo.ledger.cursors import expect_publishing
from gonogo.results.settings import ResultSettings, pictures_of
from gonogo.station.companion import Companion
from gonogo.station.settings import StationSettings

RESULTS, RESULTS_LOG = "results.json", "results.log"
_SILENT_AFTER_S = 180.0  # longer than the longest pause, and a batch, of a lane


@dataclass(frozen=True, kw_only=True)
class DestinationState:
    """State of one destination of the results, as the station shows it."""

    name: str
    kind: str
    lag_rows: int
    """Rows that it does not have; for a digest, shifts that were not reported."""
    lag_s: float
    """Age of the oldest of them, in seconds."""
    delivered: int
    """Results delivered since its process started."""
    skipped: int
    """Results that it called malformed and that were skipped, as its settings allow, since its process started."""
    pictures_missing: int
    trouble: str
    """Why nothing is delivered at present; empty if all is well."""
    alarm: str = ""
    """What a person should look at; empty while a pause is short."""


def publish_command(toml: Path) -> list[str]:
    """Return the command that delivers the station's results."""
    return [sys.executable, "-m", "gonogo", "ledger", "publish", "--with-parent", str(toml)]


def read_destinations(settings: StationSettings) -> tuple[DestinationState, ...]:
    """Return the state of each destination; empty if the station has none."""
    if not settings.results:
        return ()
    try:
        found = json.loads((settings.state_dir / RESULTS).read_bytes())
    except (OSError, ValueError):
        found = {}
    return tuple(_read(each, found) for each in settings.results)


def _read(destination: ResultSettings, states: dict[str, object]) -> DestinationState:
    found = states.get(destination.name) if isinstance(states, dict) else None
    try:
        assert isinstance(found, dict), "otherwise it has not started"
        silent_s = abs((datetime.now(UTC) - datetime.fromisoformat(found["at"])).total_seconds())
        state = DestinationState(
            name=destination.name,
            kind=destination.kind,
            lag_rows=int(found["lag_rows"]),
            lag_s=round(float(found["lag_s"]) + (silent_s if found["lag_rows"] else 0.0), 3),
            delivered=int(found["delivered"]),
            skipped=int(found["skipped"]),
            pictures_missing=int(found["pictures_missing"]),
            trouble=str(found["trouble"]),
        )
    except (AssertionError, ValueError, KeyError, TypeError):
        return DestinationState(
            name=destination.name,
            kind=destination.kind,
            lag_rows=0,
            lag_s=0.0,
            delivered=0,
            skipped=0,
            pictures_missing=0,
            trouble="the process that delivers results has not started yet",
        )
    return _with_alarm(state, destination, refused=bool(found.get("refused")), silent_s=silent_s)


def _with_alarm(
    state: DestinationState, destination: ResultSettings, *, refused: bool, silent_s: float
) -> DestinationState:
    alarm = ""
    if refused:
        alarm = f"results {state.name}: {state.trouble}"
    elif silent_s > max(_SILENT_AFTER_S, 3 * destination.every_s):
        alarm = f"results {state.name}: nothing was heard of its process for {silent_s:.0f} s"
    elif state.lag_rows and state.lag_s > destination.alarm_after_s:
        unit = "shifts" if destination.kind == "email" else "rows"
        alarm = f"results {state.name}: {state.lag_rows:,} {unit} wait, the oldest for {state.lag_s:.0f} s"
        alarm += f": {state.trouble}" if state.trouble else ""
    elif state.skipped:
        alarm = f"results {state.name}: {state.skipped:,} were skipped because the receiver calls them malformed"
    return replace(state, alarm=alarm)


def outbox(settings: StationSettings, toml: Path) -> Companion | None:
    """Return the process that delivers the station's results, not started yet; ``None`` without destinations.

    The cursors are written first, so that retention waits for destinations that receive pictures, and no longer waits
    for those that were removed. The process may be cut off anywhere: what was not acknowledged is delivered again.
    """
    pictures = {each.name: pictures_of(each) != "none" for each in settings.results}
    with contextlib.suppress(InputError):  # the ledger's disk is missing: the process writes them once it is back
        expect_publishing(settings.ledger, settings.station, pictures)
    if not settings.results:
        return None
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    log = settings.state_dir / RESULTS_LOG

    def ended(code: int) -> None:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = f"the process that delivers results ended: {said[-1] if said else f'exit code {code}'}"
        _replace(settings.state_dir / RESULTS, _ended(settings, why))

    return Companion(publish_command(toml), ended, log=log)


def _ended(settings: StationSettings, trouble: str) -> bytes:
    now = datetime.now(UTC).isoformat()
    state = {"at": now, "lag_rows": 0, "lag_s": 0.0, "delivered": 0, "skipped": 0, "pictures_missing": 0}
    return json.dumps({each.name: state | {"trouble": trouble, "refused": True} for each in settings.results}).encode()


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.new")
    with contextlib.suppress(OSError):  # the disk is full: readers see that the file is old
        partial.write_bytes(data)
        partial.replace(path)
