"""Compares a bundle with its teacher on the same parts, for the same promise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats

from gonogo import operating_point as points
from gonogo.certification import promise_in_force
from gonogo.certification.trust import refuse_leaks, refuse_other_data
from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.judged import refuse_redealt
from gonogo.errors import DatasetError, InputError, UnfitError
from gonogo.evaluate import Evaluation, Rate, evaluate
from gonogo.inspector import Inspector
from gonogo.manifest import ParentComparison, VerdictCounts
from gonogo.operating_point import TradeoffPoint
from gonogo.schema import Label, OperatingPoint, Prediction, Scores, State
from gonogo.workflow.options import Promise


@dataclass(frozen=True, kw_only=True)
class ScoredDataset:
    """Scores of one bundle on the compared parts. Only thresholds count, not the out-of-distribution check."""

    point: OperatingPoint
    judged: Evaluation

    def rate(self, state: State, label: Label | None = None) -> Rate:
        """Share of parts with this label that the thresholds put into a state."""
        return Rate.of_outcomes(self._state(part) is state for part in self.judged.parts if label in (None, part.label))

    @property
    def reviewed(self) -> frozenset[str]:
        """The parts sent to review."""
        return frozenset(part.part for part in self.judged.parts if self._state(part) is State.REVIEW)

    def tally(self) -> VerdictCounts:
        """Counts of verdicts, for the manifest."""
        return VerdictCounts(
            parts_good=self.judged.count(Label.GOOD),
            parts_bad=self.judged.count(Label.BAD),
            escapes=self.rate(State.GO, Label.BAD).count,
            overkills=self.rate(State.NO_GO, Label.GOOD).count,
            reviews=self.rate(State.REVIEW).count,
            faults=self.rate(State.FAULT).count,
        )

    def _state(self, part: Prediction) -> State:
        return State.FAULT if part.score is None else self.point.state(part.score)


@dataclass(frozen=True, kw_only=True)
class TeacherComparison:
    """Verdicts of a bundle and of its teacher on the same parts."""

    itself: ScoredDataset
    teacher: ScoredDataset
    split: Split

    @property
    def as_safe(self) -> bool:
        """Whether the bundle certifies at least what its teacher certifies."""
        ours, theirs = self.itself.point.escape, self.teacher.point.escape
        return ours.holds and ours.max_rate <= theirs.max_rate and ours.confidence >= theirs.confidence

    @property
    def review_p(self) -> float:
        """P value of the exact sign test on the parts that only one of the two sends to review (McNemar, 1947)."""
        only_ours = len(self.itself.reviewed - self.teacher.reviewed)
        only_theirs = len(self.teacher.reviewed - self.itself.reviewed)
        if not only_ours + only_theirs:
            return 1.0
        return float(stats.binomtest(only_ours, only_ours + only_theirs).pvalue)

    def record(self) -> ParentComparison:
        """Record for the manifest."""
        return ParentComparison(
            teacher_sha256=self.teacher.judged.bundle_sha256,
            split=self.split.value,
            data_fingerprint=self.itself.judged.data_fingerprint,
            itself=self.itself.tally(),
            teacher=self.teacher.tally(),
        )


def compare_with_teacher(judge: Inspector, teacher: Inspector, dataset: Dataset, split: Split) -> TeacherComparison:
    """Judge the parts of a split with both inspectors.

    Raises:
        DatasetError: the split has no labelled pictures.
    """
    sides = [
        ScoredDataset(point=promised(each), judged=evaluate(each, dataset, (split,), with_regions=False))
        for each in (judge, teacher)
    ]
    return TeacherComparison(itself=sides[0], teacher=sides[1], split=split)


def promised(teacher: Inspector) -> OperatingPoint:
    """Return the operating point of a bundle, which must have a certified escape limit.

    Raises:
        UnfitError: the escape rate is not certified.
    """
    point = teacher.operating_point
    if point is None or not point.escape.holds:
        missing = "" if point is None else f" ({point.escape.parts_missing} more bad parts are needed)"
        raise UnfitError(
            f"{teacher.path}: expected a certified escape rate for the new bundle to match, found none{missing}. "
            "Certify it first: gonogo certify, with a limit that the calibration parts can support."
        )
    return point


def promise_of(teacher: Inspector) -> Promise:
    """The promise that a bundle derived from this one must keep: the same limits and options.

    Raises:
        UnfitError: see `promised`.
    """
    point = promised(teacher)
    limits = {"max_escape": point.escape.max_rate, "max_overkill": point.overkill.max_rate}
    return replace(promise_in_force(teacher.bundle), costs=None, **limits)  # type: ignore[arg-type]


def expected_point(good: Scores, bad: Scores, dataset: Dataset, promise: Promise) -> TradeoffPoint:
    """Estimate the thresholds from the scores of the val parts.

    The certificate requires that nothing that influences a score uses the calibrate split.

    Raises:
        DatasetError: val lacks good or bad parts.
    """
    if not len(good) or not len(bad):
        raise DatasetError(
            f"{dataset.root}: expected good and bad parts in the val split, found {len(good)} good and {len(bad)} bad "
            "that could be judged. Split again: gonogo dataset split."
        )
    calibrate = dataset.split(Split.CALIBRATE)
    good_parts, bad_parts = _parts(calibrate, Label.GOOD), _parts(calibrate, Label.BAD)
    max_escape, max_overkill = promise.limits(good_parts=good_parts, bad_parts=bad_parts)
    return points.tradeoff(
        good,
        bad,
        good_parts=good_parts,
        bad_parts=bad_parts,
        bad_share=0.5,  # the thresholds do not depend on it
        max_escapes=[max_escape],
        max_overkills=[max_overkill],
        confidence=promise.confidence,
        joint=promise.joint,
    )[0]


def require_whole_regions(inspector: Inspector) -> None:
    """Raise if a bundle judges windows instead of whole regions.

    Raises:
        InputError: the recipe has ``tiling``.
    """
    if inspector.recipe.tiling is not None:
        raise InputError(
            f"{inspector.path}: expected a bundle that judges the region as a whole, found one with windows (--tile). "
            "Distillation and cascades do not support windows; to make it faster, use gonogo bundle quantize."
        )


def require_map(inspector: Inspector) -> None:
    """Raise if a bundle has no heat map.

    Raises:
        InputError: it was imported from another framework without one.
    """
    if not inspector.has_map:
        raise InputError(
            f"{inspector.path}: expected a bundle with a heat map, found one that was imported without. Import it "
            "again with --map-layer."
        )


def require_same_data(dataset: Dataset, *inspectors: Inspector) -> None:
    """Raise if the splits leak, or if a bundle was trained on another data set.

    Raises:
        DatasetError: a part is in calibrate and in train or val, or the fingerprint does not match a bundle.
    """
    refuse_leaks(dataset)
    refuse_redealt(dataset)
    for inspector in inspectors:
        refuse_other_data(inspector.bundle, dataset)


def _parts(samples: Sequence[Sample], label: Label) -> int:
    return len({sample.part_id for sample in samples if sample.label is label})
