"""The certification procedure: choose limits on val, certify them once on calibrate."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import partial
from typing import Any

import numpy as np

from gonogo import bundle as bundles
from gonogo import drift
from gonogo import operating_point as points
from gonogo.bundle import Bundle
from gonogo.certification.golden import choose_golden, replaced_files
from gonogo.certification.hidden import refuse_hidden_defects
from gonogo.certification.judged_parts import certify_judged, note_judged
from gonogo.certification.lots import lot_checks
from gonogo.certification.records import EVIDENCE
from gonogo.certification.reference import Recorder, distances_of, make_reference
from gonogo.certification.restore import refuse_losses
from gonogo.certification.scores import scores_file
from gonogo.certification.shortfall import shortfalls
from gonogo.certification.trust import exposures, merged, refuse_leaks, refuse_other_data, trust_notes
from gonogo.config import settings
from gonogo.dataset import Dataset, Split
from gonogo.dataset.cameras import for_cameras, require_views
from gonogo.dataset.collected import refuse_collected
from gonogo.dataset.judged import refuse_redealt
from gonogo.drift import DriftReference
from gonogo.errors import DatasetError, UnfitError
from gonogo.evaluate import Evaluation, evaluate, require_judged
from gonogo.inspector import Inspector
from gonogo.manifest import Golden, part_alone
from gonogo.operating_point import KindClaims, Loss, Promise, TradeoffPoint
from gonogo.operating_point.lots import LotCheck, to_record
from gonogo.operating_point.tradeoff import RATES
from gonogo.rules import rules_digest
from gonogo.runtime import runtime_environment
from gonogo.schema import DefectMap, Label, OperatingPoint, Scores
from gonogo.validity import KEY as VALIDITY
from gonogo.validity import Validity, starting_now
from gonogo.zoning import zones_digest

UNNAMED = "unnamed"
"""Kind of bad parts without a named defect kind."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Result of a certification and the files it adds to the bundle; nothing is written yet."""

    promise: Promise
    """The requested promise."""
    point: OperatingPoint
    kinds: KindClaims | None
    tradeoff: tuple[TradeoffPoint, ...]
    """One point per escape limit at the chosen overkill limit; empty if val lacks good or bad parts."""
    review_rate: float | None
    """Expected from the val scores at ``bad_share``, and what the out-of-distribution check adds to that on calibrate
    parts; the check sets no threshold, and its limit is from val."""
    bad_share: float | None
    reference: DriftReference | None
    """Reference for drift detection; ``None`` if too few training pictures could be judged."""
    val: Evaluation
    calibrate: Evaluation
    maps: Mapping[str, DefectMap]
    """The defect map of each val and calibrate picture, by file name."""
    warnings: tuple[str, ...]
    validity: Validity
    lots: tuple[LotCheck, ...] = ()
    """How far each certified limit would move if the parts of a lot fail together; for information."""
    golden: tuple[Golden, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Scores, evidence, reference and golden frames, by their names in the bundle."""

    @property
    def refusals(self) -> tuple[str, ...]:
        """Requested promises that cannot be certified, and what is missing; empty if all are certified."""
        sentences = zip((self.point.escape, self.point.overkill), points.describe_point(self.point), strict=True)
        refused = [
            sentence
            for claim, sentence in sentences
            if not claim.holds and not (claim.error == "escape" and self.point.go_without_promise)
        ]
        if self.kinds is not None:
            refused += [
                f"No escape limit is certified for defect kind {kind}: {missing} more bad parts of it are needed."
                for kind, missing in self.kinds.too_few.items()
            ]
        return tuple(refused)


@dataclass(frozen=True, kw_only=True)
class Recertified(Certified):
    """A certification that has been written into its bundle."""

    bundle: Bundle
    """The new revision."""


def recertify(
    inspector: Inspector,
    dataset: Dataset,
    promise: Promise | None = None,
    *,
    force: bool = False,
    before_use: Callable[[Certified, Bundle], None] | None = None,
) -> Recertified:
    """Certify a bundle again, see `certify`, and write the result into it as a new revision.

    If a limit cannot be certified, the revision says so and the affected parts go to review: see `Certified.refusals`.
    If that would weaken the current promise, nothing is written unless ``force`` is set.

    Args:
        inspector: The inspector to certify; its bundle is replaced on disk, so load it again afterwards.
        dataset: The labelled and split data set that the inspector was trained on.
        promise: What to certify; default `Promise()`.
        force: Write the revision even if it promises less than the current one without being asked to.
        before_use: Called with the result and the sealed revision before it takes the place of the old one, to record
            or to sign it; what it raises leaves the old one.

    Raises:
        DatasetError: as in `certify`, or the inspector was trained on another data set.
        UnfitError: the new revision would promise less; the bundle is unchanged.
    """
    dataset = for_cameras(dataset, inspector.bundle.manifest.cameras)
    refuse_other_data(inspector.bundle, dataset)
    made = certify(inspector, dataset, promise, force=force)
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    files = {drift.DRIFT: None, drift.TAUGHT: None, **replaced_files(inspector, made.files)}
    environment = runtime_environment(device=inspector.device.used, threads=settings().threads)
    revised = bundles.replace_operating_point(
        inspector.bundle,
        made.point,
        now=now,
        files=files,
        golden=made.golden,
        proven_on=environment,
        part=part_alone(inspector.bundle.manifest.cameras),
        before_use=None if before_use is None else partial(before_use, made),
    )
    return Recertified(**{each.name: getattr(made, each.name) for each in fields(Certified)}, bundle=revised)


def certify(
    inspector: Inspector, dataset: Dataset, promise: Promise | None = None, *, force: bool = False
) -> Certified:
    """Choose limits on val and certify them once on calibrate.

    Training calls this on a draft bundle and `recertify` on a finished one; each picture is judged once. The only thing
    written is a note in the data set that its calibrate split has set a threshold.

    Args:
        inspector: The inspector to certify.
        dataset: The labelled and split data set that the inspector was trained on.
        promise: What to certify; default `Promise()`.
        force: Continue even if the bundle would promise less than now.

    Raises:
        DatasetError: a split lacks labelled parts, too many calibration pictures cannot be judged, a part is in two
            splits, or a picture that a rule collected from the line is in another split than train.
        UnfitError: the bundle would promise less than now.
    """
    promise = promise or Promise()
    require_views(dataset, (Split.VAL, Split.CALIBRATE))
    refuse_leaks(dataset)
    refuse_collected(dataset)
    refuse_redealt(dataset)
    refuse_hidden_defects(dataset, inspector.roi, inspector.recipe.zones, keep=promise.keep_hidden)
    recorder = Recorder(inspector, dataset)
    val = evaluate(recorder, dataset, (Split.VAL,), with_regions=False)
    calibrate = evaluate(recorder, dataset, (Split.CALIBRATE,), with_regions=False)
    require_judged(calibrate, then="certify or train again")
    alike = exposures(dataset, calibrate)
    if promise.merge_near_duplicates:
        calibrate = merged(calibrate, alike)
    bad_share = promise.bad_share if promise.bad_share is not None else share_of_bad(val)
    max_escape, max_overkill = _choose(val, calibrate, promise, bad_share)
    point, kinds = _certify(calibrate, replace(promise, max_escape=max_escape, max_overkill=max_overkill))
    point = replace(
        point,
        zones_sha256=zones_digest(inspector.recipe.zones),
        rules_sha256=rules_digest(inspector.recipe, inspector.heat_scale),
    )
    note_judged(dataset, point)
    lost = _lost(inspector.bundle, promise, point)
    if not force:
        refuse_losses(inspector.bundle, [loss for loss in lost if loss.gone or not _asked(promise, loss)])
    reference, lacking = make_reference(
        recorder, val, calibrate, guard_share=promise.guard, bad_share=promise.bad_share
    )
    lacking += [each.sentence() for each in shortfalls(dataset, promise) if promise.costs is None]
    lots = lot_checks(calibrate, dataset, point)
    few = [sentence for check in lots if (sentence := check.warning())]
    trust = trust_notes(dataset, calibrate, alike, merging=promise.merge_near_duplicates)
    found = Certified(
        promise=promise,
        point=point,
        kinds=kinds,
        tradeoff=_tradeoff(val, calibrate, promise, bad_share, sorted({*RATES, max_escape}), [max_overkill]),
        review_rate=_review_rate(val, point, bad_share, _stopped(recorder, calibrate, point, reference)),
        bad_share=bad_share,
        reference=reference,
        val=val,
        calibrate=calibrate,
        maps=recorder.maps,
        validity=starting_now(days=promise.valid_days, parts=promise.valid_parts),
        lots=lots,
        warnings=(*trust, *few, *lacking, *(f"The new promise is weaker. {loss.sentence}" for loss in lost)),
    )
    golden, frames = choose_golden(inspector, dataset, (*val.pictures, *calibrate.pictures), point)
    return replace(found, golden=golden, files={**_records(found, dataset), **frames})


def _records(made: Certified, dataset: Dataset) -> dict[str, bytes]:
    """Files that a certification adds to the bundle besides the golden frames, by name."""
    val = None if made.promise.costs is None else made.val
    return {
        **({} if made.reference is None else drift.to_files(made.reference)),
        EVIDENCE: json.dumps(_evidence(made, dataset), indent=2, allow_nan=False).encode() + b"\n",
        **scores_file(made.promise, made.calibrate, val=val, bad_share=made.bad_share),
    }


def derived_point(
    val: Evaluation, calibrate: Evaluation, promise: Promise, bad_share: float | None
) -> tuple[OperatingPoint, KindClaims | None]:
    """Compute the operating point from judged pictures and a promise; depends on nothing else."""
    max_escape, max_overkill = _choose(val, calibrate, promise, bad_share)
    return _certify(calibrate, replace(promise, max_escape=max_escape, max_overkill=max_overkill))


def tradeoff_to_json(setting: TradeoffPoint) -> dict[str, Any]:
    """Return one point of the trade-off curve as a JSON object."""
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


def _evidence(made: Certified, dataset: Dataset) -> dict[str, Any]:
    samples = [sample for sample in dataset.split(Split.CALIBRATE) if sample.label is not None]
    return {
        "format": 1,
        "request": asdict(made.promise),
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
        "guard": None if made.reference is None or made.reference.guard is None else asdict(made.reference.guard),
        "kinds": {} if made.kinds is None else {kind: asdict(claim) for kind, claim in made.kinds.claims.items()},
        "tradeoff": [tradeoff_to_json(setting) for setting in made.tradeoff],
        VALIDITY: made.validity.model_dump(mode="json"),
        "lots": [to_record(check) for check in made.lots],
        "refusals": list(made.refusals),
        "warnings": list(made.warnings),
    }


def share_of_bad(val: Evaluation) -> float | None:
    """Share of bad parts; ``None`` if all parts have the same label."""
    bad = val.count(Label.BAD)
    return bad / len(val.parts) if 0 < bad < len(val.parts) else None


def _lost(bundle: Bundle, promise: Promise, point: OperatingPoint) -> list[Loss]:
    """What the bundle promises now and would no longer promise."""
    lost = points.losses(bundle.manifest.operating_point, point)
    file = bundle.root / EVIDENCE
    before = json.loads(file.read_bytes()).get("kinds") if file.is_file() else None
    if before and not promise.per_kind:
        sentence = (
            "Now: the escape limit holds for each defect kind. Then: for all kinds combined (--per-kind keeps it)."
        )
        lost.append(Loss(about="kinds", gone=False, sentence=sentence))
    return lost


def _asked(promise: Promise, loss: Loss) -> bool:
    """Whether the weaker promise was requested explicitly."""
    return promise.costs is not None or getattr(promise, f"max_{loss.about}", None) is not None


def _choose(val: Evaluation, calibrate: Evaluation, promise: Promise, bad_share: float | None) -> tuple[float, float]:
    """The limits to certify: as requested, as the counts allow, or the cheapest by the val scores."""
    limits = promise.limits(good_parts=calibrate.count(Label.GOOD), bad_parts=calibrate.count(Label.BAD))
    if promise.costs is None:
        return limits
    escapes, overkills = (sorted({*(rate for rate in RATES if rate < most), most}) for most in limits)
    settings = _tradeoff(val, calibrate, promise, bad_share, escapes, overkills)
    if not settings:
        raise DatasetError(
            f"expected good and bad parts in the val split to compare costs, found {val.count(Label.GOOD)} good and "
            f"{val.count(Label.BAD)} bad. Choose the limits yourself with --max-escape and --max-overkill."
        )
    try:
        chosen = points.cheapest(settings, promise.costs)
    except UnfitError:  # the most lenient limits then fail with the number of missing parts
        return limits
    return chosen.escape.max_rate, chosen.overkill.max_rate


def _certify(calibrate: Evaluation, promise: Promise) -> tuple[OperatingPoint, KindClaims | None]:
    point = certify_judged(calibrate, promise)
    if not promise.per_kind:
        return point, None
    named = [part.defect or UNNAMED for part in calibrate.parts if part.label is Label.BAD]
    kinds = points.certify_kinds(point, calibrate.calibration_scores(Label.BAD), named)
    return kinds.point, kinds


def _tradeoff(
    val: Evaluation,
    calibrate: Evaluation,
    promise: Promise,
    bad_share: float | None,
    max_escapes: Sequence[float],
    max_overkills: Sequence[float],
) -> tuple[TradeoffPoint, ...]:
    good, bad = val.scores(Label.GOOD), val.scores(Label.BAD)
    if not len(good) or not len(bad) or bad_share is None:
        return ()
    return points.tradeoff(
        good,
        bad,
        good_parts=calibrate.count(Label.GOOD),
        bad_parts=calibrate.count(Label.BAD),
        bad_share=bad_share,
        max_escapes=max_escapes,
        max_overkills=max_overkills,
        confidence=promise.confidence,
        joint=promise.joint,
    )


def _stopped(
    recorder: Recorder, calibrate: Evaluation, point: OperatingPoint, reference: DriftReference | None
) -> dict[Label, float]:
    """Share of the parts of each label that only the out-of-distribution check sends to review."""
    guard = None if reference is None else reference.guard
    if guard is None:
        return dict.fromkeys(Label, 0.0)
    distances = distances_of(recorder, calibrate)
    stopped: dict[Label, list[bool]] = {label: [] for label in Label}
    for part in calibrate.parts:
        if part.score is not None and part.part in distances:
            decided = not point.go_below <= part.score <= point.no_go_above
            stopped[part.label].append(decided and guard.stops(distances[part.part]))
    return {label: float(np.mean(found)) if found else 0.0 for label, found in stopped.items()}


def _review_rate(
    val: Evaluation, point: OperatingPoint, bad_share: float | None, stopped: Mapping[Label, float]
) -> float | None:
    def between(scores: Scores) -> float:
        return float(np.mean((scores >= point.go_below) & (scores <= point.no_go_above)))

    good, bad = val.scores(Label.GOOD), val.scores(Label.BAD)
    if bad_share is None or not len(good) or not len(bad):
        return None
    at_most = {Label.BAD: between(bad) + stopped[Label.BAD], Label.GOOD: between(good) + stopped[Label.GOOD]}
    return bad_share * min(1.0, at_most[Label.BAD]) + (1.0 - bad_share) * min(1.0, at_most[Label.GOOD])
