"""Agreement beyond chance: Cohen's and Fleiss' kappa with intervals.

Both are functions of averages over parts, so each is computed in two steps: the contribution of each part, and kappa of
the mean contribution. The intervals resample *parts* (percentile bootstrap; Efron and Tibshirani, An Introduction to
the Bootstrap, 1993, chapter 13), because repeated decisions on one part are not independent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gonogo.array_types import Bool, Float64, Int64
from gonogo.msa.study import StudyDecision
from gonogo.operating_point import clopper_pearson

_CATEGORIES = len(StudyDecision)
_RESAMPLES = 4000
_Means: TypeAlias = Float64[np.ndarray, "*resamples contributions"]
_Shares: TypeAlias = Float64[np.ndarray, "*resamples"]


@dataclass(frozen=True, kw_only=True)
class Kappa:
    """Agreement beyond chance with its 95 % interval: 1 is full agreement, 0 is chance.

    ``value`` is ``None`` if chance alone gives full agreement (all decisions are the same).
    """

    value: float | None
    low: float | None = None
    high: float | None = None


def fleiss(decisions: Int64[np.ndarray, "ratings parts"]) -> Kappa:
    """Fleiss' kappa of two or more ratings of each part (Fleiss, Psychological Bulletin 76, 1971, 378-382)."""
    ratings = len(decisions)
    counts = np.stack([(decisions == category).sum(axis=0) for category in range(_CATEGORIES)], axis=1)
    agreeing_pairs = (np.sum(counts**2, axis=1) - ratings) / (ratings * (ratings - 1))
    return _with_interval(np.column_stack([agreeing_pairs, counts / ratings]), _fleiss_of_means, agreeing_pairs == 1.0)


def cohen(first: Int64[np.ndarray, "trials parts"], second: Int64[np.ndarray, "trials parts"]) -> Kappa:
    """Cohen's kappa of two appraisers, decisions paired by trial (Cohen, Educ. Psychol. Meas. 20, 1960, 37-46)."""
    pair = np.eye(_CATEGORIES**2)[first * _CATEGORIES + second]  # trials, parts, pairs of categories
    return _with_interval(pair.mean(axis=0), _cohen_of_means, (first == second).all(axis=0))


def _fleiss_of_means(means: _Means) -> tuple[_Shares, _Shares]:
    return means[..., 0], np.sum(means[..., 1:] ** 2, axis=-1)


def _cohen_of_means(means: _Means) -> tuple[_Shares, _Shares]:
    table = means.reshape(*means.shape[:-1], _CATEGORIES, _CATEGORIES)
    agreement = np.trace(table, axis1=-2, axis2=-1)
    return agreement, np.sum(table.sum(axis=-1) * table.sum(axis=-2), axis=-1)


def _with_interval(
    contributions: Float64[np.ndarray, "parts contributions"],
    agreement_and_chance: Callable[[_Means], tuple[_Shares, _Shares]],
    agreed: Bool[np.ndarray, " parts"],
) -> Kappa:
    agreement, chance = (float(share) for share in agreement_and_chance(contributions.mean(axis=0)))
    if chance > 1.0 - 1e-12:
        return Kappa(value=None)
    value, parts = (agreement - chance) / (1.0 - chance), len(contributions)
    if agreed.all():
        # Every resample would be perfect, so the bootstrap interval would have zero width. Use the exact lower bound
        # of the share of parts in agreement instead, and count the rest as full disagreement.
        low = (clopper_pearson(parts, parts)[0] - chance) / (1.0 - chance)
        return Kappa(value=value, low=low, high=1.0)
    weights = np.random.default_rng(0).multinomial(parts, np.full(parts, 1.0 / parts), _RESAMPLES) / parts
    agreements, chances = agreement_and_chance(weights @ contributions)
    defined = chances < 1.0 - 1e-12
    resampled = (agreements[defined] - chances[defined]) / (1.0 - chances[defined])
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Kappa(value=value, low=float(low), high=float(high))
