"""The order-statistic rule: two thresholds on the score, each with an exact bound on an error rate."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from gonogo.errors import InputError
from gonogo.operating_point.binomial import allowed_errors, best_rate, parts_needed
from gonogo.schema import Claim, OperatingPoint, Scores


def certified_point(
    good: ArrayLike,
    bad: ArrayLike,
    *,
    max_escape: float,
    max_overkill: float,
    confidence: float,
    joint: bool = False,
    choices: int = 1,
    reject: bool = False,
    go_without_promise: bool = False,
    data_fingerprint: str = "",
) -> OperatingPoint:
    """Compute the two thresholds that certify an escape and an overkill rate with the least review.

    With n bad parts and ``k = max{k : BinomCDF(k; n, max_escape) <= delta}``, a part is go if its score is below the
    (k+1)-th smallest bad score. A new bad part then escapes with a probability above ``max_escape`` only if at most k
    of n calibration scores fell into a region of at least that probability, which happens with probability at most
    ``BinomCDF(k; n, max_escape) <= delta``. No distribution is assumed; ties make the bound conservative because the
    comparison is strict. The no-go threshold applies the same rule to the negated good scores. If there are too few
    parts for a claim, its threshold is infinite and the claim says how many more are needed. Without an escape claim
    every part goes to review, unless ``reject`` or ``go_without_promise`` is set.

    Args:
        good: One score per good calibration part; higher is worse. Parts must be independent: see `worst_per_part`.
        bad: One score per bad calibration part.
        max_escape: Largest escape rate, a share in (0, 1).
        max_overkill: Largest overkill rate, a share in (0, 1).
        confidence: Confidence of each claim separately, or of both jointly if ``joint``; in (0, 1).
        joint: Give each claim half of the risk, so that both hold jointly (Bonferroni).
        choices: Number of settings of each limit that were compared *on these same scores* before this one was chosen.
            The settings share the risk, so the claim is valid after the choice. 1 if the limits were chosen elsewhere.
        reject: Without an escape claim: still reject above the no-go threshold instead of reviewing.
        go_without_promise: Without an escape claim: still pass parts below the no-go threshold and below the lowest bad
            calibration score. Nothing passes if the overkill claim cannot be certified either.
        data_fingerprint: Digest of the calibrate split, recorded as evidence.

    Raises:
        InputError: a score is NaN, or a limit is not in (0, 1).
    """
    good, bad = sorted_scores(good, "good"), sorted_scores(bad, "bad")
    if choices < 1:
        raise InputError(f"choices: expected at least 1 compared setting, found {choices}.")
    escape = make_claim("escape", len(bad), max_escape, confidence=confidence, joint=joint, choices=choices)
    overkill = make_claim("overkill", len(good), max_overkill, confidence=confidence, joint=joint, choices=choices)
    most_good = -threshold(np.sort(-good), overkill.allowed)
    if escape.holds:
        go_below, no_go_above = meet(threshold(bad, escape.allowed), most_good)
    else:
        go_below, no_go_above = unpromised(most_good, bad, reject=reject, go_without_promise=go_without_promise)
    return OperatingPoint(
        go_below=go_below,
        no_go_above=no_go_above,
        escape=escape,
        overkill=overkill,
        joint=joint,
        scores_sha256=scores_digest(good, bad),
        data_fingerprint=data_fingerprint,
        go_without_promise=not escape.holds and go_below > -math.inf,
    )


def unpromised(no_go_above: float, bad: Scores, *, reject: bool, go_without_promise: bool) -> tuple[float, float]:
    """Both thresholds if no escape limit can be certified; they come from good parts alone.

    Args:
        no_go_above: The certified no-go threshold; ``inf`` if the overkill claim cannot be certified either.
        bad: Scores of the bad calibration parts, ascending; too few for a claim, possibly empty.
        reject: See `certified_point`.
        go_without_promise: See `certified_point`.
    """
    go_below = -math.inf
    if go_without_promise and no_go_above < math.inf:
        go_below = min(no_go_above, float(bad[0])) if len(bad) else no_go_above
    return go_below, no_go_above if reject else math.inf


def make_claim(
    error: str, parts: int, max_rate: float, *, confidence: float, joint: bool = False, choices: int = 1
) -> Claim:
    """The claim about one error rate that this number of parts supports, certified or not."""
    delta = risk(confidence, joint=joint, choices=choices)
    allowed = allowed_errors(parts, max_rate, delta)
    return Claim(
        error=error,
        max_rate=max_rate,
        confidence=confidence,
        parts=parts,
        allowed=allowed,
        parts_missing=0 if allowed is not None else parts_needed(max_rate, delta) - parts,
        best_rate=best_rate(parts, delta),
    )


def risk(confidence: float, *, joint: bool = False, choices: int = 1) -> float:
    """The risk of one claim: 1 - confidence, halved for joint claims and divided by the number of choices."""
    if not 0.0 < confidence < 1.0:
        raise InputError(f"confidence: expected a number above 0 and below 1, found {confidence}. 95 % is 0.95.")
    return (1.0 - confidence) / (2.0 if joint else 1.0) / choices


def threshold(ascending: Scores, allowed: int | None) -> float:
    """The (k+1)-th smallest score, or ``-inf`` if no claim can be certified, so that no score is below it.

    A threshold never lies beyond the finite scores: ``+inf`` is replaced by the largest finite score.
    """
    if allowed is None:
        return -math.inf
    value = float(ascending[allowed])
    if value < math.inf:
        return value
    finite = ascending[np.isfinite(ascending)]
    return float(finite[-1]) if len(finite) else -math.inf


def meet(go_below: float, no_go_above: float) -> tuple[float, float]:
    """Replace crossed thresholds by their midpoint.

    Both bounds still hold: lowering ``go_below`` only removes parts from go, raising ``no_go_above`` only removes parts
    from no-go, and the midpoint is below the one and above the other. Only scores equal to it go to review.
    """
    if go_below <= no_go_above:
        return go_below, no_go_above
    middle = min(max(go_below / 2 + no_go_above / 2, no_go_above), go_below)
    return middle, middle


def worst_per_part(parts: Sequence[str], scores: ArrayLike) -> tuple[tuple[str, ...], Scores]:
    """The highest score of each part over its pictures, with the parts in order of first appearance.

    Pictures of one part are not independent: counting them separately overstates the size of the calibration set.

    Raises:
        InputError: a score is NaN, or the numbers of scores and parts differ.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(parts),):
        raise InputError(f"expected one score for each of {len(parts)} pictures, found shape {values.shape}.")
    if np.isnan(values).any():
        raise InputError(f"part {parts[int(np.isnan(values).argmax())]}: expected a score, found NaN. Judge it again.")
    worst: dict[str, float] = {}
    for part, score in zip(parts, values.tolist(), strict=True):
        worst[part] = max(worst.get(part, -math.inf), score)
    return tuple(worst), np.array(list(worst.values()))


def scores_digest(good: Scores, bad: Scores) -> str:
    """SHA-256 of the sorted scores, good then bad, as little-endian float64."""
    return hashlib.sha256(np.concatenate([np.sort(good), np.sort(bad)]).astype("<f8").tobytes()).hexdigest()


def sorted_scores(scores: ArrayLike, name: str) -> Scores:
    """The scores of one class in ascending order; infinite scores mark parts that are never, or always, go.

    Raises:
        InputError: not one-dimensional, or a score is NaN.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if values.ndim != 1:
        raise InputError(f"{name} scores: expected one per part, found an array of shape {values.shape}.")
    if np.isnan(values).any():
        raise InputError(
            f"{name} scores: expected numbers, found {int(np.isnan(values).sum())} NaN among {len(values)}. "
            "A part that could not be judged has no score: judge it again, or exclude it and report that."
        )
    return values
