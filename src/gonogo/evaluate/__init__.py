"""Judging a data set through the inspector, and the figures that come of it."""

from __future__ import annotations

from gonogo.evaluate.curves import Curve, auroc, average_precision, precision_recall, roc
from gonogo.evaluate.evaluation import Evaluation, Fault, quantiles_ms, worst_of_part
from gonogo.evaluate.judging import Judge, evaluate
from gonogo.evaluate.rates import KindResult, Localisation, Rate

__all__ = [
    "Curve",
    "Evaluation",
    "Fault",
    "Judge",
    "KindResult",
    "Localisation",
    "Rate",
    "auroc",
    "average_precision",
    "evaluate",
    "precision_recall",
    "quantiles_ms",
    "roc",
    "worst_of_part",
]
