"""Memory evidence: distance of each patch of a part to the nearest patch of good parts.

Based on PatchCore (Roth et al., 2022, "Towards Total Recall in Industrial Anomaly Detection"). A patch is the joined
feature vector of a cell, averaged over its 3 x 3 neighbourhood and standardised. A greedy coreset keeps the patches
that cover the others best. Good pictures alone are enough, and the size is bounded for any number of pictures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gonogo.array_types import Bool, Float32, Float64
from gonogo.evidence.grid import FeatureMap, neighbourhood_means


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """Size of a memory: sampled and kept patches."""

    candidates: int = 12_000
    """Number of patches sampled at random."""
    kept: int = 1000
    """Largest number of patches kept."""


FULL = MemorySize()
TRIED = MemorySize(candidates=6_000, kept=500)
"""Smaller size for cross-validation."""
NEAREST = 1.0
"""Smallest distance, one standard deviation; smaller distances are dominated by rounding."""
PROJECTED = 64
"""Dimensions of the random projection for the coreset."""
DIRECTIONS = 192
"""Number of principal directions to which kept patches are projected, if they have more than twice as many channels."""
COARSE_SHARE = 1 / 3
"""Largest share of stride 32 in the mean squared length of a patch."""
COUNTED_SHARE = 0.01
"""Share of a picture's cells that are pooled: the score is the mean distance of the most distant cells."""


@dataclass(frozen=True, kw_only=True)
class MemoryEvidence:
    """Kept patches of good parts. Pooling: the mean of the largest hundredth of the cells."""

    channels: slice
    """Range of the joined channels that are compared."""
    centre: Float32[np.ndarray, " channels"]
    scale: Float32[np.ndarray, " channels"]
    """Standard deviation over patches of good parts; larger at stride 32, see `coarse_factors`."""
    patches: Float32[np.ndarray, "kept coordinates"]
    """Kept patches, standardised; in coordinates along ``directions`` if there are any, otherwise channels."""
    directions: Float32[np.ndarray, "coordinates channels"] | None = None
    """Orthonormal principal directions. Only the kept patches are projected; a cell's distance is not."""

    def distances(self, joined_map: FeatureMap) -> Float32[np.ndarray, "rows columns"]:
        """Euclidean distance of each cell's patch to the nearest kept patch, in standard deviations.

        Args:
            joined_map: Joined features on the grid of stride 16, see `gonogo.evidence.grid.joined`.
        """
        smooth = neighbourhood_means(joined_map[self.channels].astype(np.float32))
        cells = (smooth.reshape(len(smooth), -1).T - self.centre) / self.scale
        lengths = (self.patches**2).sum(1)
        coordinates = cells if self.directions is None else cells @ self.directions.T
        squares = (lengths - 2 * coordinates @ self.patches.T).min(1) + (cells**2).sum(1)
        distances: Float32[np.ndarray, "rows columns"] = np.sqrt(np.maximum(squares, NEAREST**2)).reshape(
            smooth.shape[1:]
        )
        return distances


def counted_cells(cells: int) -> int:
    """Number of cells that are pooled."""
    return max(1, round(COUNTED_SHARE * cells))


def pool_largest(values: Float32[np.ndarray, "..."]) -> float:
    """Mean of the largest hundredth of the cells."""
    return float(np.sort(values, axis=None)[-counted_cells(values.size) :].mean(dtype=np.float64))


def draw_patches(
    joined_maps: Iterable[FeatureMap],
    count: int,
    rng: np.random.Generator,
    size: MemorySize = FULL,
    *,
    kept: Iterable[Bool[np.ndarray, "rows columns"] | None] | None = None,
) -> Float32[np.ndarray, "candidates all_channels"]:
    """Sample patches at random positions, the same number from every picture.

    Args:
        joined_maps: Joined features of good pictures.
        count: Number of pictures.
        rng: Random generator.
        size: Total number of patches.
        kept: For each picture the cells that are not left out, see `gonogo.zoning`; default all.
    """
    each = -(-size.candidates // count)
    drawn = []
    for features, there in zip(joined_maps, kept or itertools.repeat(None), strict=False):
        smooth = neighbourhood_means(features.astype(np.float32)).reshape(len(features), -1)
        smooth = smooth if there is None else smooth[:, there.ravel()]
        chosen = rng.permutation(smooth.shape[1])[:each]
        drawn.append(smooth[:, chosen].T)
    patches = np.concatenate(drawn)
    most = size.candidates
    return patches if len(patches) <= most else patches[rng.choice(len(patches), most, replace=False)]


def fit_memory(
    candidates: Float32[np.ndarray, "candidates all_channels"],
    channels: slice,
    rng: np.random.Generator,
    size: MemorySize = FULL,
    *,
    coarse: int = 0,
) -> MemoryEvidence:
    """Fit a memory: keep the patches that cover the candidates best.

    Args:
        candidates: Patches of good pictures, see `draw_patches`.
        channels: Range of the joined channels that are compared.
        rng: Random generator for the projection.
        size: Number of patches to keep.
        coarse: Number of channels of stride 32, which come last.
    """
    own = candidates[:, channels]
    centre, scale = own.mean(0), (own.std(0) + np.float32(1e-6)) * coarse_factors(own.shape[1] - coarse, coarse)
    standard = (own - centre) / scale
    projection = rng.standard_normal((standard.shape[1], PROJECTED)).astype(np.float32) / np.sqrt(PROJECTED)
    kept = greedy_coreset((standard @ projection).astype(np.float32), size.kept)
    patches, directions = np.ascontiguousarray(standard[kept]), None
    if patches.shape[1] > 2 * DIRECTIONS:
        directions = main_directions(patches, DIRECTIONS)
        patches = patches @ directions.T
    return MemoryEvidence(channels=channels, centre=centre, scale=scale, patches=patches, directions=directions)


def main_directions(
    patches: Float32[np.ndarray, "kept channels"], count: int
) -> Float32[np.ndarray, "coordinates channels"]:
    """Orthonormal principal directions of the patches (their first right singular vectors).

    There are at most as many as patches. They make the largest matrix product of a judgement much smaller.
    """
    first = max(0, len(patches) - count)
    _, vectors = scipy.linalg.eigh(patches @ patches.T, subset_by_index=(first, len(patches) - 1))
    found: Float32[np.ndarray, "coordinates channels"] = np.ascontiguousarray(np.linalg.qr(patches.T @ vectors)[0].T)
    return found


def coarse_factors(fine: int, coarse: int) -> Float32[np.ndarray, " channels"]:
    """Divisors of the standardised channels that limit the share of the coarsest stride to `COARSE_SHARE`.

    Because of their number, the channels of stride 32 would count twice as much as those of strides 8 and 16 together.
    Their receptive field is so large that they compare the layout of the whole picture: a good part in an unusual
    position would be far from all kept patches.

    Args:
        fine: Number of channels of the finer strides.
        coarse: Number of channels of the coarsest stride; 0 if it is not compared.
    """
    wanted = fine * COARSE_SHARE / (1 - COARSE_SHARE)
    factors = np.ones(fine + coarse, np.float32)
    if 0 < wanted < coarse:
        factors[fine:] = np.sqrt(coarse / wanted)
    return factors


def greedy_coreset(points: Float32[np.ndarray, "points dimensions"], count: int) -> np.ndarray:
    """Choose points one by one, each the farthest from those chosen before (k-centre greedy); returns indices.

    Source: Gonzalez (1985); the largest remaining distance is at most twice the optimum.
    """
    if len(points) <= count:
        return np.arange(len(points))
    lengths = (points**2).sum(1)
    chosen = np.zeros(count, np.int64)
    chosen[0] = int(np.argmin(lengths))
    nearest = np.full(len(points), np.inf, np.float32)
    for number in range(1, count):
        last = points[chosen[number - 1]]
        np.minimum(nearest, lengths - 2 * (points @ last) + last @ last, out=nearest)
        chosen[number] = int(np.argmax(nearest))
    return chosen


def memory_scores(memory: MemoryEvidence, joined_maps: Iterable[FeatureMap]) -> Float64[np.ndarray, " samples"]:
    """Pooled distance of each picture."""
    return np.array([pool_largest(memory.distances(each)) for each in joined_maps], dtype=np.float64)
