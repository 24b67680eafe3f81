"""Load test: measure how many parts per second a station can judge, then run at 80 % of that rate.

``make load``, or ``python benchmarks/load_test.py --bundle BUNDLE --photos FOLDER``. ``QUICK=1`` runs for half a minute
instead of ten. Exit code 1 if a trigger was missed. The last line holds the figures as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from command import print_figures, run
from gonogo import images
from gonogo.capture.repeating import DECODED
from gonogo.errors import InputError, UnfitError
from gonogo.images import Photograph
from gonogo.ledger import Ledger, verify
from gonogo.line.messages import Answer, Cause
from gonogo.line.state import Health
from gonogo.schema import State
from gonogo.station.answers import Sender
from gonogo.station.models import LoadedBundle, load_model
from gonogo.station.running import worker_command
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.supervisor import Supervisor
from gonogo.testing import FakePlc, fake_frame, write_fake_bundle

SHARE = 0.8
_WARM_UP = 20
_ROUNDS, _ROUND_MS = 15, 500.0
_TENTHS = 10


@dataclass(frozen=True, kw_only=True)
class LoadResult:
    """Result of a load test."""

    bare_ms: float
    """Median time of ``inspect`` alone, called in a loop on the same frames."""
    cycle_ms: float
    """Median time per part if the next trigger follows each answer at once, with the ledger on disk."""
    cycle_in_memory_ms: float | None
    """The same with the ledger in memory, where a sync costs nothing; ``None`` without such a folder."""
    overhead: float | None
    """Time that the station adds to ``inspect``, without syncs, as a share of it. The median over rounds that alternate
    between the three measurements, so that other load on the machine affects them equally."""
    capacity_per_s: float
    rate_per_s: float
    """Rate of the load test, 80 % of the capacity."""
    fired: int
    judged: int
    """Parts answered with anything but a fault."""
    missed: int
    """Triggers without exactly one row; must be 0."""
    faults: int
    p50_ms: float
    """Time from trigger to answer."""
    p99_ms: float
    p99_first_ms: float
    """In the first tenth of the time."""
    p99_last_ms: float
    """In the last tenth of the time."""
    memory_first_mb: float
    """Memory of supervisor and worker together, after the first tenth."""
    memory_last_mb: float
    seconds: float

    @property
    def sync_ms(self) -> float | None:
        """Time to make frame and row durable before the answer."""
        return None if self.cycle_in_memory_ms is None else self.cycle_ms - self.cycle_in_memory_ms


def measure_load(
    folder: Path, bundle: Path, photos: Path, *, seconds: float, tell: Callable[[str], None] = lambda text: None
) -> LoadResult:
    """Measure the capacity of a station with this bundle on this machine, then run at 80 % of it.

    Args:
        folder: Folder for the station; the disk of its ledger is measured.
        bundle: The bundle to judge with.
        photos: At least two photographs, decoded once and shown in turn by a fake camera.
        seconds: For how long the load is held.
        tell: Told what is going on.
    """
    frames = _keep_some(photos, folder / "photos")
    photos = folder / "photos"
    with _memory() as memory:
        capacity = _capacity(folder / "capacity", memory, bundle, photos, frames, tell)
    rate = SHARE * 1e3 / capacity["cycle_ms"]
    tell(f"now {rate:.1f} parts/s for {seconds:.0f} s")
    held = _hold(folder / "load", bundle, photos, rate, seconds, tell)
    return LoadResult(**capacity, capacity_per_s=1e3 / capacity["cycle_ms"], rate_per_s=rate, seconds=seconds, **held)


def _keep_some(photos: Path, kept: Path) -> list[Photograph]:
    """Copy as many photographs as the fake camera keeps decoded, so that no cycle includes decoding."""
    files = list(itertools.islice(images.find(photos), DECODED))
    if len(files) < 2:
        raise InputError(f"{photos}: expected at least two photographs, found {len(files)}.")
    kept.mkdir(parents=True)
    frames = []
    for number, path in enumerate(files):
        data = images.read_bytes(path)
        frames.append(Photograph(data, name=str(path)))
        (kept / f"{number:02d}{path.suffix}").write_bytes(data)
    return frames


def _capacity(
    folder: Path, memory: Path | None, bundle: Path, photos: Path, frames: list[Photograph], tell: Callable[[str], None]
) -> dict[str, Any]:
    """Measure ``inspect`` alone, and whole cycles with the ledger in memory and on disk, alternately."""
    model = load_model(bundle)
    places = {"cycle_ms": folder} | ({} if memory is None else {"cycle_in_memory_ms": memory})
    rounds: list[dict[str, float]] = []
    with contextlib.ExitStack() as stack:
        lines = {name: stack.enter_context(_cycling(place, bundle, photos)) for name, place in places.items()}
        count = max(5, min(100, round(_ROUND_MS / _bare(model, frames, _WARM_UP))))
        for line in lines.values():
            line(_WARM_UP)
        for _ in range(_ROUNDS):
            took = {"bare_ms": _bare(model, frames, count)}
            rounds.append(took | {name: line(count) for name, line in lines.items()})
            tell(", ".join(f"{name} {ms:.2f}" for name, ms in rounds[-1].items()))
    medians: dict[str, Any] = {name: float(np.median([each[name] for each in rounds])) for name in rounds[0]}
    if memory is None:
        return {**medians, "cycle_in_memory_ms": None, "overhead": None}
    ratios = [each["cycle_in_memory_ms"] / each["bare_ms"] for each in rounds]
    return {**medians, "overhead": float(np.median(ratios)) - 1}


@contextlib.contextmanager
def _memory() -> Iterator[Path | None]:
    """Create a folder in memory, where a sync costs nothing; ``None`` if the system has none."""
    if not Path("/dev/shm").is_dir():
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="gonogo-load-", dir="/dev/shm") as place:
        yield Path(place) / "station"


def _bare(model: LoadedBundle, frames: list[Photograph], count: int) -> float:
    """Return the median milliseconds of ``inspect`` alone, on decoded pictures."""
    took: list[float] = []
    for frame in frames:
        frame.unpacked(model.recipe)
    for number in range(count):
        start = time.perf_counter()
        model.inspect(frames[number % len(frames)])
        took.append((time.perf_counter() - start) * 1e3)
    return float(np.median(took))


def _settings(folder: Path, bundle: Path, photos: Path) -> StationSettings:
    folder.mkdir(parents=True)
    text = f"""
station = "load"
bundle = {str(bundle.resolve())!r}
ledger = "load.ledger"
state_dir = "state"
min_free_mb = 1
[[cameras]]
camera = {{ kind = "fake", pictures = {str(photos.resolve())!r} }}
health = {{ sharpness = 0.0, frozen = true }}
[trigger]
kind = "stdin"
[answer]
kind = "stdout"
"""
    (folder / "station.toml").write_text(text)
    return parse_settings(text, folder=folder)


@contextlib.contextmanager
def _station(settings: StationSettings, send: Callable[[Answer], None]) -> Iterator[Supervisor]:
    class Port:
        def send(self, answer: Answer) -> None:
            send(answer)

    sender: list[Sender] = []
    supervisor = Supervisor(
        settings, worker_command(settings.state_dir.parent / "station.toml"), lambda answer: sender[0].send(answer)
    )
    sender.append(Sender(Port(), supervisor.acknowledged, supervisor.undelivered).start())
    supervisor.start()
    try:
        until = time.monotonic() + 120
        while supervisor.health is not Health.RUNNING:
            if time.monotonic() > until:
                raise InputError(f"the station has not started: {supervisor.report}")
            time.sleep(0.01)
        yield supervisor
    finally:
        supervisor.stop()
        sender[0].close()


@contextlib.contextmanager
def _cycling(folder: Path, bundle: Path, photos: Path) -> Iterator[Callable[[int], float]]:
    """Run a station; yields a function that sends parts through it, each after the answer to the previous one.

    The function takes the number of parts and returns the median time per part in milliseconds.
    """
    settings, plc, numbers = _settings(folder, bundle, photos), FakePlc(), itertools.count()
    with _station(settings, plc.send) as supervisor:

        def cycle(count: int) -> float:
            took: list[float] = []
            for number in itertools.islice(numbers, count):
                start = time.perf_counter()
                plc.fire(supervisor.submit, f"c-{number}")
                answer = plc.wait(f"c-{number}", timeout_s=60.0)
                took.append((time.perf_counter() - start) * 1e3)
                if answer.state is State.FAULT and answer.cause is not Cause.LATE:  # a busy machine is late at times
                    raise InputError(f"the station answers {answer.cause}: {answer.reason}")
            return float(np.median(took))

        yield cycle


def _hold(
    folder: Path, bundle: Path, photos: Path, rate: float, seconds: float, tell: Callable[[str], None]
) -> dict[str, Any]:
    settings = _settings(folder, bundle, photos)
    fired_s: dict[str, float] = {}
    waited: list[tuple[float, float, bool]] = []
    lock = threading.Lock()

    def take(answer: Answer) -> None:
        came = time.perf_counter()
        with lock:
            waited.append((came, (came - fired_s[answer.trigger_id]) * 1e3, answer.state is State.FAULT))

    memory: list[float] = []
    with _station(settings, take) as supervisor:
        start = time.perf_counter()
        total = round(rate * seconds)
        for number in range(total):
            at = start + number / rate
            time.sleep(max(0.0, at - time.perf_counter()))
            fired_s[f"l-{number}"] = time.perf_counter()
            supervisor.submit(f"l-{number}")
            if number % max(1, total // (2 * _TENTHS)) == 0:
                memory.append(_memory_mb(supervisor.worker_pid))
                tell(f"{number} of {total} parts, {memory[-1]:.0f} MB")
        while len(waited) < total and time.perf_counter() < start + seconds + 30:
            time.sleep(0.01)
    return _figures(settings, list(fired_s), waited, memory, start, seconds)


def _figures(
    settings: StationSettings,
    fired: list[str],
    waited: list[tuple[float, float, bool]],
    memory: list[float],
    start: float,
    seconds: float,
) -> dict[str, Any]:
    with Ledger.open(settings.ledger, create=False, read_only=True) as ledger:
        rows = [row.record.trigger_id for row in ledger.verdicts()]
    if verify(settings.ledger):
        raise InputError(f"{settings.ledger}: the chain is broken; see gonogo ledger verify.")
    once = len(set(rows)) == len(rows)
    took = np.array([each[1] for each in waited])
    when = np.array([each[0] for each in waited]) - start
    # Where nothing came in a tenth of the time, the whole stands for it.
    first, last = (
        took[tenth] if tenth.any() else took for tenth in (when < seconds / _TENTHS, when > seconds * (1 - 1 / _TENTHS))
    )
    return {
        "fired": len(fired),
        "judged": sum(not each[2] for each in waited),
        "missed": len(set(fired) - set(rows)) + (0 if once else len(rows) - len(set(rows))),
        "faults": sum(each[2] for each in waited),
        "p50_ms": float(np.quantile(took, 0.5)),
        "p99_ms": float(np.quantile(took, 0.99)),
        "p99_first_ms": float(np.quantile(first, 0.99)),
        "p99_last_ms": float(np.quantile(last, 0.99)),
        "memory_first_mb": memory[min(2, len(memory) - 1)],
        "memory_last_mb": memory[-1],
    }


def _memory_mb(worker: int | None) -> float:
    """Return the resident memory of this process and the worker."""
    pages = 0
    for pid in ("self", worker):
        if pid is not None:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def example_photos(folder: Path, count: int = 8) -> Path:
    """Write a few pictures for a fake bundle, if no photographs are given."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"{number}.png").write_bytes(images.encode_png(fake_frame(number, size_wh=(640, 480))))
    return folder


def main() -> None:
    """Measure and print."""
    given = _arguments()
    if (given.bundle is None) != (given.photos is None):
        raise InputError("expected --bundle and --photos together, or neither of them.")
    minutes = given.minutes or (0.5 if given.quick else 10.0)
    with tempfile.TemporaryDirectory(prefix="gonogo-load-", dir=given.folder) as place:
        root, bundle, photos = Path(place), given.bundle, given.photos
        if bundle is None:
            bundle, photos = write_fake_bundle(root / "fake.inspector").root, example_photos(root / "examples")
        tell = lambda text: print(text, file=sys.stderr, flush=True)  # noqa: E731, T201
        result = measure_load(root, bundle, photos, seconds=60 * minutes, tell=tell)
    figures = {**asdict(result), "sync_ms": result.sync_ms}
    print_figures({name: round(value, 3) if isinstance(value, float) else value for name, value in figures.items()})
    if result.missed:
        raise UnfitError(f"{result.missed} of {result.fired} triggers have no row of their own.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Hold the load for half a minute.")
    parser.add_argument("--minutes", type=float, help="How long to hold it, in place of 10.")
    parser.add_argument("--bundle", type=Path, help="The bundle that judges; a fake one where omitted.")
    parser.add_argument("--photos", type=Path, help="Folder of photographs to judge.")
    parser.add_argument("--folder", type=Path, help="Folder for the ledger; its disk is measured.")
    return parser.parse_args()


if __name__ == "__main__":
    run(main)
