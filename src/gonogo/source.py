"""Where training pictures come from: a data set seen through its regions of interest, at one size."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Int, UInt8

from gonogo.ahead import ahead
from gonogo.augment import PLAIN, Augmentation, lit, variant, variants
from gonogo.dataset import Dataset, Sample
from gonogo.images.geometry import Corners, upright
from gonogo.runtime import Picture
from gonogo.schema import Box, Frame, Label, Region

Marks: TypeAlias = UInt8[np.ndarray, "height width"]
"""A defect mask as the network's picture shows it: 255 inside, 0 outside, between where it was resized."""


@dataclass(frozen=True, kw_only=True)
class Source:
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
        return self.views(samples, PLAIN, seed=0)

    def views(self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int) -> Iterator[Picture]:
        """All views of each sample in order; a sample's views depend on the seed and its name, not on the others."""

        def make(sample: Sample) -> list[Picture]:
            frame = self.dataset.load(sample)
            rng = generator_of(seed, sample)
            return list(variants(frame, self.region(sample, frame), self.size_wh, augmentation, rng))

        for pictures in ahead(make, samples, workers=1):
            yield from pictures

    def drawn(self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int) -> Iterator[Picture]:
        """One view of each sample, drawn at random."""

        def make(sample: Sample) -> Picture:
            frame = self.dataset.load(sample)
            rng = generator_of(seed, sample)
            picture = variant(frame, self.region(sample, frame), self.size_wh, augmentation, rng)
            return picture if augmentation.window is None else lit(picture, rng)

        return ahead(make, samples, workers=1)

    def marks(self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int) -> Iterator[Marks | None]:
        """What each of `views` shows of its sample's defect mask: the mask goes exactly the way of its picture.

        ``None`` for a bad sample without a mask: nobody knows where it is bad. A good one has no defect anywhere.
        """
        for sample in samples:
            mask = self._mask(sample)
            if mask is None:
                yield from [self._unmarked(sample)] * augmentation.views
                continue
            rng = generator_of(seed, sample)
            for view in variants(mask, self.region(sample, mask), self.size_wh, augmentation, rng):
                yield view[..., 0]

    def drawn_marks(
        self, samples: Sequence[Sample], augmentation: Augmentation, *, seed: int
    ) -> Iterator[Marks | None]:
        """What each of `drawn` shows of its sample's defect mask, see `marks`."""

        def make(sample: Sample) -> Marks | None:
            mask = self._mask(sample)
            if mask is None:
                return self._unmarked(sample)
            rng = generator_of(seed, sample)
            return variant(mask, self.region(sample, mask), self.size_wh, augmentation, rng)[..., 0]

        return ahead(make, samples, workers=1)

    def _mask(self, sample: Sample) -> Frame | None:
        """A bad sample's mask as a black and white picture of its frame's size; ``None`` where it has none."""
        if sample.label is not Label.BAD or sample.mask_file_name is None:
            return None
        frame = self.dataset.load(sample)
        mask = self.dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
        assert mask is not None, "it is named"
        return np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)

    def _unmarked(self, sample: Sample) -> Marks | None:
        width, height = self.size_wh
        return np.zeros((height, width), np.uint8) if sample.label is Label.GOOD else None


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
