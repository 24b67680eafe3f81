"""What chaos is made with: a station in a folder, its gate in this process, and the count of what it did wrong."""

from __future__ import annotations

import contextlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gonogo.ledger import Ledger, verify
from gonogo.schema import State
from gonogo.station.answers import Sender
from gonogo.station.chaos_fork import ForkedWorker
from gonogo.station.fakes import FakePlc
from gonogo.station.judging import ANSWERED_FAULT
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.status import Health
from gonogo.station.supervisor import Supervisor
from gonogo.station.watchdog import spawn

PATIENCE_S = 600.0
"""How long this waits for what must come: a busy machine is no failure of the station's, one that hangs is."""


@dataclass(kw_only=True)
class Findings:
    """What was done, and what was wrong about what came of it; every count of ``wrong`` must be 0."""

    done: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, int] = field(default_factory=dict)
    slowest_fault_s: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, name: str, count: int = 1) -> None:
        """Count something that was done."""
        self.done[name] = self.done.get(name, 0) + count

    def require(self, name: str, holds: bool, told: str = "") -> None:
        """Count a violation where it does not hold."""
        self.wrong.setdefault(name, 0)
        if not holds:
            self.wrong[name] += 1
            if len(self.examples) < 10:
                self.examples.append(f"{name}: {told}")

    def merge(self, other: Findings) -> None:
        """Take in what another lane found."""
        for name, count in other.done.items():
            self.add(name, count)
        for name, count in other.wrong.items():
            self.wrong[name] = self.wrong.get(name, 0) + count
        self.slowest_fault_s = max(self.slowest_fault_s, other.slowest_fault_s)
        self.examples = (self.examples + other.examples)[:10]

    @property
    def sound(self) -> bool:
        """Whether nothing was wrong."""
        return not any(self.wrong.values())


@dataclass(kw_only=True)
class Bench:
    """One station under torment: a gate in this process, its worker beside it, a fake controller in front."""

    settings: StationSettings
    gate: Supervisor
    plc: FakePlc

    def ready(self) -> None:
        """Wait until the worker judges."""
        patiently(lambda: self.gate.health in (Health.RUNNING, Health.HELD), "the station does not judge")

    def settled(self) -> None:
        """Wait until every fault that the line was told of is on record."""
        patiently(lambda: not self.gate.unrecorded, "faults are still to be recorded")


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
def bench(settings: StationSettings, *, real: bool = False, cameras: bool = False) -> Iterator[Bench]:
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
        "gonogo.station.chaos_worker",
        str(toml),
        "real" if real else "cameras" if cameras else "fake",
    ]
    sender: list[Sender] = []
    gate = Supervisor(settings, command, lambda answer: sender[0].send(answer), spawn=spawn if real else ForkedWorker)
    sender.append(Sender(plc, gate.acknowledged, gate.undelivered).start())
    gate.start()
    try:
        yield Bench(settings=settings, gate=gate, plc=plc)
    finally:
        gate.stop()
        sender[0].close()


def check(settings: StationSettings, plc: FakePlc, found: Findings) -> None:
    """Hold every answer against the ledger: nothing lost, nothing doubled, nothing said twice in two ways."""
    with Ledger.open(settings.ledger, create=False, read_only=True) as ledger:
        rows = list(ledger.verdicts())
        told_fault = {row.record.about for row in ledger.actions() if row.record.action == ANSWERED_FAULT}
    by_trigger = {row.record.trigger_id: row for row in rows}
    found.add("rows", len(rows))
    found.add("go", sum(row.record.state is State.GO for row in rows))
    found.require("doubled", len(by_trigger) == len(rows), f"{len(rows) - len(by_trigger)} rows too many")
    for trigger_id, answers in plc.answers.items():
        found.add("acknowledged", len(answers))
        row, told = by_trigger.get(trigger_id), [answer.state for answer in answers]
        states = set(told[:1])
        # A repeat may meet a station that cannot look its verdict up: that is a fault, and never the other way round.
        found.add("repeats_answered_fault", sum(state is State.FAULT for state in told[1:] if told[0] is not state))
        consistent = all(after in (before, State.FAULT) for before, after in itertools.pairwise(told))
        found.require("contradicted", consistent, f"{trigger_id} was answered {told}")
        if row is None:
            found.require("lost", False, f"{trigger_id} was answered {sorted(states)} and is not on record")
            continue
        as_told = row.record.state in states or (states == {State.FAULT} and row.seq in told_fault)
        found.require("lost", as_told, f"{trigger_id}: told {sorted(states)}, on record {row.record.state}")
        numbers = {answer.row for answer in answers if answer.row is not None}
        found.require("lost", numbers <= {row.seq}, f"{trigger_id}: told rows {numbers}, found {row.seq}")
    unanswered = [trigger_id for trigger_id in plc.fired_s if not plc.answers.get(trigger_id)]
    found.require("unanswered", not unanswered, f"{len(unanswered)}, first {unanswered[:1]}")
    broken = verify(settings.ledger)
    found.require("chain_broken", not broken, str(broken[:1]))
