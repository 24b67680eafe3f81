"""What a data set can promise now, and what it lacks for stricter limits: parts, splits, days at the line's rate.

Everything follows from the number of parts alone: no score is used, so planning spends nothing of a calibration set.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from gonogo.certification.shortfall import as_text, parts_of, splits_for
from gonogo.dataset import Dataset, Fractions, Sample, Split
from gonogo.dataset.judged import judged_before, judged_unlabelled
from gonogo.dataset.splits import complete_splits
from gonogo.errors import DatasetError, InputError
from gonogo.operating_point import best_rate, parts_needed
from gonogo.operating_point.rule import risk
from gonogo.schema import Label

RATES = (0.05, 0.02, 0.01)
"""The limits that are planned for by default."""


@dataclass(frozen=True, kw_only=True)
class LineRate:
    """What a line makes."""

    parts_per_day: float
    bad_share: float
    """Share of bad parts, 0 to 1."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.parts_per_day) and self.parts_per_day > 0):
            raise InputError(f"parts per day: expected a number above 0, found {self.parts_per_day}.")
        if not 0.0 <= self.bad_share <= 1.0:
            raise InputError(f"share of bad parts: expected 0 to 1, found {self.bad_share}.")

    def days_for(self, parts: int, label: Label | None = None) -> float:
        """Return the days in which the line makes this many parts, or those of a label; infinite if it makes none."""
        share = 1.0 if label is None else self.bad_share if label is Label.BAD else 1.0 - self.bad_share
        per_day = self.parts_per_day * share
        return parts / per_day if per_day else math.inf


@dataclass(frozen=True, kw_only=True)
class Target:
    """What one limit takes."""

    rate: float
    needed: int
    """Parts of the label that the calibrate split must hold, if none of them is on the wrong side."""
    missing: int
    """Parts that it lacks; 0 if the limit can be certified with what is there."""
    more_parts: int
    """Parts of the label to be added to the data set at the present share of calibrate."""
    splits: str
    """Splits of the parts at hand that would do; empty if none would, or if scores were already seen."""
    days: float | None
    """Days until the line has made ``more_parts``; ``None`` if its rate is not known."""


@dataclass(frozen=True, kw_only=True)
class LabelPlan:
    """The plan for escapes (bad parts) or for overkill (good parts)."""

    label: Label
    parts: int
    """Labelled parts in the data set."""
    calibrate: int
    """Those in the calibrate split; before the first split, those that the usual splits would put there."""
    best: float | None
    """Lowest rate that these can certify; ``None`` without any."""
    confidence: float
    targets: tuple[Target, ...]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The plan of a data set."""

    labels: tuple[LabelPlan, ...]
    split: bool
    """Whether the data set has been split."""
    seen: bool
    """Whether calibrate scores were already seen: splitting the same parts again would not help."""


def make_plan(
    dataset: Dataset,
    *,
    rates: Sequence[float] = RATES,
    line: LineRate | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> Plan:
    """Plan certifications; see `Plan`.

    Args:
        dataset: The data set; splits and near-duplicate groups may be missing.
        rates: The limits to plan for, between 0 and 1.
        line: What the line makes, for the number of days.
        confidence: Confidence of each claim.
        seed: Random seed of the splits.

    Raises:
        InputError: a rate or the confidence is out of range.
    """
    if not rates or any(not 0.0 < rate < 1.0 for rate in rates):
        raise InputError(f"rates: expected numbers between 0 and 1, found {', '.join(map(str, rates)) or 'none'}.")
    labelled = [sample for sample in dataset.samples if sample.label is not None]
    split = any(sample.split is not None for sample in labelled)
    seen = bool(judged_before(dataset))
    assigned = _assigned(labelled, seed, judged_unlabelled(dataset))
    plans = tuple(
        _label_plan(label, labelled, assigned, sorted(rates, reverse=True), confidence, line)
        for label in (Label.BAD, Label.GOOD)
    )
    if not seen:
        plans = tuple(_with_splits(each, labelled, risk(confidence), seed) for each in plans)
    return Plan(labels=plans, split=split, seen=seen)


def _assigned(labelled: Sequence[Sample], seed: int, early: Collection[str]) -> Sequence[Sample]:
    try:
        return complete_splits(labelled, Fractions(), seed, early=early) if labelled else labelled
    except DatasetError:  # one lot is larger than any split: what is split stays, the rest counts nowhere
        return labelled


def _label_plan(
    label: Label,
    labelled: Sequence[Sample],
    assigned: Sequence[Sample],
    rates: Sequence[float],
    confidence: float,
    line: LineRate | None,
) -> LabelPlan:
    delta = risk(confidence)
    parts = len(parts_of(labelled, label))
    there = len(parts_of([sample for sample in assigned if sample.split is Split.CALIBRATE], label))
    share = there / parts if parts and there else Fractions().calibrate
    targets = []
    for rate in rates:
        needed = parts_needed(rate, delta)
        missing = max(0, needed - there)
        more = math.ceil(missing / share)
        days = None if line is None else line.days_for(more, label)
        targets.append(Target(rate=rate, needed=needed, missing=missing, more_parts=more, splits="", days=days))
    return LabelPlan(
        label=label,
        parts=parts,
        calibrate=there,
        best=best_rate(there, delta) if there else None,
        confidence=confidence,
        targets=tuple(targets),
    )


def _with_splits(plan: LabelPlan, labelled: Sequence[Sample], delta: float, seed: int) -> LabelPlan:
    """Name the splits that would do, for the limits that the present ones cannot certify."""

    def better(target: Target) -> Target:
        if not target.missing:
            return target
        found = splits_for(labelled, {plan.label: target.rate}, delta, seed=seed)
        return target if found is None else replace(target, splits=as_text(found))

    return replace(plan, targets=tuple(better(target) for target in plan.targets))
