"""Evaluation: judge a data set with an inspector and compute its error rates, curves and localisation."""

from __future__ import annotations

from gonogo.evaluate.agreement import Agreement, Change, compare_inspectors
from gonogo.evaluate.curves import Curve, auroc, auroc_interval, average_precision, precision_recall, roc
from gonogo.evaluate.evaluation import Evaluation, Fault, quantiles_ms
from gonogo.evaluate.judging import Judge, evaluate, require_judged
from gonogo.evaluate.placement import RIGHT_IOU, Placement, labelled_place
from gonogo.evaluate.rates import KindResult, Localisation, Rate
from gonogo.evaluate.regions import Regions
from gonogo.evaluate.verdicts import Verdicts, worst_of_part

__all__ = [
    "RIGHT_IOU",
    "Agreement",
    "Change",
    "Curve",
    "Evaluation",
    "Fault",
    "Judge",
    "KindResult",
    "Localisation",
    "Placement",
    "Rate",
    "Regions",
    "Verdicts",
    "auroc",
    "auroc_interval",
    "average_precision",
    "compare_inspectors",
    "evaluate",
    "labelled_place",
    "precision_recall",
    "quantiles_ms",
    "require_judged",
    "roc",
    "worst_of_part",
]
