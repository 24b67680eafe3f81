"""Context evidence: a logistic head on pooled features of the whole picture, decomposed into a map.

The head is linear in the mean and the maximum of every channel over the picture. A mean is a sum over cells, and a
maximum is the value of one cell (ties share it), so each term of the head's sum has a position, and the cells of the
map add up to the head's logit without its bias.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float32, Float64, Int
from gonogo.evidence.grid import FeatureMap, repeated, summed

PENALTY_C = 0.003
"""scikit-learn's ``C`` (inverse strength of the L2 penalty), for standardised features and a class-balanced loss."""


@dataclass(frozen=True, kw_only=True)
class ContextEvidence:
    """Weights of the mean and of the maximum of every channel, joined over the strides, and a bias.

    Pooling: the sum over all cells.
    """

    mean_weight: Float32[np.ndarray, " channels"]
    max_weight: Float32[np.ndarray, " channels"]
    bias: float

    def contributions(self, maps: Sequence[FeatureMap]) -> Float32[np.ndarray, "rows columns"]:
        """Contribution of each cell of the stride-16 grid to the logit."""
        fine, middle, coarse = (self._own_grid(each, *weights) for each, weights in self._with_weights(maps))
        total: Float32[np.ndarray, "rows columns"] = (summed(fine) + middle + repeated(coarse) / 4)[0]
        return total

    def _with_weights(self, maps: Sequence[FeatureMap]) -> list[tuple[FeatureMap, tuple[np.ndarray, np.ndarray]]]:
        cuts = np.cumsum([len(each) for each in maps])[:-1]
        weights = zip(np.split(self.mean_weight, cuts), np.split(self.max_weight, cuts), strict=True)
        return list(zip(maps, weights, strict=True))

    @staticmethod
    def _own_grid(features: FeatureMap, mean_weight: np.ndarray, max_weight: np.ndarray) -> FeatureMap:
        highest = features.max((1, 2), keepdims=True)
        is_highest = (features == highest).astype(np.float32)
        share = max_weight[:, None, None] * highest / is_highest.sum((1, 2), keepdims=True)
        cells = np.tensordot(mean_weight / features[0].size, features, 1) + (share * is_highest).sum(0)
        grid: FeatureMap = cells[None].astype(np.float32)
        return grid


def pooled_vector(maps: Sequence[FeatureMap]) -> Float32[np.ndarray, " twice_channels"]:
    """Features of a picture for the head: the mean of every channel, then the maximum of every channel."""
    means = [each.mean((1, 2)) for each in maps]
    return np.concatenate(means + [each.max((1, 2)) for each in maps])


def fit_context(
    vectors: Float32[np.ndarray, "samples twice_channels"], bad: Int[np.ndarray, " samples"]
) -> ContextEvidence:
    """Fit logistic regression on standardised means and maxima, with balanced classes."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    centre, scale = vectors.mean(0, dtype=np.float64), vectors.std(0, dtype=np.float64) + 1e-6
    head = LogisticRegression(C=PENALTY_C, class_weight="balanced", max_iter=500, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the penalty is strong; more iterations gain little
        head.fit((vectors - centre) / scale, bad)
    weight = head.coef_[0] / scale
    channels = len(weight) // 2
    return ContextEvidence(
        mean_weight=weight[:channels].astype(np.float32),
        max_weight=weight[channels:].astype(np.float32),
        bias=float(head.intercept_[0] - weight @ centre),
    )


def context_scores(
    context: ContextEvidence, vectors: Float32[np.ndarray, "samples twice_channels"]
) -> Float64[np.ndarray, " samples"]:
    """Logits of pooled vectors without the bias; equal to the sum of each picture's contributions."""
    weight = np.concatenate([context.mean_weight, context.max_weight]).astype(np.float64)
    scores: Float64[np.ndarray, " samples"] = vectors.astype(np.float64) @ weight
    return scores
