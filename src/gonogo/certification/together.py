"""Certifies bundles of several cameras together: the part is one trial, judged by the worst of its views.

Scores of different networks have different scales. Each is put on the scale of its good val parts, which is fixed
before the calibrate split is used; the highest of these is the score of the part. One pair of thresholds is certified
on it and written into every bundle in that bundle's own scale, so that "the worst view decides" at the station is the
rule that was certified.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gonogo import bundle as bundles
from gonogo import operating_point as points
from gonogo.bundle import Bundle
from gonogo.certification.judged_parts import note_judged
from gonogo.certification.procedure import derived_point, share_of_bad
from gonogo.certification.records import EVIDENCE
from gonogo.certification.scores import SCORES
from gonogo.certification.trust import refuse_leaks, refuse_other_data
from gonogo.dataset import Dataset, Split
from gonogo.dataset.cameras import for_cameras, require_views
from gonogo.dataset.judged import refuse_redealt
from gonogo.errors import DatasetError, InputError
from gonogo.evaluate import Evaluation, evaluate, require_judged
from gonogo.inspector import Inspector
from gonogo.manifest import PartCertificate
from gonogo.operating_point import Promise
from gonogo.schema import Label, OperatingPoint, Prediction


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Puts the scores of one camera's bundle on a scale that it shares with the others."""

    middle: float
    width: float

    def of(self, score: float) -> float:
        """Return a score on the common scale."""
        return (score - self.middle) / self.width

    def back(self, score: float) -> float:
        """Return a score of the common scale on the bundle's own."""
        return score * self.width + self.middle if math.isfinite(score) else score


@dataclass(frozen=True, kw_only=True)
class CertifiedTogether:
    """Bundles that were certified together; each has been written."""

    point: OperatingPoint
    """The thresholds on the common scale, with the claims about parts."""
    bundles: Mapping[str, Bundle]
    """The new revision of each camera's bundle."""


def certify_together(
    inspectors: Sequence[Inspector], dataset: Dataset, promise: Promise | None = None
) -> CertifiedTogether:
    """Certify one bundle per camera together, and write the result into each as a new revision.

    Args:
        inspectors: One for each camera of the data set, each trained on the pictures of its camera alone.
        dataset: The data set that they were trained on, with all cameras.
        promise: What to certify about the part; default `Promise()`; limits per kind are not supported.

    Raises:
        InputError: a bundle was not trained for one camera, or two for the same.
        DatasetError: as in `gonogo.certification.certify`; a part lacks a view; or a camera has no bundle.
    """
    promise = promise or Promise()
    if promise.per_kind:
        raise InputError(
            "expected one promise for all defect kinds, found --per-kind. Certify the kinds of each camera."
        )
    by_camera = _by_camera(inspectors, dataset)
    require_views(dataset, (Split.VAL, Split.CALIBRATE))
    refuse_leaks(dataset)
    refuse_redealt(dataset)
    for camera, inspector in by_camera.items():
        refuse_other_data(inspector.bundle, for_cameras(dataset, (camera,)))
    val = _judged(by_camera, dataset, Split.VAL)
    scales = {camera: _scale(camera, judged) for camera, judged in val.items()}
    calibrate = _judged(by_camera, dataset, Split.CALIBRATE)
    joint = _joined(calibrate, scales)
    joint_val = _joined(val, scales)
    point, _ = derived_point(joint_val, joint, promise, promise.bad_share or share_of_bad(joint_val))
    note_judged(dataset, point)
    return CertifiedTogether(point=point, bundles=_written(by_camera, calibrate, scales, point))


def _by_camera(inspectors: Sequence[Inspector], dataset: Dataset) -> dict[str, Inspector]:
    found: dict[str, Inspector] = {}
    for inspector in inspectors:
        cameras = inspector.bundle.manifest.cameras
        if len(cameras) != 1 or cameras[0] in found:
            raise InputError(
                f"{inspector.bundle.root}: expected a bundle for one camera that no other bundle is for, found one for "
                f"{', '.join(cameras) or 'pictures without a camera'}. Train it with: gonogo train --camera NAME"
            )
        found[cameras[0]] = inspector
    there = {sample.camera for sample in dataset.samples if sample.camera is not None}
    if set(found) != there:
        raise DatasetError(
            f"{dataset.root}: expected a bundle for each camera ({', '.join(sorted(there)) or 'it names none'}), found "
            f"{', '.join(sorted(found))}. Name one bundle per camera."
        )
    return dict(sorted(found.items()))


def _judged(by_camera: Mapping[str, Inspector], dataset: Dataset, split: Split) -> dict[str, Evaluation]:
    found = {}
    for camera, inspector in by_camera.items():
        judged = evaluate(inspector, for_cameras(dataset, (camera,)), (split,), with_regions=False)
        if split is Split.CALIBRATE:
            require_judged(judged, then="certify again")
        found[camera] = judged
    return found


def _scale(camera: str, val: Evaluation) -> Scale:
    good = val.scores(Label.GOOD)
    if len(good) < 2:
        raise DatasetError(f"expected good val parts seen by camera {camera}, found {len(good)}. Add good parts.")
    low, middle, high = np.quantile(good, [0.25, 0.5, 0.75])
    return Scale(middle=float(middle), width=float(high - low) or 1.0)


def _joined(judged: Mapping[str, Evaluation], scales: Mapping[str, Scale]) -> Evaluation:
    """All pictures as one evaluation on the common scale; parts are the trials."""

    def scaled(picture: Prediction, scale: Scale) -> Prediction:
        return picture if picture.score is None else replace(picture, score=scale.of(picture.score))

    first = next(iter(judged.values()))
    pictures = [scaled(picture, scales[camera]) for camera, each in judged.items() for picture in each.pictures]
    prints = "".join(each.data_fingerprint for each in judged.values())
    return replace(first, pictures=tuple(pictures), data_fingerprint=hashlib.sha256(prints.encode()).hexdigest())


def _written(
    by_camera: Mapping[str, Inspector],
    calibrate: Mapping[str, Evaluation],
    scales: Mapping[str, Scale],
    point: OperatingPoint,
) -> dict[str, Bundle]:
    own = {camera: own_point(point, scales[camera], calibrate[camera]) for camera in by_camera}
    facts = [[camera, inspector.bundle.sha256, points.to_json(own[camera])] for camera, inspector in by_camera.items()]
    digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
    part = PartCertificate(cameras=tuple(by_camera), id=digest)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    gone: dict[str, bytes | None] = {SCORES: None, EVIDENCE: None}  # they tell of the bundle alone
    return {
        camera: bundles.replace_operating_point(inspector.bundle, own[camera], now=now, files=gone, part=part)
        for camera, inspector in by_camera.items()
    }


def own_point(point: OperatingPoint, scale: Scale, calibrate: Evaluation) -> OperatingPoint:
    """Return the thresholds on the scale of one bundle; they judge its calibration pictures as the common ones do."""
    go_below, no_go_above = scale.back(point.go_below), scale.back(point.no_go_above)
    for picture in calibrate.pictures:  # rounding may move a threshold past the score that it was set on
        if picture.score is not None:
            if picture.score < go_below and not scale.of(picture.score) < point.go_below:
                go_below = picture.score
            if picture.score > no_go_above and not scale.of(picture.score) > point.no_go_above:
                no_go_above = picture.score
    return replace(point, go_below=min(go_below, no_go_above), no_go_above=no_go_above)
