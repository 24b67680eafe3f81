"""Measures the defects of one picture: hot cells of the map, then the pixels of the photograph around them.

1. The map, on its fixed colour scale, is interpolated to pixels; connected pixels of at least `LEVEL` are one region.
2. Around each region, the background is the median of a neighbourhood that is twice as wide as the region, and the
   contrast is the distance from it. Contrast that exceeds the noise of the surroundings and half of the defect's own
   contrast belongs to the defect, if it is connected and touches the region. A defect may extend beyond the region.
3. Length, width and area of these pixels (`gonogo.measure.shape`) are converted to mm.

Errors are 95 % intervals, combined as in JCGM 100:2008 (GUM), 5.1: the position of each end on the pixel grid (uniform
over a pixel), the choice of the contrast limit (40 % to 60 % instead of 50 %), and the scale; for the width also a
pixel for the blur of the picture, which makes fine lines look wider. A region in which nothing
stands out of the noise is measured on the map instead; only its order of magnitude is known then, and the error is as
large as the length.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from gonogo.array_types import Float32, Int32
from gonogo.config import Scale
from gonogo.heatmap import HeatScale, spread
from gonogo.images.geometry import box_of, scaled_region, side_lengths
from gonogo.measure.calibration import in_mm, pixel_mm
from gonogo.measure.shape import Shape, largest_touching, measure_shape
from gonogo.schema import Box, Frame, Mask, Measurement, Region, Verdict

LEVEL = 0.3
"""Smallest heat, on the fixed scale from 0 to 1, of a region that is measured."""
MOST_DEFECTS = 20
_NOISE = 4.5
"""Smallest contrast of a defect above the usual one around it, in (robust) standard deviations."""
_LEAST_CONTRAST = 6.0
"""The same in grey levels."""
_SHARES = (0.4, 0.5, 0.6)
_ENLARGED = 4
_KERNELS = (31, 121)
_GRID = math.sqrt(2 / 12)
"""Standard uncertainty of the distance of two ends that are uniform over a pixel."""
_BLUR = 1.0
_Z = 1.959963984540054
"""97.5 % quantile of the normal distribution."""

Labels: TypeAlias = Int32[np.ndarray, "rows columns"]
Window: TypeAlias = tuple[int, int, int, int]
"""Left, top, right and bottom pixel; right and bottom are outside."""


@dataclass(frozen=True, kw_only=True)
class _Measured:
    """One shape in pixels of the judged frame, with standard uncertainties."""

    shape: Shape
    length_error: float
    width_error: float
    refined: bool


def measure_defects(
    frame: Frame, verdict: Verdict, heat_scale: HeatScale, scale: Scale, *, reduction: int = 1
) -> tuple[Measurement, ...]:
    """Measure the defects that a heat map shows.

    Args:
        frame: The frame that was judged.
        verdict: The verdict on it, in pixels of the full-size picture.
        heat_scale: The inspector's colour scale.
        scale: Size of the pixels of the full-size picture.
        reduction: Divisor of the frame's width and height against the full-size picture.

    Returns:
        At most 20 defects, the longest first; none without a map or a region.
    """
    if verdict.heatmap is None or verdict.region is None or heat_scale.heat(verdict.heatmap).max() < LEVEL:
        return ()
    region = scaled_region(verdict.region, 1 / reduction, 1 / reduction)
    heat = heat_scale.heat(spread(verdict.heatmap, region, frame.shape[:2], shift_xy=verdict.shift_xy))
    rows, columns = verdict.heatmap.shape
    across, down = side_lengths(region)
    cell = max(across / columns, down / rows)
    found, taken = [], np.zeros(frame.shape[:2], np.bool_)
    for labels, number, around in _hot_regions(heat):
        measured, pixels, (left, top) = _measure_region(frame, labels, number, around, cell, region)
        height, width = pixels.shape
        before = taken[top : top + height, left : left + width]
        if (before & pixels).sum() <= 0.5 * pixels.sum():
            before |= pixels
            found.append(_converted(measured, scale, reduction))
    return tuple(sorted(found, key=lambda each: -each.length_mm))


def _hot_regions(heat: Float32[np.ndarray, "rows columns"]) -> Iterator[tuple[Labels, int, Window]]:
    """The hottest regions: the numbers of all pixels, the number of the region, and the window around it."""
    count, labels, statistics, _ = cv2.connectedComponentsWithStats((heat >= LEVEL).astype(np.uint8), connectivity=8)
    hottest = np.zeros(count, np.float32)
    np.maximum.at(hottest, labels.ravel().astype(np.intp), heat.ravel())
    hottest[0] = -1
    for number in np.argsort(-hottest)[: min(MOST_DEFECTS, count - 1)].tolist():
        left, top, width, height = (int(value) for value in statistics[number, :4])
        yield np.asarray(labels, np.int32), number, (left, top, left + width, top + height)


def _measure_region(
    frame: Frame, labels: Labels, number: int, around: Window, cell: float, region: Region
) -> tuple[_Measured, Mask, tuple[int, int]]:
    """Measure one hot region; returns the pixels of the defect too, and where their window begins."""
    limit = box_of(region).intersection(Box.whole(frame))
    reach = max(24, math.ceil(1.5 * cell))
    for _ in range(_ENLARGED):
        left, top, right, bottom = window = _grown(around, reach, limit)
        pixels = labels[top:bottom, left:right] == number
        refined = _refine(frame[top:bottom, left:right], pixels)
        if refined is None:
            break
        if not _touches_edge(refined[0], window, limit):
            break
        reach *= 2
    if refined is None:
        shape = measure_shape(pixels)
        largest = max(shape.length, cell) / _Z  # the region is larger than the defect by an unknown amount
        return _placed(shape, largest, largest, window, refined=False), pixels, (left, top)
    found, narrow, wide = refined
    shape, others = measure_shape(found), [measure_shape(each) for each in (narrow, wide)]
    length_error = math.hypot(_GRID, _half_range([shape.length, *(each.length for each in others)]))
    width_error = math.hypot(_GRID, _BLUR, _half_range([shape.width, *(each.width for each in others)]))
    return _placed(shape, length_error, width_error, window, refined=True), found, (left, top)


def _half_range(sizes: list[float]) -> float:
    """Standard uncertainty of a value that is uniform between the smallest and the largest of these."""
    return (max(sizes) - min(sizes)) / math.sqrt(12)


def _placed(shape: Shape, length_error: float, width_error: float, window: Window, *, refined: bool) -> _Measured:
    moved = Shape(length=shape.length, width=shape.width, area=shape.area, path=shape.path + window[:2])
    return _Measured(shape=moved, length_error=length_error, width_error=width_error, refined=refined)


def _refine(picture: Frame, core: Mask) -> tuple[Mask, Mask, Mask] | None:
    """The pixels of the defect at 50 %, 60 % and 40 % of its contrast; ``None`` if nothing stands out."""
    contrast = _contrast(picture, core)
    outside = ~cv2.dilate(core.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool)
    noise = contrast[outside] if outside.sum() >= 100 else contrast
    usual = float(np.median(noise))
    least = max(_LEAST_CONTRAST, usual + _NOISE * 1.4826 * float(np.median(np.abs(noise - usual))))
    peak = float(cv2.blur(contrast, (3, 3))[core].max())
    if peak < least:
        return None
    first = largest_touching(_closed(contrast >= max(least, 0.4 * peak)), core, contrast)
    if first is None:
        return None
    ridge = float(np.quantile(contrast[first], 0.75))
    found = []
    for share in _SHARES:
        pixels = largest_touching(_closed(contrast >= max(0.8 * least, share * ridge)), core, contrast)
        found.append(first if pixels is None else pixels)
    return found[1], found[2], found[0]


def _contrast(picture: Frame, core: Mask) -> Float32[np.ndarray, "rows columns"]:
    """Distance from the local median in grey levels: the root mean square of the three colours."""
    left, top, right, bottom = _window_of(core)
    kernel = int(np.clip(2 * min(right - left, bottom - top) + 1, *_KERNELS)) | 1
    reach = kernel // 2
    padded = cv2.copyMakeBorder(picture, reach, reach, reach, reach, cv2.BORDER_REFLECT_101)
    background = cv2.medianBlur(padded, kernel)[reach:-reach, reach:-reach]
    smooth = cv2.GaussianBlur(picture.astype(np.float32), (3, 3), 0.7)
    return np.asarray(np.sqrt(((smooth - background) ** 2).mean(axis=2)), np.float32)


def _closed(mask: Mask) -> Mask:
    """Bridge gaps of up to two pixels."""
    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (3, 3))
    closed: Mask = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_CLOSE, kernel).astype(bool)
    return closed


def _window_of(mask: Mask) -> Window:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _grown(window: Window, reach: int, limit: Box) -> Window:
    left, top, right, bottom = window
    return (
        max(math.floor(limit.x1), left - reach),
        max(math.floor(limit.y1), top - reach),
        min(math.ceil(limit.x2), right + reach),
        min(math.ceil(limit.y2), bottom + reach),
    )


def _touches_edge(pixels: Mask, window: Window, limit: Box) -> bool:
    """Whether a defect reaches the edge of its window where the window could be larger."""
    left, top, right, bottom = window
    return bool(
        (pixels[:, 0].any() and left > limit.x1)
        or (pixels[0].any() and top > limit.y1)
        or (pixels[:, -1].any() and right < limit.x2)
        or (pixels[-1].any() and bottom < limit.y2)
    )


def _converted(measured: _Measured, scale: Scale, reduction: int) -> Measurement:
    shape = measured.shape
    path = shape.path * reduction
    mm_path = in_mm(path, scale)
    along_px = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    along_mm = float(np.linalg.norm(np.diff(mm_path, axis=0), axis=1).sum())
    middle = pixel_mm(path[len(path) // 2], scale)
    along = reduction * (along_mm / along_px if along_px > 0 else middle)
    length, width = shape.length * along, shape.width * middle * reduction
    area = shape.area * (middle * reduction) ** 2
    length_error, width_error = (
        math.hypot(_Z * error * unit, scale.relative_error * size)
        for error, unit, size in (
            (measured.length_error, along, length),
            (measured.width_error, middle * reduction, width),
        )
    )
    relative = math.hypot(length_error / length, width_error / width)
    points = tuple((round(float(x), 1), round(float(y), 1)) for x, y in path)
    return Measurement(
        length_mm=round(length, 4),
        length_error_mm=round(length_error, 4),
        width_mm=round(width, 4),
        width_error_mm=round(width_error, 4),
        area_mm2=round(area, 5),
        area_error_mm2=round(relative * area, 5),
        path_xy=points,
        refined=measured.refined,
    )
