"""The camera interface: one picture for one trigger, or an error that says why there is none."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gonogo.config import Recipe
from gonogo.errors import GonogoError, ImageError
from gonogo.images import Photograph
from gonogo.schema import Frame


class Trouble(StrEnum):
    """Why there is no usable picture."""

    CAMERA_LOST = "camera_lost"
    """The device, stream or folder is missing or does not respond."""
    NO_FRAME = "no_frame"
    """The camera responds, but delivered no picture in time."""
    UNMATCHED = "unmatched"
    """A picture came, but it is unknown which part it shows."""
    UNREADABLE = "unreadable"
    """The picture cannot be decoded."""
    FROZEN = "frozen"
    """The picture is identical to the previous one."""
    DARK = "dark"
    SATURATED = "saturated"
    BLURRED = "blurred"
    BLOCKED = "blocked"
    """The picture shows nothing: the lens is covered."""
    WRONG_SIZE = "wrong_size"


class CaptureError(GonogoError):
    """There is no usable picture; ``trouble`` is the kind of problem."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


@dataclass(frozen=True, kw_only=True)
class Acquired:
    """One picture from a camera."""

    photograph: Photograph
    """The encoded picture, not decoded yet, or the pixels if the camera delivers raw frames."""
    at: datetime
    """Time of arrival, UTC."""
    path: Path | None = None
    """File that the picture came in, if any."""
    sole_until_s: float | None = None
    """See `gonogo.capture.deliveries.Matched`."""

    def unpacked(self, recipe: Recipe) -> Frame:
        """Return the pixels as decoded for a recipe; a raw frame is returned in full, as the inspector checks it.

        Raises:
            CaptureError: the picture cannot be decoded.
        """
        photograph = self.photograph
        try:
            return photograph.full(recipe) if photograph.data is None else photograph.unpacked(recipe)
        except ImageError as error:
            raise CaptureError(Trouble.UNREADABLE, str(error)) from error


class Camera(Protocol):
    """Delivers one picture for one trigger.

    A camera is used by one thread at a time. It should not block for much longer than ``timeout_s``; a camera that
    hangs causes a fault and a restart of the worker, never a wrong verdict.
    """

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """Return the picture of a trigger: one taken after the call, or one delivered under its name.

        Raises:
            CaptureError: there is no usable picture; the message says why.
        """

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Release the trigger's picture; ``stored`` says whether its verdict and frame were recorded."""

    def close(self) -> None:
        """Close the device."""


def capture_time() -> datetime:
    """Return the present time, UTC."""
    return datetime.now(UTC)
