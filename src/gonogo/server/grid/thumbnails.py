"""Thumbnails: made once, kept on the disk within a limit, the least recently made dropped first."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from pathlib import Path

from gonogo import images
from gonogo.dataset.levels import levels_of
from gonogo.errors import InputError
from gonogo.files import disk_is_full, write_beside
from gonogo.schema import Frame
from gonogo.server.parts.pictures import smaller_picture

WIDTH_PX = 320
"""Largest width of a thumbnail; a smaller picture is not enlarged."""
MOST_BYTES = 1_000_000_000
_KEPT_SHARE = 0.9
_QUALITY = 82


class Thumbnails:
    """The thumbnails of a workspace."""

    def __init__(self, folder: Path, *, most_bytes: int = MOST_BYTES) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._bytes: int | None = None
        self._lock = threading.Lock()

    def jpeg(self, path: Path, stamp: str, *, drawn: str = "", draw: Callable[[Frame], Frame] | None = None) -> bytes:
        """Return a thumbnail as JPEG.

        Args:
            path: The picture.
            stamp: Its size and time (see `stamp_of`): a changed picture has another thumbnail.
            drawn: What ``draw`` depends on.
            draw: Draws onto the picture; the default reduces it.

        Raises:
            ImageError: The picture is unreadable.
        """
        name = hashlib.sha256("\n".join((str(path), stamp, drawn)).encode("utf-8", "replace")).hexdigest()
        kept = self._folder / name[:2] / f"{name[2:40]}.jpg"
        try:
            return kept.read_bytes()
        except OSError:
            frame = images.load_confined(path, depth=levels_of(path))
        small = smaller_picture(frame, WIDTH_PX)[0] if draw is None else draw(frame)
        data = images.encode_jpeg(small, quality=_QUALITY)
        self._keep(kept, data)
        return data

    def _keep(self, path: Path, data: bytes) -> None:
        with self._lock:
            if self._bytes is None:
                self._bytes = sum(each.stat().st_size for each in self._all())
            try:
                write_beside(path, data)
            except InputError as error:
                if not disk_is_full(error):
                    raise
                return  # shown all the same; it is made again next time
            self._bytes += len(data)
            if self._bytes > self._most_bytes:
                self._bytes = self._drop()

    def _drop(self) -> int:
        """Delete the oldest ones; return the bytes that are left."""
        listed = sorted(((found := each.stat()).st_mtime_ns, found.st_size, each) for each in self._all())
        left = sum(size for _, size, _ in listed)
        for _, size, each in listed:
            if left <= self._most_bytes * _KEPT_SHARE:
                break
            each.unlink(missing_ok=True)
            left -= size
        return left

    def _all(self) -> list[Path]:
        return list(self._folder.glob("??/*.jpg"))
