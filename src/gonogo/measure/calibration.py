"""How large a pixel is: from a checkerboard, or from two points at a known distance.

A checkerboard lies in the plane of the part. Its inner corners (OpenCV finds them to a fraction of a pixel) are fitted
by a similarity, one scale for the whole picture, and by a homography, which describes a tilted camera (Hartley and
Zisserman, Multiple View Geometry, 2003, chapter 2). The homography is kept only if it fits clearly better. What
neither of them explains is the lens; a residual that would spoil measurements is refused, not corrected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np

from gonogo.array_types import Float64
from gonogo.config import Scale
from gonogo.errors import InputError
from gonogo.schema import Frame

Points = Float64[np.ndarray, "points 2"]

MOST_ERROR = 0.02
"""Largest relative error of a calibration."""
_CLICK_PX = 1.0  # 95 % of the points of an edge are within a pixel, at both ends together
_CLEARLY = 1.5
_LEAST_GAIN_PX = 0.15


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A scale with what it was fitted to."""

    scale: Scale
    residual_px: float
    """Root mean square distance of the fitted corners from the found ones, in pixels; 0 for an edge."""
    similarity_residual_px: float
    """The same without correcting a tilt."""
    points_xy: Points
    """The corners, or both ends of the edge, in frame pixels."""

    @property
    def residual_mm(self) -> float:
        """The residual in mm."""
        return self.residual_px * self.scale.mm_per_px


def calibrate_checkerboard(frame: Frame, corners_wh: tuple[int, int], square_mm: float) -> Calibration:
    """Calibrate on a checkerboard.

    Args:
        frame: The full-size picture.
        corners_wh: Number of inner corners along both sides: one less than the number of squares.
        square_mm: Side of a square.

    Raises:
        InputError: The board was not found, or lengths on it would be wrong by more than `MOST_ERROR`.
    """
    across, down = corners_wh
    if min(corners_wh) < 3 or max(corners_wh) > 60 or not (0 < square_mm < 10_000):
        raise InputError(
            f"expected 3 to 60 inner corners along each side and a positive size, found {across}x{down} and "
            f"{square_mm:g}."
        )
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    found, corners = cv2.findChessboardCornersSB(grey, corners_wh, flags=cv2.CALIB_CB_EXHAUSTIVE)
    if not found:
        raise InputError(
            f"expected a checkerboard of {across} x {down} inner corners ({across + 1} x {down + 1} squares), found "
            "none. Show the whole board flat, without glare, with a white margin of a square around it."
        )
    pixels = np.asarray(corners, np.float64).reshape(-1, 2) + 0.5  # OpenCV counts from pixel centres
    board = np.stack(np.meshgrid(np.arange(across), np.arange(down)), axis=-1).reshape(-1, 2) * float(square_mm)
    similarity, homography = _similarity(pixels, board), _homography(pixels, board)
    flat, tilted = (_residual_px(matrix, pixels, board) for matrix in (similarity, homography))
    tilt = flat > _CLEARLY * tilted and flat - tilted > _LEAST_GAIN_PX
    matrix, residual = (homography, tilted) if tilt else (similarity, flat)
    error = _length_error(_mapped(matrix, pixels), board, least_mm=2.9 * square_mm)
    if error > MOST_ERROR:
        raise InputError(
            f"the checkerboard does not fit: 95 % of its lengths are wrong by up to {error:.1%}, expected at most "
            f"{MOST_ERROR:.0%} (residual {residual:.2f} pixels). Lay the board flat, focus on it, check --square-mm, "
            "or use a lens with less distortion."
        )
    name = f"checkerboard of {across} x {down} corners, {square_mm:g} mm"
    scale = Scale(
        mm_per_px=_local_mm(matrix, pixels.mean(axis=0)),
        relative_error=error,
        homography=_nine(matrix) if tilt else None,
        size_wh=(frame.shape[1], frame.shape[0]),
        target=name,
    )
    return Calibration(scale=scale, residual_px=residual, similarity_residual_px=flat, points_xy=pixels)


def calibrate_edge(frame: Frame, ends_xy: tuple[float, float, float, float], mm: float) -> Calibration:
    """Calibrate on two points at a known distance; the camera must look straight down.

    Args:
        frame: The full-size picture.
        ends_xy: x and y of the one end, then of the other, in pixels.
        mm: Their distance.

    Raises:
        InputError: A point lies outside the picture, or the points are too close together.
    """
    height, width = frame.shape[:2]
    ends = np.array(ends_xy, np.float64).reshape(2, 2)
    if not (np.isfinite(ends).all() and (ends >= 0).all() and (ends <= (width, height)).all() and 0 < mm < 100_000):
        raise InputError(
            f"expected two points inside the {width} x {height} picture and a positive length, found "
            f"{', '.join(f'{value:g}' for value in ends_xy)} and {mm:g} mm."
        )
    length = float(np.linalg.norm(ends[1] - ends[0]))
    if length * MOST_ERROR < _CLICK_PX:
        raise InputError(
            f"expected points at least {_CLICK_PX / MOST_ERROR:.0f} pixels apart, so that an error of a pixel stays "
            f"below {MOST_ERROR:.0%}, found {length:.0f}. Use a longer edge."
        )
    scale = Scale(
        mm_per_px=mm / length, relative_error=_CLICK_PX / length, size_wh=(width, height), target=f"edge of {mm:g} mm"
    )
    return Calibration(scale=scale, residual_px=0.0, similarity_residual_px=0.0, points_xy=ends)


def in_mm(points_xy: Points, scale: Scale) -> Points:
    """Convert pixels of the full-size picture to mm in the plane of the part."""
    if scale.homography is None:
        return np.asarray(points_xy, np.float64) * scale.mm_per_px
    return _mapped(np.array(scale.homography).reshape(3, 3), points_xy)


def pixel_mm(point_xy: Points, scale: Scale) -> float:
    """Side in mm of a square with the area of the pixel at a point."""
    if scale.homography is None:
        return scale.mm_per_px
    return _local_mm(np.array(scale.homography).reshape(3, 3), np.asarray(point_xy, np.float64))


def draw_calibration(frame: Frame, found: Calibration) -> Frame:
    """Draw the corners or the edge on the picture, with a bar of a round length in mm."""
    drawn = frame.copy()
    thick = max(1, round(min(frame.shape[:2]) / 300))
    points = np.rint((found.points_xy - 0.5) * 16).astype(np.int32)
    if len(points) == 2:
        cv2.line(drawn, points[0].tolist(), points[1].tolist(), (208, 46, 40), 2 * thick, cv2.LINE_AA, 4)
    for point in points:
        cv2.circle(drawn, point.tolist(), 16 * 4 * thick, (208, 46, 40), thick, cv2.LINE_AA, 4)
    _draw_bar(drawn, found.scale.mm_per_px, thick)
    return drawn


def _draw_bar(drawn: Frame, mm_per_px: float, thick: int) -> None:
    height, width = drawn.shape[:2]
    most = 0.25 * width * mm_per_px
    unit = 10.0 ** math.floor(math.log10(most))
    mm = max(step * unit for step in (1, 2, 5) if step * unit <= most)
    left, bottom = 12 * thick, height - 12 * thick
    right = left + round(mm / mm_per_px)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick
    cv2.rectangle(drawn, (left - 6, bottom - 24 * thick), (right + 6, bottom + 8 * thick), (255, 255, 255), -1)
    cv2.line(drawn, (left, bottom), (right, bottom), (20, 20, 20), 3 * thick)
    cv2.putText(drawn, f"{mm:g} mm", (left, bottom - 8 * thick), font, size, (20, 20, 20), thick, cv2.LINE_AA)


def _similarity(pixels: Points, board: Points) -> Float64[np.ndarray, "3 3"]:
    """Least squares (Umeyama, IEEE PAMI 13, 1991), allowing a mirror image, as corners may be counted either way."""
    centre, to_centre = pixels.mean(axis=0), board.mean(axis=0)
    moved, wanted = pixels - centre, board - to_centre
    left, sizes, right = np.linalg.svd(wanted.T @ moved)
    turn = left @ right
    factor = float(sizes.sum() / (moved**2).sum())
    matrix = np.eye(3)
    matrix[:2, :2] = factor * turn
    matrix[:2, 2] = to_centre - factor * turn @ centre
    return matrix


def _homography(pixels: Points, board: Points) -> Float64[np.ndarray, "3 3"]:
    matrix, _ = cv2.findHomography(pixels, board)
    if matrix is None:
        raise InputError("the corners of the checkerboard lie on one line. Show the whole board.")
    found: Float64[np.ndarray, "3 3"] = np.asarray(matrix, np.float64)
    return found


def _residual_px(matrix: Float64[np.ndarray, "3 3"], pixels: Points, board: Points) -> float:
    off = _mapped(np.linalg.inv(matrix), board) - pixels
    return float(np.sqrt((off**2).sum(axis=1).mean()))


def _length_error(measured: Points, board: Points, *, least_mm: float) -> float:
    """95 % quantile of the relative error of lengths between corners that are at least ``least_mm`` apart."""
    errors = []
    for one, other in combinations(range(len(board)), 2):
        true = math.dist(board[one], board[other])
        if true >= least_mm or len(board) < 16:
            errors.append(abs(math.dist(measured[one], measured[other]) / true - 1))
    return float(np.quantile(errors, 0.95)) if errors else 1.0


def _mapped(matrix: Float64[np.ndarray, "3 3"], points: Points) -> Points:
    found: Points = cv2.perspectiveTransform(np.asarray(points, np.float64).reshape(1, -1, 2), matrix)[0]
    return found


def _local_mm(matrix: Float64[np.ndarray, "3 3"], point: Points) -> float:
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]]) + np.asarray(point, np.float64)
    (x1, y1), (x2, y2), (x3, y3), (x4, y4) = _mapped(matrix, square)
    return math.sqrt(abs((x3 - x1) * (y4 - y2) - (x4 - x2) * (y3 - y1)) / 2)


def _nine(matrix: Float64[np.ndarray, "3 3"]) -> tuple[float, float, float, float, float, float, float, float, float]:
    a, b, c, d, e, f, g, h, i = (float(value) for value in matrix.ravel())
    return (a, b, c, d, e, f, g, h, i)
