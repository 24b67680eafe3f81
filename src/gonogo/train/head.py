"""Fits the head on frozen features: class-balanced, with an L2 penalty chosen on val."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from torch import Tensor
from torch.nn import functional

from gonogo.array_types import Float16, Float32, Float64, Int
from gonogo.model import Pool, pool_map
from gonogo.progress import track
from gonogo.train.features import Maps, Pooled

STRENGTHS = tuple(10.0 ** (exponent / 2) for exponent in range(-12, 1))
"""Candidate weights of the L2 penalty, relative to the mean sample loss, on standardised features."""
MAP_STRENGTHS = (1e-4, 1e-3, 1e-2)
MAP_EPOCHS = 24
MAP_BATCH = 32
MAP_RATE = 3e-3


@dataclass(frozen=True, kw_only=True)
class CellLogit:
    """Converts the value of a cell of the map to the logit of that cell."""

    bias: float
    """Bias of a cell; differs from that of the score, which applies to the pooled map."""
    shift_xy: tuple[float, float]
    """Spatial offset of a cell, in cells to the right of and below its centre."""


@dataclass(frozen=True, kw_only=True)
class LinearHead:
    """A fitted 1x1 convolution: ``score = pool(weight . features + context . mean of the features) + bias``."""

    weight: Float32[np.ndarray, " channels"]
    context: Float32[np.ndarray, " channels"] | None = None
    """Weights of the mean-pooled features, see `gonogo.model.MapHead`; ``None`` without context."""
    bias: float
    strength: float
    """The L2 penalty chosen."""
    val_loss: float
    """Class-balanced cross entropy on val pictures without augmentation, in nats."""
    cells: CellLogit | None = None
    """Logits of single cells, if the head was trained on masks."""


def balanced_loss(score: Float64[np.ndarray, " samples"], bad: Int[np.ndarray, " samples"]) -> float:
    """Class-balanced cross entropy in nats; infinite if a score is not finite."""
    if not np.isfinite(score).all():
        return math.inf
    loss = np.logaddexp(0.0, np.where(bad == 1, -score, score))
    return float(np.mean([loss[bad == label].mean() for label in np.unique(bad)]))


def best_bias(pooled: Float64[np.ndarray, " samples"], bad: Int[np.ndarray, " samples"]) -> tuple[float, float]:
    """The bias that minimises the class-balanced loss (a convex problem), and that loss."""
    found = minimize_scalar(
        lambda bias: balanced_loss(pooled + bias, bad),
        bounds=(-float(pooled.max()) - 1.0, -float(pooled.min()) + 1.0),
        method="bounded",
    )
    return float(found.x), float(found.fun)


def fit_mean(train: Pooled, val: Pooled) -> LinearHead:
    """Fit a logistic regression on mean-pooled features, which equals a map head with mean pooling."""
    views, channels = train.vectors.shape[1:]
    flat = train.vectors.reshape(-1, channels)
    centre, scale = flat.mean(0), flat.std(0) + 1e-6
    standard = (flat - centre) / scale
    repeated = np.repeat(train.bad, views)
    best: LinearHead | None = None
    model = LogisticRegression(class_weight="balanced", max_iter=1000, tol=1e-5, warm_start=True)
    # From strong to weak penalty, each fit starting from the previous solution.
    for strength in track(sorted(STRENGTHS, reverse=True), "fitting the head"):
        model.C = 1.0 / (strength * len(standard))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # val selects the fit, converged or not
            model.fit(standard, repeated)
        weight = (model.coef_[0] / scale).astype(np.float32)
        bias = float(model.intercept_[0] - weight.astype(np.float64) @ centre)
        loss = balanced_loss(val.vectors[:, 0].astype(np.float64) @ weight + bias, val.bad)
        if best is None or loss < best.val_loss:
            best = LinearHead(weight=weight, bias=bias, strength=strength, val_loss=loss)
    assert best is not None
    return best


def cross_validated_loss(train: Pooled, parts: Sequence[str], *, folds: int = 5) -> float:
    """The lowest cross-validated class-balanced loss over all penalties: measures the quality of features.

    The val split alone is often too small to compare sets of features.
    """
    flat = train.vectors[:, 0].astype(np.float64)
    standard = (flat - flat.mean(0)) / (flat.std(0) + 1e-6)
    splitter = StratifiedGroupKFold(n_splits=min(folds, int(np.bincount(train.bad).min())))
    held_out = list(splitter.split(standard, train.bad, parts))
    losses = []
    for strength in STRENGTHS[::2]:
        score = np.zeros(len(standard))
        for seen, unseen in held_out:
            model = LogisticRegression(class_weight="balanced", C=1.0 / (strength * len(seen)), max_iter=200, tol=1e-3)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                score[unseen] = model.fit(standard[seen], train.bad[seen]).decision_function(standard[unseen])
        losses.append(balanced_loss(score, train.bad))
    return min(losses)


def fit_map(start: LinearHead, train: Maps, val: Maps, *, pool: Pool, sharpness: float, seed: int) -> LinearHead:
    """Fit the head through max or log-sum-exp pooling by Adam with a one-cycle rate, from the mean-pooled solution.

    With this pooling a single cell can dominate the score, which helps with small defects. The problem is not convex,
    so it starts from the mean-pooled solution. Each epoch uses another augmentation of every picture.
    """
    generator = torch.Generator().manual_seed(seed)
    centre, scale = _moments(train.maps)
    bad = torch.from_numpy(train.bad).float()
    weights = class_weights(bad)
    best: LinearHead | None = None
    direction, offset = _start(start, train, centre, scale, pool, sharpness)
    for strength in track(MAP_STRENGTHS, "fitting the head"):
        weight, bias = direction.clone().requires_grad_(), offset.clone().requires_grad_()
        optimiser = torch.optim.Adam([weight, bias], lr=MAP_RATE)
        steps = math.ceil(len(train.bad) / MAP_BATCH) * MAP_EPOCHS
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, MAP_RATE, total_steps=steps)
        for chosen, features in _batches(train, centre, scale, generator):
            score = pool_map(torch.einsum("c,nchw->nhw", weight, features), pool, sharpness) + bias
            loss = functional.binary_cross_entropy_with_logits(score, bad[chosen], weight=weights[chosen])
            loss = loss + strength * weight.square().sum()
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        raw = (weight.detach() / scale).numpy().astype(np.float32)
        shift = float(bias.detach()) - float(raw.astype(np.float64) @ centre.numpy())
        scores = score_maps(raw, shift, val.maps[:, 0], pool=pool, sharpness=sharpness)
        found = LinearHead(weight=raw, bias=shift, strength=strength, val_loss=balanced_loss(scores, val.bad))
        if best is None or found.val_loss < best.val_loss:
            best = found
    assert best is not None
    return best


def score_maps(
    weight: Float32[np.ndarray, " channels"],
    bias: float,
    maps: Float16[np.ndarray, "samples channels rows columns"],
    *,
    pool: Pool,
    sharpness: float,
) -> Float64[np.ndarray, " samples"]:
    """Compute scores from stored feature maps."""
    rows = []
    for chunk in np.array_split(maps, max(1, len(maps) // 64)):
        defect_map = torch.einsum("c,nchw->nhw", torch.from_numpy(weight), torch.from_numpy(chunk.astype(np.float32)))
        rows.append(pool_map(defect_map, pool, sharpness).numpy())
    return np.concatenate(rows).astype(np.float64) + bias


def _start(
    start: LinearHead, train: Maps, centre: Tensor, scale: Tensor, pool: Pool, sharpness: float
) -> tuple[Tensor, Tensor]:
    """The direction of the mean-pooled solution, scaled to a unit standard deviation of the cell logits.

    Cells vary far more than their means, so the unscaled solution would give logits in the hundreds.
    """
    direction = torch.from_numpy(start.weight) * scale
    some = torch.from_numpy(train.maps[:256, 0].astype(np.float32))
    cells = torch.einsum("c,nchw->nhw", direction, (some - centre[:, None, None]) / scale[:, None, None])
    factor = 1.0 / cells.std().clamp_min(1e-6)
    return direction * factor, -pool_map(cells * factor, pool, sharpness).mean()[None]


def _moments(maps: Float16[np.ndarray, "samples views channels rows columns"]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every channel over the cells of the original pictures."""
    first = torch.from_numpy(maps[:, 0].astype(np.float32))
    return first.mean((0, 2, 3)), first.std((0, 2, 3)) + 1e-6


def _batches(train: Maps, centre: Tensor, scale: Tensor, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
    views = train.maps.shape[1]
    for epoch in range(MAP_EPOCHS):
        order = torch.randperm(len(train.bad), generator=generator).numpy()
        for chosen in np.array_split(order, math.ceil(len(order) / MAP_BATCH)):
            features = torch.from_numpy(train.maps[chosen, epoch % views].astype(np.float32))
            standard = (features - centre[:, None, None]) / scale[:, None, None]
            yield torch.from_numpy(chosen), standard


def class_weights(bad: Tensor) -> Tensor:
    """Sample weights that give each class half of the loss."""
    share = float(bad.mean())
    return torch.where(bad == 1, 0.5 / share, 0.5 / (1 - share))
