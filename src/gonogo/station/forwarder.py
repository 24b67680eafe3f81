"""The process that forwards a station's ledger to the centre, and what the station shows of it.

It is ``gonogo ledger forward``, started and restarted by the station. The line does not wait for it: it only reads the
ledger, has a lower priority, and its bounded memory and its imports are its own.
"""

from __future__ import annotations

import contextlib
import json
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gonogo.errors import InputError
from gonogo.ledger.forwarded import expect_forwarding
from gonogo.station.companion import Companion
from gonogo.station.settings import CentreSettings, StationSettings

LINK = "centre.json"
_SILENT_AFTER_S = 120.0  # longer than the longest pause between two attempts


@dataclass(frozen=True, kw_only=True)
class LinkState:
    """State of the connection to the centre, as the forwarder last wrote it."""

    lag_rows: int
    """Rows that the centre does not have."""
    lag_s: float
    """Age of the oldest of them, in seconds."""
    centre_seq: int
    clock_ahead_s: float | None
    """This machine's clock minus the centre's, in seconds; ``None`` if unknown."""
    trouble: str
    """Why nothing is forwarded at present; empty if all is well."""
    alarm: str
    """What a person should look at; empty while a pause is short."""


_STARTING = LinkState(
    lag_rows=0, lag_s=0.0, centre_seq=0, clock_ahead_s=None, trouble="the forwarder has not started yet", alarm=""
)


def forward_command(settings: StationSettings, centre: CentreSettings) -> list[str]:
    """Return the command that forwards the station's ledger."""
    options = {
        "--chain": centre.chain or settings.station,
        "--every": f"{centre.every_s:g}",
        "--status": str(settings.state_dir / LINK),
        "--frames": centre.frames,
    }
    words = [f"{name}={value}" for name, value in options.items() if value is not None]
    start = [sys.executable, "-m", "gonogo", "ledger", "forward", "--with-parent", *words]
    return [*start, str(settings.ledger), f"@{centre.url_file}"]


def read_link(settings: StationSettings) -> LinkState | None:
    """Return the state of the connection; ``None`` if the station has no centre."""
    if settings.centre is None:
        return None
    try:
        found = json.loads((settings.state_dir / LINK).read_bytes())
        silent_s = abs((datetime.now(UTC) - datetime.fromisoformat(found["at"])).total_seconds())
        lag_s = float(found["lag_s"]) + (silent_s if found["lag_rows"] else 0.0)
        trouble = str(found["trouble"])
        state = LinkState(
            lag_rows=int(found["lag_rows"]),
            lag_s=round(lag_s, 3),
            centre_seq=int(found["centre_seq"]),
            clock_ahead_s=found["clock_ahead_s"],
            trouble=trouble,
            alarm="",
        )
    except (OSError, ValueError, KeyError, TypeError):
        return _STARTING
    return _with_alarm(state, settings.centre, refused=bool(found.get("refused")), silent_s=silent_s)


def _with_alarm(state: LinkState, centre: CentreSettings, *, refused: bool, silent_s: float) -> LinkState:
    alarm = ""
    if refused:
        alarm = state.trouble
    elif silent_s > max(_SILENT_AFTER_S, 3 * centre.every_s):
        alarm = f"the forwarder to the centre has been silent for {silent_s:.0f} s"
    elif state.lag_rows and state.lag_s > centre.alarm_after_s:
        waiting = f"{state.lag_rows:,} rows wait for the centre, the oldest for {state.lag_s:.0f} s"
        alarm = f"{waiting}: {state.trouble}" if state.trouble else waiting
    return replace(state, alarm=alarm)


def forwarder(settings: StationSettings, centre: CentreSettings) -> Companion:
    """Return the process that forwards the station's ledger, not started yet.

    The ledger is marked as forwarded, so that retention waits for the centre. The process may be cut off anywhere: what
    was not acknowledged is sent the next time.
    """
    with contextlib.suppress(InputError):  # the ledger's disk is missing: the forwarder writes it once it is back
        expect_forwarding(settings.ledger)
    log = settings.state_dir / "centre.log"

    def ended(code: int) -> None:
        said = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        why = said[-1] if said else f"exit code {code}"
        _replace(settings.state_dir / LINK, _ended(f"the forwarder to the centre ended: {why}"))

    return Companion(forward_command(settings, centre), ended, log=log)


def _ended(trouble: str) -> bytes:
    """Return the state of a forwarder that has ended."""
    state = {"at": datetime.now(UTC).isoformat(), "lag_rows": 0, "lag_s": 0.0, "centre_seq": 0, "clock_ahead_s": None}
    return json.dumps(state | {"trouble": trouble, "refused": True}).encode()


def _replace(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.new")
    partial.write_bytes(data)
    partial.replace(path)
