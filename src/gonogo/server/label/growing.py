"""Region growing: the connected area of similar colour around a point is added to the outlines, or taken from them."""

from __future__ import annotations

import threading
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gonogo import images
from gonogo.array_types import UInt8
from gonogo.dataset.levels import levels_of
from gonogo.schema import Frame, Mask
from gonogo.server.dataset_store import Records
from gonogo.server.label.picture_label import MOST_OUTLINES, MOST_POINTS, Outlines, Point, drawn_mask

_KEPT = 3
_HOLE_SHARE = 0.01
"""A hole of a grown area that is smaller than this share of it is filled: it is a reflection or noise."""
_HOLE_PX = 9
_MOST_HOLES = 30
_CORNER_PX = 0.7
"""Tolerance to which an outline is simplified, in pixels; more if it would have too many corners."""


class GrowRequest(BaseModel):
    """Request body: grow an area from a point."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(max_length=1000)
    at: Point
    """The point, in frame pixels."""
    tolerance: Annotated[float, Field(ge=0, le=127)]
    """Largest difference from the point's colour in each channel of CIE Lab, lightness from 0 to 255."""
    erase: bool = False
    """Take the area away instead of adding it."""
    polygons: Outlines | None = None
    """The outlines so far; ``None`` for those of the stored mask."""


@dataclass(frozen=True, kw_only=True)
class Grown:
    """The outlines after growing."""

    polygons: tuple[tuple[tuple[float, float], ...], ...]
    share: float
    """Share of the picture that the grown area covers."""
    left_out: int
    """Number of outlines that were too many, the smallest ones."""


class ColourPlanes:
    """Pictures in CIE Lab; the last few are kept, because a person tries several points and tolerances."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, int], Frame] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path) -> Frame:
        """Return a picture in 8-bit CIE Lab, without single odd pixels (median of 3 x 3).

        Raises:
            ImageError: unreadable.
        """
        key = (path, path.stat().st_mtime_ns if path.exists() else 0)
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        frame = images.load_confined(path, depth=levels_of(path))
        planes = cv2.cvtColor(cv2.medianBlur(frame, 3), cv2.COLOR_RGB2LAB)
        with self._lock:
            self._kept[key] = planes
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return planes


def grow(planes: ColourPlanes, records: Records, asked: GrowRequest) -> Grown:
    """Grow an area and join it with the outlines, or take it away; outlines that it does not touch stay as they are.

    Raises:
        RefusedError: there is no such picture.
        ImageError: the picture or its mask is unreadable.
    """
    sample = records.find(asked.file)
    lab = planes.of(records.root / sample.file_name)
    shape = (lab.shape[0], lab.shape[1])
    area = grown_area(lab, asked.at, asked.tolerance)
    before = asked.polygons
    if before is None:
        mask = records.dataset.load_mask(sample, shape)
        before = () if mask is None else outlines_of(mask)
    near = cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)
    touched, kept = np.zeros(shape, np.bool_), []
    for polygon in before:
        drawn = drawn_mask((polygon,), shape).astype(np.bool_)
        if (drawn & near).any():  # also if they only lie side by side: then they become one
            touched |= drawn
        else:
            kept.append(polygon)
    # One pixel more is taken away than grown: a simplified outline would leave slivers along its edge.
    found = touched & ~near if asked.erase else touched | area
    outlines = sorted((*kept, *outlines_of(found)), key=_surface, reverse=True)
    return Grown(
        polygons=tuple(outlines[:MOST_OUTLINES]),
        share=float(area.mean()),
        left_out=max(0, len(outlines) - MOST_OUTLINES),
    )


def grown_area(lab: Frame, at: tuple[float, float], tolerance: float) -> Mask:
    """The connected area around a point whose colour differs from the point's by at most ``tolerance`` per channel."""
    height, width = lab.shape[:2]
    x, y = (int(np.clip(value, 0, most - 1)) for value, most in zip(at, (width, height), strict=True))
    filled = np.zeros((height + 2, width + 2), np.uint8)
    limits = (float(tolerance),) * 3
    flags = 4 | (255 << 8) | cv2.FLOODFILL_FIXED_RANGE | cv2.FLOODFILL_MASK_ONLY
    cv2.floodFill(lab, filled, (x, y), (0, 0, 0), limits, limits, flags)
    area = np.ascontiguousarray(filled[1:-1, 1:-1])
    return _without_small_holes(area)


def outlines_of(mask: Mask) -> tuple[tuple[tuple[float, float], ...], ...]:
    """Outlines through the centres of a mask's border pixels, the largest first; `drawn_mask` fills them again.

    A hole is joined to the outer border by a cut of no width; of very many only the largest stay. An outline with too
    many corners is simplified further.
    """
    contours, tree = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes: defaultdict[int, list[np.ndarray]] = defaultdict(list)
    outer: dict[int, np.ndarray] = {}
    for number, contour in enumerate(contours):
        if (parent := int(tree[0][number][3])) < 0:
            outer[number] = contour
        else:
            holes[parent].append(contour)
    found = [_outline(contour, holes[number]) for number, contour in outer.items()]
    return tuple(sorted(found, key=_surface, reverse=True))


def _outline(outer: np.ndarray, holes: Sequence[np.ndarray]) -> tuple[tuple[float, float], ...]:
    tolerance, holes = _CORNER_PX, sorted(holes, key=cv2.contourArea, reverse=True)[:_MOST_HOLES]
    while True:
        ring = _simple(outer, tolerance)
        for hole in holes:
            ring = _cut(ring, _simple(hole, tolerance))
        if len(ring) <= MOST_POINTS:
            break
        tolerance *= 1.5
        holes = holes[: max(0, len(holes) * 2 // 3)]  # the small ones are filled
    ring = np.concatenate([ring, *[ring[-1:]] * max(0, 3 - len(ring))])
    return tuple((float(x) + 0.5, float(y) + 0.5) for x, y in ring)


def _simple(contour: np.ndarray, tolerance: float) -> np.ndarray:
    return np.asarray(cv2.approxPolyDP(contour, tolerance, closed=True)).reshape(-1, 2)


def _cut(ring: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Join a hole to a ring at the corners that are nearest to each other."""
    away = np.abs(ring[:, None] - hole[None]).sum(axis=2)
    here, there = np.unravel_index(int(away.argmin()), away.shape)
    return np.concatenate([ring[: here + 1], hole[there:], hole[: there + 1], ring[here:]])


def _without_small_holes(area: UInt8[np.ndarray, "height width"]) -> Mask:
    contours, tree = cv2.findContours(area, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    limit = max(_HOLE_PX, _HOLE_SHARE * np.count_nonzero(area))
    for number, contour in enumerate(contours):
        if tree[0][number][3] >= 0 and cv2.contourArea(contour) <= limit:
            cv2.drawContours(area, contours, number, 255, cv2.FILLED)
    return area.astype(np.bool_)


def _surface(polygon: Sequence[tuple[float, float]]) -> float:
    return float(cv2.contourArea(np.array(polygon, np.float32)))
