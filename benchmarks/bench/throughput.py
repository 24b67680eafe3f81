"""Pictures per second: threads, requests in flight, or one pinned process for each core."""

from __future__ import annotations

import multiprocessing
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from bench.records import Row
from bench.stages import unpacked
from gonogo import images, runtime
from gonogo.config import settings
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.progress import track
from gonogo.runtime import Graph, Picture
from gonogo.schema import Frame

TABLE = "throughput"
PROCESSES = "one pinned process per core"


def measure_throughput(bundle: Path, frame: Frame, *, seconds: int, rounds: int) -> list[Row]:
    """Judge one frame in memory repeatedly in several interleaved ways; compare the rates with benchmark_app.

    The tool runs the bare network; everything else finds the region, cuts it out and decides as well.

    Args:
        bundle: An inspector with one network.
        frame: uint8 RGB, height x width x 3.
        seconds: Of each way in each round.
        rounds: The median counts; a ratio is that of one round, in which the machine was as busy for all.
    """
    inspector = Inspector.load(bundle)
    graph = runtime.compile_graph(bundle / "classifier.xml", precision=inspector.bundle.manifest.precision, many=True)
    rates: dict[str, list[float]] = {}
    limits: list[float | str] = []
    with _workers(bundle, frame) as workers:
        for _ in track(range(rounds), "throughput"):
            for name, rate in (
                ("one process, one picture at a time", _serial(inspector, frame, seconds)),
                ("one process, requests in flight", _in_flight(inspector, graph, frame, seconds)),
                (PROCESSES, _together(workers, seconds)),
            ):
                rates.setdefault(name, []).append(rate)
            limits.append(benchmark_app(bundle / "classifier.xml", seconds=seconds))
    known = [limit for limit in limits if isinstance(limit, float)]
    measured = len(known) == rounds
    note = "" if measured else next(str(limit) for limit in limits if not isinstance(limit, float))
    rows = [Row(table=TABLE, name="benchmark_app, bare network", ratio=1.0 if measured else None, note=note)]
    for name, found in rates.items():
        ratio = float(np.median(np.array(found) / known)) if measured else None
        rows.append(Row(table=TABLE, name=name, ratio=ratio, facts={"pictures_per_s": float(np.median(found))}))
    return rows


def benchmark_app(graph: Path, *, seconds: int) -> float | str:
    """Return the pictures per second of OpenVINO's benchmark_app with a graph, or why it did not run."""
    tool = Path(sys.executable).with_name("benchmark_app")
    if not tool.is_file():
        return f"{tool} is not there; it comes with openvino"
    command = [str(tool), "-m", str(graph), "-d", "CPU", "-hint", "throughput", "-t", str(seconds)]
    done = subprocess.run([*command, "-infer_precision", "f32"], capture_output=True, text=True, check=False)
    found = re.search(r"Throughput:\s+([\d.]+)\s*FPS", done.stdout)
    return float(found.group(1)) if found else f"benchmark_app failed: {(done.stderr or done.stdout).strip()[-200:]}"


def _serial(inspector: Inspector, frame: Frame, seconds: float) -> float:
    photograph = unpacked(inspector, encode_png(frame))
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        inspector.inspect(photograph)
        count += 1
    return count / (time.perf_counter() - start)


def _in_flight(inspector: Inspector, graph: Graph, frame: Frame, seconds: float) -> float:
    """Find and crop regions while earlier ones are judged."""

    def pictures() -> Iterator[Picture]:
        while time.perf_counter() - start < seconds:
            region = inspector.roi.locate(frame).region
            assert region is not None, "the benchmark's own frame shows a part"
            yield images.cut(frame, region, inspector.recipe.size_wh)

    start = time.perf_counter()
    count = sum(1 for _ in graph.stream(pictures()))
    return count / (time.perf_counter() - start)


def _together(workers: list[Connection], seconds: float) -> float:
    for worker in workers:
        worker.send(seconds)
    return float(sum(worker.recv() for worker in workers))


@contextmanager
def _workers(bundle: Path, frame: Frame) -> Iterator[list[Connection]]:
    """One process per core; on request, it judges for some seconds and returns its rate."""
    spawn = multiprocessing.get_context("spawn")
    ends, processes = [], []
    for core in sorted(os.sched_getaffinity(0)):
        mine, theirs = spawn.Pipe()
        process = spawn.Process(target=_work, args=(bundle, core, frame, theirs), daemon=True)
        process.start()
        ends.append(mine)
        processes.append(process)
    try:
        for end in ends:
            end.recv()  # ready
        yield ends
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _work(bundle: Path, core: int, frame: Frame, boss: Connection) -> None:
    os.sched_setaffinity(0, {core})
    inspector = Inspector.load(bundle, machine=settings().model_copy(update={"threads": 1}))
    boss.send(True)
    while True:
        boss.send(_serial(inspector, frame, boss.recv()))
