"""Joins a student and its teacher into a cascade: the teacher judges only parts the student is unsure about."""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

import gonogo
from gonogo import bundle, drift, runtime
from gonogo.bundle import Bundle
from gonogo.certification.reference import ASSUMED_BAD_SHARE, Recorder
from gonogo.config import Recipe, settings
from gonogo.dataset import Dataset, Split, require_trainable
from gonogo.drift import DriftReference
from gonogo.drift.out_of_distribution import parts_for_share
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.files import folder_beside
from gonogo.heatmap import HeatScale
from gonogo.inspector import Inspector
from gonogo.manifest import CascadeRule, Manifest
from gonogo.schema import Label, Scores
from gonogo.signing import NOT_REQUIRED
from gonogo.workflow.comparing import (
    TeacherComparison,
    compare_with_teacher,
    expected_point,
    promise_of,
    require_map,
    require_same_data,
    require_whole_regions,
)
from gonogo.workflow.options import Promise
from gonogo.workflow.region import ROI_FILES, copy_roi
from gonogo.workflow.sealing import certify_draft, utc_now

TAIL = 0.1
"""Share of the most extreme val parts of a class that the tail of the scores is estimated from."""


@dataclass(frozen=True, kw_only=True)
class CascadeOptions:
    """Options of a cascade."""

    risk_share: float = 0.1
    """Share of each promised rate that the student may use; a smaller share sends more parts to the teacher."""
    strange: float = 0.02
    """Largest share of ordinary parts sent to the teacher for being out of distribution for the student."""
    split: Split = Split.TEST
    """Split on which the cascade is compared with its teacher."""


@dataclass(frozen=True, kw_only=True)
class Cascaded:
    """A cascade and its comparison with the teacher."""

    bundle: Bundle
    compared: TeacherComparison

    @property
    def asked(self) -> int:
        """Number of pictures of the compared split that were sent to the teacher."""
        return len(self.compared.itself.judged.timings_ms.get("teacher", ()))


def join_cascade(
    student: Inspector,
    teacher: Inspector,
    dataset: Dataset,
    out: Path,
    options: CascadeOptions | None = None,
    *,
    overwrite: bool = False,
) -> Cascaded:
    """Join two bundles, choose on val which parts the student decides, and certify the cascade on calibrate.

    Both graphs are copied unchanged, quantized or not.

    Args:
        student: The fast inspector; judges every part first.
        teacher: The accurate inspector; the cascade is certified for its promise.
        dataset: The labelled and split data set that both were trained on.
        out: Path of the new bundle.
        options: Default `CascadeOptions()`.
        overwrite: Replace an existing bundle once the new one is complete.

    Raises:
        InputError: the data are unsuitable, the bundles locate the part differently, or ``out`` exists.
        UnfitError: the teacher has no certified escape limit, val is too small for the out-of-distribution check, or
            one of the two would never decide.
    """
    options = options or CascadeOptions()
    if out.exists() and not overwrite:
        raise InputError(f"{out}: already exists. Choose another --out, or pass --overwrite.")
    _require_fit(student, teacher)
    promise = promise_of(teacher)
    require_trainable(dataset)
    require_same_data(dataset, student, teacher)
    recorder = Recorder(student, dataset)
    seen = evaluate(recorder, dataset, (Split.VAL,), with_regions=False)
    judged = evaluate(teacher, dataset, (Split.VAL,), with_regions=False)
    reference = _student_reference(recorder, seen, options.strange)
    rule = _rule(student, teacher, seen, judged, dataset, promise, options.risk_share)
    _require_both_decide(rule, reference, recorder, seen)
    with folder_beside(out, replace=overwrite) as partial:
        _copy(student.bundle, teacher.bundle, reference, partial)
        inspector = Inspector.of_draft(bundle.draft(partial, _draft(student.bundle, rule, out.name)))
        draft = certify_draft(inspector, dataset, promise, teacher.heat_scale.shift_xy)
        compared = compare_with_teacher(draft.inspector, teacher, dataset, options.split)
        made = Cascaded(bundle=inspector.bundle, compared=compared)
        pictures = len(compared.itself.judged.pictures)
        evidence = {"compared": compared.record(), "pictures": pictures, "asked": made.asked}
        draft.seal(cascade=rule.model_copy(update=evidence))
    return replace(made, bundle=Inspector.load(out, policy=NOT_REQUIRED).bundle)


def outer_score(scores: Scores, rate: float) -> float:
    """Estimate the score below which a new part of this class lies with a small probability ``rate``.

    The lowest `TAIL` of the scores is modelled as an exponential tail below a level (peaks over threshold: Pickands,
    Annals of Statistics 3, 1975, with shape 0), so the estimate may lie below the lowest observed score. An error costs
    reviews but not safety, because the cascade is certified afterwards.
    """
    ascending = np.sort(scores)
    outermost = max(1, math.ceil(TAIL * len(ascending)))
    level = float(ascending[min(outermost, len(ascending) - 1)])
    scale = float(np.mean(level - ascending[:outermost]))
    beyond = math.log(outermost / (len(ascending) * rate))
    return level - scale * beyond if beyond > 0 else float(np.quantile(ascending, rate))


def _rule(
    student: Inspector,
    teacher: Inspector,
    seen: Evaluation,
    judged: Evaluation,
    dataset: Dataset,
    promise: Promise,
    risk_share: float,
) -> CascadeRule:
    """The range of student scores sent to the teacher, and the mapping of the others to the teacher's scale."""
    expected = expected_point(judged.scores(Label.GOOD), judged.scores(Label.BAD), dataset, promise)
    # A threshold that is not certified is replaced by zero, where good and bad are equally likely.
    go_below = expected.go_below if math.isfinite(expected.go_below) else 0.0
    no_go_above = expected.no_go_above if math.isfinite(expected.no_go_above) else max(0.0, go_below)
    good, bad = seen.scores(Label.GOOD), seen.scores(Label.BAD)
    ask_from = outer_score(bad, risk_share * expected.escape.max_rate)
    ask_to = -outer_score(-good, risk_share * expected.overkill.max_rate)
    if ask_from > ask_to:  # the student separates the classes with a margin
        ask_from = ask_to = (ask_from + ask_to) / 2
    manifest = teacher.bundle.manifest
    map_scale, map_offset = _map_unit(student, teacher)
    return CascadeRule(
        student_sha256=student.bundle_sha256,
        teacher=manifest.classifier,
        size_wh=manifest.recipe.size_wh,
        precision=manifest.precision,
        ask_from=ask_from,
        ask_to=ask_to,
        good_shift=go_below - ask_from,
        bad_shift=no_go_above - ask_to,
        student_shift_xy=student.heat_scale.shift_xy,
        map_scale=map_scale,
        map_offset=map_offset,
    )


def _map_unit(student: Inspector, teacher: Inspector) -> tuple[float, float | None]:
    """Scale and offset that convert the student's map to the heat scale of the teacher.

    ``(1, None)`` if the cells of both maps are logits and need no conversion; those of inspect zones are not.
    """
    stated = [each.bundle.manifest.classifier for each in (student, teacher)]
    if not any(each.evidence or each.zones for each in stated):
        return 1.0, None
    own, wanted = student.heat_scale, teacher.heat_scale
    scale = (wanted.hot - wanted.cold) / (own.hot - own.cold)
    return scale, wanted.cold - scale * own.cold


def _student_reference(recorder: Recorder, seen: Evaluation, share: float) -> DriftReference:
    """Fit the out-of-distribution check on the student's features of training and val parts."""
    distances: dict[str, float] = {}
    for picture in seen.pictures:
        if (signs := recorder.signs.get(picture.file)) is not None:
            distances[picture.part] = max(distances.get(picture.part, 0.0), signs.distance)
    guard = drift.fit_out_of_distribution_check(list(distances.values()), share)
    if guard is None or recorder.features is None:
        needed = parts_for_share(share)
        raise UnfitError(
            f"An out-of-distribution check that sends at most {share:.3g} of ordinary parts to the teacher requires "
            f"{needed} val parts, found {len(distances)}. Allow a larger share with --strange, or label more parts."
        )
    return DriftReference(features=recorder.features, guard=guard, watches=(), bad_share=ASSUMED_BAD_SHARE, parts=0)


def _require_fit(student: Inspector, teacher: Inspector) -> None:
    for each in (student, teacher):
        if each.cascade is not None:
            raise InputError(
                f"{each.path}: expected a bundle with one network, found a cascade. Give its student or its teacher."
            )
        require_whole_regions(each)
        require_map(each)
    if _reduced(student.recipe) != _reduced(teacher.recipe):
        raise InputError(
            f"{student.path} judges pictures {_reduced(student.recipe)}, {teacher.path} {_reduced(teacher.recipe)}. "
            f"Both must use the same size: distill with the --reduction of the teacher."
        )
    if student.recipe.zones != teacher.recipe.zones:
        raise InputError(
            f"{student.path} and {teacher.path} have different zones. Both must ignore and inspect the same: train or "
            "distill the student with the zones of the teacher."
        )
    finders = [
        (each.recipe.roi, [(each.path / name).read_bytes() for name in ROI_FILES if (each.path / name).is_file()])
        for each in (student, teacher)
    ]
    if finders[0] != finders[1]:
        raise InputError(
            f"{student.path} locates the part by {student.recipe.roi}, {teacher.path} by {teacher.recipe.roi} or with "
            "other settings. Both must judge the same region: distill the student from this teacher."
        )


def _reduced(recipe: Recipe) -> str:
    """Describe how pictures are scaled down before they are judged."""
    if recipe.reduction == 1:
        return "at their full size"
    return f"at 1/{recipe.reduction} of their size, reduced by the {recipe.reduced_by}"


def _require_both_decide(rule: CascadeRule, reference: DriftReference, recorder: Recorder, seen: Evaluation) -> None:
    """Raise if one of the two would never decide, since the other alone would then be better."""
    assert reference.guard is not None, "fitted by _student_reference"
    unsure = [
        rule.ask_from <= picture.score <= rule.ask_to or reference.guard.stops(signs.distance)
        for picture in seen.pictures
        if picture.score is not None and (signs := recorder.signs.get(picture.file)) is not None
    ]
    if all(unsure):
        raise UnfitError(
            f"The student is sure about none of the {len(unsure)} val pictures, so the teacher alone is faster. "
            "Train it longer, choose a larger one (gonogo bundle distill), or allow it more risk with --risk-share."
        )
    if not any(unsure):
        raise UnfitError(f"The student is sure about all {len(unsure)} val pictures: use it without the teacher.")


def _copy(student: Bundle, teacher: Bundle, reference: DriftReference, folder: Path) -> None:
    (folder / bundle.CASCADE).mkdir()
    for source, target in ((student.classifier, bundle.CLASSIFIER), (teacher.classifier, bundle.TEACHER)):
        for suffix in (".xml", ".bin"):
            shutil.copyfile(source.with_suffix(suffix), (folder / target).with_suffix(suffix))
    copy_roi(teacher.root, folder)
    for name, data in drift.to_files(reference).items():
        (folder / bundle.CASCADE / name).write_bytes(data)


def _draft(student: Bundle, rule: CascadeRule, name: str) -> Manifest:
    """The manifest of the student without the fields that apply to the student alone."""
    machine, before = settings(), student.manifest
    return Manifest(
        name=name.removesuffix(bundle.SUFFIX),
        created=utc_now(),
        gonogo_version=gonogo.__version__,
        recipe=before.recipe,
        labels=before.labels,
        classifier=before.classifier,
        precision=before.precision,
        score_tolerance=before.score_tolerance,
        proven_on=runtime.runtime_environment(threads=machine.threads),
        heat_scale=HeatScale(cold=0.0, hot=1.0),
        training=before.training,
        data_fingerprint=before.data_fingerprint,
        data_revision=before.data_revision,
        cameras=before.cameras,
        distilled=before.distilled,
        cascade=rule,
    )
