"""Table of the features of a data set, computed once by the backbone and stored on disk while evidence is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo.array_types import Bool, Float16, Float32, Int, Int8
from gonogo.augment import PLAIN
from gonogo.dataset import Sample
from gonogo.evidence.cells import DEFECTIVE, cell_targets
from gonogo.evidence.context import pooled_vector
from gonogo.evidence.grid import FeatureMap, joined
from gonogo.files import vanishing_array
from gonogo.progress import track
from gonogo.runtime import Graph
from gonogo.source import SourceView, TrainingSource, labels, stream_views


@dataclass(frozen=True, kw_only=True)
class FeatureTable:
    """Features of labelled pictures."""

    vectors: Float32[np.ndarray, "samples twice_channels"]
    """Means and maxima, see `gonogo.evidence.context.pooled_vector`."""
    joined: Float16[np.ndarray, "samples channels rows columns"]
    """All channels on the grid of stride 16; memory-mapped on disk."""
    widths: tuple[int, ...]
    """Number of channels of each stride."""
    bad: Int[np.ndarray, " samples"]
    """1 for a bad part, 0 for a good one."""
    groups: tuple[int, ...]
    """Part number of each picture; pictures of one part are left out together, see `part_numbers`."""
    targets: Int8[np.ndarray, "samples rows columns"] | None
    """Labels of the cells, see `cell_targets`; ``None`` without masks."""
    defects: tuple[str | None, ...] = ()
    """Labelled defect kind of each picture; empty if kinds are not used."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return self.joined.shape[2], self.joined.shape[3]

    @property
    def has_defective_cells(self) -> Bool[np.ndarray, " samples"]:
        """Which pictures have a defective cell according to their mask."""
        if self.targets is None:
            return np.zeros(len(self.bad), bool)
        return np.asarray((self.targets == DEFECTIVE).any((1, 2)))

    def maps(self, rows: Sequence[int] | Int[np.ndarray, " chosen"]) -> Iterator[FeatureMap]:
        """Yield the joined features of some pictures, one by one."""
        for row in rows:
            yield self.joined[row].astype(np.float32)


def part_numbers(samples: Sequence[Sample]) -> tuple[int, ...]:
    """Part number of each picture; pictures of one part, and near-duplicates of unnamed parts, share it."""
    return tuple(np.unique([sample.part_id for sample in samples], return_inverse=True)[1].tolist())


def gather_features(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    *,
    shift_xy: tuple[float, float],
    masks: bool,
    scratch: Path,
    message: str = "computing features",
) -> FeatureTable:
    """Compute the features of labelled pictures.

    Args:
        graph: A compiled backbone, see `gonogo.backbone.Backbone.graph`.
        source: Source of the pictures and their masks.
        samples: Labelled samples.
        shift_xy: Offset of the cells of the stride-16 map, see `measure_shift`.
        masks: Whether to label cells by masks.
        scratch: Folder for the temporary features, which can be larger than memory.
        message: Label of the progress bar.

    Raises:
        ImageError: A picture or mask is unreadable.
    """
    views = source.views(samples, PLAIN, seed=0, masks=masks)
    stored = store_features(graph, views, len(samples), scratch, message, shift_xy=shift_xy if masks else None)
    return FeatureTable(
        vectors=stored.vectors,
        joined=stored.joined,
        widths=stored.widths,
        bad=labels(samples),
        groups=part_numbers(samples),
        targets=stored.targets,
        defects=tuple(sample.defect for sample in samples),
    )


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Features of views; the fields are those of `FeatureTable`."""

    vectors: Float32[np.ndarray, "samples twice_channels"]
    joined: Float16[np.ndarray, "samples channels rows columns"]
    widths: tuple[int, ...]
    targets: Int8[np.ndarray, "samples rows columns"] | None


def store_features(
    graph: Graph,
    views: Iterable[SourceView],
    count: int,
    scratch: Path,
    message: str,
    *,
    shift_xy: tuple[float, float] | None,
) -> StoredFeatures:
    """Compute the features of views, and the labels of their cells from masks.

    Args:
        graph: A compiled backbone.
        views: The network inputs.
        count: Number of views, at least one.
        scratch: Folder for the joined features.
        message: Label of the progress bar.
        shift_xy: Offset of the cells of the stride-16 map; ``None`` without masks.
    """
    vectors: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    kept: np.ndarray | None = None
    widths: tuple[int, ...] = ()
    results = track(stream_views(graph, views), message, total=count)
    for index, (result, marks) in enumerate(results):
        maps = [result[f"stride_{stride}"][0] for stride in (8, 16, 32)]
        on_grid = joined(maps)
        if kept is None:
            kept = vanishing_array((count, *on_grid.shape), np.float16, scratch)
            widths = tuple(len(each) for each in maps)
        kept[index] = on_grid
        vectors.append(pooled_vector(maps))
        if shift_xy is not None:
            targets.append(cell_targets(marks, (on_grid.shape[1], on_grid.shape[2]), shift_xy))
    assert kept is not None, "called with no pictures"
    return StoredFeatures(
        vectors=np.stack(vectors).astype(np.float32),
        joined=kept,
        widths=widths,
        targets=np.stack(targets) if targets else None,
    )
