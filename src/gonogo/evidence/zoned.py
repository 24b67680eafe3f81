"""Evidence by zone: every pooling counts the cells of one zone, and each zone has a scale of its own.

A zone is judged as if its cells were the whole picture. Its score is then standardised: ``factor * score + offset``,
so that good parts have a standard deviation of 1 in every zone and the share of them that the zone's sensitivity names
scores above zero. The score of the part is the highest of its zones. Cells that ignore zones leave out count nowhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from gonogo.array_types import Bool, Float32, Float64, Int
from gonogo.evidence.grid import FeatureMap, repeated, summed
from gonogo.zoning import LEFT_OUT, Numbers, ZoneScale

CellMask = Bool[np.ndarray, "_rows _columns"]
LEAST_SPREAD = 0.1
"""Smallest standard deviation of good parts in a zone, as a share of the median over zones: a zone in which they hardly
differ must not decide every part."""
ABSENT = -1e30
"""Score of a zone that has no cell in a window."""


def fit_scales(
    scores: Float64[np.ndarray, "pictures zones"],
    bad: Int[np.ndarray, " pictures"],
    groups: Sequence[int],
    sensitivities: Sequence[float],
) -> tuple[ZoneScale, ...]:
    """Fit the scale of every zone on good parts, on pictures that the evidence was not fitted to.

    The share of good parts above zero is that of a normal distribution, because a few dozen good parts do not show a
    quantile of 5 %.

    Args:
        scores: Pooled evidence plus bias of each picture or window and zone; ``-inf`` where a zone is absent.
        bad: 1 for a bad part, 0 for a good one.
        groups: Part number of each picture; the highest score of a part counts.
        sensitivities: Share of good parts above zero, by zone.
    """
    parts = np.unique(np.asarray(groups)[bad == 0], return_inverse=True)[1]
    of_parts = np.full((parts.max() + 1, scores.shape[1]), -np.inf)
    np.maximum.at(of_parts, parts, scores[bad == 0])
    there = [column[np.isfinite(column)] for column in of_parts.T]
    centres = [float(column.mean()) if len(column) else 0.0 for column in there]
    spreads = [float(column.std()) if len(column) else 0.0 for column in there]
    least = max(LEAST_SPREAD * float(np.median(spreads)), 1e-6)
    scales = []
    for centre, spread, share in zip(centres, spreads, sensitivities, strict=True):
        factor = 1.0 / max(spread, least)
        scales.append(ZoneScale(factor=factor, offset=-factor * centre - float(norm.isf(share))))
    return tuple(scales)


def scaled(
    scores: Float64[np.ndarray, "pictures zones"], scales: Sequence[ZoneScale]
) -> Float64[np.ndarray, "pictures zones"]:
    """Apply the scales of the zones."""
    factors, offsets = np.array([[each.factor, each.offset] for each in scales]).T
    found: Float64[np.ndarray, "pictures zones"] = scores * factors + offsets
    return found


def own_masks(numbers: Numbers | None, zones: int) -> list[CellMask | None]:
    """The cells of each zone; without zones one mask, ``None`` for all cells."""
    return [None] if numbers is None else [numbers == number for number in range(1, zones + 1)]


def kept_cells(numbers: Numbers | None) -> CellMask | None:
    """The cells that are not left out; ``None`` for all."""
    return None if numbers is None else numbers != LEFT_OUT


def on_zone_grid(maps: Sequence[FeatureMap], mask: CellMask) -> list[tuple[FeatureMap, CellMask]]:
    """The maps of the three strides with the cells of a zone: stride 32 is repeated to the grid of stride 16."""
    fine, middle, coarse = maps
    fine_mask = mask.repeat(2, axis=0).repeat(2, axis=1)
    return [(fine, fine_mask), (middle, mask), (repeated(coarse), mask)]


def zone_vector(maps: Sequence[FeatureMap], mask: CellMask) -> Float32[np.ndarray, " twice_channels"]:
    """Mean of every channel over the cells of a zone, then the maximum; NaN for a zone without cells.

    Over all cells, this is `gonogo.evidence.context.pooled_vector`.
    """
    if not mask.any():
        return np.full(2 * sum(map(len, maps)), np.nan, np.float32)
    own = [features[:, there] for features, there in on_zone_grid(maps, mask)]
    return np.concatenate([each.mean(1) for each in own] + [each.max(1) for each in own]).astype(np.float32)


def zone_contributions(
    maps: Sequence[FeatureMap],
    mask: CellMask,
    mean_weight: Float32[np.ndarray, " channels"],
    max_weight: Float32[np.ndarray, " channels"],
) -> Float32[np.ndarray, "rows columns"]:
    """Contribution of each cell of a zone to its context logit, on the grid of stride 16; 0 outside the zone."""
    cuts = np.cumsum([len(each) for each in maps])[:-1]
    grids = []
    for (features, there), mean, highest in zip(
        on_zone_grid(maps, mask), np.split(mean_weight, cuts), np.split(max_weight, cuts), strict=True
    ):
        grids.append(_own_grid(features, there, mean, highest))
    fine, middle, coarse = grids
    total: Float32[np.ndarray, "rows columns"] = (summed(fine) + middle + coarse)[0].astype(np.float32)
    return total


def _own_grid(features: FeatureMap, there: CellMask, mean: np.ndarray, highest: np.ndarray) -> FeatureMap:
    peak = features[:, there].max(1)[:, None, None]
    is_peak = ((features == peak) & there).astype(np.float32)
    share = highest[:, None, None] * peak / is_peak.sum((1, 2), keepdims=True)
    cells = np.tensordot(mean / there.sum(), features * there, 1) + (share * is_peak).sum(0)
    grid: FeatureMap = cells[None].astype(np.float32)
    return grid
