"""The classifier: normalisation, backbone, a 1x1 convolution for the defect map, and a pooling for the score.

The map explains the score exactly, because the score is the pooled map plus the bias.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn
from torch.nn import functional

from gonogo.array_types import Bool, Float, UInt8
from gonogo.model.backbones import FeatureStack, Normalisation, Pixels, on_finest
from gonogo.model.own import OwnStack
from gonogo.zoning import LEFT_OUT, ZoneScale


class Pool(StrEnum):
    """Pooling of a defect map to one logit."""

    MEAN = "mean"
    MAX = "max"
    LSE = "lse"


_FAR = 1e30
"""Stands for infinity where a cell is skipped."""
SHARPNESS = 2.0
"""The ``r`` of log-sum-exp pooling; 0 would be the mean, infinity the maximum."""


def pool_map(
    defect_map: Float[Tensor, "batch rows columns"],
    pool: Pool,
    sharpness: float = SHARPNESS,
    own: Bool[Tensor, "rows columns"] | None = None,
) -> Float[Tensor, " batch"]:
    """Pool a map, or some of its cells, to one number per picture.

    ``lse`` is ``log(mean(exp(r m))) / r`` (Pinheiro and Collobert, 2015, equation 6), between mean and maximum.
    """
    cells = defect_map.flatten(1)
    if own is not None:
        return _pool_own(cells, own.flatten(), pool, sharpness)
    if pool is Pool.MEAN:
        return cells.mean(1)
    if pool is Pool.MAX:
        return cells.amax(1)
    return (torch.logsumexp(sharpness * cells, 1) - math.log(cells.shape[1])) / sharpness


def _pool_own(
    cells: Float[Tensor, "batch cells"], own: Bool[Tensor, " cells"], pool: Pool, sharpness: float
) -> Float[Tensor, " batch"]:
    """Pool some cells, by masking: chosen cells would be a shape that OpenVINO does not know."""
    count = int(own.sum())
    if pool is Pool.MEAN:
        return torch.where(own, cells, 0.0).sum(1) / count
    if pool is Pool.MAX:
        return torch.where(own, cells, -_FAR).amax(1)
    return (torch.logsumexp(torch.where(own, sharpness * cells, -_FAR), 1) - math.log(count)) / sharpness


@dataclass(frozen=True, kw_only=True)
class HeadZones:
    """The zones of a map."""

    numbers: UInt8[Tensor, "rows columns"]
    """Zone of every cell, see `gonogo.zoning.zone_numbers`."""
    scales: tuple[ZoneScale, ...] = (ZoneScale(),)
    """Scales of the zones by their numbers; a single one, which changes nothing, if there are only ignore zones."""

    @property
    def kept(self) -> Bool[Tensor, "rows columns"]:
        """The cells that are not left out."""
        return self.numbers != LEFT_OUT


class MapHead(nn.Module):
    """1x1 convolution to one map, pooled to one logit: ``score = pool(map) + bias``.

    With context, the same linear function of the features' mean is added to every cell. It shifts the score by that
    amount, and leaves the differences between cells unchanged.
    """

    def __init__(self, channels: int, pool: Pool, *, context: bool = False) -> None:
        super().__init__()
        self.pool = pool
        self.conv = nn.Conv2d(channels, 1, kernel_size=1, bias=False)
        self.context = nn.Linear(channels, 1, bias=False) if context else None
        self.bias = nn.Parameter(torch.zeros(1))
        self.zones: HeadZones | None = None
        """Zones of a part, which count for whole, unchanged pictures: in evaluation, not in training."""
        nn.init.zeros_(self.conv.weight)
        if self.context is not None:
            nn.init.zeros_(self.context.weight)

    def forward(
        self, *maps: Float[Tensor, "batch _ _ _"]
    ) -> tuple[Float[Tensor, " batch"], Float[Tensor, "batch _ _"]]:
        """Map feature maps, joined or separate, to scores and defect maps (without the bias)."""
        zones, defect_map = None if self.training else self.zones, self.full(*maps)
        if zones is None:
            return pool_map(defect_map, self.pool) + self.bias, defect_map
        return self.zone_scores(defect_map).amax(1), self._shown(defect_map, zones)

    def full(self, *maps: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _"]:
        """Compute the defect map with the context, without the scales of zones."""
        defect_map = self.local(*maps)
        if self.context is None:
            return defect_map
        kept = None if self.training or self.zones is None else self.zones.kept.to(defect_map.device)
        whole: Tensor = self.context(mean_vector(maps, kept))
        return defect_map + whole[:, :, None]

    def zone_scores(self, defect_map: Float[Tensor, "batch rows columns"]) -> Float[Tensor, "batch zones"]:
        """Score of every zone: the pooled map of its cells plus the bias, on the scale of the zone."""
        assert self.zones is not None, "only asked for with zones"
        numbers = self.zones.numbers.to(defect_map.device)
        scores = [
            scale.factor * (pool_map(defect_map, self.pool, own=numbers == number) + self.bias) + scale.offset
            for number, scale in enumerate(self.zones.scales, start=1)
        ]
        return torch.stack(scores, dim=1)

    def _shown(self, defect_map: Float[Tensor, "batch rows columns"], zones: HeadZones) -> Tensor:
        """The map times the factor of each zone; cells that are left out have the lowest value of the others."""
        factors = torch.tensor([1.0, *(scale.factor for scale in zones.scales)], dtype=defect_map.dtype)
        shown = defect_map * factors.to(defect_map.device)[zones.numbers.long().to(defect_map.device)]
        kept = zones.kept.to(defect_map.device)
        coldest = torch.where(kept, shown, _FAR).flatten(1).amin(1)[:, None, None]
        return torch.where(kept, shown, coldest)

    def local(self, *maps: Float[Tensor, "batch _ _ _"]) -> Float[Tensor, "batch _ _"]:
        """Compute the defect map without the context.

        The convolution of joined maps is the sum of the convolutions of each, so coarse maps are convolved at their
        original resolution and only the result is upsampled.
        """
        weights = torch.split(self.conv.weight, [each.shape[1] for each in maps], dim=1)
        parts = [functional.conv2d(each, weight) for each, weight in zip(maps, weights, strict=True)]
        return torch.stack(on_finest(parts)).sum(0).squeeze(1) if len(parts) > 1 else parts[0].squeeze(1)


def mean_vector(
    maps: Sequence[Float[Tensor, "batch _ _ _"]], kept: Bool[Tensor, "rows columns"] | None = None
) -> Float[Tensor, "batch channels"]:
    """Mean over each feature map, or over its cells that are mostly kept, concatenated."""
    if kept is None:
        return torch.cat([each.mean((2, 3)) for each in maps], dim=1)
    means = []
    for each in maps:
        share = functional.interpolate(kept[None, None].to(each.dtype), size=each.shape[2:], mode="area")
        counted = (share >= 0.5).to(each.dtype) if bool((share >= 0.5).any()) else torch.ones_like(share)
        means.append((each * counted).mean((2, 3)) * (counted.numel() / counted.sum()))
    return torch.cat(means, dim=1)


class Normalise(nn.Module):
    """Converts uint8 NHWC pictures to normalised NCHW input."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(normalisation.mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(normalisation.std).view(1, 3, 1, 1))

    def forward(self, pictures: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 height width"]:
        """Reorder, convert and normalise."""
        return normalised(pictures, self.mean, self.std)


def normalised(pictures: UInt8[Tensor, "batch height width 3"], mean: Tensor, std: Tensor) -> Tensor:
    """Convert uint8 NHWC pictures to normalised NCHW input; mean and deviation are 1 x 3 x 1 x 1."""
    return (pictures.permute(0, 3, 1, 2).float() - mean) / std


class FeatureNetwork(nn.Module):
    """Normalisation and backbone; maps uint8 NHWC pictures to feature maps."""

    def __init__(self, stack: FeatureStack | OwnStack | Pixels, normalisation: Normalisation) -> None:
        super().__init__()
        self.normalise = Normalise(normalisation)
        self.stack = stack

    def forward(self, pictures: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch channels rows columns"]:
        """Map pictures to joined feature maps."""
        return self.stack(self.normalise(pictures))  # type: ignore[no-any-return]

    def maps(self, pictures: UInt8[Tensor, "batch height width 3"]) -> list[Tensor]:
        """Map pictures to the feature map of each cut, at its original resolution."""
        return self.stack.maps(self.normalise(pictures))


class Network(nn.Module):
    """The whole classifier; the exported graph computes the same function."""

    def __init__(self, features: FeatureNetwork, head: MapHead) -> None:
        super().__init__()
        self.features = features
        self.head = head

    def forward(self, pictures: UInt8[Tensor, "batch height width 3"]) -> tuple[Tensor, ...]:
        """Map pictures to scores, defect maps, mean-pooled feature vectors, and with inspect zones their scores."""
        maps = self.features.maps(pictures)
        score, defect_map = self.head(*maps)
        zones = None if self.training else self.head.zones
        vector = mean_vector(maps, None if zones is None else zones.kept)
        if zones is None or len(zones.scales) == 1:
            return score, defect_map, vector
        local = self.head.full(*maps)
        return score, defect_map, vector, self.head.zone_scores(local)
