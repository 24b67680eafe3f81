"""Augmented pictures for training a locator: random windows of a frame, with or without a single whole part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from gonogo.array_types import Float64
from gonogo.augment import STRETCH, lit
from gonogo.images import crop_resize, pixel_window
from gonogo.images.geometry import Corners, box_around, upright
from gonogo.roi.learned import closer_scale
from gonogo.runtime import Picture
from gonogo.schema import Box, Frame

SCALES = (0.5, 1.2)
"""Range of the sides of a random window, as shares of the frame; smaller for small parts, see `closer_scale`."""
ABSENT_SHARE = 0.25
"""Share of augmented pictures without a single whole part."""
_TRIES = 30
_RIM = 0.12
"""Margin around the part for pasting, as a share of its shorter side."""
_LEAST_VISIBLE = 0.75
"""A part with a smaller visible share does not count as whole."""

Window: TypeAlias = tuple[float, float, float, float]
"""``(x, y, width, height)`` in frame pixels."""


@dataclass(frozen=True, kw_only=True)
class AugmentedPicture:
    """One training picture of a locator."""

    picture: Picture
    box: Float64[np.ndarray, "4"] | None
    """``(x1, y1, x2, y2)`` as shares of the picture; ``None`` without a single whole part."""
    corners: Float64[np.ndarray, "8"] | None
    """``x, y`` of the corners of the rotated rectangle, in the same unit."""


def plain_picture(frame: Frame, box: Box | None, corners: Corners | None, size_wh: tuple[int, int]) -> AugmentedPicture:
    """The whole frame, without augmentation."""
    height, width = frame.shape[:2]
    whole = (0.0, 0.0, float(width), float(height))
    picture = crop_resize(frame, Box.whole(frame), size_wh)
    if box is None:
        return AugmentedPicture(picture=picture, box=None, corners=None)
    return _placed(picture, box, corners, whole, np.eye(3))


def random_picture(
    frame: Frame, box: Box | None, corners: Corners | None, size_wh: tuple[int, int], rng: np.random.Generator
) -> AugmentedPicture:
    """A random window of the frame with random flips, transposition and lighting.

    A share of `ABSENT_SHARE` shows no single whole part: the window misses or cuts off the part, the part is painted
    over or duplicated, or the camera is covered. So a locator learns to refuse such pictures without real examples.
    """
    if box is not None and rng.random() < ABSENT_SHARE:
        frame, window = _without_part(frame, box, rng)
        box = corners = None
    else:
        window = _window_around(frame, box, rng)
    picture, flips = _taken(frame, window, size_wh, rng)
    if box is None:
        return AugmentedPicture(picture=picture, box=None, corners=None)
    return _placed(picture, box, corners, window, flips)


def _placed(
    picture: Picture, box: Box, corners: Corners | None, window: Window, flips: Float64[np.ndarray, "3 3"]
) -> AugmentedPicture:
    """Transform box and corners to the coordinates of the augmented picture."""
    ends = _shares(np.array([[box.x1, box.y1], [box.x2, box.y2]]), window, flips)
    around = box_around(ends)
    turned = None if corners is None else upright(_shares(corners, window, flips)).ravel()
    return AugmentedPicture(picture=picture, box=np.array(around.xyxy), corners=turned)


def _shares(points: Float64[np.ndarray, "points 2"], window: Window, flips: Float64[np.ndarray, "3 3"]) -> np.ndarray:
    x, y, width, height = window
    inside = (points - [x, y]) / [width, height]
    shares: np.ndarray = (np.column_stack([inside, np.ones(len(inside))]) @ flips.T)[:, :2]
    return shares


def _window_around(frame: Frame, box: Box | None, rng: np.random.Generator) -> Window:
    """A random window that contains the whole part; the whole frame if none is found."""
    height, width = frame.shape[:2]
    for _ in range(_TRIES):
        across, down = _window_size(frame, box, rng)
        x = _start(width, across, None if box is None else (box.x1, box.x2), rng)
        y = _start(height, down, None if box is None else (box.y1, box.y2), rng)
        if x is not None and y is not None:
            return (x, y, across, down)
    return (0.0, 0.0, float(width), float(height))


def _window_size(frame: Frame, box: Box | None, rng: np.random.Generator) -> tuple[float, float]:
    """Random width and height in pixels; for a small part down to the scale of the locator's second pass."""
    height, width = frame.shape[:2]
    nearest = SCALES[0] if box is None else min(SCALES[0], closer_scale(box, (width, height)))
    scale = np.exp(rng.uniform(np.log(nearest), np.log(SCALES[1])))
    return float(width * scale), float(height * scale * np.exp(rng.uniform(np.log(STRETCH), -np.log(STRETCH))))


def _start(whole: float, side: float, held: tuple[float, float] | None, rng: np.random.Generator) -> float | None:
    """Random start of a window on one axis so that it contains ``held``; ``None`` if that is impossible."""
    least, greatest = min(0.0, whole - side), max(0.0, whole - side)
    if held is not None:
        least, greatest = max(least, held[1] - side), min(greatest, held[0])
    return None if least > greatest else float(rng.uniform(least, greatest))


def _without_part(frame: Frame, box: Box, rng: np.random.Generator) -> tuple[Frame, Window]:
    """A frame, possibly modified, and a window of it without a single whole part."""
    height, width = frame.shape[:2]
    everything = (0.0, 0.0, float(width), float(height))
    kind = int(rng.integers(4))
    if kind == 3:
        return _blinded(frame, rng), everything
    if kind == 0:
        for _ in range(_TRIES):
            across, down = _window_size(frame, box, rng)
            x, y = _start(width, across, None, rng), _start(height, down, None, rng)
            assert x is not None
            assert y is not None
            seen = box.intersection(Box(x1=x, y1=y, x2=x + across, y2=y + down)).area
            if seen < _LEAST_VISIBLE * box.area:
                return frame, (x, y, across, down)
    return _pasted(frame, box, rng, doubled=kind == 1), everything


def _blinded(frame: Frame, rng: np.random.Generator) -> Frame:
    """Simulate a covered, overexposed or defocused camera: a uniform shade with a faint blur of the frame."""
    shade = np.full_like(frame, rng.integers(0, 256))
    ghost = cv2.blur(frame, (max(1, frame.shape[1] // 4), max(1, frame.shape[0] // 4)))
    share = float(rng.choice([0.0, 0.5, 1.0]))
    return np.asarray(cv2.addWeighted(ghost, share, shade, 1 - share, 0), np.uint8)


def _pasted(frame: Frame, box: Box, rng: np.random.Generator, *, doubled: bool) -> Frame:
    """Paint over the part with a piece of its surroundings, or duplicate it elsewhere in the frame.

    Seams are blended; if no free area is large enough, the part is painted over with its blurred surroundings.
    """
    height, width = frame.shape[:2]
    rim = _RIM * min(box.width, box.height)
    x1, y1, x2, y2 = pixel_window(frame, box.expanded(rim, rim, rim, rim))
    across, down = x2 - x1, y2 - y1
    for _ in range(_TRIES):
        x, y = int(rng.integers(0, width - across + 1)), int(rng.integers(0, height - down + 1))
        if x + across <= x1 or x >= x2 or y + down <= y1 or y >= y2:
            source, target = ((x1, y1), (x, y)) if doubled else ((x, y), (x1, y1))
            return _blended(frame, frame[source[1] :, source[0] :][:down, :across], target)
    coarse = cv2.resize(frame, (24, 24), interpolation=cv2.INTER_AREA)
    smooth = cv2.resize(cv2.medianBlur(coarse, 21), (width, height), interpolation=cv2.INTER_CUBIC)
    return _blended(frame, smooth[y1:y2, x1:x2], (x1, y1))


def _blended(frame: Frame, patch: Frame, target_xy: tuple[int, int]) -> Frame:
    x, y = target_xy
    down, across = patch.shape[:2]
    rim = max(1, min(down, across) // 24)  # the seam, twice as wide, lies within _RIM, so no edge of the part shows
    inner = np.zeros((down, across), np.float32)
    inner[rim : down - rim, rim : across - rim] = 1
    weight = cv2.blur(inner, (2 * rim + 1, 2 * rim + 1), borderType=cv2.BORDER_CONSTANT)[..., None]
    changed = frame.copy()
    place = changed[y : y + down, x : x + across]
    place[:] = np.rint(weight * patch + (1 - weight) * place).astype(np.uint8)
    return changed


def _taken(
    frame: Frame, window: Window, size_wh: tuple[int, int], rng: np.random.Generator
) -> tuple[Picture, Float64[np.ndarray, "3 3"]]:
    """The window at the input size with random flips, transposition and lighting, and its coordinate transform."""
    x, y, across, down = window
    width, height = size_wh
    step = max(1, int(min(across / width, down / height)))
    reduced = frame
    if step > 1:
        rows, columns = frame.shape[0] // step, frame.shape[1] // step
        reduced = cv2.resize(frame[: rows * step, : columns * step], (columns, rows), interpolation=cv2.INTER_AREA)
    scale_x, scale_y = width * step / across, height * step / down
    # OpenCV counts from pixel centres, gonogo from pixel edges.
    matrix = np.array(
        [
            [scale_x, 0, -x / across * width + 0.5 * scale_x - 0.5],
            [0, scale_y, -y / down * height + 0.5 * scale_y - 0.5],
        ]
    )
    picture = cv2.warpAffine(reduced, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    flips = np.eye(3)
    for axis in (0, 1):
        if rng.random() < 0.5:
            picture = np.flip(picture, 1 - axis)
            mirror = np.eye(3)
            mirror[axis, axis], mirror[axis, 2] = -1, 1
            flips = mirror @ flips
    if width == height and rng.random() < 0.5:
        picture = picture.transpose(1, 0, 2)
        flips = np.eye(3)[[1, 0, 2]] @ flips
    return np.ascontiguousarray(lit(picture, rng)), flips
