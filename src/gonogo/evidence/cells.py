"""Cell evidence: a discriminant between defective and sound cells, trained on masks."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import cv2
import numpy as np

from gonogo.array_types import Float32, Float64, Int, Int8
from gonogo.evidence.grid import FeatureMap
from gonogo.source import Marks
from gonogo.zoning import LEFT_OUT, Numbers, coverage

Targets: TypeAlias = Int8[np.ndarray, "rows columns"]

DEFECTIVE, SOUND, UNASKED = 1, 0, -1

LEAST_COVERED = 0.3
"""Share of a cell's square that the mask must cover for the cell to be defective."""
OF_MOST_COVERED = 0.6
"""If no square is covered enough, cells with at least this share of the largest coverage are defective."""

SHARPNESS = 2.0
"""The ``r`` of log-sum-exp pooling; 0 would be the mean, infinity the maximum."""
KEPT = 24
"""Largest number of cells of each class per picture, because neighbouring cells are nearly redundant."""
SHRINKAGE = 3e-3
"""Added to the variance of sound cells in every direction, as a share of the mean variance."""
PENALTY = 1e-2
"""Weight of the L2 penalty on whitened features, relative to the mean loss."""


@dataclass(frozen=True, kw_only=True)
class CellEvidence:
    """Independent logit of each cell. Pooling: log-sum-exp with `SHARPNESS`."""

    weight: Float32[np.ndarray, " channels"]
    bias: float

    def logits(self, joined_map: FeatureMap) -> Float32[np.ndarray, "rows columns"]:
        """Logits of the cells on the grid of stride 16, without the bias."""
        found: Float32[np.ndarray, "rows columns"] = np.tensordot(self.weight, joined_map.astype(np.float32), 1)
        return found


@dataclass(frozen=True, kw_only=True)
class CellSample:
    """A sample of cells from several pictures."""

    features: Float32[np.ndarray, "cells channels"]
    defective: Int[np.ndarray, " cells"]
    picture: Int[np.ndarray, " cells"]
    """Picture number of each cell."""


def pool_log_sum_exp(values: Float32[np.ndarray, "..."], sharpness: float = SHARPNESS) -> float:
    """``log(mean(exp(r v))) / r`` (Pinheiro and Collobert, 2015, equation 6), between mean and maximum."""
    scaled = sharpness * values.astype(np.float64)
    highest = scaled.max()
    return float((highest + math.log(np.exp(scaled - highest).mean())) / sharpness)


def cell_targets(
    marks: Marks | None, shape: tuple[int, int], shift_xy: tuple[float, float], numbers: Numbers | None = None
) -> Targets:
    """Label the cells of a map as defective, sound or ignored.

    Cells that the mask covers only slightly, and neighbours of covered cells, are ignored, because they see a part of
    the defect.

    Args:
        marks: The mask, cropped and resized like the picture; ``None`` if the position of the defect is unknown.
        shape: Rows and columns of the map.
        shift_xy: Offset of the cells, in cells right of and below the centre of their square, see `HeatScale`.
        numbers: Zone of every cell; those that ignore zones leave out are ignored here too.

    Returns:
        `DEFECTIVE`, `SOUND` or `UNASKED` per cell.
    """
    if marks is None:
        return np.full(shape, UNASKED, np.int8)
    targets = np.full(shape, SOUND, np.int8)
    left_out = np.zeros(shape, np.bool_) if numbers is None else numbers == LEFT_OUT
    targets[left_out] = UNASKED
    if not marks.any():
        return targets
    covered = coverage(marks.astype(np.float32) / 255, shape, shift_xy)
    targets[cv2.dilate((covered > 0).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0] = UNASKED
    least = min(LEAST_COVERED, OF_MOST_COVERED * float(covered.max()))
    targets[(covered > 0) & (covered >= least) & ~left_out] = DEFECTIVE
    return targets


def draw_cells(joined_maps: Sequence[FeatureMap], targets: Sequence[Targets], rng: np.random.Generator) -> CellSample:
    """Sample defective and sound cells of each picture at random."""
    features, defective, picture = [], [], []
    for number, (each, wanted) in enumerate(zip(joined_maps, targets, strict=True)):
        for kind in (SOUND, DEFECTIVE):
            rows, columns = rng.permutation(np.argwhere(wanted == kind))[:KEPT].T
            features.append(each[:, rows, columns].T.astype(np.float32))
            defective.append(np.full(len(rows), kind))
            picture.append(np.full(len(rows), number))
    return CellSample(
        features=np.concatenate(features), defective=np.concatenate(defective), picture=np.concatenate(picture)
    )


def fit_cells(sample: CellSample) -> CellEvidence:
    """Fit logistic regression on cells, whitened by the covariance of the sound cells.

    The penalty is thus small for directions in which the sound surface hardly varies (as in Fisher's discriminant), and
    large for directions of texture and lighting. Every picture has the same weight, regardless of its number of cells,
    and so do both classes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    weights = _weights(sample)
    centre, whitening = _whitening(sample, weights)
    model = LogisticRegression(C=1.0 / (2.0 * PENALTY), max_iter=100, tol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # with this penalty, further iterations gain little
        model.fit((sample.features - centre) @ whitening, sample.defective, sample_weight=weights)
    weight = (whitening @ model.coef_[0]).astype(np.float32)
    return CellEvidence(weight=weight, bias=float(model.intercept_[0] - weight.astype(np.float64) @ centre))


def _weights(sample: CellSample) -> Float64[np.ndarray, " cells"]:
    """Sample weights: half for each class, spread evenly over the pictures that have cells of it."""
    weights = np.zeros(len(sample.picture))
    for kind in (SOUND, DEFECTIVE):
        there = sample.defective == kind
        each = 1.0 / np.bincount(sample.picture[there])[sample.picture[there]]
        weights[there] = 0.5 * each / each.sum()
    return weights


def _whitening(
    sample: CellSample, weights: Float64[np.ndarray, " cells"]
) -> tuple[Float32[np.ndarray, " channels"], Float32[np.ndarray, "channels channels"]]:
    """Mean of the sound cells, and the matrix that whitens them, up to `SHRINKAGE`."""
    there = sample.defective == SOUND
    share = (2 * weights[there]).astype(np.float32)
    sound = sample.features[there]
    centre = share @ sound
    sound = (sound - centre) * np.sqrt(share)[:, None]
    values, vectors = np.linalg.eigh(sound.T @ sound)
    values = np.maximum(values, 0.0)
    return centre, (vectors / np.sqrt(values + SHRINKAGE * values.mean() + 1e-12)).astype(np.float32)
