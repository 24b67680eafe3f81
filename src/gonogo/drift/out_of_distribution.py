"""The guard: how far a part lies from everything that was taught, and from where on a person must look."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float32
from gonogo.errors import InputError
from gonogo.schema import FeatureVector

NEIGHBOURS = 5
MOST_TAUGHT = 1000
"""Parts kept of those taught: more make each verdict slower and hardly change a distance to the nearest few."""


@dataclass(frozen=True, kw_only=True)
class ReferenceFeatures:
    """The directions of the feature vectors of parts that were trained on."""

    directions: Float32[np.ndarray, "parts channels"]
    """Of unit length."""

    @classmethod
    def of(cls, vectors: Sequence[FeatureVector], *, seed: int = 0) -> ReferenceFeatures:
        """Keep the directions of these vectors, or of `MOST_TAUGHT` of them drawn at random.

        Raises:
            InputError: fewer than `NEIGHBOURS` vectors, or one that is not finite.
        """
        if len(vectors) < NEIGHBOURS:
            raise InputError(f"expected at least {NEIGHBOURS} taught parts, found {len(vectors)}. Train on more.")
        kept = sorted(np.random.default_rng(seed).permutation(len(vectors))[:MOST_TAUGHT].tolist())
        directions = np.stack([_unit(vectors[row]) for row in kept])
        # Half precision halves the bundle; rounded here, so that distances do not change once it is stored.
        return cls(directions=directions.astype(np.float16).astype(np.float32))

    def distance(self, vector: FeatureVector) -> float:
        """Mean cosine distance to the nearest taught parts: 0 looks the same, 1 has nothing in common.

        Raises:
            InputError: the vector is of another length, or not finite.
        """
        if vector.shape != self.directions.shape[1:]:
            raise InputError(
                f"expected a feature vector of {self.directions.shape[1]} numbers, found shape {vector.shape}. "
                "These reference features belong to another network: run gonogo certify on this bundle."
            )
        likeness = self.directions @ _unit(vector)
        nearest = np.partition(likeness, len(likeness) - NEIGHBOURS)[-NEIGHBOURS:]
        return float(1.0 - nearest.mean(dtype=np.float64))


@dataclass(frozen=True, kw_only=True)
class OutOfDistributionCheck:
    """The distance beyond which a part is sent to a person whatever its score."""

    farthest: float
    share: float
    """Ordinary parts are stopped with at most this probability."""
    parts: int
    """Val parts it was calibrated on."""

    def stops(self, distance: float) -> bool:
        """Whether a part at this distance is unlike everything taught; equal distances are ordinary."""
        return distance > self.farthest


def fit_out_of_distribution_check(distances: Sequence[float], share: float) -> OutOfDistributionCheck | None:
    """A guard that stops a new ordinary part with probability at most ``share``.

    Split conformal prediction: of n + 1 exchangeable parts each is equally likely to have the largest distance, so the
    next one exceeds the i-th smallest of n with probability at most ``(n + 1 - i) / (n + 1)`` (Vovk, Gammerman and
    Shafer, Algorithmic Learning in a Random World, 2005).

    Args:
        distances: One per ordinary part that was not taught; the farthest picture of each.
        share: In (0, 1).

    Returns:
        ``None`` where there are too few parts: `parts_for_share` says how many it takes.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"guard: expected a share above 0 and below 1, found {share}.")
    count = len(distances)
    rank = math.ceil((count + 1) * (1.0 - share) - 1e-9)
    if rank > count:
        return None
    return OutOfDistributionCheck(farthest=sorted(distances)[rank - 1], share=share, parts=count)


def parts_for_share(share: float) -> int:
    """The fewest val parts for which `fit_out_of_distribution_check` gives a guard."""
    return math.ceil(1.0 / share - 1e-9) - 1


def _unit(vector: FeatureVector) -> FeatureVector:
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length):
        raise InputError("expected a finite feature vector, found NaN or infinity in it. Judge the part again.")
    return (vector / max(length, 1e-12)).astype(np.float32)
