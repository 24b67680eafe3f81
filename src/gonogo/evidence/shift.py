"""Measures the offset of feature map cells."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from gonogo.array_types import Float32, UInt8


def measure_shift(
    features: Callable[[UInt8[np.ndarray, "height width 3"]], Float32[np.ndarray, "channels rows columns"]],
    size_wh: tuple[int, int],
    *,
    seed: int = 0,
) -> tuple[float, float]:
    """Measure the offset of the point that a cell responds to: ``(right, down)`` of its square's centre, in cells.

    The offset depends on the padding of strided convolutions and on the learned weights, so it is measured: a small
    patch is changed in blurred noise, and the centroid of the squared change in the features is compared with the
    patch's position. The result is the mean over seeded positions.
    """
    rng = np.random.default_rng(seed)
    width, height = size_wh
    shifts = []
    for _ in range(24):
        noise = rng.normal(127.5, 60, (height, width, 3)).astype(np.float32)
        blurred = np.clip(cv2.blur(noise, (5, 5), borderType=cv2.BORDER_CONSTANT), 0, 255)
        x, y = rng.integers(width * 2 // 7, width * 5 // 7), rng.integers(height * 2 // 7, height * 5 // 7)
        poked = blurred.copy()
        poked[y - 3 : y + 4, x - 3 : x + 4] = 255 - poked[y - 3 : y + 4, x - 3 : x + 4]
        before, after = (features(each.astype(np.uint8)).astype(np.float64) for each in (blurred, poked))
        change = np.square(np.abs(after - before).sum(0))
        rows, columns = change.shape
        down = float(change.sum(1) @ np.arange(rows) / change.sum())
        right = float(change.sum(0) @ np.arange(columns) / change.sum())
        shifts.append(((x + 0.5) / width * columns - 0.5 - right, (y + 0.5) / height * rows - 0.5 - down))
    right, down = np.mean(shifts, axis=0)
    return round(float(right), 3), round(float(down), 3)
