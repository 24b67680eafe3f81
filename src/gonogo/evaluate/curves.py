"""Threshold-free metrics: ROC and precision-recall curves and the areas under them, exact for tied scores."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from gonogo.array_types import Float64
from gonogo.schema import Scores


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Corner points of a curve, one for each distinct threshold, from the strictest to the most lenient."""

    x: Float64[np.ndarray, " points"]
    y: Float64[np.ndarray, " points"]


def auroc(good: Scores, bad: Scores) -> float | None:
    """Probability that a random bad part scores above a random good part; ties count half.

    The Mann-Whitney statistic from mid-ranks (Hanley and McNeil, Radiology 143, 1982). ``None`` without good or
    without bad parts.
    """
    if not len(good) or not len(bad):
        return None
    ranks = stats.rankdata(np.concatenate([bad, good]))[: len(bad)]
    return float((ranks.sum() - len(bad) * (len(bad) + 1) / 2) / (len(bad) * len(good)))


def auroc_interval(area: float, good_parts: int, bad_parts: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Confidence interval of an `auroc`, valid for any distribution and any number of parts.

    The area is a mean over pairings of ``k = min(good, bad)`` independent pairs, so Chernoff's bound for k pairs holds
    for it (Hoeffding, Journal of the American Statistical Association 58, 1963, section 5). One good and one bad part
    in the right order give 2.5 % to 100 %, like the exact interval of one success in one trial.
    """
    pairs = min(good_parts, bad_parts)
    allowed = -math.log((1.0 - confidence) / 2.0) / pairs if pairs else math.inf

    def beyond(rate: float) -> float:
        return float(special.rel_entr(area, rate) + special.rel_entr(1.0 - area, 1.0 - rate)) - allowed

    tiny = 1e-12
    low = 0.0 if area <= tiny or beyond(tiny) <= 0 else float(optimize.brentq(beyond, tiny, area))
    high = 1.0 if area >= 1.0 - tiny or beyond(1.0 - tiny) <= 0 else float(optimize.brentq(beyond, area, 1.0 - tiny))
    return low, high


def roc(good: Scores, bad: Scores) -> Curve:
    """Share of good parts (x) against share of bad parts (y) at or above each threshold, from (0, 0) to (1, 1).

    Raises:
        ValueError: there are no good or no bad parts.
    """
    false_hits, hits = _counts_at_or_above(good, bad)
    return Curve(x=np.append(0.0, false_hits / len(good)), y=np.append(0.0, hits / len(bad)))


def precision_recall(good: Scores, bad: Scores) -> Curve:
    """Recall (x) against precision (y) at each distinct threshold.

    Raises:
        ValueError: there are no good or no bad parts.
    """
    false_hits, hits = _counts_at_or_above(good, bad)
    return Curve(x=hits / len(bad), y=hits / (hits + false_hits))


def average_precision(good: Scores, bad: Scores) -> float | None:
    """Mean precision over the steps of recall, without interpolation; ``None`` without good or without bad parts."""
    if not len(good) or not len(bad):
        return None
    curve = precision_recall(good, bad)
    return float(np.sum(np.diff(curve.x, prepend=0.0) * curve.y))


def _counts_at_or_above(good: Scores, bad: Scores) -> tuple[Scores, Scores]:
    if not len(good) or not len(bad):
        raise ValueError(f"expected parts of both labels, found {len(good)} good and {len(bad)} bad")
    thresholds = np.unique(np.concatenate([good, bad]))[::-1]
    false_hits = len(good) - np.searchsorted(np.sort(good), thresholds, side="left")
    hits = len(bad) - np.searchsorted(np.sort(bad), thresholds, side="left")
    return false_hits.astype(np.float64), hits.astype(np.float64)
