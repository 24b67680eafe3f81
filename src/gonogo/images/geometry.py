"""Boxes and turned rectangles as corners in frame pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64

from gonogo.schema import Box, Located, Quad, Region

Corners: TypeAlias = Float64[np.ndarray, "4 2"]
"""Corners ``(x, y)``, clockwise on the picture from the top left."""

Shapes: TypeAlias = Float64[np.ndarray, "shapes 4 2"]
"""The corners of several rectangles."""

Vector: TypeAlias = Float64[np.ndarray, "2"]


def corners_of_box(box: Box) -> Corners:
    """The corners of an axis-parallel box."""
    return np.array([[box.x1, box.y1], [box.x2, box.y1], [box.x2, box.y2], [box.x1, box.y2]], np.float64)


def box_around(corners: Corners) -> Box:
    """The smallest axis-parallel box around some corners."""
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return Box(x1=float(x1), y1=float(y1), x2=float(x2), y2=float(y2))


def as_quad(corners: Corners) -> Quad:
    """Corners as plain numbers."""
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    return (first, second, third, fourth)


def corners_of(region: Region) -> Corners:
    """The corners of a box or a turned rectangle."""
    return corners_of_box(region) if isinstance(region, Box) else np.asarray(region, np.float64)


def scaled(region: Region, across: float, down: float) -> Region:
    """The same region in a picture that is so many times as wide and as high."""
    return region.scaled(across, down) if isinstance(region, Box) else as_quad(np.asarray(region) * [across, down])


def relocated(located: Located, factor: float) -> Located:
    """Where the part is in a picture that is so many times as large."""
    box = None if located.box is None else located.box.scaled(factor, factor)
    quad = None if located.quad is None else as_quad(np.asarray(located.quad, np.float64) * factor)
    return replace(located, box=box, quad=quad)


def upright(corners: Corners) -> Corners:
    """The same corners, clockwise, from the one whose first side points most nearly to the right.

    A rectangle does not say which of its corners the part calls top left; this choice turns it by at most 45 degrees.
    """
    turned: Corners = upright_shapes(corners[None])[0]
    return turned


def upright_shapes(shapes: Shapes) -> Shapes:
    """The corners of each of some rectangles in the order of `upright`."""
    following = shapes[:, [1, 2, 3, 0]]
    twice_area = (shapes[..., 0] * following[..., 1] - shapes[..., 1] * following[..., 0]).sum(axis=1)
    clockwise = np.where((twice_area < 0)[:, None, None], shapes[:, ::-1], shapes)  # where y points down
    sides = clockwise[:, [1, 2, 3, 0]] - clockwise
    first = np.argmax(sides[..., 0] - np.abs(sides[..., 1]), axis=1)
    order = (first[:, None] + np.arange(4)) % 4
    turned: Shapes = np.take_along_axis(clockwise, order[..., None], axis=1)
    return turned


def axes(corners: Corners) -> tuple[Vector, Vector]:
    """The rectangle's mean sides as vectors: along its top, and down."""
    first, second, third, fourth = corners
    return (second - first + third - fourth) / 2, (fourth - first + third - second) / 2


def side_lengths(shapes: Shapes) -> Float64[np.ndarray, "shapes 2"]:
    """Length of each rectangle's top and of its left side."""
    return _lengths(_sides(shapes))


def grown(shapes: Shapes, grow_long: float, grow_short: float) -> Shapes:
    """Each rectangle with both ends of its long and of its short axis moved outwards by a share of that axis."""
    sides = _sides(shapes)
    lengths = _lengths(sides)
    wide = lengths[:, 0] >= lengths[:, 1]
    shares = np.where(wide[:, None], (grow_long, grow_short), (grow_short, grow_long))
    moves = sides * shares[..., None]
    moved: Shapes = shapes + _ALONG_THE_TOP * moves[:, :1] + _DOWN_THE_LEFT * moves[:, 1:]
    return moved


_ALONG_THE_TOP = np.array([[-1.0], [1.0], [1.0], [-1.0]])
_DOWN_THE_LEFT = np.array([[-1.0], [-1.0], [1.0], [1.0]])
"""Which way each corner moves outwards."""


def _sides(shapes: Shapes) -> Float64[np.ndarray, "shapes 2 2"]:
    """Each rectangle's top and left side as vectors."""
    sides: Float64[np.ndarray, "shapes 2 2"] = shapes[:, 1::2] - shapes[:, :1]
    return sides


def _lengths(sides: Float64[np.ndarray, "shapes 2 2"]) -> Float64[np.ndarray, "shapes 2"]:
    lengths: Float64[np.ndarray, "shapes 2"] = np.hypot(sides[..., 0], sides[..., 1])
    return lengths


def area_of(corners: Float64[np.ndarray, "corners 2"]) -> float:
    """Area of a polygon without crossings, in the square of its unit (the shoelace formula)."""
    following = np.roll(corners, -1, axis=0)
    return abs(float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())) / 2


def shared_area(one: Corners, other: Corners) -> float:
    """Area that two convex shapes have in common, both with their corners clockwise on the picture.

    Sutherland and Hodgman, Communications of the ACM 17 (1974). OpenCV's own loses areas where edges coincide, as those
    of a shape and of the same with a margin may.
    """
    left = [*one]
    for start, end in zip(other, np.roll(other, -1, axis=0), strict=True):
        left = _clipped(left, start, end)
    return area_of(np.array(left)) if left else 0.0


def _clipped(corners: list[Vector], start: Vector, end: Vector) -> list[Vector]:
    """What of a convex polygon lies on the right of a directed line, as seen on the picture."""
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
