"""Shared by the campaigns: a station in a process of its own that can be killed, and the count of what came back.

About a fifth of the parts are bad (`is_bad`): the station's judge says no-go for them, whatever the protocol does, so a
go for one of them is an escape. A peer that has no answer to a trigger sends the trigger again with the same id, as a
line would after a restart; the station then answers with what it has recorded.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

from gonogo.ledger import Ledger, Where
from gonogo.station import read_settings, read_station_status
from gonogo.testing.station import PATIENCE_S, patiently

WINDOW_S = 2.0
_LOOK_S, _HANDSHAKE_S, _DOWN_S = 0.01, 0.03, 0.5
"""How often progress is looked at, and the longest times from there to a kill and from the kill to the restart."""
_BENCHMARKS = Path(__file__).parents[1]


def free_port() -> int:
    """Return a port of this machine that is free at the moment."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def trigger_ids(count: int, seed: int) -> list[str]:
    """Return the ids of the triggers, in order."""
    draw = random.Random(seed)
    return [f"{'bad' if draw.random() < 0.2 else 'part'}-{seed}-{number:06d}" for number in range(count)]


def is_bad(trigger_id: str) -> bool:
    """Whether the station's judge says no-go for this part."""
    return trigger_id.startswith("bad")


def write_station(
    folder: Path, adapters: str, *, window_s: float = WINDOW_S, products: tuple[str, ...] = (), more: str = ""
) -> Path:
    """Write the settings of a station and its fake bundles; return the path of ``station.toml``.

    Args:
        folder: Where; created.
        adapters: The ``[[adapters]]`` tables.
        window_s: Time limit for an answer.
        products: Names of products, instead of one bundle.
        more: Further tables.
    """
    for name in products or ("bundle",):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / "SHA256SUMS").write_text(f"fake {name}\n")
    bundles = "\n".join(["[products]", *(f'{name} = "{name}"' for name in products)]) if products else ""
    toml = folder / "station.toml"
    toml.write_text(f"""station = "line1"
{"" if products else 'bundle = "bundle"'}
ledger = "line1.ledger"
state_dir = "state"
window_s = {window_s}
camera_timeout_s = {window_s / 4}
queue = 100
min_free_mb = 1
{bundles}
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
[watchdog]
restarts = 1000000
within_s = 3600.0
stall_s = {window_s + 5}
start_s = 300.0
heartbeat_s = 0.5
{adapters}
{more}
""")
    return toml


class StationProcess:
    """A station in a process group of its own, with a judge that knows the bad parts by their ids."""

    def __init__(self, toml: Path) -> None:
        """Store the path of the settings; nothing is started yet."""
        self.toml, self.kills = toml, 0
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it judges."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(_BENCHMARKS), *sys.path])}
        command = [sys.executable, "-m", "protocols.station", str(self.toml)]
        began_s = time.time()
        self._process = subprocess.Popen(command, start_new_session=True, env=environment, stdin=subprocess.DEVNULL)
        state_dir = read_settings(self.toml).state_dir

        def judges() -> bool:
            assert self._process is not None, "started above"
            if self._process.poll() is not None:
                raise TimeoutError(f"the station ended with exit code {self._process.returncode}")
            found = read_station_status(state_dir)
            status = state_dir / "status.json"
            return found is not None and found["health"] == "running" and status.stat().st_mtime > began_s

        patiently(judges, "the station does not judge")

    @property
    def pid(self) -> int:
        """Process id of the supervisor."""
        assert self._process is not None, "only of a started station"
        return self._process.pid

    def kill(self) -> None:
        """Kill supervisor and worker, like a power failure."""
        self.kills += 1
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop it as an operator does."""
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            # The worker ends with its supervisor's pipe; SIGTERM lets the supervisor finish first.
            os.killpg(self._process.pid, number) if number == signal.SIGKILL else self._process.send_signal(number)
        self._process.wait(PATIENCE_S)
        self._process = None


@contextmanager
def running(toml: Path) -> Iterator[StationProcess]:
    """Run a station until the block ends."""
    station = StationProcess(toml)
    station.start()
    try:
        yield station
    finally:
        station.stop()


class Victim(Protocol):
    """A process that is killed at random."""

    kills: int

    def start(self) -> None:
        """Start it, again too."""

    def kill(self) -> None:
        """Kill it, like a power failure, and count that."""


def kill_places(triggers: int, seed: int) -> list[int]:
    """Draw after which answers something is killed: four times in a campaign, and every 250 triggers in a long one."""
    return sorted(random.Random(seed).sample(range(1, triggers), min(max(4, triggers // 250), triggers - 1)))


@contextmanager
def killing(victims: Sequence[Victim], seed: int, *, triggers: int, answered: Callable[[], int]) -> Iterator[None]:
    """Kill and restart the victims in turn until the block ends, each at a moment drawn at random.

    The moments follow the answers and not the clock: on a busy machine as many parts lie between two kills.

    Args:
        victims: What is killed; already started.
        seed: Seed of the moments.
        triggers: Number of triggers of the campaign.
        answered: Returns how many of them have been answered.
    """
    done, draw = threading.Event(), random.Random(seed)

    def run() -> None:
        for victim, place in zip(itertools.cycle(victims), kill_places(triggers, seed), strict=False):
            while answered() < place:
                if done.wait(_LOOK_S):
                    return
            done.wait(draw.uniform(0.0, _HANDSHAKE_S))
            victim.kill()
            done.wait(draw.uniform(0.0, _DOWN_S))
            victim.start()

    thread = threading.Thread(target=run, name="killer")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@dataclass(kw_only=True)
class Tally:
    """What came back to the peer; thread-safe for one writer."""

    answers: dict[str, list[str]] = field(default_factory=dict)
    """The states of the answers to each trigger, in order of arrival."""
    asked: Counter[str] = field(default_factory=Counter)
    """How often each trigger was sent."""
    order: list[str] = field(default_factory=list)
    """The trigger ids in the order of their first answer."""

    def sent(self, trigger_id: str) -> None:
        """Count a trigger."""
        self.asked[trigger_id] += 1

    def came(self, trigger_id: str, state: str) -> None:
        """Count an answer."""
        if trigger_id not in self.answers:
            self.order.append(trigger_id)
        self.answers.setdefault(trigger_id, []).append(state)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of a campaign."""

    protocol: str
    peer: str
    triggers: int
    delivered: int
    """Triggers with at least one answer."""
    lost: int
    """Triggers without an answer, or without a record."""
    doubled: int
    """Triggers with more answers than requests, or with more than one record."""
    out_of_order: int
    """First answers that came before that of an earlier trigger."""
    escapes: int
    """Bad parts with a go, as an answer or on record."""
    faults: int
    """Triggers whose only answers are faults."""
    kills: int
    """How often the peer or the station was killed."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def outcome(tally: Tally, toml: Path, ids: list[str], *, protocol: str, peer: str, kills: int) -> Outcome:
    """Compare what came back with what was asked and with the ledger."""
    records = Counter[str]()
    passed = set[str]()
    settings = read_settings(toml)
    with Ledger.open(settings.ledger, create=False) as ledger:
        for row in ledger.verdicts(Where(station=settings.station)):
            records[row.record.trigger_id] += 1
            if row.record.state == "go":
                passed.add(row.record.trigger_id)
    place = {trigger_id: number for number, trigger_id in enumerate(ids)}
    places = [place[each] for each in tally.order if each in place]
    highest, late = -1, 0
    for each in places:
        late += each < highest
        highest = max(highest, each)
    went = {each for each, states in tally.answers.items() if "go" in states} | passed
    return Outcome(
        protocol=protocol,
        peer=peer,
        triggers=len(ids),
        delivered=sum(each in tally.answers for each in ids),
        lost=sum(each not in tally.answers or not records[each] for each in ids),
        doubled=sum(len(tally.answers.get(each, ())) > tally.asked[each] or records[each] > 1 for each in ids),
        out_of_order=late,
        escapes=sum(is_bad(each) for each in went),
        faults=sum(set(tally.answers.get(each, ["none"])) == {"fault"} for each in ids),
        kills=kills,
    )


def spread(values_ms: list[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile."""
    ordered = sorted(values_ms)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
