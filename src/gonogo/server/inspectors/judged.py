"""Scores of a bundle on the labelled pictures that it was trained and calibrated on.

The trade-off curve, the histograms and the nearest neighbours use them.

A bundle stores thresholds and counts but not the underlying scores, so the pictures are judged again, once, in the
background. The results are stored in the workspace's ``cache`` folder; later only new pictures are judged.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from gonogo.array_types import Float32
from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.dataset.judged import record_judged
from gonogo.errors import DatasetError
from gonogo.evaluate import Evaluation
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.schema import FeatureVector, Label, OperatingPoint, Prediction, State
from gonogo.server.background_work import Task, Worker
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors.bundles import OpenBundle
from gonogo.server.language import N_
from gonogo.server.training.jobs import Jobs
from gonogo.signing import NOT_REQUIRED

MOST_TRAIN_PICTURES = 1000
"""Maximum number of pictures of the train split that are searched for neighbours."""
_SAME = 1e-6


@dataclass(frozen=True, kw_only=True)
class JudgedPicture:
    """A labelled picture with its score."""

    file: str
    stamp: str
    """Size and modification time of the file."""
    score: float | None
    """``None`` if it could not be judged."""
    box_xyxy: tuple[float, float, float, float] | None
    label: Label = Label.GOOD
    defect: str | None = None
    part: str = ""
    split: Split = Split.TRAIN


@dataclass(frozen=True, kw_only=True)
class Neighbour:
    """A labelled picture that is similar to a part."""

    number: int
    """Index in `JudgedPictures.pictures`."""
    picture: JudgedPicture
    distance: float
    """Cosine distance of the feature vectors: 0 is identical, 1 is unrelated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class JudgedPictures:
    """The labelled pictures of a data set, judged by one graph."""

    dataset: str
    root: Path
    graph: str
    run: int | None
    """The training run whose label snapshot was used; ``None`` for the current data set."""
    pictures: tuple[JudgedPicture, ...]
    directions: Float32[np.ndarray, "pictures channels"]
    """Unit-length feature vectors; a row of zeros for a picture that could not be judged."""

    def nearest(self, vector: FeatureVector, count: int, *, not_part: str | None = None) -> list[Neighbour]:
        """Return the labelled pictures with the smallest cosine distance to a feature vector, one per part.

        Args:
            vector: Feature vector of the part, from the same graph.
            count: Number of pictures.
            not_part: Part to skip. Pictures of the same part are skipped too, because they would give away the answer.
        """
        if not len(self.pictures) or vector.shape != self.directions.shape[1:]:
            return []
        distances = 1.0 - self.directions @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        found: dict[str, Neighbour] = {}
        for number in np.argsort(distances).tolist():
            picture, distance = self.pictures[number], float(distances[number])
            if picture.score is None or distance < _SAME or picture.part == not_part or picture.part in found:
                continue
            found[picture.part] = Neighbour(number=number, picture=picture, distance=distance)
            if len(found) == count:
                break
        return list(found.values())

    def evaluation(self, point: OperatingPoint | None, *splits: Split) -> Evaluation:
        """Evaluate limits on some splits, as `gonogo.evaluate` does, without the out-of-distribution check."""
        rows = tuple(
            Prediction(
                file=picture.file,
                part=picture.part,
                label=picture.label,
                defect=picture.defect,
                state=_state(point, picture.score),
                score=picture.score,
            )
            for picture in self.pictures
            if picture.split in splits
        )
        return Evaluation(
            pictures=rows,
            faults=(),
            timings_ms={},
            splits=splits,
            unlabelled=0,
            data_fingerprint="",
            bundle_sha256="",
            operating_point=point,
        )

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Index of each file in `pictures`."""
        return {picture.file: number for number, picture in enumerate(self.pictures)}


def _state(point: OperatingPoint | None, score: float | None) -> State:
    if score is None:
        return State.FAULT
    return State.REVIEW if point is None else point.state(score)


@dataclass(frozen=True, kw_only=True)
class _Source:
    name: str
    dataset: Dataset
    run: int | None


class JudgedPicturesCache:
    """Cache of `JudgedPictures`, one per bundle."""

    def __init__(self, datasets: Datasets, jobs: Jobs, cache: Path, worker: Worker) -> None:
        self._datasets, self._jobs, self._cache, self._worker = datasets, jobs, cache, worker
        self._lock = threading.Lock()
        self._judged_by_graph: dict[str, tuple[object, JudgedPictures | None]] = {}

    def names(self) -> list[str]:
        """The data sets of the workspace."""
        return self._datasets.names()

    def of(self, opened: OpenBundle) -> JudgedPictures | None:
        """Return the latest result of `refresh`.

        Returns:
            ``None`` before the first result, and if no data set holds exactly the pictures and labels that the
            bundle was trained on: another data set would show other parts.
        """
        with self._lock:
            return self._judged_by_graph.get(opened.graph, (None, None))[1]

    def refresh(self, opened: OpenBundle) -> None:
        """Judge the pictures in the background if anything has changed since the last time."""
        now = self._as_it_is()
        with self._lock:
            seen, _ = self._judged_by_graph.get(opened.graph, (None, None))
        if seen != now:
            self._worker.submit(
                ("known", opened.graph),
                N_("Judging the labelled pictures"),
                lambda task: self._learn(opened, now, task),
            )

    def _as_it_is(self) -> object:
        return tuple((name, self._datasets.read(name).version) for name in self._datasets.names())

    def _learn(self, opened: OpenBundle, now: object, task: Task) -> None:
        chosen = self._choose(opened)
        known = None
        try:
            known = None if chosen is None else self._judge(opened, chosen, task)
        finally:  # a failure is not retried until something changes
            with self._lock:
                self._judged_by_graph[opened.graph] = (now, known)

    def _choose(self, opened: OpenBundle) -> _Source | None:
        """Find the data set that the bundle was trained on: its current state, or the snapshot of a training run."""
        for name in self._datasets.names():
            if _trained(opened, dataset := self._datasets.read(name).dataset):
                return _Source(name=name, dataset=dataset, run=None)
        for job in self._jobs.snapshots(opened.name):
            try:
                dataset = Dataset.read(job.snapshot)
            except DatasetError:
                continue
            if _trained(opened, dataset):
                return _Source(name=job.request.dataset, dataset=dataset, run=job.request.number)
        return None

    def _judge(self, opened: OpenBundle, source: _Source, task: Task) -> JudgedPictures:
        name, dataset = source.name, source.dataset
        samples = _chosen(dataset)
        path = self._cache / f"known-{opened.graph[:16]}-{name}.npz"
        before = read_judged(path)
        inspector: Inspector | None = None
        pictures, vectors = [], []
        for done, sample in enumerate(samples):
            task.step(done, len(samples))
            stamp = stamp_of(dataset.path(sample))
            found = before.get((sample.file_name, stamp))
            if found is None:
                inspector = inspector or Inspector.load(opened.path, replay=False, policy=NOT_REQUIRED)
                found = judge_sample(inspector, dataset, sample, stamp)
            picture, vector = found
            pictures.append(_described(picture, sample))
            vectors.append(vector)
        record_judged(dataset, (Split.CALIBRATE, Split.TEST))  # the pages show their scores, so they count as seen
        width = max((len(vector) for vector in vectors), default=0)
        rows = [vector if len(vector) == width else np.zeros(width, np.float32) for vector in vectors]
        directions = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        if inspector is not None:
            write_judged(path, pictures, directions)
        return JudgedPictures(
            dataset=name,
            root=dataset.root,
            graph=opened.graph,
            run=source.run,
            pictures=tuple(pictures),
            directions=directions,
        )


def _trained(opened: OpenBundle, dataset: Dataset) -> bool:
    """Whether the bundle was trained on exactly these pictures and labels."""
    train_samples = dataset.split(Split.TRAIN, Split.VAL)
    try:
        return bool(train_samples) and fingerprint(dataset, train_samples) == opened.manifest.data_fingerprint
    except OSError:
        return False


def _chosen(dataset: Dataset) -> list[Sample]:
    """All pictures outside the train split, then a fixed random sample of the train split."""
    labelled = [sample for sample in dataset.samples if sample.label is not None and sample.split is not None]
    train_samples = [sample for sample in labelled if sample.split is Split.TRAIN]
    kept = sorted(np.random.default_rng(0).permutation(len(train_samples))[:MOST_TRAIN_PICTURES].tolist())
    return [sample for sample in labelled if sample.split is not Split.TRAIN] + [train_samples[row] for row in kept]


def judge_sample(
    inspector: Inspector, dataset: Dataset, sample: Sample, stamp: str
) -> tuple[JudgedPicture, FeatureVector]:
    """Judge a picture; the feature vector has unit length, or no elements if the picture could not be judged."""
    _, verdict = inspector.inspect_file(dataset.path(sample))
    vector = np.zeros(0, np.float32) if verdict.feature_vector is None else verdict.feature_vector
    length = float(np.linalg.norm(vector))
    box = None if verdict.box is None else verdict.box.xyxy
    picture = JudgedPicture(file=sample.file_name, stamp=stamp, score=verdict.score, box_xyxy=box)
    return picture, (vector / max(length, 1e-12)).astype(np.float32)


def _described(picture: JudgedPicture, sample: Sample) -> JudgedPicture:
    assert sample.label is not None, "others were left out"
    assert sample.split is not None, "others were left out"
    defect = sample.defect if sample.label is Label.BAD else None
    return replace(picture, label=sample.label, defect=defect, part=sample.part_id, split=sample.split)


def stamp_of(path: Path) -> str:
    """Size and modification time of a file, which stand for its content."""
    try:
        found = path.stat()
    except OSError:
        return "missing"
    return f"{found.st_size}-{found.st_mtime_ns}"


def write_judged(
    path: Path, pictures: Sequence[JudgedPicture], directions: Float32[np.ndarray, "pictures channels"]
) -> None:
    """Write results into a cache file."""
    rows = json.dumps([asdict(picture) for picture in pictures]).encode()
    data = io.BytesIO()
    np.savez(data, rows=np.frombuffer(rows, np.uint8), directions=directions)
    write_beside(path, data.getvalue())


def read_judged(path: Path) -> dict[tuple[str, str], tuple[JudgedPicture, FeatureVector]]:
    """Read the cached results; empty if the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as held:
            rows, directions = json.loads(held["rows"].tobytes()), held["directions"]
        pictures = [
            JudgedPicture(
                file=row["file"],
                stamp=row["stamp"],
                score=row["score"],
                box_xyxy=row["box_xyxy"] and tuple(row["box_xyxy"]),
            )
            for row in rows
        ]
        found = list(zip(pictures, directions, strict=True))
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return {(each.file, each.stamp): (each, vector) for each, vector in found}
