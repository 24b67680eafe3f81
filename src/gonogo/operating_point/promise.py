"""What an operating point is asked to certify: limits that somebody chose, or the ones that the counts allow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gonogo.errors import InputError
from gonogo.operating_point.binomial import allowed_errors, best_rate, parts_needed
from gonogo.operating_point.claims import (
    NOTHING_KNOWN,
    NOTHING_PASSED,
    NOTHING_REJECTED,
    as_percent,
    describe_claims,
    vacuous,
    what_it_takes,
    without_promise,
)
from gonogo.operating_point.rule import risk
from gonogo.schema import Claim, OperatingPoint

DEFAULT_RATE = 0.05
"""Largest escape rate and largest overkill rate where nobody asks for another."""
MOST_RATE = 0.15
"""Where nobody asks and the counts do not allow `DEFAULT_RATE`: the largest rate that is certified in its place."""
MOST_RATE_BY_COSTS = 0.3
"""Where costs choose and nobody sets a limit: the largest rate that they may choose."""
_DIGITS = 1e4


@dataclass(frozen=True, kw_only=True)
class Costs:
    """What one mistake costs, in any one currency; a correct verdict costs nothing."""

    escape: float
    overkill: float
    review: float

    def __post_init__(self) -> None:
        for name in ("escape", "overkill", "review"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"cost of {name}: expected a number that is not negative, found {value}.")


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What a certification is asked for: the only such type, for training, the command and the pages alike."""

    max_escape: float | None = None
    """Largest share of bad parts judged go; ``None``: not asked for, see `rate_by_counts`."""
    max_overkill: float | None = None
    """Largest share of good parts judged no-go; ``None``: not asked for, see `rate_by_counts`."""
    confidence: float = 0.95
    joint: bool = False
    """Both bounds together at this confidence (half the risk each), rather than each for itself."""
    reject: bool = False
    """Where no escape limit can be certified: reject above the no-go threshold all the same, rather than review."""
    go_without_promise: bool = False
    """Where no escape limit can be certified: pass parts that look like good ones all the same. Every verdict says so.
    """
    per_kind: bool = False
    """The escape limit for each defect kind by itself, too."""
    costs: Costs | None = None
    """Choose the cheapest limits on the val split; ``max_escape`` and ``max_overkill`` are then the highest allowed."""
    bad_share: float | None = None
    """Share of bad parts on the line; that of the val split, which is seldom true, where omitted."""
    guard: float | None = 0.02
    """Most ordinary parts that may go to review for being out of distribution; ``None`` for no such check."""
    merge_near_duplicates: bool = False
    """Count calibration pictures that look like one part as one part."""

    def limits(self, *, good_parts: int, bad_parts: int) -> tuple[float, float]:
        """The escape and the overkill limit to certify with so many calibration parts.

        The counts decide, never a score, so that the proof holds. Parts that cannot be judged count. With costs these
        are the largest that may be chosen.
        """
        if self.costs is not None:
            return (
                MOST_RATE_BY_COSTS if self.max_escape is None else self.max_escape,
                MOST_RATE_BY_COSTS if self.max_overkill is None else self.max_overkill,
            )
        delta = risk(self.confidence, joint=self.joint)
        return (
            rate_by_counts(bad_parts, delta) if self.max_escape is None else self.max_escape,
            rate_by_counts(good_parts, delta) if self.max_overkill is None else self.max_overkill,
        )


def rate_by_counts(parts: int, delta: float) -> float:
    """The rate to certify where nobody asked for one: a function of the number of parts alone.

    `DEFAULT_RATE` where so many parts can certify it; else the best rate that they can, rounded up to a hundredth of a
    percent, if it is at most `MOST_RATE`; else `DEFAULT_RATE`, which is then refused with the number that is missing.
    """
    if allowed_errors(parts, DEFAULT_RATE, delta) is not None:
        return DEFAULT_RATE
    best = math.ceil(best_rate(parts, delta) * _DIGITS - 1e-9) / _DIGITS
    if best > MOST_RATE or allowed_errors(parts, best, delta) is None:
        return DEFAULT_RATE
    return best


def missing_for_default(claim: Claim, *, joint: bool) -> int:
    """How many more parts `DEFAULT_RATE` takes, where the counts set a more lenient limit; 0 elsewhere."""
    delta = risk(claim.confidence, joint=joint)
    if not claim.holds or claim.max_rate <= DEFAULT_RATE or claim.max_rate != rate_by_counts(claim.parts, delta):
        return 0
    return parts_needed(DEFAULT_RATE, delta) - claim.parts


def describe_point(point: OperatingPoint) -> tuple[str, str]:
    """Both claims of an operating point in sentences, the escape claim first; nothing vacuous is said."""
    told = [] if point.escape.holds else [_unpromised(point)]
    for claim in (point.escape, point.overkill)[len(told) :]:
        if vacuous(point, claim):
            told.append(NOTHING_PASSED if claim.error == "escape" else _nothing_rejected(point))
            continue
        sentence, of = describe_claims(claim), "bad" if claim.error == "escape" else "good"
        if missing := missing_for_default(claim, joint=point.joint):
            sentence += (
                f" No limit was asked for: this is the best one that {claim.parts} {of} parts can certify. "
                f"{as_percent(DEFAULT_RATE)} takes {missing} more {of} parts in the calibrate split."
            )
        told.append(sentence)
    return told[0], told[1]


def _unpromised(point: OperatingPoint) -> str:
    """What is said of escapes where no escape claim is made."""
    said = without_promise(point)
    told = f"{said[0].upper()}{said[1:]}. " if said else ""
    if point.escape.parts:
        return f"{told}{describe_claims(point.escape)} {what_it_takes(point.escape, joint=point.joint)}"
    none = f"{NOTHING_KNOWN[0].upper()}{NOTHING_KNOWN[1:]}: there is no bad part in the calibrate split."
    return f"{told or none + ' '}{what_it_takes(point.escape, joint=point.joint)}"


def _nothing_rejected(point: OperatingPoint) -> str:
    """What is said of good parts where none is rejected: also what ``--reject`` would promise, which is certified."""
    if point.escape.holds:
        return NOTHING_REJECTED
    certified = describe_claims(point.overkill).replace("are rejected", "would be rejected", 1)
    return f"No part is rejected automatically. With --reject: {certified[0].lower()}{certified[1:]}"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One thing that was promised and would no longer be."""

    about: str
    """``escape`` or ``overkill``; ``confidence`` where the same limit holds with less of it."""
    gone: bool
    """Whether nothing would be left of it, rather than a weaker promise."""
    sentence: str


def losses(before: OperatingPoint | None, after: OperatingPoint) -> list[Loss]:
    """What an operating point promises that another one does not; empty where nothing is lost."""
    if before is None:
        return []
    found = []
    for old, new in ((before.escape, after.escape), (before.overkill, after.overkill)):
        if not old.holds or vacuous(before, old):
            continue
        what = "of bad parts escape" if old.error == "escape" else "of good parts are rejected"
        stood = f"Now: at most {as_percent(old.max_rate)} {what}"
        if not new.holds or vacuous(after, new):
            found.append(Loss(about=old.error, gone=True, sentence=f"{stood}. Then: nothing is promised about this."))
        elif new.max_rate > old.max_rate:
            then = f"at most {as_percent(new.max_rate)}"
            found.append(Loss(about=old.error, gone=False, sentence=f"{stood}. Then: {then}."))
        if new.confidence < old.confidence:
            then = f"{as_percent(old.confidence)} confidence. Then: {as_percent(new.confidence)}"
            found.append(Loss(about="confidence", gone=False, sentence=f"{stood}, with {then}."))
    if before.joint and not after.joint and before.escape.holds and before.overkill.holds:
        sentence = "Now: both limits hold together. Then: each for itself (keep it with --joint)."
        found.append(Loss(about="confidence", gone=False, sentence=sentence))
    return found
