"""Cropping and resizing of regions, shared by training and inspection: boxes are cropped, quads are rectified."""

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
    """Cut out a region at the network's input size: `crop_resize` for a box, `rectify` for a rotated rectangle."""
    return crop_resize(frame, region, size_wh) if isinstance(region, Box) else rectify(frame, region, size_wh)


def seen_region(frame: Frame, region: Region) -> Region:
    """The exact region that `cut` uses: a box is rounded to whole pixels and clipped to the frame, a quad is kept."""
    if not isinstance(region, Box):
        return region
    x1, y1, x2, y2 = pixel_window(frame, region)
    return Box(x1=x1, y1=y1, x2=x2, y2=y2)


def within(region: Region, points_xy: Points) -> Points:
    """Convert frame points to the region's coordinates: (0, 0) is its first corner, (1, 1) the opposite one."""
    return _mapped(_homography(corners_of(region), corners_of_box(UNIT)), points_xy)


def in_frame(region: Region, points_uv: Points) -> Points:
    """Inverse of `within`."""
    return _mapped(_homography(corners_of_box(UNIT), corners_of(region)), points_uv)


def crop_resize(frame: Frame, box: Box, size_wh: tuple[int, int]) -> Frame:
    """Crop a box out of a frame and resize it to the network's input size.

    The crop is rounded outwards to whole pixels and clipped to the frame. If it is at least twice the target size, it
    is first averaged down by an integer factor (anti-aliasing; a remainder of less than one target pixel is cut off at
    the far edges), then resized bilinearly. This takes a third of the time of area resampling.

    Args:
        frame: uint8, height x width x 3.
        box: The region in frame pixels.
        size_wh: Target width and height in pixels.

    Returns:
        uint8, ``size_wh[1]`` x ``size_wh[0]`` x 3, contiguous.

    Raises:
        ImageError: The box does not overlap the frame.
    """
    x1, y1, x2, y2 = pixel_window(frame, box)
    crop = frame[y1:y2, x1:x2]
    width, height = size_wh
    crop = averaged(crop, max(1, (x2 - x1) // width), max(1, (y2 - y1) // height))
    if crop.shape[:2] != (height, width):
        crop = cv2.resize(crop, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.ascontiguousarray(crop)


def averaged(picture: Frame, step_x: int, step_y: int) -> Frame:
    """Average blocks of ``step_x`` x ``step_y`` pixels; incomplete blocks at the far edges are cut off.

    The picture is halved repeatedly if both steps are even, because two halvings take a third of the time of one
    quartering in OpenCV. Intermediate rounding changes a pixel by at most one grey level.
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
    """Whole-pixel window that `crop_resize` uses for a box: ``(x1, y1, x2, y2)``.

    Raises:
        ImageError: The box does not overlap the frame.
    """
    height, width = frame.shape[:2]
    x1, y1 = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    x2, y2 = min(width, math.ceil(box.x2)), min(height, math.ceil(box.y2))
    if x2 <= x1 or y2 <= y1:
        raise ImageError(f"the region {box.xyxy} lies outside the {width} x {height} picture.")
    return x1, y1, x2, y2


def rectify(frame: Frame, quad: Quad, size_wh: tuple[int, int]) -> Frame:
    """Rectify a rotated or tilted region by the perspective transform of its corners.

    A region of at least twice the target size is first averaged down by an integer factor (anti-aliasing), then sampled
    bilinearly. Beyond the frame, the nearest edge pixel is repeated.

    Args:
        frame: uint8, height x width x 3.
        quad: The region's corners in frame pixels; the first becomes the top left of the crop.
        size_wh: Target width and height in pixels.

    Returns:
        uint8, ``size_wh[1]`` x ``size_wh[0]`` x 3.

    Raises:
        ImageError: The quad is not convex, has no area, or does not overlap the frame.
    """
    width, height = size_wh
    corners = np.asarray(quad, np.float64)
    _require_view(frame, corners)
    to_right, to_bottom = (np.linalg.norm(side) for side in axes(corners))
    step = max(1, int(min(to_right / width, to_bottom / height)))
    x1, y1, x2, y2 = _window(frame, box_around(corners), step)
    crop = averaged(frame[y1:y2, x1:x2], step, step)
    # OpenCV's origin is the centre of the first pixel, gonogo's is its corner.
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
    # Only finite, convex, clockwise corners can be rectified.
    if not (np.isfinite(corners).all() and (turns > 0).all()):
        raise ImageError(f"expected four corners of a convex region, clockwise, found {as_quad(corners)}.")
    if box_around(corners).intersection(Box.whole(frame)).area <= 0:
        height, width = frame.shape[:2]
        raise ImageError(f"the region {as_quad(corners)} lies outside the {width} x {height} picture.")


def _window(frame: Frame, box: Box, step: int) -> tuple[int, int, int, int]:
    """Whole-pixel window around a box, with an extra block of ``step`` pixels for interpolation.

    Blocks start at the box's corner, so that a box of whole blocks is averaged exactly.
    """
    height, width = frame.shape[:2]
    x1, y1 = max(0, math.floor(box.x1)), max(0, math.floor(box.y1))
    x1, y1 = x1 - min(x1 // step, 1) * step, y1 - min(y1 // step, 1) * step
    return x1, y1, min(width, math.ceil(box.x2) + 2 * step), min(height, math.ceil(box.y2) + 2 * step)
