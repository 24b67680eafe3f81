"""Pictures with 10 to 16 bits per pixel: two fixed levels map their raw counts to the 256 grey values that are judged.

The levels belong to the recipe. They are the same for every picture: levels that follow each picture would hide a lamp
that fades, and a defect that fills the picture.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

import cv2
import numpy as np

from gonogo.array_types import Int64, UInt16
from gonogo.config import Depth
from gonogo.errors import ImageError
from gonogo.schema import Frame

_COUNTS = 1 << 16
_CUT = 0.0005
"""Share of the pixels beyond each of the measured levels."""
_MARGIN = 0.1
"""The measured range is widened by this share at both ends: the next part may be a little darker or brighter."""


def levelled(raw: UInt16[np.ndarray, "height width"], depth: Depth) -> Frame:
    """Map raw counts to grey values: ``black`` and less become 0, ``white`` and more 255.

    Computed in floating point and rounded once, for each of the 65,536 counts.

    Returns:
        uint8, height x width x 3, with three equal channels.
    """
    grey = np.take(_table(depth.black, depth.white), raw)
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), np.uint8)


@functools.lru_cache(maxsize=32)
def _table(black: int, white: int) -> np.ndarray:
    share = (np.arange(_COUNTS, dtype=np.float64) - black) / (white - black)
    return np.rint(255 * np.clip(share, 0, 1)).astype(np.uint8)


def upper_bytes(raw: UInt16[np.ndarray, "height width"]) -> Frame:
    """Return the upper byte of every count, as a picture is shown that has no levels."""
    return np.asarray(cv2.cvtColor((raw >> 8).astype(np.uint8), cv2.COLOR_GRAY2RGB), np.uint8)


def measured_levels(pictures: Iterable[UInt16[np.ndarray, "height width"]]) -> Depth:
    """Return levels that hold all but one in a thousand pixels of these pictures together, with a margin.

    Raises:
        ImageError: there are no pictures, or all their pixels have the same count.
    """
    total: Int64[np.ndarray, " counts"] = np.zeros(_COUNTS, np.int64)
    for raw in pictures:
        total += np.bincount(raw.ravel(), minlength=_COUNTS)
    share = np.cumsum(total) / max(1, total.sum())
    low, high = int(np.searchsorted(share, _CUT)), int(np.searchsorted(share, 1 - _CUT))
    if not total.any() or high <= low:
        raise ImageError(
            f"expected 16-bit pictures with different counts, found {'only ' + str(low) if total.any() else 'none'}."
        )
    margin = max(1, round(_MARGIN * (high - low)))
    return Depth(black=max(0, low - margin), white=min(_COUNTS - 1, high + margin))
