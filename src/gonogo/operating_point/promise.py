"""What a certification is asked to promise: requested limits, or the limits that the number of parts allows."""

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
"""Default for the largest escape rate and the largest overkill rate."""
MOST_RATE = 0.15
"""Largest rate that is certified by default if there are too few parts for `DEFAULT_RATE`."""
MOST_RATE_BY_COSTS = 0.3
"""Largest rate that costs may choose if no limit is given."""
DEFAULT_DAYS = 365.0
"""Default for the validity of a certificate, in days."""
_DIGITS = 1e4


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Cost of each kind of error, in any currency; a correct verdict costs nothing."""

    escape: float
    overkill: float
    review: float

    def __post_init__(self) -> None:
        for name in ("escape", "overkill", "review"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise InputError(f"cost of {name}: expected a non-negative number, found {value}.")


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Options of a certification, shared by training, the command line and the server."""

    max_escape: float | None = None
    """Largest share of bad parts judged go; ``None`` to use `rate_by_counts`."""
    max_overkill: float | None = None
    """Largest share of good parts judged no-go; ``None`` to use `rate_by_counts`."""
    confidence: float = 0.95
    joint: bool = False
    """Whether both bounds hold jointly at this confidence (half the risk each) rather than separately."""
    reject: bool = False
    """If no escape limit can be certified: still reject above the no-go threshold instead of reviewing."""
    go_without_promise: bool = False
    """If no escape limit can be certified: still pass parts that look like good ones. Every verdict says so."""
    per_kind: bool = False
    """Whether the escape limit must also hold for each defect kind separately."""
    costs: Costs | None = None
    """Costs for choosing the cheapest limits on the val split, up to ``max_escape`` and ``max_overkill``."""
    bad_share: float | None = None
    """Share of bad parts on the line; if ``None``, the share in the val split, which is rarely realistic."""
    guard: float | None = 0.02
    """Largest share of ordinary parts that the out-of-distribution check may send to review; ``None`` disables it."""
    merge_near_duplicates: bool = False
    """Whether near-duplicate calibration pictures count as one part."""
    keep_hidden: bool = False
    """Whether bad parts whose whole defect lies in an ignore zone are judged as they are, instead of refused."""
    valid_days: float | None = DEFAULT_DAYS
    """How long the certificate is valid, in days; ``None`` for no limit."""
    valid_parts: int | None = None
    """How many parts a station may judge with it; ``None`` for no limit."""

    def __post_init__(self) -> None:
        if self.valid_days is not None and not 0.0 < self.valid_days < 1e6:
            raise InputError(f"valid_days: expected a number of days above 0, found {self.valid_days}.")
        if self.valid_parts is not None and self.valid_parts < 1:
            raise InputError(f"valid_parts: expected at least 1 part, found {self.valid_parts}.")

    def limits(self, *, good_parts: int, bad_parts: int) -> tuple[float, float]:
        """Return the escape and the overkill limit to certify with the given numbers of calibration parts.

        Limits depend on the counts only, never on scores, so that the proof holds. Parts that could not be judged are
        counted. With costs, these are the largest limits that may be chosen.
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
    """Default rate to certify, as a function of the number of parts alone.

    `DEFAULT_RATE` if this many parts can certify it; otherwise the lowest rate they can certify, rounded up to 0.01 %,
    if it is at most `MOST_RATE`; otherwise `DEFAULT_RATE`, which then fails with the number of missing parts.
    """
    if allowed_errors(parts, DEFAULT_RATE, delta) is not None:
        return DEFAULT_RATE
    best = math.ceil(best_rate(parts, delta) * _DIGITS) / _DIGITS
    if best > MOST_RATE or allowed_errors(parts, best, delta) is None:
        return DEFAULT_RATE
    return best


def missing_for_default(claim: Claim, *, joint: bool) -> int:
    """Number of parts missing for `DEFAULT_RATE` if the counts set a more lenient limit; 0 otherwise."""
    delta = risk(claim.confidence, joint=joint)
    if not claim.holds or claim.max_rate <= DEFAULT_RATE or claim.max_rate != rate_by_counts(claim.parts, delta):
        return 0
    return parts_needed(DEFAULT_RATE, delta) - claim.parts


def describe_point(point: OperatingPoint) -> tuple[str, str]:
    """Describe both claims of an operating point, the escape claim first; vacuous claims are reported as none."""
    sentences = [] if point.escape.holds else [_unpromised(point)]
    for claim in (point.escape, point.overkill)[len(sentences) :]:
        if vacuous(point, claim):
            sentences.append(NOTHING_PASSED if claim.error == "escape" else _nothing_rejected(point))
            continue
        sentence, of = describe_claims(claim), "bad" if claim.error == "escape" else "good"
        if missing := missing_for_default(claim, joint=point.joint):
            sentence += (
                f" No limit was requested: this is the lowest that {claim.parts} {of} parts can certify. "
                f"{as_percent(DEFAULT_RATE)} requires {missing} more {of} parts in the calibrate split."
            )
        sentences.append(sentence)
    return sentences[0], sentences[1]


def _unpromised(point: OperatingPoint) -> str:
    """Describe escapes if no escape limit is certified."""
    note = without_promise(point)
    prefix = f"{note[0].upper()}{note[1:]}. " if note else ""
    if point.escape.parts:
        return f"{prefix}{describe_claims(point.escape)} {what_it_takes(point.escape, joint=point.joint)}"
    none = f"{NOTHING_KNOWN[0].upper()}{NOTHING_KNOWN[1:]}: the calibrate split has no bad parts."
    return f"{prefix or none + ' '}{what_it_takes(point.escape, joint=point.joint)}"


def _nothing_rejected(point: OperatingPoint) -> str:
    """Describe overkill if no part is rejected, including the certified limit that ``--reject`` would apply."""
    if point.escape.holds:
        return NOTHING_REJECTED
    certified = describe_claims(point.overkill).replace("are rejected", "would be rejected")
    return f"No part is rejected automatically. With --reject: {certified[0].lower()}{certified[1:]}"


@dataclass(frozen=True, kw_only=True)
class Loss:
    """A promise that a new operating point would weaken or drop."""

    about: str
    """``escape`` or ``overkill``; ``confidence`` if the same limit would hold at a lower confidence."""
    gone: bool
    """Whether the promise would be dropped rather than weakened."""
    sentence: str


def losses(before: OperatingPoint | None, after: OperatingPoint) -> list[Loss]:
    """List what ``before`` promises and ``after`` does not; empty if nothing is lost."""
    if before is None:
        return []
    found = []
    for old, new in ((before.escape, after.escape), (before.overkill, after.overkill)):
        if not old.holds or vacuous(before, old):
            continue
        what = "of bad parts escape" if old.error == "escape" else "of good parts are rejected"
        current = f"Now: at most {as_percent(old.max_rate)} {what}"
        if not new.holds or vacuous(after, new):
            found.append(Loss(about=old.error, gone=True, sentence=f"{current}. Then: no promise."))
        elif new.max_rate > old.max_rate:
            then = f"at most {as_percent(new.max_rate)}"
            found.append(Loss(about=old.error, gone=False, sentence=f"{current}. Then: {then}."))
        if new.confidence < old.confidence:
            then = f"{as_percent(old.confidence)} confidence. Then: {as_percent(new.confidence)}"
            found.append(Loss(about="confidence", gone=False, sentence=f"{current}, with {then}."))
    if before.joint and not after.joint and before.escape.holds and before.overkill.holds:
        sentence = "Now: both limits hold jointly. Then: separately (pass --joint to keep them joint)."
        found.append(Loss(about="confidence", gone=False, sentence=sentence))
    return found
