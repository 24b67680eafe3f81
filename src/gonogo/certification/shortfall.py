"""How many parts a promise takes, how many there are, and which splits would make more of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gonogo.dataset import Dataset, Fractions, Sample, Split, resplit
from gonogo.dataset.judged import judged_before
from gonogo.errors import DatasetError, UnfitError
from gonogo.operating_point import DEFAULT_RATE, Promise, allowed_errors, as_percent, parts_needed
from gonogo.operating_point.rule import risk
from gonogo.schema import Label

LEAST_TRAIN, KEPT = 30, 10
"""Shares in percent: the least that must stay for training, and that of val and of test where calibrate needs more."""


@dataclass(frozen=True, kw_only=True)
class Shortfall:
    """What the calibrate split lacks for one limit, in parts and in pictures."""

    label: Label
    rate: float
    confidence: float
    parts: int
    """Parts of this label in the calibrate split."""
    pictures: int
    """Pictures of them."""
    missing: int
    """Parts that are missing there."""
    more_pictures: int
    """About how many more pictures, at today's share."""
    share: float
    """Of the pictures of this label that the calibrate split holds."""
    splits: str
    """Splits that would make enough of what is there; empty where none would, or where scores were seen."""
    seen: bool
    """Whether scores of the calibrate split were seen, so that another split could not certify."""

    def sentence(self) -> str:
        """For people."""
        counted = f"The calibrate split holds {self.parts} {self.label} parts"
        if self.pictures > self.parts:
            counted += (
                f" in {self.pictures} pictures: pictures of one part, or so alike that they may show one "
                "(near-duplicates), count once"
            )
        wanted = (
            f"{as_percent(self.rate)} at {as_percent(self.confidence)} confidence takes {self.parts + self.missing}: "
            f"{self.missing} more {self.label} parts there"
        )
        if self.more_pictures:
            wanted += f", about {self.more_pictures} more {self.label} pictures at {100 * self.share:.0f} %"
        if self.splits:
            wanted += f", or a new split before any score is seen: gonogo dataset split DATASET --splits {self.splits}"
        elif self.seen:
            wanted += "; scores of this split were seen, so another split of the same parts would not certify"
        return f"{counted}. {wanted}."


def shortfalls(dataset: Dataset, promise: Promise | None = None, *, seed: int = 0) -> list[Shortfall]:
    """What the calibrate split lacks for the limits that were asked for, or for the default ones.

    A function of the counts alone: no score is looked at.
    """
    promise = promise or Promise()
    delta = risk(promise.confidence, joint=promise.joint)
    asked = ((Label.BAD, promise.max_escape), (Label.GOOD, promise.max_overkill))
    limits = {label: DEFAULT_RATE if rate is None else rate for label, rate in asked}
    lacking = {
        label: rate
        for label, rate in limits.items()
        if allowed_errors(len(_parts(dataset.split(Split.CALIBRATE), label)), rate, delta) is None
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
    """The splits with the smallest calibrate share that holds enough parts for some limits, by dealing them.

    Args:
        samples: The pictures, each with its near-duplicate ``group``.
        limits: The limit on the errors about the parts of each label.
        delta: The risk of each.
        seed: For dealing.
        within_lots: As for `gonogo.dataset.resplit`.

    Returns:
        ``None`` where no split with enough left to train on holds enough.
    """
    wanted = {label: parts_needed(rate, delta) for label, rate in limits.items()}
    labelled = [sample for sample in samples if sample.label is not None]
    shares = [count / parts if (parts := len(_parts(labelled, label))) else math.inf for label, count in wanted.items()]
    usual = Fractions()
    first = max(round(100 * usual.calibrate), math.floor(100 * max(shares) / 5) * 5 if max(shares) < 1 else 101)
    for percent_there in range(first, 100 - 2 * KEPT - LEAST_TRAIN + 1, 5):
        fractions = _fractions(percent_there)
        try:
            dealt = resplit(labelled, fractions, seed, within_lots=within_lots)
        except DatasetError:
            continue  # one lot is too large for it
        there = [sample for sample in dealt if sample.split is Split.CALIBRATE]
        if all(len(_parts(there, label)) >= count for label, count in wanted.items()):
            return fractions
    return None


def fractions_for_escape(
    samples: Sequence[Sample], max_escape: float, *, confidence: float = 0.95, seed: int = 0, within_lots: bool = False
) -> Fractions:
    """Splits by purpose: enough bad parts in calibrate to certify an escape limit, the rest for training.

    Raises:
        UnfitError: there are too few bad parts for that.
    """
    delta = risk(confidence)
    found = splits_for(samples, {Label.BAD: max_escape}, delta, seed=seed, within_lots=within_lots)
    if found is None:
        parts, needed = len(_parts(samples, Label.BAD)), parts_needed(max_escape, delta)
        most = 100 - 2 * KEPT - LEAST_TRAIN
        raise UnfitError(
            f"--for-escape {max_escape:g}: expected about {math.ceil(100 * needed / most)} bad parts in all, of which "
            f"{needed} certify, found {parts} that can be shared out. Label more bad parts, or allow a larger rate."
        )
    return found


def as_text(fractions: Fractions) -> str:
    """Splits as ``--splits`` takes them."""
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
    parts = len(_parts(dataset.split(Split.CALIBRATE), label))
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


def _parts(samples: Sequence[Sample], label: Label) -> set[str]:
    """The parts with this label; one with a bad picture is bad."""
    bad = {sample.part_id for sample in samples if sample.label is Label.BAD}
    return bad if label is Label.BAD else {sample.part_id for sample in samples if sample.label is Label.GOOD} - bad
