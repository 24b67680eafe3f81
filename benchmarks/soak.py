"""A real station for hours: memory, open files, latency, the ledger, with a full disk and a stepped clock on the way.

``make soak``: an hour; ``QUICK=1`` five minutes, ``ARGS='--hours 8'`` as long as you like. The station runs as
processes of its own and is asked over TCP. At 40 % of the time the disk has less space than ``min_free_mb`` asks for,
so that every part must be a fault, until there is space again; at 60 % its clock goes an hour ahead and at 70 % back
(with Debian's faketime). Exit code 1 if an answer is missing, a part passed while the disk was full, or the ledger's
chain is broken. The last line holds the figures as JSON; ``held`` says which aims were met.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.ledger import Ledger, verify
from gonogo.progress import console
from gonogo.station import read_station_status
from gonogo.testing import write_fake_bundle
from gonogo.testing.station import patiently
from load_test import example_photos
from protocols.kit import free_port

FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
_FULL, _AHEAD, _BACK, _SPACE = 0.40, 0.60, 0.70, 0.45
_WARM = 0.15
_FILLER_MB = 2000
_MUST_BE_ZERO = ("missing", "passed_while_full", "findings", "rows_missing")
_MOST_GROWTH, _MOST_DRIFT = 0.02, 0.10


@dataclass(kw_only=True)
class Soak:
    """What was seen; every list has pairs of a time, as a share of the whole, and a value."""

    took_ms: list[tuple[float, float]] = field(default_factory=list)
    memory_mb: list[tuple[float, float]] = field(default_factory=list)
    handles: list[tuple[float, int]] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=list)
    missing: int = 0


class Asking:
    """A program that sends one trigger at a time over TCP."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        self._lines = self._socket.makefile()

    def ask(self, trigger_id: str) -> str:
        """Return the state of the answer; empty if there was none."""
        self._socket.sendall(f"{trigger_id}\n".encode())
        found = json.loads(self._lines.readline() or "{}")
        return str(found.get("state", "")) if found.get("trigger_id") == trigger_id else ""

    def close(self) -> None:
        """Hang up."""
        self._socket.close()


def main() -> None:
    """Run, and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five minutes")
    parser.add_argument("--hours", type=float, help="how long, in place of one hour")
    parser.add_argument("--rate", type=float, default=10.0, help="triggers per second")
    parser.add_argument("--folder", type=Path, help="folder of the ledger")
    given = parser.parse_args()
    seconds = 3600 * (given.hours or (1 / 12 if given.quick else 1.0))
    with tempfile.TemporaryDirectory(prefix="gonogo-soak-", dir=given.folder) as place:
        folder, port = Path(place), free_port()
        soak = Soak()
        with station(folder, port) as (process, clock):
            soaked(soak, folder, process, port, clock, seconds=seconds, rate=given.rate)
        figures = {"seconds": round(seconds), "clock_stepped": clock is not None, **figures_of(soak, folder)}
    print_figures(figures)
    wrong = {
        name: figures[name] for name in ("missing", "passed_while_full", "findings", "rows_missing") if figures[name]
    }
    if wrong or not figures["judged_after"]:
        raise UnfitError(
            f"expected every trigger answered once and a whole ledger, found {wrong or 'no verdict at the end'}."
        )


@contextmanager
def station(folder: Path, port: int) -> Iterator[tuple[psutil.Process, Path | None]]:
    """Run a station with a fake inspector; yield its process and the file that steps its clock, if there is one."""
    write_fake_bundle(folder / "part.inspector")
    photos = example_photos(folder / "photos")
    least_mb = shutil.disk_usage(folder).free // 1_000_000 - _FILLER_MB // 2
    (folder / "station.toml").write_text(f"""
station = "soak"
bundle = "part.inspector"
ledger = "soak.ledger"
state_dir = "state"
window_s = 4.0
camera_timeout_s = 2.0
min_free_mb = {least_mb}
[[cameras]]
camera = {{ kind = "fake", pictures = {str(photos)!r} }}
[[adapters]]
kind = "tcp"
port = {port}
allow_without_token = true
""")
    environment, clock = dict(os.environ), None
    if FAKETIME.exists():
        clock = folder / "clock"
        clock.write_text("+0")
        environment |= {
            "LD_PRELOAD": str(FAKETIME),
            "FAKETIME_TIMESTAMP_FILE": str(clock),
            "FAKETIME_CACHE_DURATION": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }
    command = [sys.executable, "-m", "gonogo", "station", "run", str(folder / "station.toml")]
    with (folder / "station.log").open("w") as log:
        started = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            patiently(lambda: _runs(folder, started), f"the station does not run: see {folder / 'station.log'}")
            yield psutil.Process(started.pid), clock
        finally:
            started.terminate()
            started.wait(60)


def _runs(folder: Path, started: subprocess.Popen[bytes]) -> bool:
    if started.poll() is not None:
        raise UnfitError(f"the station ended: {(folder / 'station.log').read_text()[-1000:]}")
    found = read_station_status(folder / "state")
    return found is not None and found["health"] == "running"


def soaked(
    soak: Soak, folder: Path, process: psutil.Process, port: int, clock: Path | None, *, seconds: float, rate: float
) -> None:
    """Ask at a fixed rate, and let the disk fill and the clock jump on the way."""
    filler = folder / "filler"
    events: list[tuple[float, str, Callable[[], object]]] = [
        (_FULL, "the disk is full", lambda: _fill(filler)),
        (_SPACE, "the disk has space again", filler.unlink),
    ]
    if clock is not None:
        events += [
            (_AHEAD, "the clock goes an hour ahead", lambda: clock.write_text("+3600")),
            (_BACK, "the clock goes back", lambda: clock.write_text("+0")),
        ]
    began_s, total, every = time.monotonic(), round(seconds * rate), max(1, round(seconds * rate) // 100)
    with closing(Asking(port)) as asking:
        for number in range(total):
            share = number / total
            while events and share >= events[0][0]:
                _, what, happen = events.pop(0)
                happen()
                console.print(f"{share:4.0%} {what}")
            time.sleep(max(0.0, began_s + number / rate - time.monotonic()))
            asked_s = time.perf_counter()
            state = asking.ask(f"s-{number}")
            soak.took_ms.append((share, (time.perf_counter() - asked_s) * 1e3))
            soak.states.append((share, state))
            soak.missing += not state
            if number % every == 0:
                _sample(soak, share, process)


def _fill(filler: Path) -> None:
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, _FILLER_MB * 1_000_000)


def _sample(soak: Soak, share: float, process: psutil.Process) -> None:
    family = [process, *process.children(recursive=True)]
    memory = sum(each.memory_full_info().pss for each in family) / 1e6
    soak.memory_mb.append((share, memory))
    soak.handles.append((share, sum(each.num_fds() for each in family)))
    if round(share * 100) % 10 == 0:
        console.print(f"{share:4.0%} {memory:.0f} MB, {soak.handles[-1][1]} handles, {soak.states[-1][1]}")


def figures_of(soak: Soak, folder: Path) -> dict[str, Any]:
    """Compare the time after the warm-up with the end, and look into the ledger."""
    memory, handles = (_ends(values, np.median) for values in (soak.memory_mb, soak.handles))
    p99 = _ends(soak.took_ms, lambda took: float(np.quantile(took, 0.99)))
    findings = verify(folder / "soak.ledger", frames=True)
    with Ledger.open(folder / "soak.ledger", create=False, read_only=True) as ledger:
        recorded = {row.record.trigger_id for row in ledger.verdicts()}
    judged = {f"s-{number}" for number, (_, state) in enumerate(soak.states) if state not in ("", "fault")}
    full = [state for share, state in soak.states if _FULL + 0.02 <= share < _SPACE]
    growth, drift = memory[1] / memory[0] - 1, p99[1] / p99[0] - 1
    return {
        "triggers": len(soak.states),
        "missing": soak.missing,
        "faults": sum(state == "fault" for _, state in soak.states),
        "faults_while_full": sum(state == "fault" for state in full),
        "passed_while_full": sum(state == "go" for state in full),
        "judged_after": sum(state not in ("", "fault") for share, state in soak.states if share > _SPACE + 0.05),
        "rows_missing": len(judged - recorded),
        "findings": len(findings),
        "memory_mb": [round(each, 1) for each in memory],
        "memory_growth": round(growth, 4),
        "handles": [int(each) for each in handles],
        "p99_ms": [round(each, 2) for each in p99],
        "p99_drift": round(drift, 3),
        "held": {
            "memory": growth < _MOST_GROWTH,
            "handles": handles[1] <= handles[0],
            "p99": drift < _MOST_DRIFT,
        },
    }


def _ends(values: list[tuple[float, Any]], of: Callable[[list[Any]], Any]) -> tuple[float, float]:
    """Return a figure of the time between warm-up and full disk, and of the last quarter."""
    first = [value for share, value in values if _WARM <= share < _FULL]
    last = [value for share, value in values if share >= 0.75]
    return float(of(first)), float(of(last))


if __name__ == "__main__":
    run(main)
