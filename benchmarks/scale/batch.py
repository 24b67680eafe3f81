"""Many pictures on Ray against the pinned processes: ``make scale-batch``; ``QUICK=1`` judges 1,000 instead of 100,000.

Renders 300 pictures, gives each many names, and judges all of them with ``gonogo inspect --workers`` and with
``--engine ray`` on the same cores. Then once more on Ray, where workers are killed at random (SIGKILL) and the driver
is killed in the middle and started again. Every output must hold each picture once, in order, with bit-equal scores.
Runs of two sizes in turns give the size from which Ray pays on one, two or more such machines.

Exit code 1 if a picture is lost, doubled or judged otherwise. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from command import print_figures, run
from gonogo.errors import UnfitError
from gonogo.images import encode_jpeg
from gonogo.progress import console, track
from gonogo.synthetic import render_scene
from gonogo.testing import write_fake_bundle

PICTURES, QUICK_PICTURES = 100_000, 1_000
DISTINCT, QUICK_DISTINCT = 300, 30
SIZE_WH = (160, 120)
KILLS = 5
MACHINES = (1, 2, 4, 10)
PER_FOLDER = 1_000
_POLL_S = 0.02
_DIFFERS = ("timings_ms", "other_processors")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One finished command."""

    wall_s: float
    cpu_s: float
    """Of the command and everything that it started."""


@dataclass(kw_only=True)
class Disturbed:
    """What was done to a run."""

    workers_killed: int = 0
    drivers_killed: int = 0
    blocks_kept: list[int] = field(default_factory=list)
    """Blocks in the journal when the driver was killed."""


def measure(folder: Path, *, pictures: int, distinct: int, rounds: int, seed: int, cores: int) -> dict[str, Any]:
    """Run everything; return the figures by name."""
    bundle, photos = _prepare(folder, pictures, distinct)
    plain_file, ray_file = folder / "plain.jsonl", folder / "ray.jsonl"
    plain = _judge(bundle, photos, plain_file, "--workers", str(cores))
    on_ray = _judge(bundle, photos, ray_file, *_on_ray(cores))
    wrong = _differences(plain_file, ray_file, pictures)
    figures: dict[str, Any] = {
        "pictures": pictures,
        "distinct_pictures": distinct,
        "cores": cores,
        "processes_pictures_per_s": round(pictures / plain.wall_s, 1),
        "ray_pictures_per_s": round(pictures / on_ray.wall_s, 1),
        "ray_to_processes": round(plain.wall_s / on_ray.wall_s, 3),
        "processes_cpu_s": round(plain.cpu_s, 1),
        "ray_cpu_s": round(on_ray.cpu_s, 1),
        "ray_differs": wrong,
    }
    found = Disturbed()
    disturbed_file = folder / "disturbed.jsonl"
    began_s = time.monotonic()
    _disturb(bundle, photos, disturbed_file, folder / "run.journal", random.Random(seed), cores, found)
    figures |= {
        "disturbed_s": round(time.monotonic() - began_s, 1),
        "workers_killed": found.workers_killed,
        "drivers_killed": found.drivers_killed,
        "blocks_kept_by_killed_driver": found.blocks_kept,
        "disturbed_differs": _differences(plain_file, disturbed_file, pictures),
    }
    return figures | (_crossing(folder, bundle, photos, rounds=rounds, cores=cores) if rounds else {})


def _prepare(folder: Path, pictures: int, distinct: int) -> tuple[Path, Path]:
    """Write a bundle, and the pictures in folders of a thousand names."""
    bundle, photos = folder / "red.inspector", folder / "photos"
    write_fake_bundle(bundle)
    data = [encode_jpeg(render_scene(part, size_wh=SIZE_WH).frame) for part in track(range(distinct), "rendering")]
    for start in track(range(0, pictures, PER_FOLDER), "writing pictures"):
        place = photos / f"{start // PER_FOLDER:04d}"
        place.mkdir(parents=True)
        for number in range(start, min(start + PER_FOLDER, pictures)):
            (place / f"{number:07d}.jpg").write_bytes(data[number % len(data)])
    return bundle, photos


def _on_ray(cores: int, *more: str) -> list[str]:
    return ["--engine", "ray", "--workers", str(cores), *more]


def _command(bundle: Path, photos: list[Path] | Path, *options: str) -> list[str]:
    places = [photos] if isinstance(photos, Path) else photos
    return [sys.executable, "-m", "gonogo", "inspect", str(bundle), *map(str, places), "--json", *options]


def _judge(bundle: Path, photos: list[Path] | Path, out: Path, *options: str) -> Run:
    began_s, cpu_s = time.monotonic(), _children_cpu_s()
    with out.open("wb") as file:
        done = subprocess.run(
            _command(bundle, photos, *options), stdout=file, stderr=subprocess.PIPE, check=False, text=True
        )
    if done.returncode != 0:
        raise UnfitError(f"{' '.join(options)}: exit code {done.returncode}: {done.stderr.strip()[-500:]}")
    ended = Run(wall_s=time.monotonic() - began_s, cpu_s=_children_cpu_s() - cpu_s)
    console.print(f"{' '.join(options)}: {ended.wall_s:.1f} s", markup=False, highlight=False)
    return ended


def _children_cpu_s() -> float:
    spent = os.times()
    return spent.children_user + spent.children_system


def _disturb(
    bundle: Path, photos: Path, out: Path, journal: Path, rng: random.Random, cores: int, found: Disturbed
) -> None:
    """Judge on Ray while workers are killed, and the driver once in the middle; the same command resumes."""
    command = _command(bundle, photos, *_on_ray(cores, "--journal", str(journal)))
    blocks = -(-_count(photos) // 64)
    kills = sorted(rng.randrange(int(0.9 * blocks)) for _ in range(KILLS))
    driver_at = blocks // 2
    while True:
        with out.open("wb") as file:
            driver = subprocess.Popen(command, stdout=file, stderr=subprocess.PIPE, text=True)
            killed = _watch(driver, journal, kills, None if found.drivers_killed else driver_at, rng, found)
            said = driver.communicate()[1]
        if killed:
            continue
        if driver.returncode != 0:
            raise UnfitError(f"the run on Ray ended with {driver.returncode}: {said.strip()[-500:]}")
        return


def _watch(
    driver: subprocess.Popen[str],
    journal: Path,
    kills: list[int],
    driver_at: int | None,
    rng: random.Random,
    found: Disturbed,
) -> bool:
    """Kill what is due until the driver ends; whether the driver was killed."""
    while driver.poll() is None:
        done = _blocks_in(journal)
        if driver_at is not None and done >= driver_at:
            family = psutil.Process(driver.pid).children(recursive=True)
            driver.kill()
            found.drivers_killed += 1
            found.blocks_kept.append(_blocks_in(journal))
            _, left = psutil.wait_procs(family, timeout=120)
            if left:
                raise UnfitError(f"{len(left)} of Ray's processes outlive their killed driver: {left[0].name()}.")
            return True
        if kills and done >= kills[0] and _kill_worker(driver.pid, rng):
            kills.pop(0)
            found.workers_killed += 1
        time.sleep(_POLL_S)
    return False


def _kill_worker(driver: int, rng: random.Random) -> bool:
    """Kill a worker that is judging; whether there was one."""
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(driver).children(recursive=True)
        judging = [each for each in family if _title(each).startswith("ray::run_block")]
        if judging:
            os.kill(rng.choice(judging).pid, signal.SIGKILL)
            return True
    return False


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _blocks_in(journal: Path) -> int:
    try:
        return max(0, journal.read_bytes().count(b"\n") - 1)
    except FileNotFoundError:
        return 0


def _count(photos: Path) -> int:
    return sum(1 for _ in photos.glob("*/*.jpg"))


def _differences(plain: Path, other: Path, pictures: int) -> int:
    """Number of lines that differ in anything but times; a lost or doubled picture shifts all that follow."""
    wrong, lines = 0, 0
    with plain.open() as one, other.open() as two:
        for left, right in zip(one, two, strict=True):
            lines += 1
            wrong += _bare(left) != _bare(right)
    return wrong + abs(lines - pictures - 1)


def _bare(line: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(line).items() if name not in _DIFFERS}


def _crossing(folder: Path, bundle: Path, photos: Path, *, rounds: int, cores: int) -> dict[str, Any]:
    """Time two sizes in turns; each engine has a start and a rate, and these cross where Ray begins to pay."""
    folders = sorted(photos.iterdir())
    large = folders[: max(1, len(folders) // 10)]
    files = sorted(large[0].iterdir())
    sizes: dict[int, list[Path]] = {len(files) // 10: files[: len(files) // 10]}
    sizes[sum(1 for each in large for _ in each.iterdir())] = large
    options = {"processes": ["--workers", str(cores)], "ray": _on_ray(cores)}
    runs: dict[tuple[str, int], list[Run]] = {(name, size): [] for name in options for size in sizes}
    for _ in range(rounds):
        for size, places in sizes.items():
            for name, words in options.items():
                runs[name, size].append(_judge(bundle, places, folder / "timing.jsonl", *words))
    small, big = sorted(sizes)
    start_s, each_s, each_cpu_s = {}, {}, {}
    for name in options:
        first, second = (statistics.median(each.wall_s for each in runs[name, size]) for size in (small, big))
        cpu_s = [statistics.median(each.cpu_s for each in runs[name, size]) for size in (small, big)]
        each_s[name] = (second - first) / (big - small)
        each_cpu_s[name] = (cpu_s[1] - cpu_s[0]) / (big - small)
        start_s[name] = first - small * each_s[name]
    return {
        "timed_sizes": [small, big],
        "rounds": rounds,
        "start_s": {name: round(value, 2) for name, value in start_s.items()},
        "ms_per_picture": {name: round(1e3 * value, 3) for name, value in each_s.items()},
        "cpu_ms_per_picture": {name: round(1e3 * value, 3) for name, value in each_cpu_s.items()},
        "ray_pays_from_pictures_on_machines": {str(count): _pays_from(start_s, each_s, count) for count in MACHINES},
    }


def _pays_from(start_s: dict[str, float], each_s: dict[str, float], machines: int) -> int | None:
    """Return from how many pictures on machines with Ray beat one with processes; ``None``: never, or unknown."""
    saved_s = each_s["processes"] - each_s["ray"] / machines
    if min(each_s.values()) <= 0:  # the machine was too busy to tell
        return None
    return round(max(0.0, start_s["ray"] - start_s["processes"]) / saved_s) if saved_s > 0 else None


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="Number of pictures.")
    parser.add_argument("--quick", action="store_true", help="1,000 pictures, without the timing of two sizes.")
    parser.add_argument("--rounds", type=int, default=3, help="Rounds of the timing of two sizes; 0 leaves it out.")
    parser.add_argument("--cores", type=int, default=2, help="Processes, and processors for Ray.")
    parser.add_argument("--seed", type=int, default=1, help="Random seed of the kills.")
    parser.add_argument("--folder", type=Path, help="Folder to work in. [default: a temporary one]")
    given = parser.parse_args()
    pictures, distinct, rounds = given.pictures, DISTINCT, given.rounds
    if given.quick:
        pictures, distinct, rounds = QUICK_PICTURES, QUICK_DISTINCT, 0
    folder = Path(tempfile.mkdtemp(prefix="gonogo-batch-", dir=given.folder))
    try:
        figures = measure(
            folder, pictures=pictures, distinct=distinct, rounds=rounds, seed=given.seed, cores=given.cores
        )
    finally:
        shutil.rmtree(folder)
    for name, value in figures.items():
        print(f"{name:38s} {value}")  # noqa: T201
    print_figures(figures)
    if figures["ray_differs"] or figures["disturbed_differs"]:
        raise UnfitError("pictures on Ray were lost, doubled or judged otherwise; see the figures above.")
    if (figures["workers_killed"], figures["drivers_killed"]) != (KILLS, 1):
        raise UnfitError(
            f"expected {KILLS} killed workers and a killed driver; the run ended before. Judge more pictures."
        )


if __name__ == "__main__":
    run(main)
