"""Tormenting a station on purpose, and counting what it does wrong: kills, storms of triggers, failures of each kind.

Every run is seeded, starts real processes, and is judged by the ledger alone: what was acknowledged must be there,
once, and as it was told. ``make chaos`` runs it all.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gonogo.ledger import Ledger, verify
from gonogo.schema import State
from gonogo.station.answers import Sender
from gonogo.station.fakes import FakePlc
from gonogo.station.gate import Gate, Health
from gonogo.station.judging import ANSWERED_FAULT
from gonogo.station.settings import StationSettings, parse_settings

FAULT_WITHIN_S = 2.0
KINDS = {
    "camera": ("lost", "drop", "hang", "crash", "freeze", "dark", "saturated", "blurred", "wrong_size"),
    "model": ("raise", "none", "product", "slow"),
    "disk": ("full", "locked", "moved"),
    "process": ("kill", "exit", "hang"),
}
"""What fails, and in which ways; they take turns."""


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
    gate: Gate
    plc: FakePlc

    def ready(self, timeout_s: float = 600.0) -> None:
        """Wait until the worker judges."""
        until = time.monotonic() + timeout_s
        while self.gate.health not in (Health.RUNNING, Health.HELD):
            if time.monotonic() > until:
                raise TimeoutError(f"the station is {self.gate.health} after {timeout_s:g} s")
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
def bench(settings: StationSettings, *, real: bool = False) -> Iterator[Bench]:
    """Run a station under torment until the block ends, then let it answer and record what is left."""
    plc = FakePlc()
    toml = settings.state_dir.parent / "station.toml"
    command = [sys.executable, "-m", "gonogo.station.chaos_worker", str(toml), "real" if real else "fake"]
    sender: list[Sender] = []
    gate = Gate(settings, command, lambda answer: sender[0].send(answer))
    sender.append(Sender(plc, gate.acknowledged, gate.undelivered))
    gate.start()
    try:
        yield Bench(settings=settings, gate=gate, plc=plc)
    finally:
        gate.stop()
        sender[0].close()


def kill_lane(folder: Path, kills: int, seed: int, *, real: bool, tick: Callable[[], None] = lambda: None) -> Findings:
    """Kill the worker with SIGKILL at random moments while parts go through, and check every answer afterwards."""
    rng, found = random.Random(seed), Findings()
    settings = settings_for(folder)
    if real:
        _real_bundle(settings)
    number = 0
    with bench(settings, real=real) as line:
        for _ in range(kills):
            if rng.random() < 0.9:  # the others die while they start
                line.ready()
                until = time.monotonic() + rng.uniform(0.0, 0.5)
                while time.monotonic() < until:
                    number += 1
                    line.plc.fire(line.gate.submit, f"part-{number}")
                    if rng.random() < 0.2:
                        line.plc.fire(line.gate.submit, f"part-{rng.randint(1, number)}")
                    time.sleep(rng.uniform(0.005, 0.04))
            else:
                time.sleep(rng.uniform(0.0, 0.5))
            pid = line.gate.worker_pid
            if pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    found.add("kills")
            tick()
            while line.gate.worker_pid == pid and pid is not None:
                time.sleep(0.001)
        line.ready()
        for fired in list(line.plc.fired_s):
            line.plc.wait(fired)
        plc = line.plc
    found.add("parts", number)
    check(settings, plc, found)
    return found


def kill_whole_lane(folder: Path, kills: int, seed: int, *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Kill gate and worker together, again and again, and repeat to the new station what got no answer."""
    from gonogo.station.chaos_station import StationProcess

    rng, found, plc = random.Random(seed), Findings(), FakePlc()
    settings = settings_for(folder)
    open_ids: list[str] = []
    number = 0
    for turn in range(kills + 1):
        station = StationProcess(settings.state_dir.parent / "station.toml", plc)
        station.ready()
        for trigger_id in open_ids:
            plc.fire(station.submit, trigger_id)
        until = time.monotonic() + rng.uniform(0.0, 0.5)
        while time.monotonic() < until and turn < kills:
            number += 1
            plc.fire(station.submit, f"part-{number}")
            if rng.random() < 0.2:
                plc.fire(station.submit, f"part-{rng.randint(1, number)}")
            time.sleep(rng.uniform(0.005, 0.04))
        if turn < kills:
            station.kill()
            found.add("kills")
            found.add("whole_station_kills")
        else:
            for trigger_id in open_ids:
                plc.wait(trigger_id)
            station.stop()
        open_ids = [fired for fired in plc.fired_s if not plc.answers.get(fired)]
        tick()
    found.add("parts", number)
    check(settings, plc, found)
    return found


def storm(folder: Path, triggers: int, seed: int, *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Fire triggers with repeats, dropped and delayed frames, reordering and bursts: one stored verdict each."""
    rng, found = random.Random(seed), Findings()
    settings = settings_for(folder, window_s=0.6)
    kinds = rng.choices(("part", "camera-delay", "camera-drop"), weights=(94, 5, 1), k=triggers)
    order = [f"{kind}-{number}" for number, kind in enumerate(kinds)]
    for start in range(0, triggers, 16):  # reordering within what a line could hold
        block = order[start : start + 16]
        rng.shuffle(block)
        order[start : start + 16] = block
    fired: list[str] = []
    with bench(settings) as line:
        line.ready()
        for trigger_id in order:
            burst = rng.random() < 0.02
            if not burst:
                _let_drain(line, fired, settings.queue // 2)
            line.plc.fire(line.gate.submit, trigger_id)
            fired.append(trigger_id)
            while rng.random() < 0.1:
                found.add("repeats")
                line.plc.fire(line.gate.submit, rng.choice(fired[-40:] if rng.random() < 0.7 else fired))
            tick()
        for trigger_id in fired:
            line.plc.wait(trigger_id)
        plc = line.plc
    found.add("triggers", len(set(fired)))
    check(settings, plc, found)
    return found


def failures(folder: Path, group: str, count: int, seed: int, *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Make one thing fail, again and again, each time with a good part on the line: fault, within two seconds."""
    rng, found = random.Random(seed), Findings()
    settings = settings_for(folder)
    with bench(settings) as line:
        line.ready()
        for number in range(count):
            kind = KINDS[group][number % len(KINDS[group])]
            trigger_id = f"{group}-{kind}-{number}"
            line.plc.fire(line.gate.submit, f"part-{number}")  # a freeze needs a picture before it
            line.plc.wait(f"part-{number}")
            line.ready()
            time.sleep(rng.uniform(0.0, 0.02))
            with _around(kind, settings):
                names = {"product": "another product"} if kind == "product" else {}
                line.plc.fire(line.gate.submit, trigger_id, **names)
                answer = line.plc.wait(trigger_id)
            waited_s = line.plc.waited_s(trigger_id)
            found.slowest_fault_s = max(found.slowest_fault_s, waited_s)
            found.add(f"{group}_failures")
            found.require("go_emitted", answer.state is State.FAULT, f"{trigger_id} was answered {answer.state}")
            found.require("fault_too_late", waited_s <= FAULT_WITHIN_S, f"{trigger_id} took {waited_s:.2f} s")
            _recovered(line, number)
            tick()
        plc = line.plc
    check(settings, plc, found)
    return found


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


def run_all(
    folder: Path,
    *,
    kills: int,
    triggers: int,
    failing: int,
    seed: int,
    lanes: int = 2,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Findings]:
    """Everything: kills in several lanes side by side, a storm, failures of each kind.

    Args:
        folder: Where the stations live; must be empty.
        kills: How often a process is killed: a tenth of them gate and worker together, a tenth with a real bundle.
        triggers: How many triggers the storm has.
        failing: How many failures of each kind.
        seed: Of everything random.
        lanes: Stations that run side by side.
        tick: Called after every kill, trigger and failure.
    """
    whole, with_bundle = max(1, kills // 10), max(1, kills // 10)
    plain = max(0, kills - whole - with_bundle)
    shares = [plain // lanes + (1 if lane < plain % lanes else 0) for lane in range(lanes)]
    jobs: list[tuple[str, Callable[[], Findings]]] = [
        ("kills", partial(kill_whole_lane, folder / "kill-whole", whole, seed, tick=tick)),
        ("kills", partial(kill_lane, folder / "kill-real", with_bundle, seed + 1, real=True, tick=tick)),
    ]
    for lane, share in enumerate(shares):
        jobs.append(
            ("kills", partial(kill_lane, folder / f"kill-{lane}", share, seed + 2 + lane, real=False, tick=tick))
        )
    jobs += [("failures", partial(failures, folder / group, group, failing, seed, tick=tick)) for group in KINDS]
    jobs.append(("storm", partial(storm, folder / "storm", triggers, seed, tick=tick)))
    found: dict[str, Findings] = {}
    with ThreadPoolExecutor(max_workers=lanes) as pool:
        for (name, _), result in zip(jobs, pool.map(lambda job: job[1](), jobs), strict=True):
            found.setdefault(name, Findings()).merge(result)
    for each in found.values():
        # A station that judges nothing loses nothing either: it must have passed some of the good parts it was shown.
        passed, rows = each.done["go"], each.done["rows"]
        each.require("idle", 10 * passed >= rows, f"{passed} of {rows} rows are go: the machine is too busy for this")
    return found


def _let_drain(line: Bench, fired: list[str], most: int) -> None:
    """Wait until no more than so many parts are on their way."""
    while sum(not line.plc.answers.get(trigger_id) for trigger_id in fired[-2 * line.settings.queue :]) > most:
        time.sleep(0.0005)


def _recovered(line: Bench, number: int) -> None:
    """The station judges again: the next good part is a go."""
    for attempt in range(100):
        line.ready()
        trigger_id = f"after-{number}-{attempt}"
        line.plc.fire(line.gate.submit, trigger_id)
        if line.plc.wait(trigger_id).state is State.GO:
            return
        time.sleep(0.1)
    raise TimeoutError("the station has not recovered from its failure")


@contextlib.contextmanager
def _around(kind: str, settings: StationSettings) -> Iterator[None]:
    """What must be done from outside for some failures."""
    if kind == "locked":
        import apsw

        other = apsw.Connection(str(settings.ledger))
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")
            other.close()
    elif kind == "moved":
        away = settings.ledger.with_name("away.ledger")
        settings.ledger.rename(away)
        try:
            yield
        finally:
            away.rename(settings.ledger)
    else:
        yield


def _real_bundle(settings: StationSettings) -> None:
    from gonogo.station.fake_bundle import write_fake_bundle

    if (settings.bundle / "classifier.xml").exists():
        return
    (settings.bundle / "SHA256SUMS").unlink()
    settings.bundle.rmdir()
    write_fake_bundle(settings.bundle)


def progress_ticker(total: int) -> Callable[[], None]:
    """A line on standard error every few seconds."""
    lock, state = threading.Lock(), {"done": 0, "told": time.monotonic()}

    def tick() -> None:
        with lock:
            state["done"] += 1
            if time.monotonic() - state["told"] > 5.0:
                state["told"] = time.monotonic()
                print(f"{state['done']} of about {total}", file=sys.stderr, flush=True)  # noqa: T201

    return tick
