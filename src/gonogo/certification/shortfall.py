"""How many parts a promise requires, how many there are, and which splits would provide enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gonogo.dataset import Dataset, Fractions, Sample, Split, choose_splits
from gonogo.dataset.judged import judged_before
from gonogo.errors import DatasetError, UnfitError
from gonogo.operating_point import DEFAULT_RATE, Promise, allowed_errors, as_percent, parts_needed
from gonogo.operating_point.rule import risk
from gonogo.schema import Label

LEAST_TRAIN, KEPT = 30, 10
"""Shares in percent: the minimum left for training, and the size of val and test if calibrate needs more."""


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """Parts and pictures that the calibrate split lacks for one limit."""

    label: Label
    rate: float
    confidence: float
    parts: int
    """Parts of this label in the calibrate split."""
    pictures: int
    """Pictures of these parts."""
    missing: int
    """Parts missing in the calibrate split."""
    more_pictures: int
    """Estimated number of additional pictures at the current share."""
    share: float
    """Share of the pictures of this label that are in the calibrate split."""
    splits: str
    """Splits that would provide enough parts; empty if none would, or if scores were already seen."""
    seen: bool
    """Whether calibrate scores were already seen, so that another split could not certify."""

    def sentence(self) -> str:
        """Describe the shortfall in plain sentences."""
        counted = f"The calibrate split holds {self.parts} {self.label} parts"
        if self.pictures > self.parts:
            counted += (
                f" in {self.pictures} pictures: several pictures of one part count once, and so do near-duplicates"
            )
        wanted = (
            f"{as_percent(self.rate)} at {as_percent(self.confidence)} confidence needs {self.parts + self.missing}: "
            f"{self.missing} more {self.label} parts there"
        )
        if self.more_pictures:
            wanted += f", about {self.more_pictures} more {self.label} pictures at {100 * self.share:.0f} %"
        if self.splits:
            wanted += (
                f", or split again before any scores are seen: gonogo dataset split DATASET --splits {self.splits}"
            )
        elif self.seen:
            wanted += "; scores of this split were already seen, so splitting the same parts again would not help"
        return f"{counted}. {wanted}."


def shortfalls(dataset: Dataset, promise: Promise | None = None, *, seed: int = 0) -> list[Shortfall]:
    """What the calibrate split lacks for the requested limits, or for the default ones.

    Depends on the counts alone; no scores are used.
    """
    promise = promise or Promise()
    delta = risk(promise.confidence, joint=promise.joint)
    asked = ((Label.BAD, promise.max_escape), (Label.GOOD, promise.max_overkill))
    limits = {label: DEFAULT_RATE if rate is None else rate for label, rate in asked}
    lacking = {
        label: rate
        for label, rate in limits.items()
        if allowed_errors(len(parts_of(dataset.split(Split.CALIBRATE), label)), rate, delta) is None
    }
    if not lacking:
        return []
    seen = bool(judged_before(dataset))
    found = None if seen else splits_for(dataset.samples, limits, delta, seed=seed)
    return [_shortfall(dataset, label, rate, promise, delta, found, seen) for label, rate in lacking.items()]


def splits_for(
    samples: Sequence[Sample],
    limits: dict[Label, float],
    delta: float,
    *,
    seed: int = 0,
    within_lots: bool = False,
) -> Fractions | None:
    """Find the splits with the smallest calibrate share that has enough parts for some limits.

    Args:
        samples: The pictures, each with its near-duplicate ``group``.
        limits: The error rate to certify for each label.
        delta: The risk of each claim.
        seed: Random seed of the splits.
        within_lots: As in `gonogo.dataset.choose_splits`.

    Returns:
        ``None`` if no splits leave enough parts for training.
    """
    wanted = {label: parts_needed(rate, delta) for label, rate in limits.items()}
    labelled = [sample for sample in samples if sample.label is not None]
    shares = [
        count / parts if (parts := len(parts_of(labelled, label))) else math.inf for label, count in wanted.items()
    ]
    usual = Fractions()
    first = max(round(100 * usual.calibrate), math.floor(100 * max(shares) / 5) * 5 if max(shares) < 1 else 101)
    for percent_there in range(first, 100 - 2 * KEPT - LEAST_TRAIN + 1, 5):
        fractions = _fractions(percent_there)
        try:
            splits = choose_splits(labelled, fractions, seed, within_lots=within_lots)
        except DatasetError:
            continue  # one lot is too large for these splits
        there = [each for each, split in zip(labelled, splits, strict=True) if split is Split.CALIBRATE]
        if all(len(parts_of(there, label)) >= count for label, count in wanted.items()):
            return fractions
    return None


def fractions_for_escape(
    samples: Sequence[Sample], max_escape: float, *, confidence: float = 0.95, seed: int = 0, within_lots: bool = False
) -> Fractions:
    """Splits with enough bad parts in calibrate to certify an escape limit, and the rest for training.

    Raises:
        UnfitError: there are too few bad parts.
    """
    delta = risk(confidence)
    found = splits_for(samples, {Label.BAD: max_escape}, delta, seed=seed, within_lots=within_lots)
    if found is None:
        parts, needed = len(parts_of(samples, Label.BAD)), parts_needed(max_escape, delta)
        most = 100 - 2 * KEPT - LEAST_TRAIN
        raise UnfitError(
            f"--for-escape {max_escape:g}: expected about {math.ceil(100 * needed / most)} bad parts in total, "
            f"{needed} of them in calibrate, found {parts}. Label more bad parts, or allow a larger rate."
        )
    return found


def as_text(fractions: Fractions) -> str:
    """Format splits for ``--splits``."""
    return "/".join(f"{100 * share:.4g}" for share in fractions)


def _fractions(calibrate: int) -> Fractions:
    usual = Fractions()
    if calibrate <= round(100 * usual.calibrate):
        return usual
    rest = 100 - calibrate - 2 * KEPT
    return Fractions(train=rest / 100, val=KEPT / 100, calibrate=calibrate / 100, test=KEPT / 100)


def _shortfall(
    dataset: Dataset, label: Label, rate: float, promise: Promise, delta: float, found: Fractions | None, seen: bool
) -> Shortfall:
    here = [sample for sample in dataset.split(Split.CALIBRATE) if sample.label is label]
    everywhere = [sample for sample in dataset.samples if sample.label is label and sample.split is not None]
    parts = len(parts_of(dataset.split(Split.CALIBRATE), label))
    missing = parts_needed(rate, delta) - parts
    share = len(here) / len(everywhere) if everywhere else 0.0
    per_part = len(here) / parts if parts else 1.0
    return Shortfall(
        label=label,
        rate=rate,
        confidence=promise.confidence,
        parts=parts,
        pictures=len(here),
        missing=missing,
        more_pictures=math.ceil(missing * per_part / share) if share else 0,
        share=share,
        splits="" if found is None else as_text(found),
        seen=seen,
    )


def parts_of(samples: Sequence[Sample], label: Label) -> set[str]:
    """Return the parts with this label; a part with a bad picture is bad."""
    bad = {sample.part_id for sample in samples if sample.label is Label.BAD}
    return bad if label is Label.BAD else {sample.part_id for sample in samples if sample.label is Label.GOOD} - bad
