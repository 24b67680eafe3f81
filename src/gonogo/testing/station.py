"""A station in a folder, for tests: supervisor in this process, a worker that fails on demand, and a fake PLC.

Trigger ids select the failure; see `gonogo.testing.worker`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gonogo.line.state import Health
from gonogo.station.answers import Sender
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.supervisor import Supervisor
from gonogo.station.watchdog import spawn
from gonogo.testing.fork import ForkedWorker
from gonogo.testing.plc import FakePlc

PATIENCE_S = 600.0
"""Timeout of `patiently` in seconds: long enough for a busy machine, so only a station that hangs fails."""


@dataclass(kw_only=True)
class StationBench:
    """A station under test: a supervisor in this process, its worker, and a fake PLC."""

    settings: StationSettings
    supervisor: Supervisor
    plc: FakePlc

    def ready(self) -> None:
        """Wait until the worker is ready to judge."""
        patiently(lambda: self.supervisor.health in (Health.RUNNING, Health.HELD), "the station does not judge")

    def settled(self) -> None:
        """Wait until every answered fault is recorded."""
        patiently(lambda: not self.supervisor.unrecorded, "faults are still to be recorded")


def patiently(done: Callable[[], bool], otherwise: str) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: the condition does not hold after `PATIENCE_S`.
    """
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"{otherwise} after {PATIENCE_S:g} s")
        time.sleep(0.005)


def settings_for(folder: Path, *, window_s: float = 1.0, queue: int = 8, stall_s: float = 1.5) -> StationSettings:
    """Create a folder with the settings of a test station and a fake bundle."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "bundle"
    if not bundle.exists():
        bundle.mkdir()
        (bundle / "SHA256SUMS").write_text("fake\n")
    text = f"""
station = "chaos"
bundle = "bundle"
ledger = "chaos.ledger"
state_dir = "state"
window_s = {window_s}
camera_timeout_s = {window_s / 4}
queue = {queue}
min_free_mb = 1
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
[watchdog]
restarts = 1000000
within_s = 3600.0
stall_s = {stall_s}
start_s = 300.0
heartbeat_s = 0.5
"""
    (folder / "station.toml").write_text(text)
    return parse_settings(text, folder=folder)


@contextlib.contextmanager
def station_bench(settings: StationSettings, *, real: bool = False, cameras: bool = False) -> Iterator[StationBench]:
    """Run a test station until the block ends, then let it answer and record the remaining parts.

    Args:
        settings: Settings of the station.
        real: Use a real bundle and start workers like a production station; otherwise use a fake bundle and forked
            workers, which start in a tenth of the time.
        cameras: Use the cameras in the settings, and a fake bundle.
    """
    plc = FakePlc()
    toml = settings.state_dir.parent / "station.toml"
    command = [
        sys.executable,
        "-m",
        "gonogo.testing.worker",
        str(toml),
        "real" if real else "cameras" if cameras else "fake",
    ]
    sender: list[Sender] = []
    supervisor = Supervisor(
        settings, command, lambda answer: sender[0].send(answer), spawn=spawn if real else ForkedWorker
    )
    sender.append(Sender(plc, supervisor.acknowledged, supervisor.undelivered).start())
    supervisor.start()
    try:
        yield StationBench(settings=settings, supervisor=supervisor, plc=plc)
    finally:
        supervisor.stop()
        sender[0].close()
