"""Geometry of boxes and rotated rectangles, as corners in frame pixels."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from typing import TypeAlias

import numpy as np

from gonogo.array_types import Float64
from gonogo.schema import Box, Located, Quad, Region

Corners: TypeAlias = Float64[np.ndarray, "4 2"]
"""Corners ``(x, y)``, clockwise on the picture from the top left."""

Vector: TypeAlias = Float64[np.ndarray, "2"]


def corners_of_box(box: Box) -> Corners:
    """The corners of an axis-parallel box."""
    return np.array([[box.x1, box.y1], [box.x2, box.y1], [box.x2, box.y2], [box.x1, box.y2]], np.float64)


def box_around(corners: Float64[np.ndarray, "_points 2"]) -> Box:
    """The smallest axis-parallel box around points ``(x, y)``."""
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return Box(x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))


def box_of(region: Region) -> Box:
    """The region itself if it is a box, otherwise the smallest box around it."""
    if isinstance(region, Box):
        return region
    across, down = zip(*region, strict=True)
    return Box(x1=min(across), y1=min(down), x2=max(across), y2=max(down))


def middle(region: Region) -> tuple[float, float]:
    """Centre of a region."""
    if isinstance(region, Box):
        return region.centre_xy
    across, down = zip(*region, strict=True)
    return sum(across) / 4, sum(down) / 4


def as_quad(corners: Corners) -> Quad:
    """Convert corners to plain numbers."""
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    return (first, second, third, fourth)


def corners_of(region: Region) -> Corners:
    """The corners of a box or a rotated rectangle."""
    return corners_of_box(region) if isinstance(region, Box) else np.asarray(region, np.float64)


def scaled_region(region: Region, across: float, down: float) -> Region:
    """The same region in a picture scaled by these factors."""
    if isinstance(region, Box):
        return region.scaled(across, down)
    first, second, third, fourth = ((x * across, y * down) for x, y in region)
    return (first, second, third, fourth)


def relocated(located: Located, factor: float) -> Located:
    """The same located part in a picture scaled by a factor."""
    box = None if located.box is None else located.box.scaled(factor, factor)
    quad = None if located.quad is None else as_quad(np.asarray(located.quad, np.float64) * factor)
    return replace(located, box=box, quad=quad)


def upright(corners: Corners) -> Corners:
    """Order the corners clockwise, starting with the one whose first side is closest to pointing right.

    A rectangle does not determine which corner is the part's top left; this choice rotates it by at most 45 degrees.
    """
    points = corners.tolist()
    twice_area = sum(x * to_y - y * to_x for (x, y), (to_x, to_y) in pairwise([*points, points[0]]))
    order = [0, 1, 2, 3] if twice_area >= 0 else [3, 2, 1, 0]  # clockwise, as y points down

    def rightwards(first: int) -> float:
        (x, y), (to_x, to_y) = points[order[first]], points[order[(first + 1) % 4]]
        return float(to_x - x - abs(to_y - y))

    first = max(range(4), key=rightwards)
    turned: Corners = corners[order[first:] + order[:first]]
    return turned


def axes(corners: Corners) -> tuple[Vector, Vector]:
    """Mean side vectors of a rectangle: along its top, and down its left side."""
    first, second, third, fourth = corners
    return (second - first + third - fourth) / 2, (fourth - first + third - second) / 2


def side_lengths(region: Region) -> tuple[float, float]:
    """Lengths of a region's top and left sides."""
    if isinstance(region, Box):
        return region.width, region.height
    (x, y), (right_x, right_y), _, (down_x, down_y) = region
    return math.hypot(right_x - x, right_y - y), math.hypot(down_x - x, down_y - y)


def grown(region: Region, grow_long: float, grow_short: float) -> Region:
    """Extend a region at both ends of its long and short axes, by a share of each axis."""
    width, height = side_lengths(region)
    along, down = (grow_long, grow_short) if width >= height else (grow_short, grow_long)
    if isinstance(region, Box):
        return region.expanded(along * width, down * height, along * width, down * height)
    (x, y), (right_x, right_y), _, (down_x, down_y) = region
    move_x, move_y = along * (right_x - x), along * (right_y - y)
    drop_x, drop_y = down * (down_x - x), down * (down_y - y)
    first, second, third, fourth = (
        (corner_x + move * move_x + drop * drop_x, corner_y + move * move_y + drop * drop_y)
        for (corner_x, corner_y), (move, drop) in zip(region, _OUTWARDS, strict=True)
    )
    return (first, second, third, fourth)


_OUTWARDS = ((-1, -1), (1, -1), (1, 1), (-1, 1))
"""Direction in which each corner moves, along the top and down the left side."""


def area_and_aspect(region: Region, frame_wh: tuple[int, int]) -> tuple[float, float]:
    """A region's area as a share of the frame's, and the ratio of its long to its short side."""
    width, height = side_lengths(region)
    return width * height / (frame_wh[0] * frame_wh[1]), max(width, height) / max(min(width, height), 1e-9)


def area_of(corners: Float64[np.ndarray, "corners 2"]) -> float:
    """Area of a simple polygon, in squared units (shoelace formula)."""
    following = np.roll(corners, -1, axis=0)
    return abs(float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())) / 2


def shared_area(one: Corners, other: Corners) -> float:
    """Area of the intersection of two convex shapes, both with clockwise corners.

    Sutherland and Hodgman, Communications of the ACM 17 (1974). OpenCV's function loses area if edges coincide, which
    happens for a shape and the same shape with a margin.
    """
    left = [*one]
    for start, end in zip(other, np.roll(other, -1, axis=0), strict=True):
        left = _clipped(left, start, end)
    return area_of(np.array(left)) if left else 0.0


def _clipped(corners: list[Vector], start: Vector, end: Vector) -> list[Vector]:
    """Clip a convex polygon to the right side of a directed line, as seen in the picture."""
    along = end - start
    depths = [float(along[0] * (corner - start)[1] - along[1] * (corner - start)[0]) for corner in corners]
    kept = []
    for number, (corner, depth) in enumerate(zip(corners, depths, strict=True)):
        before, depth_before = corners[number - 1], depths[number - 1]
        if (depth >= 0) != (depth_before >= 0):
            kept.append(before + depth_before / (depth_before - depth) * (corner - before))
        if depth >= 0:
            kept.append(corner)
    return kept
