"""Training pictures: a data set's pictures, cropped to their regions of interest and resized."""

from __future__ import annotations

import hashlib
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gonogo.array_types import Int, UInt8
from gonogo.augment import PLAIN, Augmentation, lit, variant, variants
from gonogo.config import Zone
from gonogo.dataset import Dataset, Sample
from gonogo.images.geometry import Corners, upright
from gonogo.images.zones import Place, unclipped
from gonogo.prefetch import prefetch
from gonogo.runtime import Graph, Picture
from gonogo.schema import Box, Frame, Label, Region
from gonogo.zoning import Numbers, hidden, ignored, prepared, zone_numbers, zones_digest

Marks: TypeAlias = UInt8[np.ndarray, "_height _width"]
"""A defect mask, cropped and resized like the picture: 255 inside, 0 outside, intermediate values at edges."""


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """A network input made from a sample, with its defect mask."""

    picture: Picture
    marks: Marks | None
    """The mask; all 0 for a good sample. ``None`` for a bad sample without a mask, and if masks were not requested."""


@dataclass(frozen=True, kw_only=True)
class TrainingSource:
    """Produces network inputs from a data set: decoded, cropped to the region of interest, resized, augmented."""

    dataset: Dataset
    size_wh: tuple[int, int]
    regions: Mapping[str, Region] | None = None
    """Region of interest of each picture, by file name; ``None`` uses the whole picture."""
    margin: float = 0.0
    """Margin of the regions around the part, see `gonogo.schema.Located`."""
    zones: tuple[Zone, ...] = ()
    """Zones of the part; ignore zones are blanked in every picture and mask."""

    def region(self, sample: Sample, frame: Frame) -> Region:
        """The region that is cut out of a sample's frame."""
        region = self._place(sample, frame).region
        return unclipped(frame, region) if self.zones else region

    def load(self, sample: Sample) -> Frame:
        """Load a sample's frame as a network may see it: with its ignore zones blanked."""
        frame = self.dataset.load(sample)
        return prepared(frame, self._place(sample, frame), self.zones).frame

    def load_pair(self, sample: Sample) -> tuple[Frame, Frame | None]:
        """Load a sample's frame, and its mask without what lies in ignore zones; see `load_pair`."""
        frame, mask = load_pair(self.dataset, sample)
        place = self._place(sample, frame)
        if mask is not None and ignored(self.zones):
            mask = np.where(hidden(place, self.zones, (mask.shape[1], mask.shape[0]))[..., None], np.uint8(0), mask)
        return prepared(frame, place, self.zones).frame, mask

    def numbers(self, shape: tuple[int, int], shift_xy: tuple[float, float]) -> Numbers | None:
        """Zone of every cell of a map of a whole, unchanged picture; ``None`` without zones."""
        return zone_numbers(self.zones, self.margin, self.size_wh, shape, shift_xy)

    @property
    def identity(self) -> str:
        """Identifies the regions, zones and levels, for caching."""
        levels = "" if self.dataset.depth is None else f" {self.dataset.depth.black}-{self.dataset.depth.white}"
        if self.regions is None:
            return f"whole{zones_digest(self.zones)}{levels}"
        text = repr(sorted((name, region) for name, region in self.regions.items()))
        return hashlib.sha256(f"{text}{zones_digest(self.zones)}".encode()).hexdigest() + levels

    def _place(self, sample: Sample, frame: Frame) -> Place:
        region = Box.whole(frame) if self.regions is None else self.regions[sample.file_name]
        return Place(region=region, margin=self.margin)

    def plain(self, samples: Sequence[Sample]) -> Iterator[Picture]:
        """Yield each sample without augmentation."""
        return (view.picture for view in self.views(samples, PLAIN, seed=0))

    def views(
        self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int, masks: bool = False
    ) -> Iterator[SourceView]:
        """Yield all views of each sample in order; they depend on the seed and the file name, not on other samples.

        Args:
            samples: The samples.
            augmentation: The augmentation.
            seed: Random seed.
            masks: Whether to return the masks as well.
        """

        def make(sample: Sample) -> list[SourceView]:
            frame, mask = self._read(sample, masks=masks)
            pictures = self._variants(sample, frame, augmentation, seed)
            if mask is None:
                marks = self._empty_marks(sample) if masks else None
                return [SourceView(picture=picture, marks=marks) for picture in pictures]
            pairs = zip(pictures, self._variants(sample, mask, augmentation.geometry, seed), strict=True)
            return [SourceView(picture=picture, marks=marked[..., 0]) for picture, marked in pairs]

        for views in prefetch(make, samples, workers=1):
            yield from views

    def drawn(
        self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int, masks: bool = False
    ) -> Iterator[SourceView]:
        """Yield one random view of each sample; see `views`."""

        def make(sample: Sample) -> SourceView:
            frame, mask = self._read(sample, masks=masks)
            rng = generator_of(seed, sample)
            picture = variant(frame, self.region(sample, frame), self.size_wh, augmentation, rng)
            picture = picture if augmentation.window is None else lit(picture, rng)
            if mask is None:
                return SourceView(picture=picture, marks=self._empty_marks(sample) if masks else None)
            again = generator_of(seed, sample)  # same crop, rotation and flips as the picture, no lighting
            marked = variant(mask, self.region(sample, mask), self.size_wh, augmentation.geometry, again)
            return SourceView(picture=picture, marks=marked[..., 0])

        return prefetch(make, samples, workers=1)

    def _variants(
        self, sample: Sample, frame: Frame, augmentation: Augmentation, seed: int
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        region, rng = self.region(sample, frame), generator_of(seed, sample)
        return variants(frame, region, self.size_wh, augmentation, rng)

    def _read(self, sample: Sample, *, masks: bool) -> tuple[Frame, Frame | None]:
        """Load a sample's frame and, if requested, its mask; see `load_pair`."""
        return self.load_pair(sample) if masks else (self.load(sample), None)

    def _empty_marks(self, sample: Sample) -> Marks | None:
        width, height = self.size_wh
        return np.zeros((height, width), np.uint8) if sample.label is Label.GOOD else None


def stream_views(graph: Graph, views: Iterable[SourceView]) -> Iterator[tuple[dict[str, np.ndarray], Marks | None]]:
    """Run a graph on views; yield its outputs and the view's marks in order, while the next views are prepared."""
    waiting: deque[Marks | None] = deque()

    def pictures() -> Iterator[Picture]:
        for view in views:
            waiting.append(view.marks)
            yield view.picture

    for result in graph.stream(pictures()):
        yield result, waiting.popleft()


def load_pair(dataset: Dataset, sample: Sample) -> tuple[Frame, Frame | None]:
    """Load a sample's frame and, for a bad sample with a mask, the mask as a black and white picture of that size."""
    frame = dataset.load(sample)
    if sample.label is not Label.BAD or sample.mask_file_name is None:
        return frame, None
    mask = dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
    assert mask is not None, "it is named"
    return frame, np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)


def masked(samples: Sequence[Sample]) -> bool:
    """Whether any bad sample has a defect mask."""
    return any(sample.label is Label.BAD and sample.mask_file_name is not None for sample in samples)


def labels(samples: Sequence[Sample]) -> Int[np.ndarray, " samples"]:
    """1 for a bad part, 0 for a good one."""
    return np.array([sample.label is Label.BAD for sample in samples], dtype=np.int64)


def generator_of(seed: int, sample: Sample) -> np.random.Generator:
    """Create a random generator that depends on the seed and the sample's file name only."""
    return np.random.default_rng((seed, zlib.crc32(sample.file_name.encode())))


def labelled_box(sample: Sample) -> Box | None:
    """Return the labelled box of a sample that shows exactly one whole part; otherwise ``None``."""
    return sample.box if is_boxed(sample) else None


def is_boxed(sample: Sample) -> bool:
    """Whether `labelled_box` gives a box; quick, for counting many samples."""
    if sample.box_xyxy is None or sample.present is False:
        return False
    left, top, right, bottom = sample.box_xyxy
    return right > left and bottom > top


def labelled_corners(sample: Sample) -> Corners | None:
    """Return the corners of a sample's rotated rectangle, in the order that locators use."""
    return None if sample.quad is None else upright(np.array(sample.quad, np.float64))
