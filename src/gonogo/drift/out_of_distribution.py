"""The out-of-distribution check: distance of a part from the training parts, and the limit for review."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float32
from gonogo.errors import InputError
from gonogo.operating_point import clopper_pearson
from gonogo.schema import FeatureVector

NEIGHBOURS = 5
MOST_SHARE = 0.2
"""Largest share of ordinary parts that a check may stop without being asked to."""
MOST_TAUGHT = 1000
"""Maximum number of training parts kept; more would slow down verdicts and hardly change the distances."""


@dataclass(frozen=True, kw_only=True)
class ReferenceFeatures:
    """Directions of the feature vectors of training parts."""

    directions: Float32[np.ndarray, "parts channels"]
    """Unit vectors."""

    @classmethod
    def of(cls, vectors: Sequence[FeatureVector], *, seed: int = 0) -> ReferenceFeatures:
        """Create from feature vectors, or from a random sample of `MOST_TAUGHT` of them.

        Raises:
            InputError: there are fewer than `NEIGHBOURS` vectors, or one is not finite.
        """
        if len(vectors) < NEIGHBOURS:
            raise InputError(
                f"expected at least {NEIGHBOURS} training parts, found {len(vectors)}. Train on more parts."
            )
        kept = sorted(np.random.default_rng(seed).permutation(len(vectors))[:MOST_TAUGHT].tolist())
        directions = np.stack([_unit(vectors[row]) for row in kept])
        # Stored in half precision to save space; rounded here so that distances are the same after storing.
        return cls(directions=directions.astype(np.float16).astype(np.float32))

    def distance(self, vector: FeatureVector) -> float:
        """Mean cosine distance to the nearest training parts: 0 is identical, 1 is orthogonal.

        Raises:
            InputError: the vector has another length, or is not finite.
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
    """The distance beyond which a part is sent to review, whatever its score."""

    farthest: float
    share: float
    """Upper bound on the probability of stopping an ordinary part."""
    parts: int
    """Number of val parts it was calibrated on."""
    good_parts: int = 0
    """Number of good calibrate parts, which set no limit of this check, that the false alarms were counted on."""
    false_alarms: int = 0
    """Number of those that it stops."""

    def stops(self, distance: float) -> bool:
        """Whether a part at this distance is out of distribution; a distance equal to the limit is not."""
        return distance > self.farthest

    def false_alarm_interval(self, confidence: float = 0.95) -> tuple[float, float] | None:
        """Return the exact interval of the share of good parts that it stops; ``None`` if it was not measured."""
        if not self.good_parts:
            return None
        return clopper_pearson(self.false_alarms, self.good_parts, confidence=confidence)

    def sentence(self) -> str:
        """Say how many good parts it stops."""
        stops = f"it sends at most {100 * self.share:.3g} % of ordinary parts to review ({self.parts} val parts)"
        interval = self.false_alarm_interval()
        if interval is None:
            return f"Out-of-distribution check: {stops}."
        low, high = (f"{100 * end:.2g}" for end in interval)
        return (
            f"Out-of-distribution check: {stops}. Counted on good calibrate parts, which set no limit of it: "
            f"{self.false_alarms} of {self.good_parts} (95 % interval {low} to {high} %)."
        )


def fit_out_of_distribution_check(distances: Sequence[float], share: float) -> OutOfDistributionCheck | None:
    """Fit a check that stops a new ordinary part with probability at most ``share``.

    Split conformal prediction: of n + 1 exchangeable parts each is equally likely to have the largest distance, so the
    next one exceeds the i-th smallest of n with probability at most ``(n + 1 - i) / (n + 1)`` (Vovk, Gammerman and
    Shafer, Algorithmic Learning in a Random World, 2005).

    Args:
        distances: One per ordinary part not used in training: the largest distance of its pictures.
        share: Largest share of ordinary parts to stop, in (0, 1).

    Returns:
        ``None`` if there are too few parts, see `parts_for_share`.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"guard: expected a share above 0 and below 1, found {share}.")
    count = len(distances)
    rank = math.ceil((count + 1) * (1.0 - share) - 1e-9)
    if rank > count:
        return None
    return OutOfDistributionCheck(farthest=sorted(distances)[rank - 1], share=share, parts=count)


def strictest_share(parts: int) -> float | None:
    """Smallest share that a number of val parts supports; ``None`` if they are too few even for `MOST_SHARE`."""
    share = 1.0 / (parts + 1)
    return share if share <= MOST_SHARE else None


def parts_for_share(share: float) -> int:
    """Fewest val parts for which `fit_out_of_distribution_check` succeeds."""
    return math.ceil(1.0 / share - 1e-9) - 1


def _unit(vector: FeatureVector) -> FeatureVector:
    length = float(np.linalg.norm(vector))
    if not math.isfinite(length):
        raise InputError("expected a finite feature vector, found NaN or infinity in it. Judge the part again.")
    return (vector / max(length, 1e-12)).astype(np.float32)
