"""Which pictures to label next: those whose score lies nearest to a threshold teach most."""

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
from gonogo.server.dataset_store import Datasets, decided


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How far judging a data set's open pictures is, and what it says so far."""

    bundle: str = ""
    """The inspector's folder; empty where there is none."""
    waiting: int = 0
    """Pictures still to judge."""
    doubt: dict[str, float] = field(default_factory=dict)
    """Distance of the score from the nearest threshold, by file; pictures that cannot be judged are left out."""
    problem: str = ""


@dataclass
class _Run:
    bundle: Path
    seal: float
    doubt: dict[str, float | None] = field(default_factory=dict)
    thread: threading.Thread | None = None
    problem: str = ""


class LabelModelDoubts:
    """Judges open pictures on one thread in the background, and remembers the scores while the server runs."""

    def __init__(self, datasets: Datasets, choose: Callable[[str], Path | None]) -> None:
        self._datasets, self._choose = datasets, choose
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one data set at a time: the station needs the processor too
        self._closing = threading.Event()

    def ranking(self, dataset: str) -> Ranking:
        """What is known now; see `refresh`.

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
        """Judge in the background the open pictures that the newest inspector has not judged yet.

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
        return [file for file, sample in self._datasets.read(dataset).samples.items() if not decided(sample)]

    def _judge(self, dataset: str, run: _Run) -> None:
        with self._turn:
            try:
                inspector = Inspector.load(run.bundle, machine=Settings(threads=1), replay=False)
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
    """How far a score lies from the nearest threshold; from zero, where even odds are, without thresholds."""
    limits = [] if point is None else [limit for limit in (point.go_below, point.no_go_above) if math.isfinite(limit)]
    return min(abs(score - limit) for limit in limits or [0.0])
