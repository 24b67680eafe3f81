"""Health checks: refuse pictures that are frozen, dark, saturated, blurred or of the wrong size.

A failing camera seldom reports an error. It repeats its last picture, or sends a black or a white one, and a network
trained on parts may judge that as good. So every picture is checked against simple limits before it is judged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from pydantic import Field

from gonogo.capture.camera import CaptureError, Trouble
from gonogo.config import Strict
from gonogo.errors import InputError
from gonogo.schema import Frame

_SIDE_PX = 192
_PLACES = ((0.5, 0.5), (0.2, 0.2), (0.2, 0.8), (0.8, 0.2), (0.8, 0.8))
_FULL = 250
_STEP = 8
_ALL_BUT_BRIGHTEST = 0.99
_LEAST_CONTRAST = 3.0  # grey levels; with less contrast, sharpness cannot be measured


class HealthLimits(Strict):
    """``[cameras.health]``: limits for pictures. The defaults catch only gross failures; measure your own limits."""

    frozen: bool = True
    """Refuse a picture with the same pixels as the previous one; the noise of a real sensor never repeats."""
    darkest: float = Field(default=40.0, ge=0, le=255)
    """Smallest grey value of the brightest 1 % of the pixels."""
    saturated: float = Field(default=0.25, ge=0, le=1)
    """Largest share of pixels that are white in every channel."""
    sharpness: float = Field(default=0.1, ge=0)
    """Smallest edge strength relative to contrast, see `PictureFacts.sharpness`; 0 turns the check off."""
    size_wh: tuple[int, int] | None = None
    """Exact width and height in pixels; ``None`` accepts any size."""


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


def measure(frame: Frame) -> PictureFacts:
    """Measure one frame: brightness on every eighth pixel, sharpness in five windows of 192 pixels.

    Args:
        frame: uint8, height x width x 3.
    """
    red, green, blue = (np.ascontiguousarray(frame[::_STEP, ::_STEP, channel]) for channel in range(3))
    lightest = np.sort(np.maximum(np.maximum(red, green), blue), axis=None)
    return PictureFacts(
        brightest=float(lightest[int(_ALL_BUT_BRIGHTEST * lightest.size)]),
        saturated=float((np.minimum(np.minimum(red, green), blue) >= _FULL).mean()),
        sharpness=_sharpness(frame),
    )


class HealthCheck:
    """Checks the pictures of one camera against limits; keeps the last one to detect a frozen camera."""

    def __init__(self, limits: HealthLimits) -> None:
        self._limits = limits
        self.before: Frame | None = None
        """The previous picture, which the next one must not equal."""

    def require(self, frame: Frame, *, size_wh: tuple[int, int] | None = None) -> None:
        """Check one picture.

        Args:
            frame: The decoded pixels.
            size_wh: Full width and height, if the decoder reduced the picture.

        Raises:
            CaptureError: the picture violates a limit; the message has the measured and the expected value.
        """
        limits, (width, height) = self._limits, size_wh or (frame.shape[1], frame.shape[0])
        if limits.size_wh is not None and (width, height) != limits.size_wh:
            wanted = f"{limits.size_wh[0]} x {limits.size_wh[1]}"
            raise CaptureError(Trouble.WRONG_SIZE, f"expected {wanted} pixels, found {width} x {height}")
        before, self.before = self.before, frame
        if limits.frozen and before is not None and _equal(before, frame):
            raise CaptureError(Trouble.FROZEN, "the picture equals the previous one: the camera is frozen")
        facts = measure(frame)
        if facts.brightest < limits.darkest:
            raise CaptureError(
                Trouble.DARK,
                f"dark: the brightest 1 % reach {facts.brightest:.0f}, expected {limits.darkest:g} or more",
            )
        if facts.saturated > limits.saturated:
            raise CaptureError(
                Trouble.SATURATED,
                f"overexposed: {facts.saturated:.0%} of the pixels are white, expected at most {limits.saturated:.0%}",
            )
        if facts.sharpness is not None and facts.sharpness < limits.sharpness:
            raise CaptureError(
                Trouble.BLURRED, f"blurred: sharpness {facts.sharpness:.3f}, expected {limits.sharpness:g} or more"
            )


def suggest_limits(frames: Iterable[Frame]) -> HealthLimits:
    """Suggest limits that all of these good pictures meet with a margin.

    The limits are half of the smallest brightness and sharpness, and twice the largest share of white pixels, but at
    least 5 %.

    Raises:
        InputError: there are no frames.
    """
    facts, sizes = [], set()
    for frame in frames:
        facts.append(measure(frame))
        sizes.add((frame.shape[1], frame.shape[0]))
    if not facts:
        raise InputError("expected at least one good picture to measure, found none.")
    sharpness = [each.sharpness for each in facts if each.sharpness is not None]
    return HealthLimits(
        darkest=round(0.5 * min(each.brightest for each in facts), 1),
        saturated=round(min(1.0, max(0.05, 2 * max(each.saturated for each in facts))), 3),
        sharpness=round(0.5 * min(sharpness), 4) if sharpness else 0.0,
        size_wh=sizes.pop() if len(sizes) == 1 else None,
    )


def _equal(before: Frame, frame: Frame) -> bool:
    # Noise differs within a few rows, so only identical pictures are compared in full.
    if before.shape != frame.shape or not np.array_equal(before[::64], frame[::64]):
        return False
    return np.array_equal(before, frame)


def _sharpness(frame: Frame) -> float | None:
    height, width = frame.shape[:2]
    edges = contrast = 0.0
    for down, across in _PLACES:
        top, left = (
            int(min(max(0.0, share * length - _SIDE_PX / 2), max(0, length - _SIDE_PX)))
            for share, length in ((down, height), (across, width))
        )
        window = cv2.extractChannel(frame[top : top + _SIDE_PX, left : left + _SIDE_PX], 1)
        # Halve and smooth, so that sensor noise does not count as detail.
        small_wh = max(1, window.shape[1] // 2), max(1, window.shape[0] // 2)
        half = cv2.resize(window, small_wh, interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(half, (5, 5), 1.0)
        edges += float(cv2.meanStdDev(cv2.Laplacian(soft, cv2.CV_16S))[1][0, 0]) ** 2
        contrast += float(cv2.meanStdDev(soft)[1][0, 0]) ** 2
    if contrast < len(_PLACES) * _LEAST_CONTRAST**2:
        return None
    return float(np.sqrt(edges / contrast))
