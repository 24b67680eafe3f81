"""The pictures of a folder in turn, over and over: no camera, for trials without a line."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

from gonogo import images
from gonogo.capture.camera import Acquired, now
from gonogo.errors import InputError
from gonogo.schema import Frame

DECODED = 64
"""Pictures that are kept decoded."""


class RepeatingCamera:
    """Gives the next picture of a folder for each trigger."""

    def __init__(self, folder: Path) -> None:
        """Find the pictures; each is read when it is needed.

        Raises:
            InputError: the folder holds no pictures.
        """
        files = list(images.find(folder))
        if not files:
            raise InputError(f"{folder}: expected pictures, found none.")
        self._files = itertools.cycle(files)
        self._read = functools.lru_cache(maxsize=DECODED)(_read)

    def acquire(self, trigger_id: str, *, timeout_s: float) -> Acquired:
        """See `Camera.acquire`."""
        frame, data = self._read(next(self._files))
        return Acquired(frame=frame, data=data, at=now())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to let go."""


def _read(path: Path) -> tuple[Frame, bytes]:
    data = images.read_bytes(path)
    return images.decode(data, name=str(path)), data
