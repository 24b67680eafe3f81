"""A station in a folder, for tests: its supervisor in this process, a worker that fails on demand, a fake controller.

Trigger ids choose what fails; see `gonogo.testing.worker`.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gonogo.station.answers import Sender
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.status import Health
from gonogo.station.supervisor import Supervisor
from gonogo.station.watchdog import spawn
from gonogo.testing.fork import ForkedWorker
from gonogo.testing.plc import FakePlc

PATIENCE_S = 600.0
"""How long this waits for what must come: a busy machine is no failure of the station's, one that hangs is."""


@dataclass(kw_only=True)
class StationBench:
    """One station under torment: a supervisor in this process, its worker beside it, a fake controller in front."""

    settings: StationSettings
    supervisor: Supervisor
    plc: FakePlc

    def ready(self) -> None:
        """Wait until the worker judges."""
        patiently(lambda: self.supervisor.health in (Health.RUNNING, Health.HELD), "the station does not judge")

    def settled(self) -> None:
        """Wait until every fault that the line was told of is on record."""
        patiently(lambda: not self.supervisor.unrecorded, "faults are still to be recorded")


def patiently(done: Callable[[], bool], otherwise: str) -> None:
    """Wait for what must come.

    Raises:
        TimeoutError: it has not come.
    """
    until = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until:
            raise TimeoutError(f"{otherwise} after {PATIENCE_S:g} s")
        time.sleep(0.005)


def settings_for(folder: Path, *, window_s: float = 1.0, queue: int = 8, stall_s: float = 1.5) -> StationSettings:
    """A station in a folder, with a fake bundle beside it, fit for torment."""
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
[[views]]
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
    """Run a station under torment until the block ends, then let it answer and record what is left.

    Args:
        settings: The station's.
        real: With a real bundle, and workers that are started as a line starts them; else with a fake one and workers
            that are forked, which costs a tenth.
        cameras: With the cameras that the settings name, and a fake bundle.
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
