"""Time of finding the region, compared with decoding the picture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo import images
from gonogo.roi.classical import Roi


@dataclass(frozen=True, kw_only=True)
class RoiTiming:
    """Median times over interleaved repeats, on one thread."""

    decode_ms: float
    """OpenCV's decoding of the picture to RGB."""
    locate_ms: float
    """Finding the region on the decoded picture, reduction and refinement included."""
    repeats: int

    @property
    def ratio(self) -> float:
        """Time of finding the region as a share of decoding; should be at most 1."""
        return self.locate_ms / self.decode_ms


def time_roi(roi: Roi, encoded: bytes, *, repeats: int = 40) -> RoiTiming:
    """Compare the time of an ROI method with OpenCV's decoding of the same picture.

    The two alternate, so that other load on the machine affects both; OpenCV runs on one thread.

    Args:
        roi: The method.
        encoded: The bytes of a JPEG or other picture file.
        repeats: Number of runs of each; the median is returned.

    Raises:
        ImageError: The bytes cannot be decoded.
    """
    frame = images.decode(encoded)
    buffer = np.frombuffer(encoded, np.uint8)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        rows = [
            (_ms(lambda: cv2.imdecode(buffer, cv2.IMREAD_COLOR_RGB)), _ms(lambda: roi.locate(frame)))
            for _ in range(repeats)
        ]
    finally:
        cv2.setNumThreads(threads)
    decode_ms, locate_ms = np.median(rows, axis=0)
    return RoiTiming(decode_ms=float(decode_ms), locate_ms=float(locate_ms), repeats=repeats)


def _ms(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return 1e3 * (time.perf_counter() - start)
