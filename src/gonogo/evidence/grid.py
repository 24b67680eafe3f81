"""Feature maps of three strides on one grid: the cells of stride 16."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gonogo.array_types import Float32

FeatureMap = Float32[np.ndarray, "_channels _rows _columns"]


def joined(maps: Sequence[FeatureMap]) -> FeatureMap:
    """Resample maps of strides 8, 16 and 32 to the grid of stride 16 and concatenate them along channels.

    Finer cells are averaged in blocks of four, coarser cells are repeated.
    """
    fine, middle, coarse = maps
    return np.concatenate([summed(fine) / 4, middle, repeated(coarse)])


def summed(fine: FeatureMap) -> FeatureMap:
    """Sum the four cells that form one cell of the next coarser grid."""
    channels, rows, columns = fine.shape
    sums: FeatureMap = fine.reshape(channels, rows // 2, 2, columns // 2, 2).sum((2, 4))
    return sums


def repeated(coarse: FeatureMap) -> FeatureMap:
    """Repeat every cell as four cells of the next finer grid."""
    return coarse.repeat(2, axis=1).repeat(2, axis=2)


def neighbourhood_means(features: FeatureMap) -> FeatureMap:
    """Mean over the 3 x 3 neighbourhood of each cell; at the border, over the cells inside the map."""
    inside = np.ones((1, *features.shape[1:]), np.float32)
    means: FeatureMap = _window_sums(features) / _window_sums(inside)
    return means


def _window_sums(values: FeatureMap) -> FeatureMap:
    padded = np.pad(values, [(0, 0), (1, 1), (1, 1)])
    rows = padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
    sums: FeatureMap = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    return sums
