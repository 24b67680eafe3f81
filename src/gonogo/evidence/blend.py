"""Weights of the kinds of evidence: non-negative, fitted to out-of-fold scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from gonogo.array_types import Float64, Int

PENALTY = 1.0
"""Penalty on the squared weights; in the loss, each class weighs as much as there are bad parts."""


@dataclass(frozen=True, kw_only=True)
class Blend:
    """``score = weights . pooled evidence + bias``."""

    weights: Float64[np.ndarray, " evidence"]
    bias: float


def fit_blend(scores: Float64[np.ndarray, "samples evidence"], bad: Int[np.ndarray, " samples"]) -> Blend:
    """Fit logistic regression with non-negative weights on standardised scores.

    Each bad part has weight 1, and all good parts together weigh as much as the bad ones. With few bad parts, the
    penalty keeps the weights near their common prior.

    Args:
        scores: Out-of-fold scores, one column per kind of evidence.
        bad: 1 for a bad part, 0 for a good one; both classes must be present.
    """
    good = scores[bad == 0]
    centre, scale = good.mean(0), good.std(0) + 1e-9
    standard = (scores - centre) / scale
    sign = np.where(bad == 1, 1.0, -1.0)
    importance = np.where(bad == 1, 1.0, bad.sum() / (bad == 0).sum())

    def loss(parameters: Float64[np.ndarray, " _"]) -> tuple[float, Float64[np.ndarray, " _"]]:
        weights, bias = parameters[:-1], parameters[-1]
        margin = sign * (standard @ weights + bias)
        pull = -importance * sign / (1.0 + np.exp(np.minimum(margin, 500.0)))
        gradient = np.append(standard.T @ pull + PENALTY * weights, pull.sum())
        return float(importance @ np.logaddexp(0.0, -margin) + 0.5 * PENALTY * weights @ weights), gradient

    start = np.zeros(scores.shape[1] + 1)
    bounds = [(0.0, None)] * scores.shape[1] + [(None, None)]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights = found[:-1] / scale
    return Blend(weights=weights, bias=float(found[-1] - weights @ centre))


def standard_blend(scores: Float64[np.ndarray, "samples evidence"]) -> Blend:
    """Blend for good parts only: the sum of standardised scores, 0 for the average good part."""
    scale = scores.std(0) + 1e-9
    return Blend(weights=1.0 / scale, bias=-float((scores.mean(0) / scale).sum()))


def balanced_losses(
    score: Float64[np.ndarray, " samples"], bad: Int[np.ndarray, " samples"]
) -> Float64[np.ndarray, " samples"]:
    """Cross entropy of each part in nats, weighted so that both classes contribute half of the mean."""
    losses = np.logaddexp(0.0, np.where(bad == 1, -score, score))
    counts = np.bincount(bad, minlength=2)
    return np.asarray(losses * 0.5 * len(bad) / counts[bad])
