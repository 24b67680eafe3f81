"""A net of two layers, each a 3 x 3 convolution, ReLU and 2 x 2 max pooling, as in LeNet and in the article's figure.

The first layer has fixed filters, edges in eight directions, so that its maps can be read; the second has random ones.
"""

from __future__ import annotations

import numpy as np

from gonogo.array_types import Float32
from gonogo.look.maps import FeatureMaps
from gonogo.look.seen import Seen, Stage
from gonogo.schema import Frame

NAME = "lenet"
CHANNELS = 16
"""Channels of the second layer."""
_RING = ((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))
_SOBEL = (1, 2, 1, 0, -1, -2, -1, 0)
"""Sobel's filter along `_RING`; each step turns it by 45 degrees."""


def edge_filters() -> Float32[np.ndarray, "8 1 3 3"]:
    """Sobel's edge filter in eight directions, 45 degrees apart; the first is bright above and dark below."""
    filters = np.zeros((8, 1, 3, 3), np.float32)
    for turn in range(8):
        for place, value in zip(_RING, np.roll(_SOBEL, turn), strict=True):
            filters[turn, 0][place] = value / 4
    return filters


def random_filters(seed: int) -> Float32[np.ndarray, "outputs inputs 3 3"]:
    """Random filters of the second layer, with He's standard deviation."""
    shape = (CHANNELS, 8, 3, 3)
    return np.random.default_rng(seed).normal(0, np.sqrt(2 / (8 * 9)), shape).astype(np.float32)


def layer(features: FeatureMaps, filters: Float32[np.ndarray, "outputs inputs 3 3"]) -> FeatureMaps:
    """A 3 x 3 convolution (borders repeated), ReLU, and the maximum of every 2 x 2 cells; odd last ones are dropped."""
    padded = np.pad(features, [(0, 0), (1, 1), (1, 1)], mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    found = np.maximum(np.tensordot(filters, windows, axes=([1, 2, 3], [0, 3, 4])), 0)
    channels, rows, columns = (int(side) for side in found.shape)
    even = found[:, : rows // 2 * 2, : columns // 2 * 2]
    pooled: FeatureMaps = even.reshape(channels, rows // 2, 2, columns // 2, 2).max((2, 4)).astype(np.float32)
    return pooled


def look_with_lenet(picture: Frame, *, seed: int) -> Seen:
    """Show the feature maps of both layers on the brightness of a picture."""
    brightness = picture.mean(axis=2, dtype=np.float32)[None] / 255
    first = layer(brightness, edge_filters())
    second = layer(first, random_filters(seed))
    names = ("layer 1, edges in eight directions", f"layer 2, random filters (seed {seed})")
    return Seen(
        network="lenet, two layers of 3 x 3 convolution, ReLU and max pooling",
        weights="fixed edge filters, then random filters",
        picture=picture,
        stages=tuple(
            Stage(name=name, stride=stride, maps=maps)
            for name, stride, maps in zip(names, (2, 4), (first, second), strict=True)
        ),
        notes=("This net has no classes, so there is no class-activation map.",),
    )
