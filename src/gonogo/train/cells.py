"""Teaching the head cell by cell, where masks say which cells of a feature map are defective."""

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
from gonogo.runtime import Graph
from gonogo.source import TrainingSource
from gonogo.train.features import Pooled, stream_marked_maps
from gonogo.train.head import CellLogit, LinearHead, best_bias

KEPT = 24
"""Cells of each kind that are kept of a picture, over all its views: neighbours say nearly the same."""
SHRINKAGE = 3e-3
"""Added to the spread of sound cells in every direction, as a share of the mean spread."""
CELL_STRENGTHS = (1e-1, 3e-2, 1e-2, 3e-3)
"""Weights of the L2 penalty tried, on whitened features."""
SCALES = tuple(2.0**exponent for exponent in range(-4, 5))
"""Factors from the logit of a cell to the score of a picture that are tried."""
CONTEXTS = (0.0, 0.25, 0.5, 1.0)
"""Factors from the logit of a picture as a whole to its score that are tried."""


@dataclass(frozen=True, kw_only=True)
class LabelledCells:
    """Single cells of feature maps."""

    features: Float16[np.ndarray, "cells channels"]
    defective: Int8[np.ndarray, " cells"]
    """1 where a mask lies, 0 elsewhere."""
    view: Int[np.ndarray, " cells"]
    """Number of the view that a cell was seen in."""


@dataclass(frozen=True, kw_only=True)
class Discriminant:
    """One way to tell defective from sound cells: ``weight . features + bias`` is the logit of a cell."""

    weight: Float32[np.ndarray, " channels"]
    bias: float
    strength: float
    """The L2 penalty it was fitted with."""


def cell_loss(cell_logits: Tensor, targets: Tensor) -> Tensor:
    """Cross entropy in nats over the cells of some maps: half for the defective, half for the sound ones.

    Every map that has some of a kind weighs the same for that kind, however many.

    Args:
        cell_logits: batch x rows x columns.
        targets: The same shape, see `cell_targets`.
    """
    each = functional.binary_cross_entropy_with_logits(cell_logits, (targets == DEFECTIVE).float(), reduction="none")
    total = torch.zeros(())
    for kind in (SOUND, DEFECTIVE):
        there = (targets == kind).float()
        counts = there.sum((1, 2))
        if counts.any():
            of_map = (each * there).sum((1, 2)) / counts.clamp_min(1)
            total = total + 0.5 * of_map[counts > 0].mean()
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
    """Some defective and some sound cells of every view of some samples, drawn at random.

    Args:
        graph: The compiled backbone with an output for every cut, see `gonogo.export.export_maps`.
        source: Gives the pictures and their masks.
        samples: Labelled samples.
        augmentation: Views per picture; the masks go through the same ones.
        seed: Of the jittered crops and of the draw.
        shift_xy: Where a cell looks, see `cell_targets`.

    Raises:
        InputError: no mask marks anything.
        ImageError: a mask is unreadable, or of another size than its picture.
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
    """Logistic regression on cells, for every penalty.

    The cells are whitened by the covariance of the sound ones, so that the penalty is small for directions in which
    sound surface hardly varies (as in Fisher's discriminant) and large for those of its texture and lighting. Every
    view weighs the same, however many cells it gave, and both kinds of cells weigh the same.
    """
    weights = _weights(cells)
    centre, whitening = _whitening(cells, weights)
    white = (cells.features.astype(np.float32) - centre) @ whitening
    found = []
    model = LogisticRegression(max_iter=100, tol=1e-4, warm_start=True)
    for strength in track(CELL_STRENGTHS, "fitting the head"):  # each fit starts at the last one's solution
        model.C = 1.0 / (2.0 * strength)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # val decides, converged or not
            model.fit(white, cells.defective, sample_weight=weights)
        weight = (whitening @ model.coef_[0]).astype(np.float32)
        bias = float(model.intercept_[0] - weight.astype(np.float64) @ centre)
        found.append(Discriminant(weight=weight, bias=bias, strength=strength))
    return found


def defect_maps(
    results: Iterable[Sequence[Float32[np.ndarray, "_ _ _"]]], tried: Sequence[Discriminant]
) -> Float32[np.ndarray, "tried samples rows columns"]:
    """What each discriminant, its bias left out, sees in some pictures.

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
    """The discriminant, scales and bias whose pooled map, as a score, has the lowest class-balanced loss on pictures.

    Args:
        tried: Discriminants of cells.
        maps: Their maps of the untouched val pictures, see `defect_maps`.
        val: The labels and mean-pooled features of these pictures.
        context: What tells bad pictures from good ones by their mean-pooled features.
        pool: How a map becomes a score.
        sharpness: Of log-sum-exp pooling.
        shift_xy: Where a cell looks, see `cell_targets`.
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
    """The joined features of some cells (row, column) of the finest grid."""
    rows, columns = cells.T
    parts = [each[:, rows * each.shape[1] // shape[0], columns * each.shape[2] // shape[1]] for each in maps]
    return np.concatenate(parts).T.astype(np.float16)


def _weights(cells: LabelledCells) -> Float64[np.ndarray, " cells"]:
    """Half for either kind, evenly over the views that have some of it."""
    weights = np.zeros(len(cells.view))
    for kind in (SOUND, DEFECTIVE):
        there = cells.defective == kind
        each = 1.0 / np.bincount(cells.view[there])[cells.view[there]]
        weights[there] = 0.5 * each / each.sum()
    return weights


def _whitening(
    cells: LabelledCells, weights: Float64[np.ndarray, " cells"]
) -> tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, "channels channels"]]:
    """Mean of the sound cells, and the matrix that gives them unit covariance, short of `SHRINKAGE`."""
    there = cells.defective == SOUND
    share = (2 * weights[there]).astype(np.float32)
    sound = cells.features[there].astype(np.float32)
    centre = share @ sound
    sound = (sound - centre) * np.sqrt(share)[:, None]
    values, vectors = np.linalg.eigh(sound.T @ sound)
    values = np.maximum(values, 0.0)
    return centre, (vectors / np.sqrt(values + SHRINKAGE * values.mean() + 1e-12)).astype(np.float32)
