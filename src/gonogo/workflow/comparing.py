"""A bundle beside its teacher: the same promise, the same parts, and how many of them a person has to see."""

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
    """One of the two bundles on the compared parts. Its guard is left aside: only the thresholds are compared."""

    point: OperatingPoint
    judged: Evaluation

    def rate(self, state: State, label: Label | None = None) -> Rate:
        """Parts that the thresholds bring to a state, of all parts with the label."""
        return Rate.of_outcomes(self._state(part) is state for part in self.judged.parts if label in (None, part.label))

    @property
    def reviewed(self) -> frozenset[str]:
        """The parts sent to a person."""
        return frozenset(part.part for part in self.judged.parts if self._state(part) is State.REVIEW)

    def tally(self) -> VerdictCounts:
        """The counts, for the manifest."""
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
    """What became of the same parts under a bundle and under its teacher."""

    itself: ScoredDataset
    teacher: ScoredDataset
    split: Split

    @property
    def as_safe(self) -> bool:
        """Whether the bundle certifies what its teacher certifies; both were asked for the same promise."""
        ours, theirs = self.itself.point.escape, self.teacher.point.escape
        return ours.holds and ours.max_rate <= theirs.max_rate and ours.confidence >= theirs.confidence

    @property
    def review_p(self) -> float:
        """P value of the exact sign test on the parts that only one of the two sends to a person (McNemar, 1947)."""
        only_ours = len(self.itself.reviewed - self.teacher.reviewed)
        only_theirs = len(self.teacher.reviewed - self.itself.reviewed)
        if not only_ours + only_theirs:
            return 1.0
        return float(stats.binomtest(only_ours, only_ours + only_theirs).pvalue)

    def record(self) -> ParentComparison:
        """For the manifest."""
        return ParentComparison(
            teacher_sha256=self.teacher.judged.bundle_sha256,
            split=self.split.value,
            data_fingerprint=self.itself.judged.data_fingerprint,
            itself=self.itself.tally(),
            teacher=self.teacher.tally(),
        )


def compare_with_teacher(judge: Inspector, teacher: Inspector, dataset: Dataset, split: Split) -> TeacherComparison:
    """Judge the parts of a split by both.

    Raises:
        DatasetError: no labelled picture in the split.
    """
    sides = [
        ScoredDataset(point=promised(each), judged=evaluate(each, dataset, (split,), with_regions=False))
        for each in (judge, teacher)
    ]
    return TeacherComparison(itself=sides[0], teacher=sides[1], split=split)


def promised(teacher: Inspector) -> OperatingPoint:
    """A bundle's operating point, which must promise something.

    Raises:
        UnfitError: its escape rate is not certified, so there is nothing to be as safe as.
    """
    point = teacher.operating_point
    if point is None or not point.escape.holds:
        missing = "" if point is None else f" ({point.escape.parts_missing} more bad parts are needed)"
        raise UnfitError(
            f"{teacher.path}: expected a certified escape rate to hold the new bundle to, found none{missing}. "
            "Certify it first: gonogo certify, with a limit that the calibration parts can prove."
        )
    return point


def promise_of(teacher: Inspector) -> Promise:
    """What a bundle that is made from this one must promise: the same limits, asked for in the same way.

    Raises:
        UnfitError: see `promised`.
    """
    point = promised(teacher)
    limits = {"max_escape": point.escape.max_rate, "max_overkill": point.overkill.max_rate}
    return replace(promise_in_force(teacher.bundle), costs=None, **limits)  # type: ignore[arg-type]


def expected_point(good: Scores, bad: Scores, dataset: Dataset, promise: Promise) -> TradeoffPoint:
    """Where the thresholds will fall by the scores of the val parts.

    Whatever decides what a score *is* may look at val, never at the calibrate split: the certificate rests on that.

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
    """Refuse a bundle that judges windows, for what looks at whole regions only.

    Raises:
        InputError: its recipe has ``tiling``.
    """
    if inspector.recipe.tiling is not None:
        raise InputError(
            f"{inspector.path}: expected a bundle that judges the region as a whole, found one with windows (--tile). "
            "Neither distillation nor a cascade works with windows; make it faster with: gonogo bundle quantize"
        )


def require_same_data(dataset: Dataset, *inspectors: Inspector) -> None:
    """Refuse splits that leak, and a data set that is not the one a bundle was trained on: it certifies nothing.

    Raises:
        DatasetError: a part is in calibrate and in train or val, or the fingerprint is not the bundle's.
    """
    refuse_leaks(dataset)
    refuse_redealt(dataset)
    for inspector in inspectors:
        refuse_other_data(inspector.bundle, dataset)


def _parts(samples: Sequence[Sample], label: Label) -> int:
    return len({sample.part_id for sample in samples if sample.label is label})
