"""Health checks of a camera's pictures: those of `gonogo.images.health`, and frozen or wrongly sized ones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from gonogo.capture.camera import CaptureError, Trouble
from gonogo.config import PictureHealth
from gonogo.images.health import PictureFacts, measure, problem_of, suggest_health
from gonogo.schema import Frame

__all__ = ["HealthCheck", "HealthLimits", "PictureFacts", "measure", "suggest_limits"]


class HealthLimits(PictureHealth):
    """``[cameras.health]``: limits for pictures. The defaults catch only gross failures; measure your own limits."""

    frozen: bool = True
    """Refuse a picture with the same pixels as the previous one; the noise of a real sensor never repeats."""
    size_wh: tuple[int, int] | None = None
    """Exact width and height in pixels; ``None`` accepts any size."""


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
        if (problem := problem_of(measure(frame), limits)) is not None:
            raise CaptureError(Trouble(problem.ailment), problem.message)


def suggest_limits(frames: Iterable[Frame]) -> HealthLimits:
    """Suggest limits that all of these good pictures meet with a margin, see `gonogo.images.health.suggest_health`.

    Raises:
        InputError: there are no frames.
    """
    facts, sizes = [], set()
    for frame in frames:
        facts.append(measure(frame))
        sizes.add((frame.shape[1], frame.shape[0]))
    suggested = suggest_health(facts).model_dump()
    return HealthLimits(**suggested, size_wh=sizes.pop() if len(sizes) == 1 else None)


def _equal(before: Frame, frame: Frame) -> bool:
    # Noise differs within a few rows, so only identical pictures are compared in full.
    if before.shape != frame.shape or not np.array_equal(before[::64], frame[::64]):
        return False
    return np.array_equal(before, frame)
