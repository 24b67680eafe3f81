"""What the inspector in use says about the pictures of any data set: scores and heat maps.

What the page Understand has judged is used first. Everything else is judged on request, in the background, in blocks
that are kept in the workspace's cache, so that a restart loses at most one block.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gonogo.config import Settings
from gonogo.dataset import Split
from gonogo.dataset.judged import record_judged, record_unlabelled
from gonogo.errors import GonogoError
from gonogo.heatmap import overlay
from gonogo.images.geometry import scaled_region
from gonogo.inspector import Inspector
from gonogo.schema import Frame, OperatingPoint, State
from gonogo.server.background_work import Asked, Task, WorkKind
from gonogo.server.dataset_store import Datasets, kept_blind
from gonogo.server.inspectors import Inspectors, JudgedPictures, OpenBundle
from gonogo.server.inspectors.judged import JudgedPicture, judge_sample, read_judged, stamp_of, write_judged
from gonogo.server.language import N_, RefusedError
from gonogo.server.parts.pictures import smaller_picture
from gonogo.signing import NOT_REQUIRED

BLOCK = 200
"""Number of pictures that are judged and stored together; other background work takes its turn in between."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Predicted:
    """Scores of one data set by one inspector."""

    bundle: str
    graph: str
    point: OperatingPoint | None
    has_map: bool
    scores: Mapping[str, float | None]
    """By file name; ``None`` for a picture that could not be judged."""

    def state(self, score: float | None) -> State:
        """The verdict for a score at the limits in force."""
        if score is None:
            return State.FAULT
        return State.REVIEW if self.point is None else self.point.state(score)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Stored:
    """The blocks judged for the grid."""

    scores: Mapping[str, float | None]
    stamps: Mapping[str, str]


class Predictions:
    """Keeps the predictions of the inspector in use."""

    def __init__(self, datasets: Datasets, inspectors: Inspectors, cache: Path) -> None:
        self._datasets, self._inspectors, self._cache = datasets, inspectors, cache
        self._lock = threading.Lock()
        self._stored: dict[Path, _Stored] = {}
        self._known: dict[str, tuple[tuple[object, ...], Predicted]] = {}
        self._inspector: tuple[str, Inspector] | None = None
        self._judging = threading.Lock()  # inspectors are not thread-safe

    def of(self, name: str) -> Predicted | None:
        """What is known about a data set; ``None`` if no inspector is in use."""
        opened = self._inspectors.in_use()
        if opened is None:
            return None
        judged = self._inspectors.judged.of(opened)
        judged = judged if judged is not None and judged.dataset == name else None
        with self._lock:
            stored = self._read(self._folder(opened, name))
            # The objects themselves are part of the key: an identity number could be used again.
            key = (opened.sha256, judged, stored)
            known = self._known.get(name)
            if known is None or known[0] != key:
                known = self._known[name] = (key, _predicted(opened, judged, stored))
            return known[1]

    def refresh(self) -> None:
        """Have the labelled pictures of the inspector in use judged, as the page Understand does."""
        self._inspectors.refresh()

    def judge_all(self, name: str, *, who: str = "") -> None:
        """Judge in the background the pictures of a data set that were not judged yet, for a person.

        Raises:
            RefusedError: no inspector is in use.
        """
        opened = self._inspectors.in_use()
        if opened is None:
            raise RefusedError(N_("No inspector is in use."))
        self._inspectors.worker.submit(
            ("grid", name),
            N_("Judging the pictures of a data set"),
            lambda task: self._judge_block(name, opened, task),
            asked=Asked(kind=WorkKind.JUDGE, who=who, about=name, arguments={"dataset": name}),
        )

    def progress(self, name: str) -> Task | None:
        """The judging of this data set, if it waits or runs."""
        task = self._inspectors.worker.task(("grid", name))
        return None if task is None or task.over else task

    def heat_map(self, frame: Frame, width: int) -> Frame:
        """The picture, reduced, with the heat map and the region of the inspector in use.

        Only for pictures that were judged before: showing a verdict counts as seeing it (see `record_judged`).
        """
        opened = self._inspectors.in_use()
        if opened is None:
            raise RefusedError(N_("No inspector is in use."))
        with self._judging:
            inspector = self._open(opened)
            verdict = inspector.inspect(frame)
        small, factor = smaller_picture(frame, width)
        region = None if verdict.region is None else scaled_region(verdict.region, factor, factor)
        return overlay(small, replace(verdict, region=region), inspector.heat_scale, inspector.recipe.zones)

    def inspector_in_use(self) -> tuple[str, Inspector] | None:
        """The inspector in use for callers that need its features alone, after the hash of its network.

        Raises:
            RefusedError: it cannot be opened.
        """
        opened = self._inspectors.in_use()
        if opened is None:
            return None
        with self._judging:
            return opened.graph[:16], self._open(opened)

    def _judge_block(self, name: str, opened: OpenBundle, task: Task) -> bool:
        """Judge one block; returns whether there are more, which take their turn after other work."""
        records, folder = self._datasets.read(name), self._folder(opened, name)
        known = self.of(name)
        with self._lock:
            stored = self._read(folder)
        waiting = [
            sample
            for file, sample in records.samples.items()
            if not kept_blind(sample)
            and (
                (known is None or file not in known.scores)
                or (file in stored.stamps and stored.stamps[file] != stamp_of(records.root / file))
            )
        ]
        pictures, vectors = [], []
        with self._judging:
            inspector = self._open(opened)
        for done, sample in enumerate(waiting[:BLOCK]):
            task.step(len(records.samples) - len(waiting) + done, len(records.samples))
            with self._judging:
                stamp = stamp_of(records.root / sample.file_name)
                picture, vector = judge_sample(inspector, records.dataset, sample, stamp)
            pictures.append(picture)
            vectors.append(vector)
        if not pictures:
            return False
        shown = tuple(waiting[:BLOCK])
        # Before anything is shown: these pictures count as seen from here on.
        record_judged(replace(records.dataset, samples=shown), (Split.CALIBRATE, Split.TEST))
        record_unlabelled(records.dataset, shown)
        self._store(folder, pictures, vectors)
        return len(waiting) > BLOCK

    def _store(self, folder: Path, pictures: list[JudgedPicture], vectors: list[np.ndarray]) -> None:
        width = max(len(vector) for vector in vectors)
        rows = [vector if len(vector) == width else np.zeros(width, np.float32) for vector in vectors]
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            number = 1 + max((int(path.stem) for path in folder.glob("*.npz")), default=0)
            write_judged(folder / f"{number:06d}.npz", pictures, np.stack(rows))
            self._stored.pop(folder, None)

    def _read(self, folder: Path) -> _Stored:
        """The blocks in a folder, read once; the lock is held."""
        if folder not in self._stored:
            found = [each for path in sorted(folder.glob("*.npz")) for each, _ in read_judged(path).values()]
            self._stored[folder] = _Stored(
                scores={each.file: each.score for each in found},
                stamps={each.file: each.stamp for each in found},
            )
        return self._stored[folder]

    def _folder(self, opened: OpenBundle, name: str) -> Path:
        return self._cache / opened.graph[:16] / name

    def _open(self, opened: OpenBundle) -> Inspector:
        """The inspector in use; the lock on judging is held."""
        if self._inspector is None or self._inspector[0] != opened.sha256:
            try:
                judge = Inspector.load(opened.path, machine=Settings(threads=1), replay=False, policy=NOT_REQUIRED)
            except GonogoError as error:
                raise RefusedError(N_("The inspector in use cannot be opened: %(why)s"), why=str(error)) from error
            self._inspector = (opened.sha256, judge)
        return self._inspector[1]


def _predicted(opened: OpenBundle, judged: JudgedPictures | None, stored: _Stored) -> Predicted:
    scores = dict(stored.scores)
    if judged is not None:
        scores |= {picture.file: picture.score for picture in judged.pictures}

    return Predicted(
        bundle=opened.name,
        graph=opened.graph[:16],
        point=opened.point,
        has_map=opened.manifest.classifier.pool != "none",
        scores=scores,
    )
