"""The trade-off curve: the expected review rate at each escape limit, without using calibration scores."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gonogo.errors import InputError, UnfitError
from gonogo.operating_point.promise import Costs, Promise
from gonogo.operating_point.rule import make_claim, meet, sorted_scores, unpromised
from gonogo.schema import Claim, OperatingPoint, Scores

RATES: tuple[float, ...] = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3)
"""Default limits of a trade-off curve."""


@dataclass(frozen=True, kw_only=True)
class TradeoffPoint:
    """One point of the trade-off curve: the two limits to certify, and the rates expected from them."""

    escape: Claim
    overkill: Claim
    go_below: float
    """Estimated; the actual threshold comes from the calibrate split."""
    no_go_above: float
    """Estimated; the actual threshold comes from the calibrate split."""
    escape_rate: float
    """Expected share of bad parts judged go; what is certified is ``escape.max_rate``."""
    overkill_rate: float
    """Expected share of good parts judged no-go."""
    review_rate: float
    """Expected share of all parts sent to review."""
    bad_share: float

    @property
    def holds(self) -> bool:
        """Whether both limits can be certified with the available calibration parts."""
        return self.escape.holds and self.overkill.holds

    def cost(self, costs: Costs) -> float:
        """Expected cost per inspected part."""
        return (
            costs.escape * self.bad_share * self.escape_rate
            + costs.overkill * (1.0 - self.bad_share) * self.overkill_rate
            + costs.review * self.review_rate
        )


def tradeoff(
    good: ArrayLike,
    bad: ArrayLike,
    *,
    good_parts: int,
    bad_parts: int,
    bad_share: float,
    max_escapes: Iterable[float] = RATES,
    max_overkills: Iterable[float] = RATES,
    confidence: float = 0.95,
    joint: bool = False,
    choices: int = 1,
) -> tuple[TradeoffPoint, ...]:
    """Expected rates of every pair of limits, in the given order, escape limits outermost.

    The number of errors that a limit allows depends only on the *number* of calibration parts, so it is known exactly
    which limits can be certified. The thresholds, and so the review rate, are estimated from these scores: with k of n
    allowed, the threshold is near the (k+1)/(n+1) quantile. Choosing by val scores and certifying once on the calibrate
    split keeps the certificate exact. To choose by the calibrate scores themselves, pass them with ``choices`` set to
    the number of limits compared, here and in `certified_point`: the bounds then hold for all limits jointly
    (Bonferroni), so any of them may be chosen.

    Args:
        good: One score per good part of the val split.
        bad: One score per bad part of the val split.
        good_parts: Good parts in the calibrate split.
        bad_parts: Bad parts in the calibrate split.
        bad_share: Share of bad parts on the line, in (0, 1).
        max_escapes: Escape limits to compare.
        max_overkills: Overkill limits to compare.
        confidence: As for `certified_point`.
        joint: As for `certified_point`.
        choices: As for `certified_point`.

    Raises:
        InputError: a class has no scores, a score is not finite, or a limit is not in (0, 1).
    """
    good, bad = _finite(good, "good"), _finite(bad, "bad")
    if not 0.0 < bad_share < 1.0:
        raise InputError(f"bad_share: expected a number above 0 and below 1, found {bad_share}.")
    escapes = [
        make_claim("escape", bad_parts, a, confidence=confidence, joint=joint, choices=choices) for a in max_escapes
    ]
    overkills = [
        make_claim("overkill", good_parts, b, confidence=confidence, joint=joint, choices=choices)
        for b in max_overkills
    ]
    return tuple(_point(good, bad, a, b, bad_share) for a in escapes for b in overkills)


def expected_operating_point(
    good: ArrayLike, bad: ArrayLike, promise: Promise, *, good_parts: int, bad_parts: int
) -> OperatingPoint:
    """The expected operating point, without using calibration scores.

    The claims are exact because they follow from the numbers of calibration parts; the thresholds are estimated from
    other scores, as in `tradeoff`. `reject` and `go_without_promise` act as in `certified_point`.

    Args:
        good: One score per good part used neither to fit nor to certify the inspector.
        bad: The same for bad parts; may be empty if no escape limit can be certified.
        promise: What is to be certified.
        good_parts: Good parts in the calibrate split.
        bad_parts: Bad parts in the calibrate split.

    Raises:
        InputError: a class needed to estimate a threshold has no scores, or a score is not finite.
    """
    max_escape, max_overkill = promise.limits(good_parts=good_parts, bad_parts=bad_parts)
    options = {"confidence": promise.confidence, "joint": promise.joint}
    escape = make_claim("escape", bad_parts, max_escape, **options)  # type: ignore[arg-type]
    overkill = make_claim("overkill", good_parts, max_overkill, **options)  # type: ignore[arg-type]
    good = _finite(good, "good")
    most_good = -_expected(np.sort(-good), overkill)
    if escape.holds:
        go_below, no_go_above = meet(_expected(_finite(bad, "bad"), escape), most_good)
    else:
        go_below, no_go_above = unpromised(
            most_good, sorted_scores(bad, "bad"), reject=promise.reject, go_without_promise=promise.go_without_promise
        )
    return OperatingPoint(
        go_below=go_below,
        no_go_above=no_go_above,
        escape=escape,
        overkill=overkill,
        joint=promise.joint,
        go_without_promise=not escape.holds and go_below > -math.inf,
    )


def cheapest(points: Sequence[TradeoffPoint], costs: Costs) -> TradeoffPoint:
    """The certifiable point with the lowest expected cost; ties go to the stricter limits.

    Raises:
        UnfitError: no point of the trade-off curve can be certified.
    """
    candidates = [point for point in points if point.holds]
    if not candidates:
        raise UnfitError(_nothing_certifiable(points))
    return min(candidates, key=lambda point: (point.cost(costs), point.escape.max_rate, point.overkill.max_rate))


def _point(good: Scores, bad: Scores, escape: Claim, overkill: Claim, bad_share: float) -> TradeoffPoint:
    go_below, no_go_above = meet(_expected(bad, escape), -_expected(np.sort(-good), overkill))
    if not escape.holds:
        no_go_above = math.inf  # as in `certified_point`: without an escape claim everything goes to review
    review_good = float(np.mean((good >= go_below) & (good <= no_go_above)))
    review_bad = float(np.mean((bad >= go_below) & (bad <= no_go_above)))
    return TradeoffPoint(
        escape=escape,
        overkill=overkill,
        go_below=go_below,
        no_go_above=no_go_above,
        escape_rate=_expected_rate(escape, int(np.sum(bad < go_below)), len(bad)),
        overkill_rate=_expected_rate(overkill, int(np.sum(good > no_go_above)), len(good)) if escape.holds else 0.0,
        review_rate=bad_share * review_bad + (1.0 - bad_share) * review_good,
        bad_share=bad_share,
    )


def _expected(ascending: Scores, claim: Claim) -> float:
    """Expected value of the (k+1)-th of n scores: the (k+1)/(n+1) quantile."""
    if claim.allowed is None:
        return -math.inf
    # "weibull" puts the i-th of m scores at the i/(m+1) quantile, by the same rule.
    return float(np.quantile(ascending, (claim.allowed + 1) / (claim.parts + 1), method="weibull"))


def _expected_rate(claim: Claim, errors: int, parts: int) -> float:
    """Mean error rate: (k+1)/(n+1) by the rule, or less if the thresholds crossed and these parts show a lower rate."""
    if claim.allowed is None:
        return 0.0
    return min((claim.allowed + 1) / (claim.parts + 1), (errors + 1) / (parts + 1))


def _finite(scores: ArrayLike, name: str) -> Scores:
    values = sorted_scores(scores, name)
    if not len(values) or not np.isfinite(values).all():
        raise InputError(f"{name} scores: expected at least one score, all finite, found {len(values)} scores.")
    return values


def _nothing_certifiable(points: Sequence[TradeoffPoint]) -> str:
    if not points:
        return "expected at least one point on the trade-off curve, found none"
    nearest = min(points, key=lambda p: max(p.escape.parts_missing, p.overkill.parts_missing))
    return (
        f"No point of the trade-off curve can be certified. The closest, escapes below {nearest.escape.max_rate:g} and "
        f"overkill below {nearest.overkill.max_rate:g}, lacks {nearest.escape.parts_missing} bad and "
        f"{nearest.overkill.parts_missing} good calibration parts. Collect them, or allow higher rates."
    )
