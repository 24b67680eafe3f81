"""Augmented training pictures, reproducible by seed.

X crops by Y rotations as in the article, with flips, brightness and blur; or a random window of the region.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import cv2
import numpy as np

from gonogo.array_types import UInt8
from gonogo.images import cut
from gonogo.images.geometry import as_quad, corners_of
from gonogo.schema import Box, Frame, Region


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation settings: each picture gives ``crops * rotations`` views."""

    crops: int = 2
    rotations: int = 4
    window: float | None = None
    """Smallest side of a random window, as a share of the region's side. Where a single view is drawn, it is such a
    window, flipped, turned and relit at random; with ``None`` it is one of the fixed views."""

    flips: bool = False
    """Mirror every view but the first along each axis with probability 1/2."""
    brightness: float = 0.0
    """Largest change of brightness, as a share: 0.2 multiplies every view but the first by 0.8 to 1.2 at random."""
    blur: float = 0.0
    """Largest standard deviation of a Gaussian blur of every view but the first, in pixels of the network's input."""

    @property
    def views(self) -> int:
        """Number of views per picture."""
        return self.crops * self.rotations

    @property
    def geometry(self) -> Augmentation:
        """The same crops, rotations and flips without brightness and blur, as a mask needs them."""
        return replace(self, brightness=0.0, blur=0.0)


PLAIN = Augmentation(crops=1, rotations=1)
"""No augmentation."""

JITTER = 0.08
"""Largest displacement of a crop's edge, as a share of the region's side along that axis."""
STRETCH = 0.85
"""Largest difference in scale between the two sides of a random window."""


def variants(
    frame: Frame, region: Region, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Yield every crop of a region in every rotation, starting with the unchanged picture.

    The first crop is the region itself; in the others each edge moves at random by up to `JITTER`. Rotations are
    evenly spaced over the full circle and turn the resized picture about its centre; quarter turns are exact. Flips,
    brightness and blur then change every view but the first.
    """
    light = rng.spawn(1)[0]  # a stream of its own, so that a mask gets the same crops and flips as its picture
    for crop in range(augmentation.crops):
        picture = cut(frame, region if crop == 0 else jittered(region, frame, rng), size_wh)
        for rotation in range(augmentation.rotations):
            turned = rotated(picture, 360.0 * rotation / augmentation.rotations)
            yield turned if crop == rotation == 0 else _changed(turned, augmentation, rng, light)


def variant(
    frame: Frame, region: Region, size_wh: tuple[int, int], augmentation: Augmentation, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Return one of the `variants`, or a random window if the augmentation has one; the caller applies `lit`.

    Here flips, brightness and blur change the first view too, as it is drawn again in every epoch.
    """
    light = rng.spawn(1)[0]
    if augmentation.window is not None:
        return _changed(_windowed(frame, region, size_wh, augmentation.window, rng), augmentation, rng, light)
    chosen = region if rng.integers(augmentation.crops) == 0 else jittered(region, frame, rng)
    picture = cut(frame, chosen, size_wh)
    turned = rotated(picture, 360.0 * int(rng.integers(augmentation.rotations)) / augmentation.rotations)
    return _changed(turned, augmentation, rng, light)


def _changed(
    picture: UInt8[np.ndarray, "height width 3"],
    augmentation: Augmentation,
    rng: np.random.Generator,
    light: np.random.Generator,
) -> UInt8[np.ndarray, "height width 3"]:
    """Flip a picture with ``rng``; change its brightness and blur it with ``light``."""
    if augmentation.flips:
        for axis in (0, 1):
            if rng.random() < 0.5:
                picture = np.ascontiguousarray(np.flip(picture, axis))
    if augmentation.brightness:
        gain = np.float32(1 + light.uniform(-augmentation.brightness, augmentation.brightness))
        picture = np.clip(picture * gain, 0, 255).astype(np.uint8)
    if augmentation.blur:
        sigma = light.uniform(0.0, augmentation.blur)
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), max(sigma, 1e-3)), np.uint8)
    return picture


def jittered(region: Region, frame: Frame, rng: np.random.Generator) -> Region:
    """Move each edge of a region by up to `JITTER`; a box is clipped to the frame."""
    left, top, right, bottom = rng.uniform(-JITTER, JITTER, 4)
    return _moved(region, frame, left, top, right, bottom)


def lit(picture: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "height width 3"]:
    """Change brightness, hue and black level at random."""
    gain = rng.uniform(0.75, 1.3) * rng.uniform(0.93, 1.07, 3)
    return np.clip(picture * gain.astype(np.float32) + np.float32(rng.uniform(-20, 20)), 0, 255).astype(np.uint8)


def _windowed(
    frame: Frame, region: Region, size_wh: tuple[int, int], least: float, rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Cut a random window out of a region; flip it and, if it is square, transpose it at random."""
    sides = np.clip(rng.uniform(least, 1.0) * STRETCH ** rng.uniform(-1.0, 1.0, 2), least, 1.0)
    left, top = rng.uniform(0.0, 1.0 - sides)
    right, bottom = 1.0 - sides - (left, top)
    picture = cut(frame, _moved(region, frame, -left, -top, -right, -bottom), size_wh)
    for axis in (0, 1):
        if rng.random() < 0.5:
            picture = np.flip(picture, axis)
    if size_wh[0] == size_wh[1] and rng.random() < 0.5:
        picture = picture.transpose(1, 0, 2)
    return np.ascontiguousarray(picture)


def _moved(region: Region, frame: Frame, left: float, top: float, right: float, bottom: float) -> Region:
    """Move each edge of a region outwards by a share of its side; a box is clipped to the frame."""
    if isinstance(region, Box):
        moved = region.expanded(left * region.width, top * region.height, right * region.width, bottom * region.height)
        return moved.intersection(Box.whole(frame))
    corners = corners_of(region)
    along, down = corners[[1, 1, 2, 2]] - corners[[0, 0, 3, 3]], corners[[3, 2, 2, 3]] - corners[[0, 1, 1, 0]]
    across = np.array([-left, right, right, -left])[:, None]
    upright = np.array([-top, -top, bottom, bottom])[:, None]
    return as_quad(corners + across * along + upright * down)


def rotated(picture: UInt8[np.ndarray, "height width 3"], degrees: float) -> UInt8[np.ndarray, "height width 3"]:
    """Rotate a picture counter-clockwise about its centre; borders are mirrored and the size is kept."""
    quarters, rest = divmod(degrees, 90.0)
    square = picture.shape[0] == picture.shape[1]
    if rest == 0 and (square or quarters % 2 == 0):
        return np.ascontiguousarray(np.rot90(picture, int(quarters)))
    height, width = picture.shape[:2]
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(picture, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
