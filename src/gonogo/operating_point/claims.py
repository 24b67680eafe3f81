"""Describes claims, and certifies further ones: per defect kind, and for the whole line including reviewers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from gonogo.errors import InputError, UnfitError
from gonogo.operating_point.binomial import parts_needed, upper_bound
from gonogo.operating_point.rule import make_claim, risk, threshold
from gonogo.schema import Claim, OperatingPoint

TAKES = (0.15, 0.1, 0.05, 0.02, 0.01)
"""Rates listed by `what_it_takes`."""
NOTHING_REJECTED = (
    "No part is rejected automatically, so nothing is promised about good parts. Certify an escape limit first."
)
NOTHING_KNOWN = "nothing is known about escapes"
NOTHING_PASSED = "No part is passed automatically, so nothing is promised about bad parts."


def describe_claims(claim: Claim) -> str:
    """Describe a claim, or why it cannot be certified, in plain sentences."""
    of, wrong = ("bad", "escape") if claim.error == "escape" else ("good", "are rejected")
    rate, sure = as_percent(claim.max_rate), as_percent(claim.confidence)
    if claim.holds:
        return (
            f"At most {rate} of {of} parts {wrong}, at {sure} confidence "
            f"({claim.parts} independent {of} parts, at most {claim.allowed} of them on the wrong side)."
        )
    best = f"These can certify {as_percent(claim.best_rate)}." if claim.parts else "There are none."
    return (
        f"That at most {rate} of {of} parts {wrong} cannot be certified at {sure} confidence with {claim.parts} {of} "
        f"parts: {claim.parts_missing} more are needed in the calibrate split. {best}"
    )


def vacuous(point: OperatingPoint, claim: Claim) -> bool:
    """Whether a claim holds only because no part can ever be passed, or none can ever be rejected."""
    if claim.error == "escape":
        return claim.holds and point.go_below == -math.inf
    return claim.holds and point.no_go_above == math.inf


def without_promise(point: OperatingPoint) -> str:
    """Note for every verdict if parts are judged go without a certified escape limit; empty otherwise."""
    if not point.go_without_promise:
        return ""
    parts = point.escape.parts
    few = f"{parts} bad calibration part{'' if parts == 1 else 's'} cannot certify an escape limit"
    return f"go without a promise: {few if parts else NOTHING_KNOWN}"


def what_it_takes(claim: Claim, *, joint: bool = False) -> str:
    """Say how many parts would certify which rate, for a claim that cannot be certified yet."""
    delta = risk(claim.confidence, joint=joint)
    of = "bad" if claim.error == "escape" else "good"
    wrong = "of bad parts escape" if claim.error == "escape" else "of good parts are rejected"
    rates = [rate for rate in TAKES if parts_needed(rate, delta) > claim.parts]
    counts = [
        f"{parts_needed(rate, delta)} would certify that at most {as_percent(rate)} {wrong}" for rate in rates[:1]
    ]
    counts += [f"{parts_needed(rate, delta)}: {as_percent(rate)}" for rate in rates[1:]]
    confidence = as_percent(claim.confidence)
    return f"Of independent {of} parts in the calibrate split, {'; '.join(counts)} ({confidence} confidence)."


def as_percent(rate: float) -> str:
    """A rate in percent with three significant digits, rounded up, so that no bound is understated."""
    if rate <= 0.0:
        return "0 %"
    unit = 10.0 ** (math.floor(math.log10(rate * 100.0)) - 2)
    return f"{math.ceil(rate * 100.0 / unit - 1e-9) * unit:.10g} %"


@dataclass(frozen=True, kw_only=True)
class KindClaims:
    """An operating point strict enough for every defect kind with enough examples, and the claim for each kind."""

    point: OperatingPoint
    claims: Mapping[str, Claim]
    """One escape claim per kind, sorted by name; `Claim.holds` is false if there are too few examples."""

    @property
    def too_few(self) -> Mapping[str, int]:
        """The kinds without a certified claim, and how many more bad parts of each are needed."""
        return {kind: claim.parts_missing for kind, claim in self.claims.items() if not claim.holds}


def certify_kinds(point: OperatingPoint, bad: ArrayLike, kinds: Sequence[str], *, joint: bool = False) -> KindClaims:
    """Make the escape limit hold for each defect kind, not only for their mixture, by lowering ``go_below``.

    The order-statistic rule gives each kind with enough examples its own threshold; the lowest of them is used. A
    lower threshold only removes parts from go, so all earlier claims still hold.

    Args:
        point: Certified on the same calibration parts.
        bad: One score per bad calibration part.
        kinds: The defect kind of each part.
        joint: Whether the claims must hold for all kinds jointly (the kinds share the risk) rather than separately.

    Raises:
        InputError: a score is NaN, or the number of scores does not match the operating point.
    """
    scores = np.asarray(bad, dtype=np.float64)
    if np.isnan(scores).any() or scores.shape != (len(kinds),) or len(kinds) != point.escape.parts:
        raise InputError(
            f"expected a score and a defect kind for each of the operating point's {point.escape.parts} bad parts, "
            f"found {scores.size} scores ({int(np.isnan(scores).sum())} NaN) and {len(kinds)} kinds."
        )
    of_kind: dict[str, list[float]] = defaultdict(list)
    for kind, score in zip(kinds, scores.tolist(), strict=True):
        of_kind[kind].append(score)
    claims = {
        kind: make_claim(
            "escape",
            len(of_kind[kind]),
            point.escape.max_rate,
            confidence=point.escape.confidence,
            joint=point.joint,
            choices=len(of_kind) if joint else 1,
        )
        for kind in sorted(of_kind)
    }
    thresholds = [threshold(np.sort(of_kind[kind]), claim.allowed) for kind, claim in claims.items() if claim.holds]
    return KindClaims(point=replace(point, go_below=min([point.go_below, *thresholds])), claims=claims)


@dataclass(frozen=True, kw_only=True)
class LineBound:
    """Upper bound on the escape rate of the whole line, inspector and reviewer together, with its components."""

    max_rate: float
    confidence: float
    escape: float
    """Bound on P(go | bad), from the operating point."""
    not_rejected: float
    """Bound on P(not no-go | bad); 1 if it was not measured."""
    miss: float
    """Bound on P(the reviewer passes it | bad, sent to review), from the seeded parts."""
    review_misses: int
    seeded: int


def line_bound(
    point: OperatingPoint,
    *,
    review_misses: int,
    seeded: int,
    confidence: float = 0.95,
    not_rejected: tuple[int, int] | None = None,
) -> LineBound:
    """Bound the escape rate of the whole line, with the reviewers' miss rate measured by seeded blind reviews.

    With e = P(go | bad), q = P(not no-go | bad) and m = P(reviewer passes it | bad, reviewed), a bad part leaves the
    line with probability ``e + (q - e) m = e (1 - m) + q m``, which increases in e, q and m, so joint upper
    bounds can be inserted. The risk 1 - confidence is shared: the operating point keeps the risk it was certified with,
    and the rest is divided equally among the bounds measured here.

    Args:
        point: With a certified escape claim, at a higher confidence than requested for the line.
        review_misses: Seeded bad parts that the reviewers passed.
        seeded: Known bad parts inserted into the review queue without the reviewers' knowledge, representative of the
            bad parts that are sent to review.
        confidence: Confidence of the bound for the whole line.
        not_rejected: Bad parts not judged no-go (go, review or fault) and bad parts in all, in a split on which no
            threshold was chosen (test). If omitted, q is 1.

    Raises:
        UnfitError: the escape claim is not certified, or uses up the risk of the line.
        InputError: the counts are inconsistent.
    """
    if not point.escape.holds:
        raise UnfitError(
            f"expected a certified escape rate, found none: {point.escape.parts_missing} more bad parts are needed."
        )
    total, used = risk(confidence), risk(point.escape.confidence, joint=point.joint)
    left = total - used
    if left <= 1e-12:
        raise UnfitError(
            f"The escape claim uses all of the risk that confidence {confidence:g} leaves for the line. Certify it at "
            f"confidence {1 - total / 2:g} or above, or request {1 - 2 * used:g} for the line."
        )
    if seeded < 0 or not 0 <= review_misses <= seeded:
        raise InputError(f"expected at most as many misses as seeded parts, found {review_misses} of {seeded}.")
    each = 1.0 - left / (1 if not_rejected is None else 2)
    miss = upper_bound(review_misses, seeded, confidence=each)
    passed = 1.0 if not_rejected is None else upper_bound(*not_rejected, confidence=each)
    escape = point.escape.max_rate
    return LineBound(
        max_rate=escape * (1.0 - miss) + max(passed, escape) * miss,
        confidence=confidence,
        escape=escape,
        not_rejected=max(passed, escape),
        miss=miss,
        review_misses=review_misses,
        seeded=seeded,
    )
