"""The act of setting a gauge."""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from gonogo import bundle as bundles
from gonogo import drift
from gonogo import operating_point as points
from gonogo.bundle import Bundle
from gonogo.dataset import Dataset, Split
from gonogo.dataset.judged import refuse_redealt
from gonogo.drift import Reference
from gonogo.errors import DatasetError, UnfitError
from gonogo.evaluate import Evaluation, evaluate, require_judged
from gonogo.inspector import Inspector
from gonogo.operate.certifying import certify_judged, note_judged
from gonogo.operate.golden import choose_golden, replaced_files
from gonogo.operate.measuring import Recorder, make_reference
from gonogo.operate.planning import shortfalls
from gonogo.operate.records import EVIDENCE
from gonogo.operate.restoring import refuse_losses
from gonogo.operate.scores import scores_file
from gonogo.operate.trust import doubts, exposures, merged, refuse_leaks, refuse_other_data
from gonogo.operating_point import Costs, DialPoint, KindClaims, Loss, Promise
from gonogo.operating_point.dial import RATES
from gonogo.schema import Label, OperatingPoint, Scores

UNNAMED = "unnamed"
"""Stands for bad parts whose defect kind nobody named."""


@dataclass(frozen=True, kw_only=True)
class Request(Promise):
    """What is asked of the gauge. With costs, the limits are the highest that may be chosen."""

    per_kind: bool = False
    """The escape limit for each defect kind by itself, too."""
    costs: Costs | None = None
    bad_share: float | None = None
    """Share of bad parts that arrive at the gauge; that of the val split, which is seldom true, where omitted."""
    guard: float | None = 0.02
    """Most ordinary parts that may go to a person for being unlike everything taught; ``None`` for no guard."""
    merge_near_duplicates: bool = False
    """Count calibration pictures that look like one part as one part."""


@dataclass(frozen=True, kw_only=True)
class Operated:
    """What came of it."""

    bundle: Bundle
    """The new revision."""
    request: Request
    point: OperatingPoint
    kinds: KindClaims | None
    dial: tuple[DialPoint, ...]
    """One setting per escape limit at the chosen overkill limit; empty where val lacks good or bad parts."""
    review_rate: float | None
    """Expected from the val scores at ``bad_share``, without the guard."""
    bad_share: float | None
    reference: Reference
    calibrate: Evaluation
    warnings: tuple[str, ...]

    @property
    def refusals(self) -> tuple[str, ...]:
        """What was asked and cannot be promised, with what is missing; empty where everything is."""
        told = zip((self.point.escape, self.point.overkill), points.describe_point(self.point), strict=True)
        refused = [
            sentence
            for claim, sentence in told
            if not claim.holds and not (claim.error == "escape" and self.point.go_without_promise)
        ]
        if self.kinds is not None:
            refused += [
                f"Nothing is promised of {kind} for itself: {missing} more bad parts of it are needed."
                for kind, missing in self.kinds.too_few.items()
            ]
        return tuple(refused)


def operate(inspector: Inspector, dataset: Dataset, request: Request | None = None, *, force: bool = False) -> Operated:
    """Choose on val, certify once on calibrate, and write a new revision of the bundle.

    Where a limit cannot be certified, the revision says so and those parts go to review: see `Operated.refusals`. A
    promise in force is not given up for that: then nothing is written, unless ``force``.

    Args:
        inspector: What judges; its bundle is replaced on disk, so load it again afterwards.
        dataset: Labelled and split; the one the inspector was trained on.
        request: What is asked; the defaults of `Request` where omitted.
        force: Write the revision even where it promises less than is promised now, without having been asked to.

    Raises:
        DatasetError: a split lacks labelled parts, a calibration picture cannot be judged, a part is in two splits, or
            it is not the data set that the inspector was trained on.
        UnfitError: the new revision would promise less; the bundle was not changed.
    """
    request = request or Request()
    refuse_other_data(inspector.bundle, dataset)
    refuse_leaks(dataset)
    refuse_redealt(dataset)
    recorder = Recorder(inspector, dataset)
    val = evaluate(recorder, dataset, (Split.VAL,), with_regions=False)
    calibrate = _judge_calibrate(recorder, dataset)
    alike = exposures(dataset, calibrate)
    if request.merge_near_duplicates:
        calibrate = merged(calibrate, alike)
    bad_share = request.bad_share if request.bad_share is not None else _bad_share(val)
    max_escape, max_overkill = _choose(val, calibrate, request, bad_share)
    point, kinds = _certify(calibrate, replace(request, max_escape=max_escape, max_overkill=max_overkill))
    note_judged(dataset, point)
    lost = _lost(inspector.bundle, request, point)
    if not force:
        refuse_losses(inspector.bundle, [loss for loss in lost if loss.gone or not _asked(request, loss)])
    reference, lacking = make_reference(
        recorder, val, calibrate, guard_share=request.guard, bad_share=request.bad_share
    )
    lacking += [each.sentence() for each in shortfalls(dataset, request) if request.costs is None]
    trust = doubts(dataset, calibrate, alike, merging=request.merge_near_duplicates)
    made = Operated(
        bundle=inspector.bundle,
        request=request,
        point=point,
        kinds=kinds,
        dial=_dial(val, calibrate, request, bad_share, sorted({*RATES, max_escape}), [max_overkill]),
        review_rate=_review_rate(val, point, bad_share),
        bad_share=bad_share,
        reference=reference,
        calibrate=calibrate,
        warnings=(*trust, *lacking, *(f"Less is promised than before. {loss.sentence}" for loss in lost)),
    )
    record = json.dumps(_evidence(made, dataset), indent=2, allow_nan=False).encode() + b"\n"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    golden, frames = choose_golden(inspector, dataset, (*val.pictures, *calibrate.pictures), point)
    files = {
        **drift.to_files(reference),
        EVIDENCE: record,
        **scores_file(request, calibrate, val=None if request.costs is None else val, bad_share=bad_share),
        **replaced_files(inspector, frames),
    }
    revised = bundles.replace_operating_point(inspector.bundle, point, now=now, files=files, golden=golden)
    return replace(made, bundle=revised)


def derive(
    val: Evaluation, calibrate: Evaluation, request: Request, bad_share: float | None
) -> tuple[OperatingPoint, KindClaims | None]:
    """The operating point that follows from judged pictures and a request; a function of these alone."""
    max_escape, max_overkill = _choose(val, calibrate, request, bad_share)
    return _certify(calibrate, replace(request, max_escape=max_escape, max_overkill=max_overkill))


def dial_to_json(setting: DialPoint) -> dict[str, Any]:
    """One setting of the dial."""
    return {
        "max_escape": setting.escape.max_rate,
        "max_overkill": setting.overkill.max_rate,
        "certifiable": setting.holds,
        "bad_parts_missing": setting.escape.parts_missing,
        "good_parts_missing": setting.overkill.parts_missing,
        "review_rate": setting.review_rate,
        "escape_rate": setting.escape_rate,
        "overkill_rate": setting.overkill_rate,
    }


def _evidence(made: Operated, dataset: Dataset) -> dict[str, Any]:
    samples = [sample for sample in dataset.split(Split.CALIBRATE) if sample.label is not None]
    return {
        "format": 1,
        "request": asdict(made.request),
        "calibrate": {
            "pictures": len(samples),
            "parts_good": made.point.overkill.parts,
            "parts_bad": made.point.escape.parts,
            "lots": len({sample.lot for sample in samples if sample.lot is not None}),
            "pictures_without_part": sum(sample.part is None for sample in samples),
            "pictures_without_lot": sum(sample.lot is None for sample in samples),
        },
        "bad_share": made.bad_share,
        "review_rate": made.review_rate,
        "kinds": {} if made.kinds is None else {kind: asdict(claim) for kind, claim in made.kinds.claims.items()},
        "dial": [dial_to_json(setting) for setting in made.dial],
        "refusals": list(made.refusals),
        "warnings": list(made.warnings),
    }


def _judge_calibrate(recorder: Recorder, dataset: Dataset) -> Evaluation:
    calibrate = evaluate(recorder, dataset, (Split.CALIBRATE,), with_regions=False)
    require_judged(calibrate, then="run gonogo certify again")
    return calibrate


def _bad_share(val: Evaluation) -> float | None:
    bad = val.count(Label.BAD)
    return bad / len(val.parts) if 0 < bad < len(val.parts) else None


def _lost(bundle: Bundle, request: Request, point: OperatingPoint) -> list[Loss]:
    """What the bundle promises now and would no longer."""
    lost = points.losses(bundle.manifest.operating_point, point)
    file = bundle.root / EVIDENCE
    before = json.loads(file.read_bytes()).get("kinds") if file.is_file() else None
    if before and not request.per_kind:
        sentence = (
            "Now: the escape limit holds for each kind of defect. Then: for all together (keep it with --per-kind)."
        )
        lost.append(Loss(about="kinds", gone=False, sentence=sentence))
    return lost


def _asked(request: Request, loss: Loss) -> bool:
    """Whether a weaker promise is just what somebody asked for."""
    return getattr(request, f"max_{loss.about}", None) is not None


def _choose(val: Evaluation, calibrate: Evaluation, request: Request, bad_share: float | None) -> tuple[float, float]:
    """The limits to certify: those asked for, those that the counts allow, or the cheapest by the val scores."""
    limits = request.limits(good_parts=calibrate.count(Label.GOOD), bad_parts=calibrate.count(Label.BAD))
    if request.costs is None:
        return limits
    escapes, overkills = (sorted({*(rate for rate in RATES if rate < most), most}) for most in limits)
    settings = _dial(val, calibrate, request, bad_share, escapes, overkills)
    if not settings:
        raise DatasetError(
            f"expected good and bad parts in the val split to weigh the costs, found {val.count(Label.GOOD)} good and "
            f"{val.count(Label.BAD)} bad. Choose the limits yourself with --max-escape and --max-overkill."
        )
    try:
        chosen = points.cheapest(settings, request.costs)
    except UnfitError:  # then the most lenient limits are asked for, and refused with what is missing
        return limits
    return chosen.escape.max_rate, chosen.overkill.max_rate


def _certify(calibrate: Evaluation, request: Request) -> tuple[OperatingPoint, KindClaims | None]:
    point = certify_judged(calibrate, request)
    if not request.per_kind:
        return point, None
    named = [part.defect or UNNAMED for part in calibrate.parts if part.label is Label.BAD]
    kinds = points.certify_kinds(point, calibrate.calibration_scores(Label.BAD), named)
    return kinds.point, kinds


def _dial(
    val: Evaluation,
    calibrate: Evaluation,
    request: Request,
    bad_share: float | None,
    max_escapes: Sequence[float],
    max_overkills: Sequence[float],
) -> tuple[DialPoint, ...]:
    good, bad = val.scores(Label.GOOD), val.scores(Label.BAD)
    if not len(good) or not len(bad) or bad_share is None:
        return ()
    return points.dial(
        good,
        bad,
        good_parts=calibrate.count(Label.GOOD),
        bad_parts=calibrate.count(Label.BAD),
        bad_share=bad_share,
        max_escapes=max_escapes,
        max_overkills=max_overkills,
        confidence=request.confidence,
        joint=request.joint,
    )


def _review_rate(val: Evaluation, point: OperatingPoint, bad_share: float | None) -> float | None:
    def between(scores: Scores) -> float:
        return float(np.mean((scores >= point.go_below) & (scores <= point.no_go_above)))

    good, bad = val.scores(Label.GOOD), val.scores(Label.BAD)
    if bad_share is None or not len(good) or not len(bad):
        return None
    return bad_share * between(bad) + (1.0 - bad_share) * between(good)
