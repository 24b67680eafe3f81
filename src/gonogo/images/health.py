"""Picture health: dark, overexposed, blurred or empty pictures, which must not be judged.

A failing camera seldom reports an error. It sends a black, a white or a blurred picture, and a network trained on parts
may judge that as good. Stations, ``gonogo inspect`` and the pages use the same measurements and limits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import cv2
import numpy as np

from gonogo.config import PictureHealth
from gonogo.errors import ImageError, InputError
from gonogo.schema import Frame

Ailment: TypeAlias = Literal["dark", "saturated", "blurred", "blocked"]

_SIDE_PX = 192
_PLACES = ((0.5, 0.5), (0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))
_FULL = 250
_STEP = 8
_ALL_BUT_BRIGHTEST = 0.99
_LEAST_CONTRAST = 3.0  # grey levels; with less contrast, sharpness cannot be measured


@dataclass(frozen=True, kw_only=True)
class PictureFacts:
    """Measurements of one picture; they take less than a millisecond for any size."""

    brightest: float
    """Smallest grey value of the brightest 1 % of the pixels."""
    saturated: float
    """Share of pixels that are white in every channel."""
    sharpness: float | None
    """Standard deviation of the Laplacian divided by that of the grey values, in five windows at half resolution;
    ``None`` without contrast. Independent of exposure; lower if the lens is out of focus."""
    contrast: float
    """Standard deviation of the green channel, on every eighth pixel."""


@dataclass(frozen=True, kw_only=True)
class HealthProblem:
    """A limit that a picture violates."""

    ailment: Ailment
    message: str
    """The measured and the expected value, what to check, and the setting."""


def measure(frame: Frame) -> PictureFacts:
    """Measure one frame: brightness on every eighth pixel, sharpness in five windows of 192 pixels.

    Args:
        frame: uint8, height x width x 3.

    Raises:
        ImageError: The frame has no pixels.
    """
    if frame.size == 0:
        raise ImageError(f"expected a picture with pixels, found one of shape {frame.shape}.")
    red, green, blue = (np.ascontiguousarray(frame[::_STEP, ::_STEP, channel]) for channel in range(3))
    lightest = np.maximum(np.maximum(red, green), blue).ravel()
    rank = int(_ALL_BUT_BRIGHTEST * lightest.size)
    return PictureFacts(
        brightest=float(np.partition(lightest, rank)[rank]),
        saturated=float((np.minimum(np.minimum(red, green), blue) >= _FULL).mean()),
        sharpness=_sharpness(frame),
        contrast=float(green.std()),
    )


@dataclass(frozen=True, kw_only=True)
class FocusGrid:
    """Detail and contrast of a picture in equal tiles, row by row, for a focus aid.

    The sharpness of any group of tiles is the root of the sum of its ``edges`` over the sum of its ``contrast``: the
    quantity of `PictureFacts.sharpness`, on the chosen tiles instead of five windows.
    """

    columns: int
    rows: int
    edges: tuple[float, ...]
    """Variance of the Laplacian of each tile."""
    contrast: tuple[float, ...]
    """Variance of the grey values of each tile."""


def focus_grid(frame: Frame, *, columns: int = 12, rows: int = 9) -> FocusGrid:
    """Measure detail and contrast in tiles, at half resolution and smoothed as in `measure`.

    Args:
        frame: uint8, height x width x 3.
        columns: Number of tiles side by side; fewer for a very small picture.
        rows: Number of tiles below each other; fewer for a very small picture.

    Raises:
        ImageError: The frame has no pixels.
    """
    if frame.size == 0:
        raise ImageError(f"expected a picture with pixels, found one of shape {frame.shape}.")
    soft = _softened(cv2.extractChannel(frame, 1))
    height, width = soft.shape
    columns, rows = min(columns, width), min(rows, height)
    detail = cv2.Laplacian(soft, cv2.CV_16S)
    edges, contrast = [], []
    for row in range(rows):
        for column in range(columns):
            tile = np.s_[
                row * height // rows : (row + 1) * height // rows,
                column * width // columns : (column + 1) * width // columns,
            ]
            edges.append(round(float(cv2.meanStdDev(detail[tile])[1][0, 0]) ** 2, 3))
            contrast.append(round(float(cv2.meanStdDev(soft[tile])[1][0, 0]) ** 2, 3))
    return FocusGrid(columns=columns, rows=rows, edges=tuple(edges), contrast=tuple(contrast))


def problem_of(facts: PictureFacts, limits: PictureHealth) -> HealthProblem | None:
    """Return the first limit that a picture violates; ``None`` if it may be judged."""
    if facts.brightest < limits.darkest:
        found = f"dark: the brightest 1 % reach {facts.brightest:.0f}, expected {limits.darkest:g} or more"
        return HealthProblem(ailment="dark", message=f"{found}. Check the lamp and the exposure (darkest)")
    if facts.saturated > limits.saturated:
        found = f"overexposed: {facts.saturated:.0%} of the pixels are white, expected at most {limits.saturated:.0%}"
        return HealthProblem(ailment="saturated", message=f"{found}. Shorten the exposure (saturated)")
    if facts.contrast < limits.contrast:
        found = f"empty: the grey values vary by {facts.contrast:.1f}, expected {limits.contrast:g} or more"
        return HealthProblem(ailment="blocked", message=f"{found}. Is the lens covered, or is there a part? (contrast)")
    if facts.sharpness is not None and facts.sharpness < limits.sharpness:
        found = f"blurred: sharpness {facts.sharpness:.3f}, expected {limits.sharpness:g} or more"
        return HealthProblem(ailment="blurred", message=f"{found}. Check the focus and the lens (sharpness)")
    return None


def require_healthy(frame: Frame, limits: PictureHealth | None) -> None:
    """Refuse a picture that must not be judged; ``None`` accepts every picture.

    Raises:
        ImageError: The picture violates a limit.
    """
    if limits is not None and (problem := problem_of(measure(frame), limits)) is not None:
        raise ImageError(f"not judged, {problem.message}.")


def suggest_health(facts: Iterable[PictureFacts]) -> PictureHealth:
    """Suggest limits that all of these good pictures meet with a margin.

    The limits are half of the smallest brightness, contrast and sharpness, and twice the largest share of white pixels,
    but at least 5 %.

    Raises:
        InputError: there are no pictures.
    """
    measured = list(facts)
    if not measured:
        raise InputError("expected at least one good picture to measure, found none.")
    sharpness = [each.sharpness for each in measured if each.sharpness is not None]
    return PictureHealth(
        darkest=round(0.5 * min(each.brightest for each in measured), 1),
        saturated=round(min(1.0, max(0.05, 2 * max(each.saturated for each in measured))), 3),
        sharpness=round(0.5 * min(sharpness), 4) if sharpness else 0.0,
        contrast=round(0.5 * min(each.contrast for each in measured), 1),
    )


def _sharpness(frame: Frame) -> float | None:
    height, width = frame.shape[:2]
    edges = contrast = 0.0
    for down, across in _PLACES:
        top, left = (
            int(min(max(0.0, share * length - _SIDE_PX / 2), max(0, length - _SIDE_PX)))
            for share, length in ((down, height), (across, width))
        )
        window = cv2.extractChannel(frame[top : top + _SIDE_PX, left : left + _SIDE_PX], 1)
        soft = _softened(window)
        edges += float(cv2.meanStdDev(cv2.Laplacian(soft, cv2.CV_16S))[1][0, 0]) ** 2
        contrast += float(cv2.meanStdDev(soft)[1][0, 0]) ** 2
    if contrast < len(_PLACES) * _LEAST_CONTRAST**2:
        return None
    return float(np.sqrt(edges / contrast))


def _softened(grey: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    """Halve and smooth, so that sensor noise does not count as detail."""
    small_wh = max(1, grey.shape[1] // 2), max(1, grey.shape[0] // 2)
    half = cv2.resize(grey, small_wh, interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(half, (5, 5), 1.0)
