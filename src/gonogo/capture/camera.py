"""What every camera is to the rest: something that gives one frame for one trigger, or says why it cannot."""

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
    """The device, stream or folder is gone or does not answer."""
    NO_FRAME = "no_frame"
    """The camera answers, but gave no picture in time."""
    UNMATCHED = "unmatched"
    """A picture came, but it cannot be told which part it shows."""
    UNREADABLE = "unreadable"
    """A picture came that cannot be decoded."""
    FROZEN = "frozen"
    """The same picture as before."""
    DARK = "dark"
    SATURATED = "saturated"
    BLURRED = "blurred"
    WRONG_SIZE = "wrong_size"


class CaptureError(GonogoError):
    """No usable picture; ``trouble`` says of which kind, the message what was found."""

    def __init__(self, trouble: Trouble, message: str) -> None:
        super().__init__(message)
        self.trouble = trouble


@dataclass(frozen=True, kw_only=True)
class Acquired:
    """One picture from a camera."""

    photograph: Photograph
    """Encoded as it came, not unpacked yet, or the pixels where the camera gives those."""
    at: datetime
    """When it arrived, UTC."""
    path: Path | None = None
    """The file it came in, where it came in one."""
    sole_until_s: float | None = None
    """See `gonogo.capture.deliveries.Matched`."""

    def unpacked(self, recipe: Recipe) -> Frame:
        """The pixels as a recipe wants them unpacked; a raw frame whole, as it is for the inspector to refuse one.

        Raises:
            CaptureError: they cannot be decoded.
        """
        photograph = self.photograph
        try:
            return photograph.frame if photograph.data is None else photograph.unpacked(recipe)
        except ImageError as error:
            raise CaptureError(Trouble.UNREADABLE, str(error)) from error


class Camera(Protocol):
    """Give one frame for one trigger.

    A camera is used by one thread at a time. It may block for ``timeout_s`` and not much longer; one that hangs all the
    same costs its station a fault and a restart, never a wrong verdict.
    """

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """The picture of this trigger: one taken after the call, or the one that was delivered under its name.

        Raises:
            CaptureError: no usable picture; says why.
        """

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """The trigger's picture is no longer needed here; ``stored``: its verdict and frame are on record."""

    def close(self) -> None:
        """Let the device go."""


def capture_time() -> datetime:
    """This moment, UTC."""
    return datetime.now(UTC)
