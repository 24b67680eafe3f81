"""Fills polygons: a pixel belongs to one if its centre lies inside, by the even-odd rule."""

from __future__ import annotations

import math

import numpy as np

from gonogo.array_types import Float64
from gonogo.schema import Mask

_MOST_CROSSINGS = 50_000_000
"""Largest number of crossings of a polygon's sides with rows of pixels; a real outline has some thousands."""


def fill_polygon(mask: Mask, points: Float64[np.ndarray, "corners 2"]) -> None:
    """Add one polygon to a mask: a pixel is inside if an odd number of sides passes to the left of its centre.

    Args:
        mask: Modified in place.
        points: Corners ``(x, y)`` in pixels; may lie outside the mask.

    Raises:
        ValueError: The sides cross too many rows of pixels.
    """
    height, width = mask.shape
    (left, top), (right, bottom) = (
        np.clip(points.min(axis=0), 0, (width, height)),
        np.clip(points.max(axis=0), 0, (width, height)),
    )
    x, y, end_x, end_y = int(left), int(top), math.ceil(right), math.ceil(bottom)
    columns, rows = end_x - x, end_y - y
    ends = np.stack([points, np.roll(points, -1, axis=0)], axis=1) - (x, y)
    ends = ends[np.arange(len(ends))[:, None], np.argsort(ends[:, :, 1], axis=1)]  # upper end first, for equal sums
    (x0, y0), (x1, y1) = ends[:, 0].T, ends[:, 1].T
    first = np.clip(np.ceil(y0 - 0.5), 0, rows).astype(np.int64)
    counts = np.clip(np.ceil(y1 - 0.5), 0, rows).astype(np.int64) - first
    if counts.sum() > _MOST_CROSSINGS:
        raise ValueError(f"expected a simple polygon, found {len(points)} corners")
    side = np.repeat(np.arange(len(points)), counts)
    row = first[side] + np.arange(len(side)) - np.repeat(np.cumsum(counts) - counts, counts)
    crossing = x0[side] + (row + 0.5 - y0[side]) * ((x1 - x0)[side] / (y1 - y0)[side])
    column = np.clip(np.ceil(crossing - 0.5), 0, columns).astype(np.int64)
    passed = np.bincount(row * (columns + 1) + column, minlength=rows * (columns + 1)).reshape(rows, columns + 1)
    mask[y:end_y, x:end_x] |= np.cumsum(passed, axis=1)[:, :columns] % 2 == 1
