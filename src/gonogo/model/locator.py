"""The locator: a network that predicts the position of the part, from a backbone on the whole picture and a head."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gonogo.array_types import Float, UInt8
from gonogo.model.network import FeatureNetwork

TRUNK = 32
"""Number of channels of a locator's layers."""
DILATIONS = (1, 2, 4, 1)
"""Dilations of the 3 x 3 convolutions, in cells."""
REGRESSION_GRID = 4
COLOURS = 3
PIXELS_SIDE = 128
"""Picture side of a locator without a pretrained backbone."""


class LocatorHead(StrEnum):
    """Architecture of a locator's head."""

    REGRESSION = "regression"
    """Regression from pooled features, as in the article (Deka and Mittal, 2018)."""
    EDGES = "edges"
    """Each edge is the expected position under a softmax over the feature map."""


class Sightings(NamedTuple):
    """Outputs of a locator for a batch of pictures."""

    box: Float[Tensor, "batch 4"]
    """``(x1, y1, x2, y2)`` as shares of the picture's width and height."""
    corners: Float[Tensor, "batch 8"]
    """``x, y`` of the four corners of the rotated rectangle, clockwise from the part's top left; the same unit."""
    presence: Float[Tensor, " batch"]
    """Logit that the picture shows exactly one part."""


def _trunk(channels: int) -> nn.Sequential:
    """Convolutions of a locator, with a receptive field that covers the whole part."""
    layers: list[nn.Module] = []
    if channels == COLOURS:  # from pixels to a quarter of the resolution
        for before, after in ((COLOURS, TRUNK // 2), (TRUNK // 2, TRUNK)):
            layers += _layer(before, after, kernel=5, stride=2)
    else:
        layers += _layer(channels, TRUNK, kernel=1)
    for reach in DILATIONS:
        layers += _layer(TRUNK, TRUNK, kernel=3, dilation=reach)
    return nn.Sequential(*layers)


def _layer(before: int, after: int, *, kernel: int, stride: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel - 1) // 2
    convolution = nn.Conv2d(before, after, kernel, stride=stride, padding=padding, dilation=dilation, bias=False)
    return [convolution, nn.BatchNorm2d(after), nn.ReLU()]


class RegressionHead(nn.Module):
    """Convolutions, pooling to a coarse grid, then two fully connected layers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = _trunk(channels)
        self.pool = nn.AdaptiveAvgPool2d(REGRESSION_GRID)
        self.layers = nn.Sequential(
            nn.Linear(TRUNK * REGRESSION_GRID**2, 4 * TRUNK), nn.ReLU(), nn.Linear(4 * TRUNK, 13)
        )

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Sightings:
        """Features to sightings."""
        found = self.layers(self.pool(self.trunk(features)).flatten(1))
        middle = found.new_tensor([0.3, 0.3, 0.7, 0.7, 0.3, 0.3, 0.7, 0.3, 0.7, 0.7, 0.3, 0.7])
        places = found[:, :12] + middle
        return Sightings(places[:, :4], places[:, 4:], found[:, 12])


class EdgesHead(nn.Module):
    """Convolutions, then one map per edge and corner; a softmax over the cells gives its position.

    The position is the expectation under the softmax (soft-argmax, Luvizon et al., 2019), so it has subcell resolution
    and a gradient everywhere. An edge uses one axis only. The maps extend one cell beyond the picture on every side,
    because an expectation never reaches the centre of the outermost cell, and a part may touch the picture's border.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.trunk = _trunk(channels)
        self.places = nn.Conv2d(TRUNK, 8, 3, padding=2)
        self.presence = nn.Sequential(nn.Linear(2 * TRUNK, TRUNK), nn.ReLU(), nn.Linear(TRUNK, 1))

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Sightings:
        """Features to sightings."""
        inside = self.trunk(features)
        maps = self.places(inside)
        rows, columns = maps.shape[-2:]
        chance = maps.flatten(2).softmax(2).unflatten(2, (rows, columns))
        x = chance.sum(2) @ _middles(columns, chance)
        y = chance.sum(3) @ _middles(rows, chance)
        box = torch.stack([x[:, 0], y[:, 1], x[:, 2], y[:, 3]], 1)
        corners = torch.stack([x[:, 4:], y[:, 4:]], 2).flatten(1)
        pooled = torch.cat([inside.mean((2, 3)), inside.amax((2, 3))], 1)
        return Sightings(box, corners, self.presence(pooled)[:, 0])


class Locator(nn.Module):
    """The whole locator; the exported graph computes the same function."""

    def __init__(self, features: FeatureNetwork, head: RegressionHead | EdgesHead, scaling: Scaling) -> None:
        super().__init__()
        self.features = features
        self.scaling = scaling
        self.head = head

    def forward(self, pictures: UInt8[Tensor, "batch height width 3"]) -> Sightings:
        """Map whole pictures to sightings."""
        found: Sightings = self.head(self.scaling(self.features(pictures)))
        return found


class Scaling(nn.Module):
    """Standardises every channel of frozen features, with mean and deviation from the training pictures."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Float[Tensor, " channels"], deviation: Float[Tensor, " channels"]) -> None:
        super().__init__()
        self.register_buffer("mean", mean[:, None, None])
        self.register_buffer("deviation", deviation[:, None, None])

    def forward(self, features: Float[Tensor, "batch channels rows columns"]) -> Tensor:
        """Standardise features."""
        return (features - self.mean) / self.deviation


def make_head(kind: LocatorHead, channels: int) -> RegressionHead | EdgesHead:
    """Create a head with random weights."""
    return EdgesHead(channels) if kind is LocatorHead.EDGES else RegressionHead(channels)


def _middles(cells: int, like: Tensor) -> Float[Tensor, " cells"]:
    """Centres of the cells, as shares of the picture; the first and the last lie outside."""
    return (torch.arange(cells, dtype=like.dtype, device=like.device) - 0.5) / (cells - 2)
