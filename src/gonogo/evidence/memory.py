"""Memory: how far each place of a part is from anything seen on good parts.

After PatchCore (Roth et al., 2022, "Towards Total Recall in Industrial Anomaly Detection"): patches are the joined
features of a cell, averaged over its 3 x 3 neighbourhood and standardised; a greedy coreset keeps those that cover the
others best. Good pictures alone suffice, and the size is bounded whatever their number.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from gonogo.array_types import Float32, Float64
from gonogo.evidence.grid import FeatureMap, neighbourhood_means


@dataclass(frozen=True, kw_only=True)
class MemorySize:
    """How many patches a memory keeps, of how many."""

    candidates: int = 12_000
    """Drawn at random."""
    kept: int = 1000
    """Chosen of them, at most."""


FULL = MemorySize()
TRIED = MemorySize(candidates=6_000, kept=500)
"""For memories that only say how well parts left out are told apart."""
NEAREST = 1.0
"""Distances below one standard deviation count as one: closer than that, rounding would be all that is left of them."""
PROJECTED = 64
"""Dimensions of the random projection in which they are chosen."""
DIRECTIONS = 192
"""Main directions of the kept patches that they are rounded to, where they have more than twice as many channels."""
COARSE_SHARE = 1 / 3
"""Of the mean squared length of a patch, what stride 32 brings at most."""
COUNTED_SHARE = 0.01
"""Share of a picture's cells, those farthest from anything kept, whose mean distance is the picture's score."""


@dataclass(frozen=True, kw_only=True)
class MemoryEvidence:
    """Kept patches of good parts. Pooling: the mean of the largest hundredth of the cells."""

    channels: slice
    """Which of the joined channels are compared."""
    centre: Float32[np.ndarray, " channels"]
    scale: Float32[np.ndarray, " channels"]
    """Deviation over patches of good parts, more at stride 32, see `coarse_factors`."""
    patches: Float32[np.ndarray, "kept coordinates"]
    """Standardised; along ``directions`` where there are some, else along the channels."""
    directions: Float32[np.ndarray, "coordinates channels"] | None = None
    """Orthonormal. Only the kept patches are confined to them: what a cell has besides counts in full."""

    def distances(self, joined_map: FeatureMap) -> Float32[np.ndarray, "rows columns"]:
        """The Euclidean distance of each cell's patch to the nearest kept one, in standard deviations.

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
    """How many cells count in the pooling."""
    return max(1, round(COUNTED_SHARE * cells))


def pool_largest(values: Float32[np.ndarray, "rows columns"]) -> float:
    """The mean of the largest hundredth of the cells."""
    return float(np.sort(values, axis=None)[-counted_cells(values.size) :].mean(dtype=np.float64))


def draw_patches(
    joined_maps: Iterable[FeatureMap], count: int, rng: np.random.Generator, size: MemorySize = FULL
) -> Float32[np.ndarray, "candidates all_channels"]:
    """Patches at random places, the same number of every picture.

    Args:
        joined_maps: Joined features of good pictures.
        count: How many pictures there are.
        rng: Draws the places.
        size: How many in all.
    """
    each = -(-size.candidates // count)
    drawn = []
    for features in joined_maps:
        smooth = neighbourhood_means(features.astype(np.float32)).reshape(len(features), -1)
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
    """Keep the patches that cover the candidates best.

    Args:
        candidates: Patches of good pictures, see `draw_patches`.
        channels: Which of the joined channels are compared.
        rng: Of the random projection.
        size: How many are kept.
        coarse: How many of them, the last ones, are of stride 32.
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
    """The orthonormal directions that the patches lie along best (their first right singular vectors).

    At most as many as there are patches. They make the one large matrix product of a judgement a small one.
    """
    first = max(0, len(patches) - count)
    _, vectors = scipy.linalg.eigh(patches @ patches.T, subset_by_index=(first, len(patches) - 1))
    found: Float32[np.ndarray, "coordinates channels"] = np.ascontiguousarray(np.linalg.qr(patches.T @ vectors)[0].T)
    return found


def coarse_factors(fine: int, coarse: int) -> Float32[np.ndarray, " channels"]:
    """What standardised channels are divided by so that the coarsest stride counts `COARSE_SHARE` at most.

    By their number alone the channels of stride 32 would count twice what those of strides 8 and 16 do together, and
    they look at so much that they compare how pictures are composed: a good part in an unusual place would be far from
    everything kept.

    Args:
        fine: Channels of the finer strides.
        coarse: Channels of the coarsest one; 0 where it is not compared.
    """
    wanted = fine * COARSE_SHARE / (1 - COARSE_SHARE)
    factors = np.ones(fine + coarse, np.float32)
    if 0 < wanted < coarse:
        factors[fine:] = np.sqrt(coarse / wanted)
    return factors


def greedy_coreset(points: Float32[np.ndarray, "points dimensions"], count: int) -> np.ndarray:
    """Indices of points chosen one by one, each the farthest from those chosen before (k-centre greedy).

    Source: Gonzalez (1985); the largest distance left is at most twice the smallest possible.
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
    """The pooled distance of each picture."""
    return np.array([pool_largest(memory.distances(each)) for each in joined_maps], dtype=np.float64)
