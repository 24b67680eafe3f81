"""Chaos tests: kills, trigger storms and failures of each kind, with counts of violations.

Every run is seeded, starts real processes, and is judged by the ledger alone: what was acknowledged must be there,
once, and equal to its answer. ``make chaos`` runs it all.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from chaos.findings import Findings, check
from chaos.pictures import LANES, picture_lane
from chaos.station import StationProcess
from gonogo.schema import State
from gonogo.station.backlog import UNRECORDED
from gonogo.station.settings import StationSettings
from gonogo.testing import FakePlc, write_fake_bundle
from gonogo.testing.station import PATIENCE_S, StationBench, patiently, settings_for, station_bench

FAULT_WITHIN_S = 2.0
"""Limits that the station must keep, even on a busy machine."""
KINDS = {
    "camera": ("lost", "drop", "hang", "crash", "freeze", "dark", "saturated", "blurred", "wrong_size"),
    "model": ("raise", "none", "product", "slow"),
    "disk": ("full", "locked", "moved"),
    "process": ("kill", "exit", "hang"),
}
"""Components and their failures, which alternate."""


def kill_lane(folder: Path, kills: int, seed: int, *, real: bool, tick: Callable[[], None] = lambda: None) -> Findings:
    """Kill the worker with SIGKILL at random moments while parts go through, and check every answer afterwards."""
    rng, found = random.Random(seed), Findings()
    settings = settings_for(folder)
    if real:
        _real_bundle(settings)
    number = 0
    with station_bench(settings, real=real) as line:
        while found.done.get("kills", 0) < kills:
            if rng.random() < 0.9:  # the others die while they start
                line.ready()
                number = _traffic(line.plc, line.supervisor.submit, number, rng)
            else:
                time.sleep(rng.uniform(0.0, 0.5))
            pid = line.supervisor.worker_pid
            if pid is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                found.add("kills")
                tick()
            while line.supervisor.worker_pid == pid:
                time.sleep(0.001)
        line.ready()
        for fired in list(line.plc.fired_s):
            line.plc.wait(fired, timeout_s=PATIENCE_S)
        line.settled()
        plc = line.plc
    found.add("parts", number)
    check(settings, plc, found)
    return found


def kill_whole_lane(folder: Path, kills: int, seed: int, *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Kill supervisor and worker together repeatedly, and repeat unanswered triggers to the new station."""
    rng, found, plc = random.Random(seed), Findings(), FakePlc()
    settings = settings_for(folder)
    open_ids: list[str] = []
    number = 0
    for turn in range(kills + 1):
        station = StationProcess(settings.state_dir.parent / "station.toml", plc)
        station.ready()
        for trigger_id in open_ids:
            plc.fire(station.submit, trigger_id)
        if turn < kills:
            number = _traffic(plc, station.submit, number, rng)
            station.kill()
            found.add("kills")
            found.add("whole_station_kills")
        else:
            for trigger_id in open_ids:
                plc.wait(trigger_id, timeout_s=PATIENCE_S)
            # Each run may have left some of the faults that it answered to the next one.
            patiently(lambda: not (settings.state_dir / UNRECORDED).exists(), "faults are still to be recorded")
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
    with station_bench(settings) as line:
        line.ready()
        for trigger_id in order:
            burst = rng.random() < 0.02
            if not burst:
                _let_drain(line, fired, settings.queue // 2)
            line.plc.fire(line.supervisor.submit, trigger_id)
            fired.append(trigger_id)
            while rng.random() < 0.1:
                found.add("repeats")
                line.plc.fire(line.supervisor.submit, rng.choice(fired[-40:] if rng.random() < 0.7 else fired))
            tick()
        for trigger_id in fired:
            line.plc.wait(trigger_id, timeout_s=PATIENCE_S)
        line.settled()
        plc = line.plc
    found.add("triggers", len(set(fired)))
    check(settings, plc, found)
    return found


def failures(folder: Path, group: str, count: int, seed: int, *, tick: Callable[[], None] = lambda: None) -> Findings:
    """Make one component fail repeatedly with a good part on the line; expect a fault within two seconds."""
    rng, found = random.Random(seed), Findings()
    settings = settings_for(folder)
    with station_bench(settings) as line:
        line.ready()
        for number in range(count):
            kind = KINDS[group][number % len(KINDS[group])]
            trigger_id = f"{group}-{kind}-{number}"
            line.plc.fire(line.supervisor.submit, f"part-{number}")  # a freeze needs a picture before it
            line.plc.wait(f"part-{number}", timeout_s=PATIENCE_S)
            line.ready()
            time.sleep(rng.uniform(0.0, 0.02))
            with _around(kind, settings):
                names = {"product": "another product"} if kind == "product" else {}
                line.plc.fire(line.supervisor.submit, trigger_id, **names)
                answer = line.plc.wait(trigger_id, timeout_s=PATIENCE_S)
            waited_s = line.plc.waited_s(trigger_id)
            found.slowest_fault_s = max(found.slowest_fault_s, waited_s)
            found.add(f"{group}_failures")
            found.require("go_emitted", answer.state is State.FAULT, f"{trigger_id} was answered {answer.state}")
            found.require("fault_too_late", waited_s <= FAULT_WITHIN_S, f"{trigger_id} took {waited_s:.2f} s")
            _recovered(line, number)
            tick()
        line.settled()
        plc = line.plc
    check(settings, plc, found)
    return found


def run_all(
    folder: Path,
    *,
    kills: int,
    triggers: int,
    failing: int,
    pictures: int,
    seed: int,
    lanes: int = 3,
    tick: Callable[[], None] = lambda: None,
) -> dict[str, Findings]:
    """Run everything: kills in parallel lanes, a storm, failures of each kind, and stray pictures.

    Args:
        folder: Where the stations live; must be empty.
        kills: How often a process is killed: a tenth of them both processes at once, a tenth with a real bundle.
        triggers: How many triggers the storm has.
        failing: How many failures of each kind.
        pictures: How many triggers whose pictures may come late, twice, under a wrong name, unasked or never.
        seed: Of everything random.
        lanes: Stations that run side by side.
        tick: Called after every kill, trigger and failure.
    """
    whole, with_bundle = max(1, kills // 10), max(1, kills // 10)
    plain = max(0, kills - whole - with_bundle)
    shares = [plain // lanes + (1 if lane < plain % lanes else 0) for lane in range(lanes)]
    jobs: list[tuple[str, Callable[[], Findings]]] = [  # the longest first
        ("storm", partial(storm, folder / "storm", triggers, seed, tick=tick)),
        ("kills", partial(kill_whole_lane, folder / "kill-whole", whole, seed, tick=tick)),
        ("kills", partial(kill_lane, folder / "kill-real", with_bundle, seed + 1, real=True, tick=tick)),
    ]
    for lane, share in enumerate(shares):
        jobs.append(
            ("kills", partial(kill_lane, folder / f"kill-{lane}", share, seed + 2 + lane, real=False, tick=tick))
        )
    jobs += [("failures", partial(failures, folder / group, group, failing, seed, tick=tick)) for group in KINDS]
    for way, part in LANES.items():
        count = max(1, round(part * pictures))
        jobs.append(("pictures", partial(picture_lane, folder / way, way, count, seed, tick=tick)))
    found: dict[str, Findings] = {}
    with ThreadPoolExecutor(max_workers=lanes) as pool:
        for (name, _), result in zip(jobs, pool.map(lambda job: job[1](), jobs), strict=True):
            found.setdefault(name, Findings()).merge(result)
    for each in found.values():
        # A station that judges nothing loses nothing either: it must have passed some of the good parts it was shown.
        passed, rows = each.done["go"], each.done["rows"]
        each.require("idle", 10 * passed >= rows, f"{passed} of {rows} rows are go: the machine is too busy for this")
    return found


def _traffic(plc: FakePlc, submit: Callable[[str], None], number: int, rng: random.Random) -> int:
    """Send parts and repeats until some are answered, and return at a random moment of the next one.

    Counted in parts, not in seconds, so that a busy machine is killed in the middle of its work like an idle one.

    Returns:
        The number of the last part.
    """
    first, wanted, start = number + 1, rng.randint(0, 10), time.monotonic()
    while True:
        burst = [f"part-{each}" for each in range(first, number + 1)]
        answered = sum(bool(plc.answers.get(each)) for each in burst)
        if burst and answered >= wanted:
            break
        if len(burst) - answered < 4:
            number += 1
            plc.fire(submit, f"part-{number}")
            if rng.random() < 0.2:
                plc.fire(submit, f"part-{rng.randint(1, number)}")
        time.sleep(rng.uniform(0.002, 0.02))
    a_part_s = (time.monotonic() - start) / max(1, answered)
    time.sleep(rng.uniform(0.0, min(0.5, 2 * a_part_s)))
    return number


def _let_drain(line: StationBench, fired: list[str], most: int) -> None:
    """Wait until at most this number of parts is in progress."""
    while sum(not line.plc.answers.get(trigger_id) for trigger_id in fired[-2 * line.settings.queue :]) > most:
        time.sleep(0.0005)


def _recovered(line: StationBench, number: int) -> None:
    """Wait until the station judges again: the next good part is a go."""
    for attempt in range(100):
        line.ready()
        trigger_id = f"after-{number}-{attempt}"
        line.plc.fire(line.supervisor.submit, trigger_id)
        if line.plc.wait(trigger_id, timeout_s=PATIENCE_S).state is State.GO:
            return
        time.sleep(0.1)
    raise TimeoutError("the station has not recovered from its failure")


@contextlib.contextmanager
def _around(kind: str, settings: StationSettings) -> Iterator[None]:
    """Cause the failures that need an action from outside."""
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
    if (settings.only_bundle / "classifier.xml").exists():
        return
    (settings.only_bundle / "SHA256SUMS").unlink()
    settings.only_bundle.rmdir()
    write_fake_bundle(settings.only_bundle)


def progress_ticker(total: int) -> Callable[[], None]:
    """Print progress on standard error every few seconds."""
    lock, state = threading.Lock(), {"done": 0, "printed": time.monotonic()}

    def tick() -> None:
        with lock:
            state["done"] += 1
            if time.monotonic() - state["printed"] > 5.0:
                state["printed"] = time.monotonic()
                print(f"{state['done']} of about {total}", file=sys.stderr, flush=True)  # noqa: T201

    return tick
