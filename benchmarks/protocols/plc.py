"""Shared by the campaigns with the bit handshake: a PLC in a process of its own that keeps a journal and is killed."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from gonogo.line.adapter import Adapter
from gonogo.line.plc_image import ResultCode
from gonogo.testing.plc_program import Taken
from gonogo.testing.station import PATIENCE_S, patiently
from protocols.kit import Tally, Victim, killing, outcome, running, spread, trigger_ids, write_station

_BENCHMARKS = Path(__file__).parents[1]
_STATES = {ResultCode.GO: "go", ResultCode.NO_GO: "no_go", ResultCode.REVIEW: "review", ResultCode.FAULT: "fault"}


class Asks(Protocol):
    """A PLC that asks for verdicts."""

    def ask(self, part: str) -> Taken:
        """Ask for the verdict of a part, and wait for it."""


class PlcProcess:
    """A PLC in a process of its own that asks for all parts in ``ids.json``, in order."""

    def __init__(self, module: str, folder: Path, *words: str) -> None:
        """Store the arguments.

        Args:
            module: The program: ``python -m module folder words``.
            folder: Folder with ``ids.json``; it gets ``journal``, and ``done`` at the end.
            words: Further arguments.
        """
        self.kills = 0
        self._command = [sys.executable, "-m", module, str(folder), *words]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; it goes on where the journal ends."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_BENCHMARKS), *sys.path])}
        self._process = subprocess.Popen(self._command, env=environment, stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill it, like a power failure."""
        self.kills += 1
        self.end()

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait(PATIENCE_S)
            self._process = None

    @property
    def done(self) -> bool:
        """Whether every part has a verdict."""
        return (self._folder / "done").exists()


def ask_all(plc: Asks, folder: Path) -> None:
    """Ask for every part without a verdict in the journal; the program of `PlcProcess`.

    A part without a result is asked for again under the same name, as a line would after a restart.
    """
    ids, known = json.loads((folder / "ids.json").read_text()), {each["came"] for each in _journal(folder)}
    with (folder / "journal").open("a") as journal:
        journal.write("\n")  # the end of a line that a kill has cut
        for trigger_id in ids:
            while trigger_id not in known:
                journal.write(json.dumps({"sent": trigger_id}) + "\n")
                journal.flush()
                try:
                    taken = plc.ask(trigger_id)
                except OSError:
                    time.sleep(0.05)
                    continue
                if taken.verdict is not ResultCode.NONE:
                    known.add(trigger_id)
                    came = {"came": trigger_id, "state": _STATES[taken.verdict], "number": taken.inspection_id}
                    journal.write(json.dumps(came) + "\n")
                    journal.flush()
    (folder / "done").touch()


def _journal(folder: Path, *, kind: str = "came") -> list[dict[str, Any]]:
    file = folder / "journal"
    found = []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue  # cut by a kill
    return [each for each in found if kind in each]


def _answered(folder: Path) -> int:
    file = folder / "journal"
    return file.read_bytes().count(b'"came"') if file.exists() else 0


def run_campaign(
    adapter: str,
    program: tuple[str, ...],
    *,
    triggers: int,
    seed: int,
    folder: Path,
    protocol: str,
    peer: str,
    others: Sequence[Victim] = (),
) -> dict[str, Any]:
    """Ask for all parts while station and PLC are killed at random.

    Args:
        adapter: The ``[[adapters]]`` table.
        program: Module and further arguments of the PLC.
        triggers: Number of parts.
        seed: Seed of the parts and the kills.
        folder: Where.
        protocol: For the result.
        peer: For the result.
        others: What is killed besides; already started.
    """
    toml, ids = write_station(folder, adapter), trigger_ids(triggers, seed)
    (folder / "ids.json").write_text(json.dumps(ids))
    plc = PlcProcess(program[0], folder, *program[1:])
    with running(toml) as station:
        plc.start()
        try:
            victims: list[Victim] = [station, plc, *others]
            with killing(victims, seed, triggers=triggers, answered=lambda: _answered(folder)):
                _wait(plc, triggers)
        finally:
            plc.end()
    kills = station.kills + plc.kills + sum(each.kills for each in others)
    found = outcome(_tally(folder), toml, ids, protocol=protocol, peer=peer, kills=kills)
    return {**found.to_json(), "doubled": found.doubled + _same_numbers(folder)}


def _wait(plc: PlcProcess, triggers: int) -> None:
    until_s = time.monotonic() + 120.0 + triggers
    while not plc.done:
        if time.monotonic() > until_s:
            raise TimeoutError("the PLC does not get all verdicts")
        time.sleep(0.05)


def _tally(folder: Path) -> Tally:
    tally = Tally()
    for each in _journal(folder, kind="sent"):
        tally.sent(each["sent"])
    for each in _journal(folder):
        tally.came(each["came"], each["state"])
    return tally


def _same_numbers(folder: Path) -> int:
    """Count verdicts that carry the number of the verdict before."""
    numbers = [each["number"] for each in _journal(folder)]
    return sum(before == after for before, after in itertools.pairwise(numbers))


def measure(ask: Callable[[str], Taken], *, count: int, protocol: str) -> dict[str, Any]:
    """Measure the time from a PLC's wish to the verdict in its memory, at a station that answers at once."""
    took_ms = [ask(f"t{number}").after_s * 1e3 for number in range(count)]
    p50_ms, p99_ms = spread(took_ms)
    return {"protocol": protocol, "count": count, "added_p50_ms": round(p50_ms, 3), "added_p99_ms": round(p99_ms, 3)}


@contextmanager
def started(adapter: Adapter, *, listens: bool = True) -> Iterator[Adapter]:
    """Run an adapter until the block ends."""
    adapter.start()
    try:
        if listens:
            patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
        yield adapter
    finally:
        adapter.stop()
