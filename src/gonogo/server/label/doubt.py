"""Active learning: pictures with a score near a threshold are labelled first."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gonogo.config import Settings
from gonogo.errors import GonogoError
from gonogo.inspector import Inspector
from gonogo.schema import OperatingPoint
from gonogo.server.dataset_store import Datasets, decided, kept_blind
from gonogo.signing import NOT_REQUIRED


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """Progress and results of judging a data set's unlabelled pictures."""

    bundle: str = ""
    """The inspector's folder; empty if there is none."""
    waiting: int = 0
    """Number of pictures not judged yet."""
    doubt: dict[str, float] = field(default_factory=dict)
    """Distance of the score from the nearest threshold, by file, without pictures that cannot be judged."""
    problem: str = ""


@dataclass
class _Run:
    bundle: Path
    seal: float
    doubt: dict[str, float | None] = field(default_factory=dict)
    thread: threading.Thread | None = None
    problem: str = ""


class LabelModelDoubts:
    """Judges unlabelled pictures in one background thread and keeps the scores in memory."""

    def __init__(self, datasets: Datasets, choose: Callable[[str], Path | None]) -> None:
        self._datasets, self._choose = datasets, choose
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one data set at a time, to leave the processor to the station
        self._closing = threading.Event()

    def ranking(self, dataset: str) -> Ranking:
        """Return the results so far; see `refresh`.

        Raises:
            RefusedError: no such data set.
        """
        files = self._open(dataset)
        with self._lock:
            run = self._runs.get(dataset)
            if run is None:
                return Ranking()
            known = {file: run.doubt[file] for file in files if file in run.doubt}
        doubt = {file: value for file, value in known.items() if value is not None}
        return Ranking(bundle=run.bundle.name, waiting=len(files) - len(known), doubt=doubt, problem=run.problem)

    def refresh(self, dataset: str) -> None:
        """Judge in the background the unlabelled pictures that the newest inspector has not judged yet.

        Raises:
            RefusedError: no such data set.
        """
        bundle, files = self._choose(dataset), self._open(dataset)
        with self._lock:
            if bundle is None:
                self._runs.pop(dataset, None)
                return
            run, seal = self._runs.get(dataset), bundle.stat().st_mtime
            if run is None or (run.bundle, run.seal) != (bundle, seal):
                run = self._runs[dataset] = _Run(bundle=bundle, seal=seal)
            working = run.thread is not None and run.thread.is_alive()
            if not working and not run.problem and any(file not in run.doubt for file in files):
                run.thread = threading.Thread(target=self._judge, args=(dataset, run), name="doubt", daemon=True)
                run.thread.start()

    def close(self) -> None:
        """Stop judging."""
        self._closing.set()
        for run in list(self._runs.values()):
            if run.thread is not None:
                run.thread.join()

    def _open(self, dataset: str) -> list[str]:
        samples = self._datasets.read(dataset).samples
        return [file for file, sample in samples.items() if not decided(sample) and not kept_blind(sample)]

    def _judge(self, dataset: str, run: _Run) -> None:
        with self._turn:
            try:
                inspector = Inspector.load(run.bundle, machine=Settings(threads=1), replay=False, policy=NOT_REQUIRED)
                root = self._datasets.root_of(dataset)
                for file in self._open(dataset):
                    if self._closing.is_set() or self._runs.get(dataset) is not run:
                        return
                    if file not in run.doubt:
                        _, verdict = inspector.inspect_file(root / file)
                        doubt = None if verdict.score is None else distance(verdict.score, inspector.operating_point)
                        with self._lock:
                            run.doubt[file] = doubt
            except GonogoError as error:
                run.problem = str(error)


def distance(score: float, point: OperatingPoint | None) -> float:
    """Distance of a score from the nearest threshold; without thresholds, from zero (even odds)."""
    limits = [] if point is None else [limit for limit in (point.go_below, point.no_go_above) if math.isfinite(limit)]
    return min(abs(score - limit) for limit in limits or [0.0])
