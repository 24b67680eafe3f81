"""From a student and its teacher to one bundle in which the teacher judges only what the student is not sure of."""

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
from gonogo.workflow.comparing import (
    TeacherComparison,
    compare_with_teacher,
    expected_point,
    promise_of,
    require_same_data,
    require_whole_regions,
)
from gonogo.workflow.options import Promise
from gonogo.workflow.region import ROI_FILES, copy_roi
from gonogo.workflow.sealing import certify_draft, utc_now

TAIL = 0.1
"""Share of the val parts of a class, the outermost, from which the tail of their scores is estimated."""


@dataclass(frozen=True, kw_only=True)
class CascadeOptions:
    """What decides how much the teacher is asked."""

    risk_share: float = 0.1
    """Of each promised rate, what the student's clear answers may use; the less, the more the teacher is asked."""
    strange: float = 0.02
    """Most ordinary parts that go to the teacher for being unlike everything that the student was taught."""
    split: Split = Split.TEST
    """Where the cascade is compared with its teacher."""


@dataclass(frozen=True, kw_only=True)
class Cascaded:
    """What came of it."""

    bundle: Bundle
    compared: TeacherComparison

    @property
    def asked(self) -> int:
        """Pictures of the compared split that went to the teacher."""
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
    """Put two bundles into one, choose on val what the student may settle, certify the whole on calibrate.

    Both graphs are copied as they are, quantized or not.

    Args:
        student: The fast one; judges everything first.
        teacher: The sure one; its promise is what the cascade is certified for.
        dataset: The labelled and split pictures that both were trained on.
        out: The cascade's bundle.
        options: How much the student may settle; the defaults of `CascadeOptions` where omitted.
        overwrite: Replace a bundle already there, once the new one is complete.

    Raises:
        InputError: unfit data, bundles that find the part in different ways, ``out`` exists.
        UnfitError: the teacher promises nothing, val is too small for the guard, or one of the two is never heard.
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
    known = _known(recorder, seen, options.strange)
    rule = _rule(student, teacher, seen, judged, dataset, promise, options.risk_share)
    _require_both_heard(rule, known, recorder, seen)
    with folder_beside(out, replace=overwrite) as partial:
        _copy(student.bundle, teacher.bundle, known, partial)
        inspector = Inspector.of_draft(bundle.draft(partial, _draft(student.bundle, rule, out.name)))
        draft = certify_draft(inspector, dataset, promise, teacher.heat_scale.shift_xy)
        compared = compare_with_teacher(draft.inspector, teacher, dataset, options.split)
        made = Cascaded(bundle=inspector.bundle, compared=compared)
        pictures = len(compared.itself.judged.pictures)
        evidence = {"compared": compared.record(), "pictures": pictures, "asked": made.asked}
        draft.seal(cascade=rule.model_copy(update=evidence))
    return replace(made, bundle=Inspector.load(out).bundle)


def outer_score(scores: Scores, rate: float) -> float:
    """The score below which a new part of this class lies with probability ``rate``, far out in its lower tail.

    The lowest `TAIL` of the scores are taken to lie below some level by exponentially distributed amounts, whose mean
    is the scale (peaks over a threshold: Pickands, Annals of Statistics 3, 1975, with shape 0). So the answer may lie
    beyond the lowest score that was seen. A wrong guess costs review, never safety: that is certified afterwards.
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
    """The band of student scores that goes to the teacher, and where the rest lie on the teacher's scale."""
    expected = expected_point(judged.scores(Label.GOOD), judged.scores(Label.BAD), dataset, promise)
    # Without a promise of its own a side has no threshold to keep to: zero, where good and bad are equally likely.
    go_below = expected.go_below if math.isfinite(expected.go_below) else 0.0
    no_go_above = expected.no_go_above if math.isfinite(expected.no_go_above) else max(0.0, go_below)
    good, bad = seen.scores(Label.GOOD), seen.scores(Label.BAD)
    ask_from = outer_score(bad, risk_share * expected.escape.max_rate)
    ask_to = -outer_score(-good, risk_share * expected.overkill.max_rate)
    if ask_from > ask_to:  # the student tells them apart with room to spare
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
    """Scale and offset that bring the student's map to the heat scale of the teacher's.

    ``(1, None)`` where the cells of both maps are logits, and so of one unit as they are.
    """
    if not any(each.bundle.manifest.classifier.evidence for each in (student, teacher)):
        return 1.0, None
    own, wanted = student.heat_scale, teacher.heat_scale
    scale = (wanted.hot - wanted.cold) / (own.hot - own.cold)
    return scale, wanted.cold - scale * own.cold


def _known(recorder: Recorder, seen: Evaluation, share: float) -> DriftReference:
    """The guard over the student's features: what it was taught, and how far ordinary val parts lie from that."""
    distances: dict[str, float] = {}
    for picture in seen.pictures:
        if (signs := recorder.signs.get(picture.file)) is not None:
            distances[picture.part] = max(distances.get(picture.part, 0.0), signs.distance)
    guard = drift.fit_out_of_distribution_check(list(distances.values()), share)
    if guard is None or recorder.features is None:
        needed = parts_for_share(share)
        raise UnfitError(
            f"an out-of-distribution check that asks the teacher about at most {share:.3g} of ordinary parts needs "
            f"{needed} val parts, found {len(distances)}. Allow a larger share with --strange, or label more parts."
        )
    return DriftReference(features=recorder.features, guard=guard, watches=(), bad_share=ASSUMED_BAD_SHARE, parts=0)


def _require_fit(student: Inspector, teacher: Inspector) -> None:
    for each in (student, teacher):
        if each.cascade is not None:
            raise InputError(f"{each.path}: expected a bundle with one network, found a cascade. Give one of its two.")
        require_whole_regions(each)
    if _reduced(student.recipe) != _reduced(teacher.recipe):
        raise InputError(
            f"{student.path} judges pictures {_reduced(student.recipe)}, {teacher.path} {_reduced(teacher.recipe)}. "
            f"One picture serves both: distill with the teacher's --reduction."
        )
    finders = [
        (each.recipe.roi, [(each.path / name).read_bytes() for name in ROI_FILES if (each.path / name).is_file()])
        for each in (student, teacher)
    ]
    if finders[0] != finders[1]:
        raise InputError(
            f"{student.path} finds the part by {student.recipe.roi}, {teacher.path} by {teacher.recipe.roi} or with "
            "other settings. Both must judge the same region: distill the student from this teacher."
        )


def _reduced(recipe: Recipe) -> str:
    """How pictures are reduced before they are judged."""
    if recipe.reduction == 1:
        return "at their full size"
    return f"at 1/{recipe.reduction} of their size, reduced by the {recipe.reduced_by}"


def _require_both_heard(rule: CascadeRule, known: DriftReference, recorder: Recorder, seen: Evaluation) -> None:
    """A cascade in which one of the two never decides is no better than the other alone."""
    assert known.guard is not None, "made a moment ago"
    unsure = [
        rule.ask_from <= picture.score <= rule.ask_to or known.guard.stops(signs.distance)
        for picture in seen.pictures
        if picture.score is not None and (signs := recorder.signs.get(picture.file)) is not None
    ]
    if all(unsure):
        raise UnfitError(
            f"the student is sure of none of the {len(unsure)} val pictures, so the teacher alone is faster. Teach it "
            "longer or choose a larger one (gonogo bundle distill), or allow its answers more risk with --risk-share."
        )
    if not any(unsure):
        raise UnfitError(f"the student is sure of all {len(unsure)} val pictures: use it alone.")


def _copy(student: Bundle, teacher: Bundle, known: DriftReference, folder: Path) -> None:
    (folder / bundle.CASCADE).mkdir()
    for source, target in ((student.classifier, bundle.CLASSIFIER), (teacher.classifier, bundle.TEACHER)):
        for suffix in (".xml", ".bin"):
            shutil.copyfile(source.with_suffix(suffix), (folder / target).with_suffix(suffix))
    copy_roi(teacher.root, folder)
    for name, data in drift.to_files(known).items():
        (folder / bundle.CASCADE / name).write_bytes(data)


def _draft(student: Bundle, rule: CascadeRule, name: str) -> Manifest:
    """The student's manifest without what belongs to the student alone."""
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
        proven_on=runtime.runtime_environment(device=machine.device, threads=machine.threads),
        heat_scale=HeatScale(cold=0.0, hot=1.0),
        training=before.training,
        data_fingerprint=before.data_fingerprint,
        distilled=before.distilled,
        cascade=rule,
    )
