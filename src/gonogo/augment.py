"""The article's augmentation: X crops by Y rotations of every training picture, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from gonogo.images import crop_resize
from gonogo.schema import Box, Frame


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How many views of each training picture: ``crops * rotations``."""

    crops: int = 2
    rotations: int = 4

    @property
    def views(self) -> int:
        """Views per picture."""
        return self.crops * self.rotations


PLAIN = Augmentation(crops=1, rotations=1)
"""The untouched picture alone."""

JITTER = 0.08
"""How far an augmented crop's edges move, as a share of the region's side."""


def variants(
    frame: Frame, box: Box, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Every crop of a region in every rotation, the untouched picture first.

    The first crop is the region itself, the others have each edge moved at random by up to `JITTER`. Rotations are
    evenly spaced over the full circle and turn the resized picture about its middle; quarter turns are exact.
    """
    for crop in range(augmentation.crops):
        region = box if crop == 0 else jittered(box, frame, rng)
        picture = crop_resize(frame, region, size_wh)
        for rotation in range(augmentation.rotations):
            yield rotated(picture, 360.0 * rotation / augmentation.rotations)


def variant(
    frame: Frame, box: Box, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """One of the `variants`, drawn at random."""
    region = box if rng.integers(augmentation.crops) == 0 else jittered(box, frame, rng)
    picture = crop_resize(frame, region, size_wh)
    return rotated(picture, 360.0 * int(rng.integers(augmentation.rotations)) / augmentation.rotations)


def jittered(box: Box, frame: Frame, rng: np.random.Generator) -> Box:
    """The box with each edge moved by up to `JITTER` of its side, clipped to the frame."""
    left, top, right, bottom = rng.uniform(-JITTER, JITTER, 4)
    moved = box.expanded(left * box.width, top * box.height, right * box.width, bottom * box.height)
    return moved.intersection(Box.whole(frame))


def rotated(picture: UInt8[np.ndarray, "height width 3"], degrees: float) -> UInt8[np.ndarray, "height width 3"]:
    """Turn a picture counter-clockwise about its middle, mirrored at the borders; the size stays."""
    quarters, rest = divmod(degrees, 90.0)
    square = picture.shape[0] == picture.shape[1]
    if rest == 0 and (square or quarters % 2 == 0):
        return np.ascontiguousarray(np.rot90(picture, int(quarters)))
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
