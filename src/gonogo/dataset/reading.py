"""Parallel reading of pictures and masks for import and check."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.array_types import UInt16
from gonogo.dataset.duplicates import PictureHashes, components, near_duplicates, picture_hashes
from gonogo.dataset.records import Dataset, Sample
from gonogo.errors import DatasetError, ImageError
from gonogo.images.confined import decode_raw_confined
from gonogo.images.depth import levelled, measured_levels, upper_bytes
from gonogo.prefetch import prefetch
from gonogo.progress import track
from gonogo.schema import Frame


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One readable picture."""

    data: bytes
    """The encoded file; empty unless requested."""
    pixels_sha256: str
    """Digest of size and decoded pixels; equal for exact duplicates in any file format."""
    size_wh: tuple[int, int]
    look: PictureHashes
    mask_marks: bool
    """Whether there is a mask that is not empty."""


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A picture or mask that cannot be used, with the reason."""

    reason: str


def read_all(
    files: Sequence[tuple[Path, Path | None]], description: str, *, keep_data: bool = False
) -> Iterator[Reading | Unreadable]:
    """Read pictures, each with its mask or ``None``, in order; other threads decode ahead."""
    return prefetch(lambda pair: _read(*pair, keep_data), track(files, description))


def exact_groups(readings: Sequence[Reading]) -> tuple[int, ...]:
    """Group number of each picture; pictures with equal pixels share it."""
    return components(len(readings), _equal_pairs(readings))


def near_groups(readings: Sequence[Reading]) -> tuple[int, ...]:
    """Group number of each picture; pictures that show the same part (exact or near-duplicates) share it."""
    pairs = [(pair.first, pair.second) for pair in near_duplicates([reading.look for reading in readings])]
    return components(len(readings), [*pairs, *_equal_pairs(readings)])


def with_groups(dataset: Dataset) -> tuple[Sample, ...]:
    """Return a data set's samples with their near-duplicate ``group``; it is computed unless every sample has one.

    Raises:
        DatasetError: A picture is unreadable.
    """
    if all(sample.group is not None for sample in dataset.samples):
        return dataset.samples
    groups = near_groups(read_pictures(dataset))
    return tuple(
        sample.model_copy(update={"group": group}) for sample, group in zip(dataset.samples, groups, strict=True)
    )


def read_pictures(dataset: Dataset) -> list[Reading]:
    """Read every picture of a data set.

    Raises:
        DatasetError: A picture is unreadable.
    """
    readings = []
    for reading in read_all([(dataset.path(sample), None) for sample in dataset.samples], "Reading pictures"):
        if isinstance(reading, Unreadable):
            raise DatasetError(reading.reason)
        readings.append(reading)
    return readings


def _equal_pairs(readings: Sequence[Reading]) -> list[tuple[int, int]]:
    first: dict[str, int] = {}
    ends = ((first.setdefault(reading.pixels_sha256, row), row) for row, reading in enumerate(readings))
    return [(early, late) for early, late in ends if early != late]


def _read(picture: Path, mask: Path | None, keep_data: bool) -> Reading | Unreadable:
    try:
        data = images.read_bytes(picture)
        raw = decode_raw_confined(data, name=str(picture))
        # 16-bit pictures that differ only in their lower bytes are different; their looks are compared at their own
        # levels, because in 12 of 16 bits everything looks black.
        frame = images.decode_confined(data, name=str(picture)) if raw is None else _stretched(raw)
        height, width = frame.shape[:2]
        marks = mask is not None and bool(images.load_mask_confined(mask, shape_hw=(height, width)).any())
    except ImageError as error:
        return Unreadable(reason=str(error))
    pixels = frame if raw is None else raw
    digest = hashlib.sha256(f"{width}x{height}".encode() + pixels.tobytes()).hexdigest()
    return Reading(
        data=data if keep_data else b"",
        pixels_sha256=digest,
        size_wh=(width, height),
        look=picture_hashes(frame),
        mask_marks=marks,
    )


def _stretched(raw: UInt16[np.ndarray, "height width"]) -> Frame:
    return upper_bytes(raw) if raw.min() == raw.max() else levelled(raw, measured_levels([raw]))
