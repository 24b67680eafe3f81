"""A heat map for a network that has none: a linear model of its score on the means of a feature map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo import runtime
from gonogo.array_types import Float32, Float64, Int
from gonogo.dataset import Sample
from gonogo.dataset.splits import deal_folds
from gonogo.errors import UnfitError
from gonogo.imported import ImportedNet
from gonogo.progress import track
from gonogo.source import TrainingSource

FOLDS = 5
LEAST_PICTURES = 20
RIDGES = tuple(10.0**power for power in range(-3, 5))
"""Penalties tried, for standardised features."""


@dataclass(frozen=True, kw_only=True)
class FittedScore:
    """Weights of the channels of a feature map whose weighted mean approximates the score, up to a constant."""

    weight: Float32[np.ndarray, " channels"]
    r2: float
    """Share of the variance of the scores that the model explains, on pictures left out of the fit."""


def fit_map(net: ImportedNet, layer: str, source: TrainingSource, samples: Sequence[Sample]) -> FittedScore:
    """Fit a linear model of a network's own scores; labels are not used.

    Raises:
        InputError: there is no such feature map.
        UnfitError: there are too few pictures, or the model explains nothing of the score.
    """
    chosen = net.layer(layer)
    if len(samples) < LEAST_PICTURES:
        raise UnfitError(
            f"--map-layer: fitting a map takes {LEAST_PICTURES} pictures in train and val, found {len(samples)}."
        )
    graph = runtime.compile_graph(net.pooled(chosen), many=True)
    rows, scores = [], []
    for found in track(graph.stream(source.plain(samples)), "fitting the map", total=len(samples)):
        rows.append(found["features"][0])
        scores.append(float(found["score"].reshape(-1)[0]))
    fitted = fit_score(np.stack(rows), np.array(scores), deal_folds(samples, FOLDS))
    if fitted.r2 <= 0:
        raise UnfitError(
            f"--map-layer {layer}: the means of this feature map explain nothing of the score (R2 {fitted.r2:.2f} on "
            "pictures left out of the fit), so a map of it would show nothing. Choose a later layer, or leave out "
            "--map-layer."
        )
    return fitted


def fit_score(
    features: Float32[np.ndarray, "pictures channels"],
    scores: Float64[np.ndarray, " pictures"],
    folds: Int[np.ndarray, " pictures"],
) -> FittedScore:
    """Ridge regression on standardised features; cross-validation chooses the penalty."""
    errors = {ridge: _left_out(features, scores, folds, ridge) for ridge in RIDGES}
    ridge = min(errors, key=lambda each: errors[each])
    spread = float(np.square(scores - scores.mean()).sum())
    weight, _ = _ridge(features.astype(np.float64), scores, ridge)
    return FittedScore(weight=weight.astype(np.float32), r2=1.0 - errors[ridge] / spread if spread > 0 else 0.0)


def _left_out(
    features: Float32[np.ndarray, "pictures channels"],
    scores: Float64[np.ndarray, " pictures"],
    folds: Int[np.ndarray, " pictures"],
    ridge: float,
) -> float:
    """Sum of squared errors on pictures left out of the fit."""
    total = 0.0
    for fold in np.unique(folds):
        left = folds == fold
        if left.all():  # all pictures belong together
            return float(np.square(scores - scores.mean()).sum())
        weight, bias = _ridge(features[~left].astype(np.float64), scores[~left], ridge)
        total += float(np.square(features[left] @ weight + bias - scores[left]).sum())
    return total


def _ridge(
    features: Float64[np.ndarray, "pictures channels"], scores: Float64[np.ndarray, " pictures"], ridge: float
) -> tuple[Float64[np.ndarray, " channels"], float]:
    """Weights and bias; solved over pictures, of which there are mostly fewer than channels."""
    mean, deviation = features.mean(0), np.maximum(features.std(0), 1e-6)
    standard = (features - mean) / deviation
    dual = np.linalg.solve(standard @ standard.T + ridge * np.eye(len(scores)), scores - scores.mean())
    weight: Float64[np.ndarray, " channels"] = standard.T @ dual / deviation
    return weight, float(scores.mean() - mean @ weight)
