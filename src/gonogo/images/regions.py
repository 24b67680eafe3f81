"""The one crop-and-resize that training and the line share: a box as it lies, a turned rectangle set upright."""

from __future__ import annotations

import math
from typing import TypeAlias

import cv2
import numpy as np

from gonogo.array_types import Float64
from gonogo.errors import ImageError
from gonogo.images.geometry import Corners, as_quad, axes, box_around, corners_of, corners_of_box
from gonogo.schema import Box, Frame, Quad, Region

Points: TypeAlias = Float64[np.ndarray, "_points 2"]

UNIT = Box(x1=0.0, y1=0.0, x2=1.0, y2=1.0)


def cut(frame: Frame, region: Region, size_wh: tuple[int, int]) -> Frame:
    """A region of a frame at the network's size: `crop_resize` of a box, `rectify` of a turned rectangle."""
    return crop_resize(frame, region, size_wh) if isinstance(region, Box) else rectify(frame, region, size_wh)


def seen_region(frame: Frame, region: Region) -> Region:
    """What `cut` really cuts out: a box rounded to whole pixels and clipped to the frame, a quad as it is."""
    if not isinstance(region, Box):
        return region
    x1, y1, x2, y2 = pixel_window(frame, region)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def within(region: Region, points_xy: Points) -> Points:
    """Frame points in the region's own coordinates: (0, 0) is its first corner, (1, 1) the opposite one."""
    return _mapped(_homography(corners_of(region), corners_of_box(UNIT)), points_xy)


def in_frame(region: Region, points_uv: Points) -> Points:
    """The reverse of `within`."""
    return _mapped(_homography(corners_of_box(UNIT), corners_of(region)), points_uv)


def crop_resize(frame: Frame, box: Box, size_wh: tuple[int, int]) -> Frame:
    """Cut a region out of a frame and resize it: the one pre-processing before the network.

    The crop is rounded outwards to whole pixels and clipped to the frame. A crop of at least twice the target is first
    averaged down by the integer factor that fits (anti-aliasing; the remainder, less than one target pixel, is cut at
    the far edges), then resized bilinearly. This costs a third of area resampling straight to the target.

    Args:
        frame: uint8, height x width x 3.
        box: The region in frame pixels.
        size_wh: Target width and height in pixels.

    Returns:
        uint8, ``size_wh[1]`` x ``size_wh[0]`` x 3, contiguous.

    Raises:
        ImageError: the box does not overlap the frame.
    """
    x1, y1, x2, y2 = pixel_window(frame, box)
    crop = frame[y1:y2, x1:x2]
    width, height = size_wh
    crop = averaged(crop, max(1, (x2 - x1) // width), max(1, (y2 - y1) // height))
    if crop.shape[:2] != (height, width):
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(crop)


def averaged(picture: Frame, step_x: int, step_y: int) -> Frame:
    """Each block of ``step_x`` x ``step_y`` pixels as its mean; what is left over at the far edges is cut off.

    Halved again and again where both steps allow it: OpenCV is three times as fast at that as at a quarter at once. The
    rounding in between moves a pixel by one grey level at most.
    """
    columns, rows = max(1, picture.shape[1] // step_x), max(1, picture.shape[0] // step_y)
    picture = picture[: rows * step_y, : columns * step_x]
    while step_x % 2 == 0 and step_y % 2 == 0:
        step_x, step_y = step_x // 2, step_y // 2
        size_wh = (columns * step_x, rows * step_y)
        picture = np.asarray(cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA), np.uint8)
    if step_x > 1 or step_y > 1:
        picture = np.asarray(cv2.resize(picture, (columns, rows), interpolation=cv2.INTER_AREA), np.uint8)
    return picture


def pixel_window(frame: Frame, box: Box) -> tuple[int, int, int, int]:
    """The whole pixels that `crop_resize` cuts out for a box: ``(x1, y1, x2, y2)``.

    Raises:
        ImageError: the box does not overlap the frame.
    """
    height, width = frame.shape[:2]
    x1, y1 = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    x2, y2 = min(width, math.ceil(box.x2)), min(height, math.ceil(box.y2))
    if x2 <= x1 or y2 <= y1:
        raise ImageError(f"the region {box.xyxy} lies outside the {width} x {height} picture.")
    return x1, y1, x2, y2


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
    crop = averaged(frame[y1:y2, x1:x2], step, step)
    # OpenCV counts from pixel centres, gonogo from pixel edges.
    source = (corners - [x1, y1]) / step - 0.5
    target = corners_of_box(Box(x1=0, y1=0, x2=width, y2=height)) - 0.5
    matrix = cv2.getPerspectiveTransform(source.astype(np.float32), target.astype(np.float32))
    upright_crop = cv2.warpPerspective(
        crop, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(upright_crop, np.uint8)


def _homography(source: Corners, target: Corners) -> Float64[np.ndarray, "3 3"]:
    matrix: Float64[np.ndarray, "3 3"] = cv2.getPerspectiveTransform(
        source.astype(np.float32), target.astype(np.float32)
    )
    return matrix


def _mapped(matrix: Float64[np.ndarray, "3 3"], points: Points) -> Points:
    found: Points = cv2.perspectiveTransform(np.asarray(points, np.float64)[None], matrix)[0]
    return found


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
