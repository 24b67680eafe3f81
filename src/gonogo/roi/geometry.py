"""Turned rectangles in frame pixels, and the crop that sets one upright."""

from __future__ import annotations

import math
from typing import TypeAlias

import cv2
import numpy as np
from jaxtyping import Float64

from gonogo.errors import ImageError
from gonogo.schema import Box, Frame, Quad

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


def upright(corners: Corners) -> Corners:
    """The same corners, clockwise, from the one whose first side points most nearly to the right.

    A rectangle does not say which of its corners the part calls top left; this choice turns it by at most 45 degrees.
    """
    following = corners[[1, 2, 3, 0]]
    twice_area = float((corners[:, 0] * following[:, 1] - corners[:, 1] * following[:, 0]).sum())
    if twice_area < 0:  # anticlockwise, where y points down
        corners = corners[::-1]
        following = corners[[1, 2, 3, 0]]
    sides = following - corners
    first = int(np.argmax(sides[:, 0] - np.abs(sides[:, 1])))
    return corners[[first, (first + 1) % 4, (first + 2) % 4, (first + 3) % 4]]


def axes(corners: Corners) -> tuple[Vector, Vector]:
    """The rectangle's mean sides as vectors: along its top, and down."""
    first, second, third, fourth = corners
    return (second - first + third - fourth) / 2, (fourth - first + third - second) / 2


def side_lengths(shapes: Shapes) -> Float64[np.ndarray, "shapes 2"]:
    """Length of each rectangle's top and of its left side."""
    lengths: Float64[np.ndarray, "shapes 2"] = np.linalg.norm(shapes[:, [1, 3]] - shapes[:, [0]], axis=2)
    return lengths


def grown(shapes: Shapes, grow_long: float, grow_short: float) -> Shapes:
    """Each rectangle with both ends of its long and of its short axis moved outwards by a share of that axis."""
    lengths = side_lengths(shapes)
    wide = (lengths[:, 0] >= lengths[:, 1])[:, None, None]
    top, left = shapes[:, [1]] - shapes[:, [0]], shapes[:, [3]] - shapes[:, [0]]
    along = top * np.where(wide, grow_long, grow_short)
    down = left * np.where(wide, grow_short, grow_long)
    moved: Shapes = shapes + np.array([-1, 1, 1, -1])[:, None] * along + np.array([-1, -1, 1, 1])[:, None] * down
    return moved


def rectify(frame: Frame, quad: Quad, size_wh: tuple[int, int]) -> Frame:
    """Cut a turned or tilted region out of a frame and set it upright, by the perspective map of its corners.

    A region of at least twice the target is first averaged down by the integer factor that fits (anti-aliasing), then
    sampled bilinearly. What lies beyond the frame repeats its nearest edge.

    Args:
        frame: uint8, height x width x 3.
        quad: The region's corners in frame pixels; the first becomes the top left of the crop.
        size_wh: Target width and height in pixels.

    Returns:
        uint8, ``size_wh[1]`` x ``size_wh[0]`` x 3.

    Raises:
        ImageError: the quad is not convex, has no area, or does not overlap the frame.
    """
    width, height = size_wh
    corners = np.asarray(quad, np.float64)
    _require_view(frame, corners)
    to_right, to_bottom = (np.linalg.norm(side) for side in axes(corners))
    step = max(1, int(min(to_right / width, to_bottom / height)))
    x1, y1, x2, y2 = _window(frame, box_around(corners), step)
    crop = frame[y1:y2, x1:x2]
    if step > 1:
        columns, rows = max(1, (x2 - x1) // step), max(1, (y2 - y1) // step)
        crop = cv2.resize(crop[: rows * step, : columns * step], (columns, rows), interpolation=cv2.INTER_AREA)
    # OpenCV counts from pixel centres, gonogo from pixel edges.
    source = (corners - [x1, y1]) / step - 0.5
    target = corners_of_box(Box(x1=0, y1=0, x2=width, y2=height)) - 0.5
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    upright_crop = cv2.warpPerspective(
        crop, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(upright_crop, np.uint8)


def _require_view(frame: Frame, corners: Corners) -> None:
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    turns = sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0]
    # Finite, convex and clockwise: anything else has no upright view.
    if not (np.isfinite(corners).all() and (turns > 0).all()):
        raise ImageError(f"expected four corners of a convex region, clockwise, found {as_quad(corners)}.")
    if box_around(corners).intersection(Box.whole(frame)).area <= 0:
        height, width = frame.shape[:2]
        raise ImageError(f"the region {as_quad(corners)} lies outside the {width} x {height} picture.")


def _window(frame: Frame, box: Box, step: int) -> tuple[int, int, int, int]:
    """The whole pixels of the frame around a box, with a block of ``step`` pixels to spare for interpolation.

    The blocks begin at the box's own corner, so that a box that is a whole number of blocks is averaged exactly.
    """
    height, width = frame.shape[:2]
    x1, y1 = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    x1, y1 = x1 - min(x1 // step, 1) * step, y1 - min(y1 // step, 1) * step
    return x1, y1, min(width, math.ceil(box.x2) + 2 * step), min(height, math.ceil(box.y2) + 2 * step)
