"""The features of a data set: every picture once through the backbone, kept on disk while evidence is fitted."""

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
    """All channels on the grid of stride 16; lies on disk."""
    widths: tuple[int, ...]
    """Channels of each stride."""
    bad: Int[np.ndarray, " samples"]
    """1 for a bad part, 0 for a good one."""
    groups: tuple[int, ...]
    """A number per picture; pictures of one part share it and are left out together, see `part_numbers`."""
    targets: Int8[np.ndarray, "samples rows columns"] | None
    """Which cells are defective, see `cell_targets`; ``None`` where masks are left out."""
    defects: tuple[str | None, ...] = ()
    """The labelled defect kind of each picture; empty where kinds are left aside."""

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.joined.shape[2], self.joined.shape[3]

    @property
    def has_defective_cells(self) -> Bool[np.ndarray, " samples"]:
        """Which pictures have a cell that a mask says is defective."""
        if self.targets is None:
            return np.zeros(len(self.bad), bool)
        return np.asarray((self.targets == DEFECTIVE).any((1, 2)))

    def maps(self, rows: Sequence[int] | Int[np.ndarray, " chosen"]) -> Iterator[FeatureMap]:
        """The joined features of some pictures, one after the other."""
        for row in rows:
            yield self.joined[row].astype(np.float32)


def part_numbers(samples: Sequence[Sample]) -> tuple[int, ...]:
    """A number per picture; pictures of one part share it, and so do look-alikes whose parts nobody named."""
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
        source: Gives the pictures and their masks.
        samples: Labelled samples.
        shift_xy: Where a cell of the stride-16 map looks, see `measure_shift`.
        masks: Whether masks say which cells are defective.
        scratch: Folder for the features while they are needed; they can be larger than memory.
        message: What the progress bar says.

    Raises:
        ImageError: a picture or mask is unreadable.
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
    """Features of some views; the fields are those of `FeatureTable`."""

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
    """Compute the features of some views, and what the masks say of their cells.

    Args:
        graph: A compiled backbone.
        views: What the network sees.
        count: How many there are, at least one.
        scratch: Folder for the joined features.
        message: What the progress bar says.
        shift_xy: Where a cell of the stride-16 map looks; ``None`` where masks are left out.
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
