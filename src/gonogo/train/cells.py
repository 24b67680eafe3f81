"""Fits the head on cells of feature maps that masks label as defective or sound."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor
from torch.nn import functional

from gonogo.array_types import Float16, Float32, Float64, Int, Int8
from gonogo.augment import Augmentation
from gonogo.dataset import Sample
from gonogo.errors import InputError
from gonogo.evidence.cells import DEFECTIVE, SOUND, cell_targets
from gonogo.model import Pool, on_finest, pool_map
from gonogo.progress import track
from gonogo.ranks import ALONE, Ranks
from gonogo.runtime import Graph
from gonogo.source import TrainingSource
from gonogo.train.features import Pooled, stream_marked_maps
from gonogo.train.head import CellLogit, LinearHead, best_bias
from gonogo.train.together import summed

KEPT = 24
"""Maximum number of cells of each kind per picture, over all augmentations: neighbouring cells are nearly equal."""
SHRINKAGE = 3e-3
"""Added to the variance of sound cells in every direction, as a share of the mean variance."""
CELL_STRENGTHS = (1e-1, 3e-2, 1e-2, 3e-3)
"""Candidate weights of the L2 penalty, on whitened features."""
SCALES = tuple(2.0**exponent for exponent in range(-4, 5))
"""Candidate factors from the logit of a cell to the score of a picture."""
CONTEXTS = (0.0, 0.25, 0.5, 1.0)
"""Candidate factors from the logit of the whole picture to its score."""


@dataclass(frozen=True, kw_only=True)
class LabelledCells:
    """Labelled cells of feature maps."""

    features: Float16[np.ndarray, "cells channels"]
    defective: Int8[np.ndarray, " cells"]
    """1 inside a mask, 0 outside."""
    view: Int[np.ndarray, " cells"]
    """Index of the augmented picture that a cell belongs to."""


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """A linear classifier of cells: ``weight . features + bias`` is the logit of a defective cell."""

    weight: Float32[np.ndarray, " channels"]
    bias: float
    strength: float
    """The L2 penalty it was fitted with."""


def cell_loss(cell_logits: Tensor, targets: Tensor, ranks: Ranks = ALONE) -> Tensor:
    """Cross entropy in nats over the cells of some maps, with equal weight for defective and sound cells.

    For each kind, every map that has such cells has the same weight.

    Args:
        cell_logits: batch x rows x columns.
        targets: The same shape, see `cell_targets`.
        ranks: The processes that share the batch; the sum of their results is the loss of the whole batch.
    """
    each = functional.binary_cross_entropy_with_logits(cell_logits, (targets == DEFECTIVE).float(), reduction="none")
    total = each.sum() * 0.0  # an empty share has a gradient too
    for kind in (SOUND, DEFECTIVE):
        there = (targets == kind).float()
        counts = there.sum((1, 2))
        of_map = (each * there).sum((1, 2)) / counts.clamp_min(1)
        maps = summed((counts > 0).sum().float(), ranks)
        total = total + 0.5 * of_map.sum() / maps.clamp_min(1)
    return total


def gather_cells(
    graph: Graph,
    source: TrainingSource,
    samples: Sequence[Sample],
    augmentation: Augmentation,
    *,
    seed: int,
    shift_xy: tuple[float, float],
) -> LabelledCells:
    """Sample defective and sound cells at random from every augmentation of some samples.

    Args:
        graph: The compiled backbone with an output for every cut, see `gonogo.export.FrozenNetwork.maps`.
        source: Source of the pictures and their masks.
        samples: Labelled samples.
        augmentation: Augmentations per picture; also applied to the masks.
        seed: Random seed of the jittered crops and the sampling.
        shift_xy: Spatial offset of the cells, see `cell_targets`.

    Raises:
        InputError: the masks are empty.
        ImageError: a mask is unreadable, or its size differs from its picture.
    """
    rng = np.random.default_rng(seed)
    most = math.ceil(KEPT / augmentation.views)
    features, defective, view = [], [], []
    results = stream_marked_maps(graph, source, samples, augmentation, seed=seed)
    for number, (maps, marked) in enumerate(results):
        targets = cell_targets(marked, max((each.shape[1], each.shape[2]) for each in maps), shift_xy)
        for kind in (SOUND, DEFECTIVE):
            chosen = rng.permutation(np.argwhere(targets == kind))[:most]
            features.append(_features_of(maps, chosen, targets.shape))
            defective.append(np.full(len(chosen), kind, np.int8))
            view.append(np.full(len(chosen), number))
    cells = LabelledCells(
        features=np.concatenate(features),
        defective=np.concatenate(defective),
        view=np.concatenate(view),
    )
    if not cells.defective.any():
        raise InputError(
            f"{source.dataset.root}: the masks of the train split mark nothing within the region of interest. "
            "Correct the masks or the region, or train without them: --no-masks."
        )
    return cells


def discriminants(cells: LabelledCells) -> list[Discriminant]:
    """Fit a logistic regression on cells for every penalty.

    The cells are whitened by the covariance of the sound ones, so that the penalty is small for directions in which
    sound surfaces hardly vary (as in Fisher's discriminant) and large for those of texture and lighting. Every
    augmented picture has the same weight, and so have both kinds of cells.
    """
    weights = _weights(cells)
    centre, whitening = _whitening(cells, weights)
    white = (cells.features.astype(np.float32) - centre) @ whitening
    found = []
    model = LogisticRegression(max_iter=100, tol=1e-4, warm_start=True)
    for strength in track(CELL_STRENGTHS, "fitting the head"):  # each fit starts from the previous solution
        model.C = 1.0 / (2.0 * strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # val selects the fit, converged or not
            model.fit(white, cells.defective, sample_weight=weights)
        weight = (whitening @ model.coef_[0]).astype(np.float32)
        bias = float(model.intercept_[0] - weight.astype(np.float64) @ centre)
        found.append(Discriminant(weight=weight, bias=bias, strength=strength))
    return found


def defect_maps(
    results: Iterable[Sequence[Float32[np.ndarray, "_ _ _"]]], tried: Sequence[Discriminant]
) -> Float32[np.ndarray, "tried samples rows columns"]:
    """Defect maps of some pictures under each discriminant, without its bias.

    Args:
        results: The map of every cut, per picture, see `stream_maps`.
        tried: The discriminants.
    """
    weights = torch.from_numpy(np.stack([each.weight for each in tried]))
    found = []
    for maps in results:
        tensors = [torch.from_numpy(np.ascontiguousarray(each))[None] for each in maps]
        pieces = torch.split(weights, [each.shape[1] for each in tensors], dim=1)
        parts = [functional.conv2d(each, piece[..., None, None]) for each, piece in zip(tensors, pieces, strict=True)]
        found.append(torch.stack(on_finest(parts)).sum(0)[0].numpy())
    return np.stack(found, axis=1)


def fit_score(
    tried: Sequence[Discriminant],
    maps: Float32[np.ndarray, "tried samples rows columns"],
    val: Pooled,
    *,
    context: Float32[np.ndarray, " channels"],
    pool: Pool,
    sharpness: float,
    shift_xy: tuple[float, float],
) -> LinearHead:
    """Choose the discriminant, scales and bias with the lowest class-balanced loss of the pooled map on val pictures.

    Args:
        tried: Discriminants of cells.
        maps: Their maps of the val pictures without augmentation, see `defect_maps`.
        val: The labels and mean-pooled features of these pictures.
        context: Weights that separate bad from good pictures by their mean-pooled features.
        pool: Pooling from map to score.
        sharpness: Sharpness of log-sum-exp pooling.
        shift_xy: Spatial offset of the cells, see `cell_targets`.
    """
    best: LinearHead | None = None
    whole = val.vectors[:, 0].astype(np.float64) @ context
    for (each, seen), scale, share in product(zip(tried, maps, strict=True), SCALES, CONTEXTS):
        pooled = pool_map(torch.from_numpy(scale * seen), pool, sharpness).double().numpy()
        bias, loss = best_bias(pooled + share * whole, val.bad)
        if best is None or loss < best.val_loss:
            best = LinearHead(
                weight=each.weight * np.float32(scale),
                context=context * np.float32(share),
                bias=bias,
                strength=each.strength,
                val_loss=loss,
                cells=CellLogit(bias=each.bias * scale, shift_xy=shift_xy),
            )
    assert best is not None
    return best


def _features_of(
    maps: Sequence[Float32[np.ndarray, "_ _ _"]], cells: Int[np.ndarray, "cells 2"], shape: tuple[int, ...]
) -> Float16[np.ndarray, "cells channels"]:
    """The concatenated features of some cells (row, column) of the finest grid."""
    rows, columns = cells.T
    parts = [each[:, rows * each.shape[1] // shape[0], columns * each.shape[2] // shape[1]] for each in maps]
    return np.concatenate(parts).T.astype(np.float16)


def _weights(cells: LabelledCells) -> Float64[np.ndarray, " cells"]:
    """Sample weights: half for each kind, equal for all augmented pictures that have such cells."""
    weights = np.zeros(len(cells.view))
    for kind in (SOUND, DEFECTIVE):
        there = cells.defective == kind
        each = 1.0 / np.bincount(cells.view[there])[cells.view[there]]
        weights[there] = 0.5 * each / each.sum()
    return weights


def _whitening(
    cells: LabelledCells, weights: Float64[np.ndarray, " cells"]
) -> tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, "channels channels"]]:
    """Mean of the sound cells and their whitening matrix, regularised by `SHRINKAGE`."""
    there = cells.defective == SOUND
    share = (2 * weights[there]).astype(np.float32)
    sound = cells.features[there].astype(np.float32)
    centre = share @ sound
    sound = (sound - centre) * np.sqrt(share)[:, None]
    values, vectors = np.linalg.eigh(sound.T @ sound)
    values = np.maximum(values, 0.0)
    return centre, (vectors / np.sqrt(values + SHRINKAGE * values.mean() + 1e-12)).astype(np.float32)
