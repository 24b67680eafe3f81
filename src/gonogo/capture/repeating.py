"""A fake camera that cycles through the pictures of a folder, for trials without a line."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path

from gonogo import images
from gonogo.capture.camera import Acquired, capture_time
from gonogo.errors import InputError

DECODED = 64
"""Number of decoded pictures kept in memory."""


class RepeatingCamera:
    """Returns the next picture of a folder for each trigger."""

    def __init__(self, folder: Path) -> None:
        """List the pictures; each is read when it is needed.

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
        return Acquired(photograph=self._read(next(self._files)), at=capture_time())

    def settle(self, trigger_id: str, *, stored: bool) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def _read(path: Path) -> images.Photograph:
    return images.Photograph(images.read_bytes(path), name=str(path))
