"""A fake camera that returns given frames and simulates the failures of a real camera."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from enum import StrEnum

import cv2
import numpy as np

from gonogo.capture.camera import Acquired, CaptureError, Trouble, capture_time
from gonogo.images import Photograph
from gonogo.schema import Frame


class Mishap(StrEnum):
    """A failure of one exposure."""

    NONE = "none"
    LOST = "lost"
    """The camera is disconnected."""
    DROP = "drop"
    """No frame comes before the timeout."""
    DELAY = "delay"
    """The frame is late by ``delay_s``."""
    HANG = "hang"
    """The driver ignores the timeout and blocks for ``hang_s``."""
    FREEZE = "freeze"
    """The previous frame comes again."""
    DARK = "dark"
    SATURATED = "saturated"
    BLURRED = "blurred"
    WRONG_SIZE = "wrong_size"
    CRASH = "crash"
    """The driver raises an unexpected exception."""


SPOILING = (Mishap.DARK, Mishap.SATURATED, Mishap.BLURRED, Mishap.WRONG_SIZE)
"""Mishaps that change the pixels."""


class FakeCamera:
    """Returns ``frames(trigger_id)`` with the mishap ``plan(trigger_id)``.

    Both depend only on the trigger, so a run is repeatable for any order of triggers.
    """

    def __init__(
        self,
        frames: Callable[[str], Frame | bytes | Photograph],
        plan: Callable[[str], Mishap] = lambda trigger_id: Mishap.NONE,
        *,
        delay_s: float = 0.2,
        hang_s: float = 3600.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Create a fake camera.

        Args:
            frames: Returns the picture of a trigger: pixels, an encoded file, or a photograph.
            plan: Returns the mishap of a trigger.
            delay_s: Delay of a late frame in seconds.
            hang_s: Time that a hanging driver blocks, in seconds.
            sleep: Replaces `time.sleep` in a simulation with its own clock.
        """
        self._frames = frames
        self._plan = plan
        self._delay_s = delay_s
        self._hang_s = hang_s
        self._sleep = sleep
        self._before: Acquired | None = None

    @classmethod
    def of(cls, frames: Sequence[Frame], plan: Sequence[Mishap] = ()) -> FakeCamera:
        """Cycle through these frames; ``plan`` holds the mishaps of the first exposures."""
        pictures, mishaps = itertools.cycle(frames), itertools.chain(plan, itertools.repeat(Mishap.NONE))
        return cls(lambda _: next(pictures), lambda _: next(mishaps))

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """See `Camera.acquire`."""
        mishap = self._plan(trigger_id)
        if mishap is Mishap.LOST:
            raise CaptureError(Trouble.CAMERA_LOST, "the fake camera was unplugged")
        if mishap is Mishap.CRASH:
            raise RuntimeError("the fake driver crashed")
        if mishap is Mishap.DROP:
            self._sleep(timeout_s)
            raise CaptureError(Trouble.NO_FRAME, f"the fake camera gave no frame in {timeout_s:.2f} s")
        if mishap in (Mishap.DELAY, Mishap.HANG):
            self._sleep(self._delay_s if mishap is Mishap.DELAY else self._hang_s)
        if mishap is Mishap.FREEZE and self._before is not None:
            return self._before
        given = self._frames(trigger_id)
        photograph = given if isinstance(given, Photograph) else Photograph(given)
        if mishap in SPOILING:
            photograph = Photograph(spoil(photograph.frame, mishap))
        acquired = Acquired(photograph=photograph, at=capture_time())
        self._before = acquired
        return acquired

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def spoil(frame: Frame, mishap: Mishap) -> Frame:
    """Return the frame as a failing lamp, exposure, lens or driver would deliver it; unchanged for other mishaps."""
    if mishap is Mishap.DARK:
        return (frame // 16).astype(np.uint8)
    if mishap is Mishap.SATURATED:
        return np.clip(frame.astype(np.int32) * 4 + 200, 0, 255).astype(np.uint8)
    if mishap is Mishap.BLURRED:
        return np.asarray(cv2.GaussianBlur(frame, (0, 0), max(frame.shape) / 40), dtype=np.uint8)
    if mishap is Mishap.WRONG_SIZE:
        return np.ascontiguousarray(frame[: frame.shape[0] // 2])
    return frame
