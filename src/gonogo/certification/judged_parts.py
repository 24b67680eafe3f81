"""Certifies an operating point on judged calibration parts; shared by training, ``gonogo certify`` and the server."""

from __future__ import annotations

import math

from gonogo import operating_point as points
from gonogo.dataset import Dataset, Split
from gonogo.dataset.judged import JUDGED, record_judged
from gonogo.evaluate import Evaluation
from gonogo.operating_point import Promise
from gonogo.progress import console
from gonogo.schema import Label, OperatingPoint


def certify_judged(calibrate: Evaluation, promise: Promise) -> OperatingPoint:
    """Certify a promise on the calibrate split.

    Limits that the promise leaves open follow from the number of parts, not from scores. Parts that could not be judged
    are counted: see `gonogo.evaluate.Evaluation.calibration_scores`.

    Args:
        calibrate: The calibration pictures as judged by the inspector.
        promise: What to certify.
    """
    max_escape, max_overkill = promise.limits(
        good_parts=calibrate.count(Label.GOOD), bad_parts=calibrate.count(Label.BAD)
    )
    return points.certified_point(
        calibrate.calibration_scores(Label.GOOD),
        calibrate.calibration_scores(Label.BAD),
        max_escape=max_escape,
        max_overkill=max_overkill,
        confidence=promise.confidence,
        joint=promise.joint,
        reject=promise.reject,
        go_without_promise=promise.go_without_promise,
        data_fingerprint=calibrate.data_fingerprint,
    )


def note_judged(dataset: Dataset, point: OperatingPoint) -> None:
    """Record that the calibrate split was used to set a threshold. Without a threshold no score was revealed."""
    if point.go_below == -math.inf and point.no_go_above == math.inf:
        return
    if not record_judged(dataset, (Split.CALIBRATE,), certified=True):
        console.print(
            f"{dataset.root / JUDGED} cannot be written: there is no record that the calibrate split has been used.",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )
