"""Where training pictures come from: a data set seen through its regions of interest, at one size."""

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
from gonogo.dataset import Dataset, Sample
from gonogo.images.geometry import Corners, upright
from gonogo.prefetch import prefetch
from gonogo.runtime import Graph, Picture
from gonogo.schema import Box, Frame, Label, Region

Marks: TypeAlias = UInt8[np.ndarray, "_height _width"]
"""A defect mask as the network's picture shows it: 255 inside, 0 outside, between where it was resized."""


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """What the network sees of a sample, and what that shows of its defect mask."""

    picture: Picture
    marks: Marks | None
    """``None`` for a bad sample without a mask, as nobody knows where it is bad, and where masks are not asked for. A
    good sample has no defect anywhere."""


@dataclass(frozen=True, kw_only=True)
class TrainingSource:
    """Gives pictures as the network sees them: decoded, cropped to the region of interest, resized, augmented."""

    dataset: Dataset
    size_wh: tuple[int, int]
    regions: Mapping[str, Region] | None = None
    """What the inspector will cut out of each picture, by file name; ``None``: the whole picture."""

    def region(self, sample: Sample, frame: Frame) -> Region:
        """What is cut out of a sample's frame."""
        return Box.whole(frame) if self.regions is None else self.regions[sample.file_name]

    @property
    def identity(self) -> str:
        """Names the regions, for caches."""
        if self.regions is None:
            return "whole"
        text = repr(sorted((name, region) for name, region in self.regions.items()))
        return hashlib.sha256(text.encode()).hexdigest()

    def plain(self, samples: Sequence[Sample]) -> Iterator[Picture]:
        """Each sample as the line would show it."""
        return (view.picture for view in self.views(samples, PLAIN, seed=0))

    def views(
        self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int, masks: bool = False
    ) -> Iterator[SourceView]:
        """All views of each sample in order; a sample's views depend on the seed and its name, not on the others.

        Args:
            samples: Whose.
            augmentation: Which views.
            seed: Of what is random in them.
            masks: Cut out the masks as well.
        """

        def make(sample: Sample) -> list[SourceView]:
            frame, mask = self._read(sample, masks=masks)
            pictures = self._variants(sample, frame, augmentation, seed)
            if mask is None:
                marks = self._unmarked(sample) if masks else None
                return [SourceView(picture=picture, marks=marks) for picture in pictures]
            pairs = zip(pictures, self._variants(sample, mask, augmentation, seed), strict=True)
            return [SourceView(picture=picture, marks=marked[..., 0]) for picture, marked in pairs]

        for views in prefetch(make, samples, workers=1):
            yield from views

    def drawn(
        self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int, masks: bool = False
    ) -> Iterator[SourceView]:
        """One view of each sample, drawn at random; see `views`."""

        def make(sample: Sample) -> SourceView:
            frame, mask = self._read(sample, masks=masks)
            rng = generator_of(seed, sample)
            picture = variant(frame, self.region(sample, frame), self.size_wh, augmentation, rng)
            picture = picture if augmentation.window is None else lit(picture, rng)
            if mask is None:
                return SourceView(picture=picture, marks=self._unmarked(sample) if masks else None)
            again = generator_of(seed, sample)  # the mask goes exactly the way of its picture, and is not lit
            marked = variant(mask, self.region(sample, mask), self.size_wh, augmentation, again)
            return SourceView(picture=picture, marks=marked[..., 0])

        return prefetch(make, samples, workers=1)

    def _variants(
        self, sample: Sample, frame: Frame, augmentation: Augmentation, seed: int
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        region, rng = self.region(sample, frame), generator_of(seed, sample)
        return variants(frame, region, self.size_wh, augmentation, rng)

    def _read(self, sample: Sample, *, masks: bool) -> tuple[Frame, Frame | None]:
        """A sample's frame, and where asked for its mask, see `load_pair`."""
        return load_pair(self.dataset, sample) if masks else (self.dataset.load(sample), None)

    def _unmarked(self, sample: Sample) -> Marks | None:
        width, height = self.size_wh
        return np.zeros((height, width), np.uint8) if sample.label is Label.GOOD else None


def stream_views(graph: Graph, views: Iterable[SourceView]) -> Iterator[tuple[dict[str, np.ndarray], Marks | None]]:
    """What a graph answers to each view, in order, beside the view's marks; the next views are made meanwhile."""
    waiting: deque[Marks | None] = deque()

    def pictures() -> Iterator[Picture]:
        for view in views:
            waiting.append(view.marks)
            yield view.picture

    for result in graph.stream(pictures()):
        yield result, waiting.popleft()


def load_pair(dataset: Dataset, sample: Sample) -> tuple[Frame, Frame | None]:
    """A sample's frame, and the mask of a bad one as a black and white picture of the same size, if it has one."""
    frame = dataset.load(sample)
    if sample.label is not Label.BAD or sample.mask_file_name is None:
        return frame, None
    mask = dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
    assert mask is not None, "it is named"
    return frame, np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)


def masked(samples: Sequence[Sample]) -> bool:
    """Whether any of them says where it is bad."""
    return any(sample.label is Label.BAD and sample.mask_file_name is not None for sample in samples)


def labels(samples: Sequence[Sample]) -> Int[np.ndarray, " samples"]:
    """1 for a bad part, 0 for a good one."""
    return np.array([sample.label is Label.BAD for sample in samples], dtype=np.int64)


def generator_of(seed: int, sample: Sample) -> np.random.Generator:
    """Random numbers that depend on a seed and a sample's name, not on the other samples."""
    return np.random.default_rng((seed, zlib.crc32(sample.file_name.encode())))


def labelled_box(sample: Sample) -> Box | None:
    """Where a sample's one whole part is; ``None`` where it shows none, whatever else is marked on it."""
    box = sample.box
    return None if box is None or box.area <= 0 or sample.present is False else box


def labelled_corners(sample: Sample) -> Corners | None:
    """The corners of a sample's turned rectangle, in the order in which locators give them."""
    return None if sample.quad is None else upright(np.array(sample.quad, np.float64))
