"""The whole benchmark: measures all tables, saves each one, and writes the report."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from markupsafe import Markup

from bench import making, rivals, stages
from bench.clock import take_turns
from bench.making import FRAME_WH, REFERENCE, Contenders, Making
from bench.records import Benchmark, Row
from bench.starting import Start, measure_start
from bench.throughput import PROCESSES, measure_throughput
from gonogo import images, runtime
from gonogo.dataset import Split
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.progress import console
from gonogo.report import svg
from gonogo.report.page import render_page as render_page
from gonogo.schema import Frame, State
from gonogo.synthetic import render_scene

EAGER = "torch eager, Grad-CAM"
CAREFUL = "torch eager, shortest gradient"
TABLES = ("judgement", "overhead", "network", "stages", "more", "throughput", "start", "safety")
"""What is measured, in this order; ``more`` are the tables of a whole run alone."""


@dataclass(frozen=True, kw_only=True)
class Extent:
    """Repetitions of a benchmark."""

    repeats: int
    seconds: int
    """Seconds per way of judging many pictures, in each round."""
    rounds: int
    making: Making
    """The bundles, where none are given."""
    every_table: bool
    """Whether to measure also what is not kept in the table of runs, torch.compile among it."""


QUICK = Extent(
    repeats=20,
    seconds=2,
    rounds=3,
    making=Making(parts=60, max_rate=0.3, tuning_s=5, masks=False, cascade=False),
    every_table=False,
)
FULL = Extent(
    repeats=100,
    seconds=10,
    rounds=3,
    making=Making(parts=200, max_rate=0.1, tuning_s=25, masks=True, cascade=True),
    every_table=True,
)


@dataclass(frozen=True, kw_only=True)
class Peers:
    """Python interpreters of environments with other tools; missing ones are skipped."""

    keras: Path | None = None
    anomalib: Path | None = None
    installed: Path | None = None
    """With gonogo installed from its wheel, to time its start there, too."""


def run_bench(
    out: Path,
    extent: Extent,
    *,
    bundles: Path | None = None,
    dataset: Path | None = None,
    photo: Path | None = None,
    peers: Peers | None = None,
    workers: int = 1,
    only: Collection[str] = TABLES,
) -> Benchmark:
    """Measure, and write ``bench.json`` and ``bench.html``; finished tables survive an interruption.

    Args:
        out: Folder to write into; bundles made there are taken up again by the next call.
        extent: `FULL` or `QUICK`.
        bundles: A folder of bundles to time; made where omitted.
        dataset: What they were trained on.
        photo: The picture that is judged, by every bundle; a rendered board of `FRAME_WH` where omitted.
        peers: Other tools.
        workers: Processes that render.
        only: Names of the tables to measure.

    Raises:
        InputError: ``out`` is a file, only one of ``bundles`` and ``dataset`` is given, or the photo cannot be judged.
        ImageError: the photo cannot be read.
    """
    if (bundles is None) != (dataset is None):
        raise InputError(
            "expected both --bundles and --dataset, or neither. Give the data set the bundles learned from."
        )
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: expected a folder to write into, found a file. Choose another --out.")
    out.mkdir(parents=True, exist_ok=True)
    if bundles is None or dataset is None:
        made = out / f"{extent.making.parts}-parts"  # a quick run's bundles are not taken for a whole one's
        made.mkdir(exist_ok=True)
        contenders = making.make(made, extent.making, workers=workers)
    else:
        contenders = making.given(bundles, dataset)
    encoded, shown = (rendered(), "a rendered board") if photo is None else (images.read_bytes(photo), str(photo))
    frame = images.decode(encoded, name=shown)
    bench = _Bench(contenders, extent, peers or Peers(), out, encoded, frame)
    rows: list[Row] = []
    for table in bench.tables(only):
        rows += table
        found = Benchmark(headlines=bench.headlines(rows), rows=rows, machine=runtime.runtime_environment())
        write_beside(out / "bench.json", json.dumps(found.to_json(), indent=2).encode())
    picture = f"{shown}, {frame.shape[1]} x {frame.shape[0]} pixels"
    page = render_page(
        "speed.html",
        templates=Path(__file__).parent,
        found=found,
        picture=picture,
        plots={name: _plot(found, name) for name in ("judgement", "network")},
    )
    write_beside(out / "bench.html", page.encode())
    console.print(f"Wrote {out / 'bench.html'} and {out / 'bench.json'}")
    return found


def rendered() -> bytes:
    """Return the JPEG of one board, always the same."""
    return render_scene(0, seed=making.SEED, difficulty=0.0, size_wh=FRAME_WH, mix=making.MIX).jpeg


class _Bench:
    """The frame, the opened bundles, and the tables in the order in which they are measured."""

    def __init__(
        self, contenders: Contenders, extent: Extent, peers: Peers, out: Path, encoded: bytes, frame: Frame
    ) -> None:
        self.contenders, self.extent, self.peers, self.out = contenders, extent, peers, out
        self.encoded, self.frame = encoded, frame
        self.inspectors = {name: Inspector.load(path) for name, path in contenders.bundles.items()}
        for name, inspector in self.inspectors.items():
            verdict = inspector.inspect_encoded(self.encoded)
            if verdict.state is State.FAULT:
                raise InputError(f"--photo: expected a picture that {name} can judge, it says: {verdict.reason}.")
        self.reference = self.inspectors[REFERENCE]
        self.judged: dict[str, Evaluation] = {}
        self.start: Start | None = None

    def tables(self, only: Collection[str]) -> Iterator[list[Row]]:
        """Yield each table as it is measured."""
        seconds, rounds = self.extent.seconds, self.extent.rounds
        bundle, repeats = self.contenders.bundles[REFERENCE], self.extent.repeats
        steps: dict[str, Callable[[], Iterable[list[Row]]]] = {
            "judgement": lambda: [self._judgements()],
            "overhead": lambda: [self._overheads()],
            "network": lambda: [self._networks()],
            "stages": lambda: [stages.measure_stages(self.reference, self.encoded, repeats=repeats)],
            "more": lambda: self._further_tables() if self.extent.every_table else [],
            "throughput": lambda: [measure_throughput(bundle, self.frame, seconds=seconds, rounds=rounds)],
            "start": lambda: [self._starts()],
            "safety": lambda: [self._safety()],
        }
        for name in TABLES:
            if name in only:
                yield from steps[name]()

    def _further_tables(self) -> Iterator[list[Row]]:
        repeats = self.extent.repeats
        yield stages.measure_sizes(self.reference, self.frame, repeats=max(10, repeats // 4))
        yield stages.measure_regions(self.reference, self.frame, repeats=repeats)
        yield stages.measure_batches(self.reference, self.frame, repeats=repeats)
        cores = len(os.sched_getaffinity(0))
        seconds, rounds = self.extent.seconds, self.extent.rounds
        yield stages.measure_streams(self.reference, self.frame, seconds=seconds, rounds=rounds, cores=cores)
        yield self._thread_pools()

    def headlines(self, rows: list[Row]) -> dict[str, float | int | str | None]:
        """Return the figures with limits; ``None`` if not measured yet."""
        fastest = fastest_as_safe(rows)
        quantized = self.reference.bundle.manifest.quantization
        start = self.start
        return {
            "overhead_over_network": _ratio(rows, "overhead", REFERENCE),
            "speedup_over_torch_eager": None if fastest is None else fastest.ratio,
            "fastest_as_safe": None if fastest is None else fastest.name,
            "speedup_over_torch_eager_resnet50_int8": _ratio(rows, "judgement", REFERENCE),
            "throughput_over_benchmark_app": _ratio(rows, "throughput", PROCESSES),
            "verdict_flips": None if quantized is None else quantized.flips.count,
            "first_verdict_s": None if start is None else start.first_verdict_s,
            "first_verdict_cold_s": None if start is None else start.first_verdict_cold_s,
            "rss_mb": None if start is None else start.rss_mb,
        }

    def _judgements(self) -> list[Row]:
        """From JPEG bytes to verdict, box and raw map; ratio: how many times faster than torch."""
        size_wh = self.reference.recipe.size_wh
        usual = rivals.from_jpeg(rivals.GradCam(whole=True), self.reference.roi, size_wh)
        careful = rivals.from_jpeg(rivals.GradCam(whole=False), self.reference.roi, size_wh)
        found = take_turns(
            {
                EAGER: partial(usual, self.encoded),
                CAREFUL: partial(careful, self.encoded),
                **{
                    name: partial(inspector.inspect_encoded, self.encoded)
                    for name, inspector in self.inspectors.items()
                },
            },
            repeats=self.extent.repeats,
            description="judgements",
        )
        rows = [
            Row.timed("judgement", name, times, found[EAGER].median_ms / times.median_ms)
            for name, times in found.items()
        ]
        rows += [Row(table="judgement", name=name, note=why) for name, why in self.contenders.missing.items()]
        for name, script, python in (
            ("Keras predict", "keras_predict.py", self.peers.keras),
            ("anomalib OpenVINOInferencer", "anomalib_inferencer.py", self.peers.anomalib),
        ):
            rows.append(self._peer(name, script, python, found[EAGER].median_ms))
        return rows

    def _peer(self, name: str, script: str, python: Path | None, eager_ms: float) -> Row:
        photo = self.out / "frame.jpg"
        write_beside(photo, self.encoded)
        path = Path(__file__).resolve().parents[1] / "peers" / script
        found = rivals.peer(path, python, str(photo))
        if isinstance(found, str):
            return Row(table="judgement", name=name, note=found)
        return Row(
            table="judgement",
            name=name,
            ratio=eager_ms / found["median_ms"],
            median_ms=found["median_ms"],
            note="in a separate environment, not interleaved",
        )

    def _overheads(self) -> list[Row]:
        """From an unpacked picture to the verdict; ratio: against the bare compiled network. Cascades have two."""
        rows = []
        for name, inspector in self.inspectors.items():
            if inspector.cascade is not None:
                continue
            network, photograph = stages.bare_network(inspector), stages.unpacked(inspector, self.encoded)
            found = take_turns(
                {
                    "whole": partial(inspector.inspect, photograph),
                    "network": partial(network, stages.network_input(inspector, photograph)),
                },
                repeats=2 * self.extent.repeats,
                description=f"overhead of {name}",
            )
            ratio = found["whole"].median_ms / found["network"].median_ms
            rows.append(Row.timed("overhead", name, found["whole"], ratio, network_ms=found["network"].median_ms))
        return rows

    def _networks(self) -> list[Row]:
        """The bare ResNet-50 on a picture that is ready; ratio: how many times faster than torch eager."""
        size_wh = self.reference.recipe.size_wh
        everything = rivals.networks(rivals.resnet50(), size_wh, compiled=self.extent.every_table)
        runs = {name: run for name, run in everything.items() if not isinstance(run, str)}
        runs["OpenVINO, INT8 (bundle)"] = stages.bare_network(self.reference)
        picture = np.random.default_rng(0).integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8)
        found = take_turns(
            {name: partial(run, picture) for name, run in runs.items()},
            repeats=self.extent.repeats,
            description="networks",
        )
        eager = found["torch eager"].median_ms
        rows = [Row.timed("network", name, times, eager / times.median_ms) for name, times in found.items()]
        return rows + [
            Row(table="network", name=name, note=why) for name, why in everything.items() if isinstance(why, str)
        ]

    def _thread_pools(self) -> list[Row]:
        """Time with OpenCV's threads in addition to OpenVINO's; ratio: against OpenCV on one thread."""
        found = {}
        threads = cv2.getNumThreads()
        try:
            for count in (1, len(os.sched_getaffinity(0))):
                cv2.setNumThreads(count)
                run = {"whole": partial(self.reference.inspect_encoded, self.encoded)}
                found[count] = take_turns(run, repeats=self.extent.repeats, description="thread pools")["whole"]
        finally:
            cv2.setNumThreads(threads)
        single = found[1].median_ms
        return [
            Row.timed("threads", f"OpenCV on {count}", times, times.median_ms / single)
            for count, times in found.items()
        ]

    def _starts(self) -> list[Row]:
        with tempfile.TemporaryDirectory() as folder:
            photo = Path(folder) / "frame.jpg"
            photo.write_bytes(self.encoded)
            bundle = self.contenders.bundles[REFERENCE]
            self.start = measure_start(bundle, photo, Path(folder) / "here")
            rows = self.start.rows()
            if self.peers.installed is not None:
                there = measure_start(bundle, photo, Path(folder) / "there", python=self.peers.installed)
                rows += there.rows(", installed from the wheel")
        return rows

    def _safety(self) -> list[Row]:
        """Return the certified rates of each bundle, and its review rate on the test parts."""
        rows = []
        for name, inspector in self.inspectors.items():
            judged = evaluate(inspector, self.contenders.dataset, (Split.TEST,), with_regions=False)
            self.judged[name] = judged
            point = inspector.operating_point
            facts = {
                **judged.review.to_json("review_rate"),
                **judged.escape.to_json("escape_rate"),
                **judged.overkill.to_json("overkill_rate"),
                "auroc": judged.auroc,
                "certified_escape": point.escape.max_rate if point is not None and point.escape.holds else None,
            }
            rows.append(Row(table="safety", name=name, ratio=judged.review.value, facts=facts))
        return rows


def fastest_as_safe(rows: list[Row]) -> Row | None:
    """Return the fastest bundle with the certified rates of the reference and no more review."""
    theirs = _find(rows, "safety", REFERENCE)
    if theirs is None or theirs.ratio is None:
        return None
    limit = theirs.facts["certified_escape"] or 1.0
    as_safe = {
        row.name
        for row in rows
        if row.table == "safety"
        and row.facts["certified_escape"] is not None
        and row.facts["certified_escape"] <= limit
        and row.ratio is not None
        and row.ratio <= theirs.ratio
    }
    speeds = [row for row in rows if row.table == "judgement" and row.name in as_safe and row.ratio is not None]
    return max(speeds, key=lambda row: row.ratio or 0.0, default=None)


def _plot(found: Benchmark, table: str) -> Markup:
    measured = sorted((row.ratio, row.name) for row in found.table(table) if row.ratio is not None)
    if not measured:  # not asked for
        return Markup("")
    return svg.bars([(name, ratio) for ratio, name in measured], title=f"Times as fast as torch: {table}", unit="x")


def _find(rows: list[Row], table: str, name: str) -> Row | None:
    return next((row for row in rows if row.table == table and row.name == name), None)


def _ratio(rows: list[Row], table: str, name: str) -> float | None:
    row = _find(rows, table, name)
    return None if row is None else row.ratio
