"""Table of the features of a data set, computed once by the backbone and stored on disk while evidence is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo.array_types import Bool, Float16, Float32, Int, Int8, UInt8
from gonogo.augment import PLAIN
from gonogo.config import CELL_PX
from gonogo.dataset import Sample
from gonogo.evidence.cells import DEFECTIVE, cell_targets
from gonogo.evidence.context import pooled_vector
from gonogo.evidence.grid import FeatureMap, joined
from gonogo.evidence.zoned import CellMask, kept_cells, own_masks, zone_vector
from gonogo.files import vanishing_array
from gonogo.progress import track
from gonogo.runtime import Graph
from gonogo.source import SourceView, TrainingSource, labels, stream_views
from gonogo.zoning import LEFT_OUT, Numbers, require_cells, sensitivities


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
    numbers: UInt8[np.ndarray, "... rows columns"] | None = None
    """Zone of every cell, see `gonogo.zoning.zone_numbers`: one grid for all pictures, or one for each window."""
    sensitivities: tuple[float, ...] = ()
    """Of the inspect zones and the rest; empty without inspect zones."""
    zone_vectors: Float32[np.ndarray, "samples zones twice_channels"] | None = None
    """Means and maxima by zone, NaN without cells; ``None`` without inspect zones."""

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

    def pooled_cells(self, row: int) -> list[CellMask | None]:
        """The cells that are pooled: all that are not left out, then with inspect zones those of each zone."""
        numbers = self.zones_of(row)
        zones = own_masks(numbers, len(self.sensitivities)) if self.sensitivities else []
        return [kept_cells(numbers), *zones]

    def zones_of(self, row: int) -> Numbers | None:
        """Zone of every cell of a picture; ``None`` without zones."""
        return self.numbers if self.numbers is None or self.numbers.ndim == 2 else self.numbers[row]

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
    zoned = ZonedCells.of(source, shift_xy)
    stored = store_features(
        graph, views, len(samples), scratch, message, shift_xy=shift_xy if masks else None, zoned=zoned
    )
    return FeatureTable(
        vectors=stored.vectors,
        joined=stored.joined,
        widths=stored.widths,
        bad=labels(samples),
        groups=part_numbers(samples),
        targets=stored.targets,
        defects=tuple(sample.defect for sample in samples),
        numbers=zoned.numbers,
        sensitivities=zoned.sensitivities,
        zone_vectors=stored.zone_vectors,
    )


@dataclass(frozen=True, kw_only=True)
class ZonedCells:
    """The zones of the cells of some pictures, see `FeatureTable`."""

    numbers: UInt8[np.ndarray, "... rows columns"] | None = None
    sensitivities: tuple[float, ...] = ()

    @classmethod
    def of(cls, source: TrainingSource, shift_xy: tuple[float, float]) -> ZonedCells:
        """The zones of whole pictures on the grid of stride 16.

        Raises:
            InputError: A zone lies outside the inspected region, or nothing is left to inspect.
        """
        width, height = source.size_wh
        numbers = source.numbers((height // CELL_PX, width // CELL_PX), shift_xy)
        if numbers is not None:
            require_cells(numbers, source.zones, source.margin, source.size_wh)
        return cls(numbers=numbers, sensitivities=sensitivities(source.zones))

    def of_row(self, row: int) -> Numbers | None:
        """The zones of one picture."""
        return self.numbers if self.numbers is None or self.numbers.ndim == 2 else self.numbers[row]

    def vectors(
        self, maps: Sequence[FeatureMap], row: int
    ) -> tuple[Float32[np.ndarray, " twice_channels"], list[Float32[np.ndarray, " twice_channels"]]]:
        """Means and maxima over all cells that are not left out, and over each zone."""
        numbers = self.of_row(row)
        if numbers is None:
            return pooled_vector(maps), []
        masks = own_masks(numbers, len(self.sensitivities)) if self.sensitivities else []
        return zone_vector(maps, numbers != LEFT_OUT), [zone_vector(maps, mask) for mask in masks if mask is not None]


NO_ZONES = ZonedCells()


@dataclass(frozen=True, kw_only=True)
class StoredFeatures:
    """Features of views; the fields are those of `FeatureTable`."""

    vectors: Float32[np.ndarray, "samples twice_channels"]
    joined: Float16[np.ndarray, "samples channels rows columns"]
    widths: tuple[int, ...]
    targets: Int8[np.ndarray, "samples rows columns"] | None
    zone_vectors: Float32[np.ndarray, "samples zones twice_channels"] | None


def store_features(
    graph: Graph,
    views: Iterable[SourceView],
    count: int,
    scratch: Path,
    message: str,
    *,
    shift_xy: tuple[float, float] | None,
    zoned: ZonedCells = NO_ZONES,
) -> StoredFeatures:
    """Compute the features of views, and the labels of their cells from masks.

    Args:
        graph: A compiled backbone.
        views: The network inputs.
        count: Number of views, at least one.
        scratch: Folder for the joined features.
        message: Label of the progress bar.
        shift_xy: Offset of the cells of the stride-16 map; ``None`` without masks.
        zoned: Zones of the cells.
    """
    by_zone: list[np.ndarray] = []
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
        vector, of_zones = zoned.vectors(maps, index)
        vectors.append(vector)
        by_zone += [np.stack(of_zones)] if of_zones else []
        if shift_xy is not None:
            shape = (on_grid.shape[1], on_grid.shape[2])
            targets.append(cell_targets(marks, shape, shift_xy, zoned.of_row(index)))
    assert kept is not None, "called with no pictures"
    return StoredFeatures(
        vectors=np.stack(vectors).astype(np.float32),
        joined=kept,
        widths=widths,
        targets=np.stack(targets) if targets else None,
        zone_vectors=np.stack(by_zone) if by_zone else None,
    )
