"""Pictures for the label page: decoded as for training, reduced, encoded as JPEG."""

from __future__ import annotations

import threading
from collections import OrderedDict
from pathlib import Path

import numpy as np

from gonogo import images
from gonogo.dataset import Dataset, Sample
from gonogo.dataset.levels import levels_of
from gonogo.server.parts.pictures import WIDTHS, smaller_picture

_CACHE_BYTES = 64_000_000
_SIZES = 20_000


class Photos:
    """Decodes and caches pictures. The browser gets re-encoded pictures, never a file's own bytes."""

    def __init__(self) -> None:
        self._drawn: OrderedDict[tuple[Path, int, int], bytes] = OrderedDict()
        self._sizes: OrderedDict[tuple[Path, int], tuple[int, int]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def size_wh(self, path: Path) -> tuple[int, int]:
        """Width and height of the decoded picture, after EXIF rotation.

        Raises:
            ImageError: unreadable.
        """
        key = (path, _changed(path))
        with self._lock:
            if key in self._sizes:
                return self._sizes[key]
        frame = images.load_confined(path, depth=levels_of(path))
        return self._know(key, (frame.shape[1], frame.shape[0]))

    def jpeg(self, path: Path, width: int) -> bytes:
        """Return the picture as JPEG, at most about ``width`` pixels wide.

        Raises:
            ImageError: unreadable.
        """
        width = next((known for known in WIDTHS if known >= width), WIDTHS[-1])
        changed = _changed(path)
        key = (path, changed, width)
        with self._lock:
            if key in self._drawn:
                self._drawn.move_to_end(key)
                return self._drawn[key]
        frame = images.load_confined(path, depth=levels_of(path))
        self._know((path, changed), (frame.shape[1], frame.shape[0]))
        drawn = images.encode_jpeg(smaller_picture(frame, width)[0], quality=88)
        with self._lock:
            self._bytes += len(drawn) - len(self._drawn.pop(key, b""))
            self._drawn[key] = drawn
            while self._bytes > _CACHE_BYTES:
                self._bytes -= len(self._drawn.popitem(last=False)[1])
        return drawn

    def mask(self, dataset: Dataset, sample: Sample, size_wh: tuple[int, int]) -> bytes:
        """Return a sample's mask as a greyscale PNG; empty if it has none.

        Raises:
            ImageError: it is unreadable, or its size differs from the picture's.
        """
        mask = dataset.load_mask(sample, (size_wh[1], size_wh[0]))
        blank = np.zeros((size_wh[1], size_wh[0]), np.uint8)
        return images.encode_png(blank if mask is None else mask.astype(np.uint8) * 255)

    def _know(self, key: tuple[Path, int], size_wh: tuple[int, int]) -> tuple[int, int]:
        with self._lock:
            self._sizes[key] = size_wh
            while len(self._sizes) > _SIZES:
                self._sizes.popitem(last=False)
        return size_wh


def _changed(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0
