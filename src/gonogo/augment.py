"""The article's augmentation: X crops by Y rotations of every training picture, always the same for the same seed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from gonogo.images import cut
from gonogo.images.geometry import as_quad, corners_of
from gonogo.schema import Box, Frame, Region


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
"""How far an augmented crop's edges move, as a share of the region's side along that axis."""


def variants(
    frame: Frame, region: Region, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Every crop of a region in every rotation, the untouched picture first.

    The first crop is the region itself, the others have each edge moved at random by up to `JITTER`. Rotations are
    evenly spaced over the full circle and turn the resized picture about its middle; quarter turns are exact.
    """
    for crop in range(augmentation.crops):
        picture = cut(frame, region if crop == 0 else jittered(region, frame, rng), size_wh)
        for rotation in range(augmentation.rotations):
            yield rotated(picture, 360.0 * rotation / augmentation.rotations)


def variant(
    frame: Frame, region: Region, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """One of the `variants`, drawn at random."""
    chosen = region if rng.integers(augmentation.crops) == 0 else jittered(region, frame, rng)
    picture = cut(frame, chosen, size_wh)
    return rotated(picture, 360.0 * int(rng.integers(augmentation.rotations)) / augmentation.rotations)


def jittered(region: Region, frame: Frame, rng: np.random.Generator) -> Region:
    """The region with each edge moved by up to `JITTER`; a box is clipped to the frame."""
    left, top, right, bottom = rng.uniform(-JITTER, JITTER, 4)
    if isinstance(region, Box):
        moved = region.expanded(left * region.width, top * region.height, right * region.width, bottom * region.height)
        return moved.intersection(Box.whole(frame))
    corners = corners_of(region)
    along, down = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]], corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
    across = np.array([-left, right, right, -left])[:, None]
    upright = np.array([-top, -top, bottom, bottom])[:, None]
    return as_quad(corners + across * along + upright * down)


def rotated(picture: UInt8[np.ndarray, "height width 3"], degrees: float) -> UInt8[np.ndarray, "height width 3"]:
    """Turn a picture counter-clockwise about its middle, mirrored at the borders; the size stays."""
    quarters, rest = divmod(degrees, 90.0)
    square = picture.shape[0] == picture.shape[1]
    if rest == 0 and (square or quarters % 2 == 0):
        return np.ascontiguousarray(np.rot90(picture, int(quarters)))
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
