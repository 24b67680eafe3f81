"""Thresholds, bounds and what can be promised."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import integrate, special, stats

from gonogo.errors import InputError, UnfitError
from gonogo.operating_point import (
    Costs,
    Promise,
    allowed_errors,
    as_percent,
    best_rate,
    certified_point,
    certify_kinds,
    cheapest,
    clopper_pearson,
    confidence_sequence,
    describe_claims,
    expected_operating_point,
    from_json,
    line_bound,
    parts_needed,
    state_and_reason,
    to_json,
    tradeoff,
    upper_bound,
    vacuous,
    what_it_takes,
    without_promise,
    worst_per_part,
)
from gonogo.operating_point.binomial import certifies
from gonogo.operating_point.rule import risk, threshold
from gonogo.schema import OperatingPoint, State
from guarantee.simulate import SCENARIOS, Population, Scenario, simulate

FIVE_PERCENT = {"max_escape": 0.05, "max_overkill": 0.05, "confidence": 0.95}
shares = st.floats(0.001, 0.6)
scores = st.floats(-1e300, 1e300, allow_nan=False)


def normal(mean: float, parts: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(mean, 1.0, parts)


def exact_cdf(k: int, n: int, rate: Fraction) -> Fraction:
    return sum((math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(k + 1)), Fraction(0))


# The binomial bounds


@pytest.mark.parametrize(
    ("max_rate", "delta", "parts"),
    [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.01, 0.025, 368), (0.5, 0.5, 1), (0.9, 0.002, 3), (1e-7, 0.05, 29_957_322)],
)
def test_the_fewest_parts_are_those_of_the_textbook(max_rate: float, delta: float, parts: int) -> None:
    assert parts_needed(max_rate, delta) == parts


@pytest.mark.parametrize(("n", "rate", "delta"), [(93, "1/20", "1/20"), (92, "1/20", "1/20"), (40, "3/10", "1/100")])
def test_allowed_errors_is_the_largest_k_in_exact_arithmetic(n: int, rate: str, delta: str) -> None:
    k = allowed_errors(n, float(Fraction(rate)), float(Fraction(delta)))

    assert k is not None
    assert exact_cdf(k, n, Fraction(rate)) <= Fraction(delta) < exact_cdf(k + 1, n, Fraction(rate))


@given(parts=st.integers(0, 2000), rate=shares, delta=shares)
def test_allowed_errors_agrees_with_the_distribution_of_scipy(parts: int, rate: float, delta: float) -> None:
    cdf = stats.binom.cdf(np.arange(parts + 1), parts, rate)
    assume(np.abs(cdf - delta).min() > 1e-9)  # on a tie the last digits of either may decide

    assert allowed_errors(parts, rate, delta) == (int(np.sum(cdf <= delta)) - 1 if cdf[0] <= delta else None)


@given(rate=shares, delta=shares)
def test_one_part_fewer_than_needed_certifies_nothing(rate: float, delta: float) -> None:
    needed = parts_needed(rate, delta)

    assert allowed_errors(needed, rate, delta) == 0
    assert allowed_errors(needed - 1, rate, delta) is None


@given(parts=st.integers(1, 3000), delta=shares, data=st.data())
def test_the_best_rate_can_be_certified_and_hardly_a_better_one(parts: int, delta: float, data: st.DataObject) -> None:
    errors = data.draw(st.integers(0, min(20, parts - 1)))
    rate = best_rate(parts, delta, errors)

    assert stats.binom.cdf(errors, parts, rate) <= delta
    assert stats.binom.cdf(errors, parts, rate * (1 - 1e-6)) > delta


def test_errors_that_meet_the_risk_exactly_are_allowed() -> None:
    assert exact_cdf(1, 3, Fraction(1, 2)) == Fraction(1, 2)
    assert allowed_errors(3, 0.5, 0.5) == 1


def test_errors_whose_tail_is_the_risk_itself_are_allowed_however_the_root_is_rounded() -> None:
    for parts in range(20, 60):
        for errors in range(2, 9):
            assert allowed_errors(parts, 0.05, float(special.bdtr(errors, parts, 0.05))) == errors


def test_no_parts_certify_nothing() -> None:
    assert best_rate(0, 0.05) == 1.0
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert allowed_errors(0, 0.05, 0.05) is None


def test_clopper_pearson_agrees_with_scipy() -> None:
    for errors, parts in [(0, 20), (3, 20), (20, 20), (7, 1000)]:
        reference = stats.binomtest(errors, parts).proportion_ci(0.9, method="exact")
        assert clopper_pearson(errors, parts, confidence=0.9) == pytest.approx((reference.low, reference.high))


def test_the_one_sided_bound_spends_all_risk_on_one_side() -> None:
    assert upper_bound(3, 20, confidence=0.95) == pytest.approx(clopper_pearson(3, 20, confidence=0.9)[1])


@pytest.mark.parametrize("rate", [0.0, 1.0, 5.0, -0.1, math.nan])
def test_a_rate_that_is_no_share_is_refused(rate: float) -> None:
    with pytest.raises(InputError, match="above 0 and below 1"):
        certified_point(normal(0, 100), normal(4, 100), max_escape=rate, max_overkill=0.05, confidence=0.95)


def test_more_errors_than_parts_are_refused() -> None:
    with pytest.raises(InputError, match="3 of 2"):
        clopper_pearson(3, 2)


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: allowed_errors(-1, 0.05, 0.05), "parts: expected a count"),
        (lambda: allowed_errors(5, 0.05, 1.0), "delta"),
        (lambda: parts_needed(1.0, 0.05), "max_rate"),
        (lambda: parts_needed(0.05, 1.0), "delta"),
        (lambda: parts_needed(0.05, 0.0), "delta"),
        (lambda: risk(0.0, joint=True), "confidence"),
        (lambda: certifies(3, 2, 0.05, 0.05), "3 of 2"),
        (lambda: certifies(0, 9, 1.0, 0.05), "max_rate"),
        (lambda: certifies(0, 9, 0.05, 0.0), "delta"),
        (lambda: best_rate(9, 1.0), "delta"),
        (lambda: best_rate(9, 0.05, -1), "errors: expected a count"),
        (lambda: best_rate(-1, 0.05), "parts: expected a count"),
        (lambda: best_rate(2, 0.05, 3), "3 of 2"),
        (lambda: clopper_pearson(1, 9, confidence=1.0), "confidence"),
        (lambda: certified_point([], [], max_escape=0.05, max_overkill=0.05, confidence=1.0), "confidence"),
        (lambda: certified_point([], [], **FIVE_PERCENT, choices=0), "choices"),
        (lambda: certified_point([[1.0]], [], **FIVE_PERCENT), "good scores: expected one per part"),
        (lambda: worst_per_part(["a", "b"], [1.0]), "each of 2 pictures"),
        (lambda: worst_per_part(["a"], [[1.0]]), "each of 1 pictures"),
    ],
)
def test_counts_and_shares_out_of_range_are_refused(refused: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        refused()


def test_a_tie_of_the_tail_with_the_risk_certifies() -> None:
    assert allowed_errors(1, 0.5, 0.5) == 0
    assert certifies(0, 1, 0.5, 0.5)
    assert certifies(0, 2, 0.5, 0.25)
    assert not certifies(0, 2, 0.5, 0.2499)


# The two thresholds


def test_go_lies_below_the_smallest_bad_score_one_may_not_miss() -> None:
    bad = np.arange(100.0)  # at 5 % and 95 %, one of 100 may escape
    point = certified_point([-5.0] * 59, bad, **FIVE_PERCENT)

    assert point.escape.allowed == 1
    assert point.go_below == -5.0 / 2 + 1.0 / 2  # 1.0 and the good parts' -5.0 cross and meet


def test_thresholds_that_do_not_cross_are_order_statistics() -> None:
    good, bad = np.arange(100.0), np.arange(50.0, 150.0)
    point = certified_point(good, bad, **FIVE_PERCENT)

    assert (point.go_below, point.no_go_above) == (51.0, 98.0)
    assert point.state(50.9) is State.GO
    assert point.state(51.0) is State.REVIEW
    assert point.state(98.0) is State.REVIEW
    assert point.state(98.1) is State.NO_GO


def test_the_rule_is_mirrored_between_good_and_bad() -> None:
    good, bad = normal(0, 150), normal(2, 150, seed=1)
    point = certified_point(good, bad, max_escape=0.05, max_overkill=0.1, confidence=0.9)
    mirrored = certified_point(-bad, -good, max_escape=0.1, max_overkill=0.05, confidence=0.9)

    assert (mirrored.go_below, mirrored.no_go_above) == (-point.no_go_above, -point.go_below)


def test_scores_may_be_whole_numbers_of_any_type() -> None:
    good, bad = np.arange(100, dtype=np.uint8), np.arange(50, 150, dtype=np.uint8)

    assert certified_point(good, bad, **FIVE_PERCENT) == certified_point(np.arange(100.0), bad * 1.0, **FIVE_PERCENT)
    assert worst_per_part(["a", "a"], [2, 1])[1].dtype == np.float64


def test_the_order_of_the_parts_does_not_matter() -> None:
    good, bad = normal(0, 150), normal(2, 150, seed=1)

    assert certified_point(good, bad, **FIVE_PERCENT) == certified_point(good[::-1], sorted(bad), **FIVE_PERCENT)


def test_too_few_bad_parts_let_nothing_pass_and_say_how_many_are_missing() -> None:
    point = certified_point(normal(0, 400), normal(4, 40), max_escape=0.01, max_overkill=0.05, confidence=0.95)

    assert point.go_below == -math.inf
    assert point.state(-1e9) is State.REVIEW
    assert not point.escape.holds
    assert point.escape.parts_missing == 299 - 40
    assert point.escape.best_rate == pytest.approx(1 - 0.05 ** (1 / 40))
    assert point.overkill.holds
    assert "259 more are needed in the calibrate split. These can certify 7.22 %." in describe_claims(point.escape)


def test_what_is_offered_instead_is_then_granted() -> None:
    good, bad = normal(0, 400), normal(4, 40)
    refused = certified_point(good, bad, max_escape=0.01, max_overkill=0.05, confidence=0.95)
    granted = certified_point(good, bad, max_escape=refused.escape.best_rate, max_overkill=0.05, confidence=0.95)

    assert granted.escape.allowed == 0


def test_a_joint_claim_needs_more_parts() -> None:
    alone = certified_point(normal(0, 400), normal(4, 300), max_escape=0.01, max_overkill=0.05, confidence=0.95)
    joint = certified_point(
        normal(0, 400), normal(4, 300), max_escape=0.01, max_overkill=0.05, confidence=0.95, joint=True
    )

    assert alone.escape.holds
    assert joint.escape.parts_missing == 68
    assert joint.joint


def test_an_empty_calibration_set_sends_everything_to_review() -> None:
    point = certified_point([], [], **FIVE_PERCENT)

    assert (point.go_below, point.no_go_above) == (-math.inf, math.inf)
    assert (point.escape.parts_missing, point.overkill.parts_missing) == (59, 59)


def test_equal_scores_never_tip_a_verdict() -> None:
    point = certified_point([3.0] * 100, [3.0] * 100, **FIVE_PERCENT)

    assert point.state(3.0) is State.REVIEW


def test_both_claims_share_the_risk_of_joint_limits_and_of_compared_settings() -> None:
    def missing(**options: object) -> tuple[int, int]:
        point = certified_point(np.zeros(60), np.ones(60), **{**FIVE_PERCENT, **options})
        return point.escape.parts_missing, point.overkill.parts_missing

    assert missing() == (0, 0)
    assert missing(joint=True) == missing(choices=2) == missing(confidence=0.975) == (12, 12)
    assert missing(joint=True, choices=2) == (26, 26)
    assert certified_point([], [], **FIVE_PERCENT, data_fingerprint="abc").data_fingerprint == "abc"


def test_without_an_escape_claim_only_what_is_asked_for_is_decided() -> None:
    good, bad = np.arange(59.0), np.arange(30.5, 40.5)

    def thresholds(good: object, bad: object, **options: bool) -> tuple[float, float, bool]:
        point = certified_point(good, bad, **FIVE_PERCENT, **options)
        return point.go_below, point.no_go_above, point.go_without_promise

    assert thresholds(good, bad) == (-math.inf, math.inf, False)
    assert thresholds(good, bad, reject=True) == (-math.inf, 58.0, False)
    assert thresholds(good, bad, go_without_promise=True) == (30.5, math.inf, True)
    assert thresholds(good, bad + 100, go_without_promise=True, reject=True) == (58.0, 58.0, True)
    assert thresholds(good, [], go_without_promise=True) == (58.0, math.inf, True)
    assert thresholds(good[1:], bad, go_without_promise=True, reject=True) == (-math.inf, math.inf, False)
    assert thresholds(good, np.arange(30.5, 90.0), go_without_promise=True, reject=True) == (30.5, 58.0, False)


@pytest.mark.parametrize("which", ["good", "bad"])
def test_a_score_that_is_no_number_is_refused(which: str) -> None:
    sets = {"good": normal(0, 100), "bad": normal(4, 100)}
    sets[which][7] = math.nan

    with pytest.raises(InputError, match=f"{which} scores: expected numbers, found 1 NaN among 100"):
        certified_point(sets["good"], sets["bad"], **FIVE_PERCENT)


def test_infinite_scores_stand_for_parts_that_never_or_always_pass() -> None:
    never = certified_point(normal(0, 100), [math.inf] * 100, **FIVE_PERCENT)
    always = certified_point(normal(0, 100), [-math.inf] * 100, **FIVE_PERCENT)
    mixed = certified_point(normal(0, 100), [2.5, *[math.inf] * 99], **FIVE_PERCENT)

    assert never.go_below == always.go_below == -math.inf
    assert mixed.go_below <= 2.5
    assert threshold(np.array([1.0, 2.0, math.inf, math.inf]), 2) == 2.0, "the largest finite one"
    assert threshold(np.array([1.0, 2.0, math.inf, math.inf]), 1) == 2.0
    assert threshold(np.array([math.inf]), 0) == threshold(np.array([1.0]), None) == -math.inf


@pytest.mark.slow
@settings(deadline=None)
@given(good=st.lists(scores, max_size=90), bad=st.lists(scores, max_size=90), joint=st.booleans())
def test_on_the_calibration_parts_no_more_err_than_allowed(good: list[float], bad: list[float], joint: bool) -> None:
    point = certified_point(good, bad, max_escape=0.05, max_overkill=0.1, confidence=0.9, joint=joint)

    assert sum(score < point.go_below for score in bad) <= (point.escape.allowed or 0)
    assert sum(score > point.no_go_above for score in good) <= (point.overkill.allowed or 0)
    assert point.go_below <= point.no_go_above
    assert from_json(json.loads(json.dumps(to_json(point)))) == point


def test_the_digest_is_of_the_sorted_scores_good_then_bad() -> None:
    point = certified_point([2.0, 1.0], [4.0, 3.0], **FIVE_PERCENT)

    assert point.scores_sha256 == hashlib.sha256(np.array([1, 2, 3, 4], "<f8").tobytes()).hexdigest()


def test_several_pictures_of_a_part_count_once_with_the_worst_score() -> None:
    parts, worst = worst_per_part(["b", "a", "b", "c"], [1.0, -math.inf, 3.0, 2.0])

    assert parts == ("b", "a", "c")
    assert worst.tolist() == [3.0, -math.inf, 2.0]


def test_a_picture_without_a_score_names_its_part() -> None:
    with pytest.raises(InputError, match="part B7"):
        worst_per_part(["B6", "B7"], [1.0, math.nan])


# The guarantee, by simulation: the true rates behind each pair of thresholds are computed, not counted


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [s for s in SCENARIOS if not s.count_pictures], ids=lambda s: s.name)
def test_fresh_calibrations_keep_their_promise(scenario: Scenario) -> None:
    guarantee = simulate(scenario, draws=600, rng=np.random.default_rng(3))

    assert not guarantee.refuted
    assert guarantee.naive_violations / guarantee.draws > 0.4
    assert guarantee.review_rate >= guarantee.oracle_review_rate


@pytest.mark.slow
def test_broken_promises_are_as_frequent_as_the_binomial_says() -> None:
    tightest = Scenario(name="tight", bad_parts=93)  # BinomCDF(1; 93, 0.05) = 0.04999
    guarantee = simulate(tightest, draws=2000, rng=np.random.default_rng(4))

    low, high = guarantee.interval
    assert low <= stats.binom.cdf(1, 93, 0.05) <= high


@pytest.mark.slow
def test_counting_pictures_as_parts_breaks_the_promise() -> None:
    wrong = next(scenario for scenario in SCENARIOS if scenario.count_pictures)

    assert simulate(wrong, draws=600, rng=np.random.default_rng(5)).refuted


@pytest.mark.parametrize("population", [SCENARIOS[0].bad, SCENARIOS[2].bad, SCENARIOS[4].bad])
def test_the_exact_rates_of_a_population_agree_with_counting(population: Population) -> None:
    worst = population.draw(200_000, np.random.default_rng(6)).max(axis=1)

    assert population.below(1.5) == pytest.approx(np.mean(worst < 1.5), abs=0.003)
    assert population.above(3.5) == pytest.approx(np.mean(worst > 3.5), abs=0.004)


@pytest.mark.slow
def test_the_best_of_several_settings_compared_on_the_same_scores_keeps_its_promise() -> None:
    """Picks the limit that looks best on the calibrate curve; only the shared risk survives the picking."""
    limits = tuple(np.linspace(0.05, 0.2, 16))
    broken = {1: 0, len(limits): 0}
    for seed in range(150):
        uniform = np.random.default_rng(seed).random(120)  # the true escape rate below t is t itself
        for choices in broken:
            certified = [
                certified_point([], uniform, **{**FIVE_PERCENT, "max_escape": a}, choices=choices) for a in limits
            ]
            worst = max(certified, key=lambda point: point.go_below - point.escape.max_rate)
            broken[choices] += worst.go_below > worst.escape.max_rate

    assert clopper_pearson(int(broken[1]), 150)[0] > 0.05
    assert broken[len(limits)] / 150 <= 0.05


# As JSON


def a_point() -> OperatingPoint:
    return certified_point(normal(0, 100), normal(2, 100), **FIVE_PERCENT, data_fingerprint="abc")


def test_thresholds_out_of_reach_are_null_in_json() -> None:
    record = to_json(certified_point([], [], **FIVE_PERCENT))

    assert record["go_below"] is None
    assert record["no_go_above"] is None
    json.dumps(record, allow_nan=False)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("escape", "allowed"), 2, "2 of 100 parts on the wrong side do not certify 0.05"),
        (("escape", "parts"), 50, "none can"),
        (("escape", "parts_missing"), 3, "parts_missing"),
        (("escape", "max_rate"), 0.01, "do not certify"),
        (("escape", "error"), "overkill", "escape.error"),
        (("joint",), "yes", "joint"),
        (("go_below",), math.nan, "go_below"),
        (("go_below",), 1e9, "go_below <= no_go_above"),
        (("scores_sha256",), "xyz", "scores_sha256"),
        (("extra",), 1, "extra"),
    ],
)
def test_a_record_that_its_counts_do_not_support_is_refused(path: tuple[str, ...], value: object, message: str) -> None:
    record = to_json(a_point())
    holder = record[path[0]] if len(path) == 2 else record
    holder[path[-1]] = value

    with pytest.raises(InputError, match=message):
        from_json(record)


def test_a_threshold_without_a_claim_is_refused() -> None:
    record = to_json(certified_point(normal(0, 100), normal(2, 10), **FIVE_PERCENT))
    record["go_below"] = -10.0

    with pytest.raises(InputError, match="where nothing is certified"):
        from_json(record)


def test_what_a_record_says_of_itself_is_kept() -> None:
    point = replace(a_point(), zones_sha256="1" * 64, rules_sha256="2" * 64)
    unpromised = certified_point(normal(0, 100), normal(2, 10), **FIVE_PERCENT, go_without_promise=True)

    for each in (a_point(), point, unpromised, replace(a_point(), go_below=1.0, no_go_above=1.0)):
        assert from_json(json.loads(json.dumps(to_json(each)))) == each
    assert "zones_sha256" not in to_json(a_point())


def test_a_threshold_without_promise_stands_only_where_good_parts_certified_it() -> None:
    record = to_json(certified_point(normal(0, 100), normal(2, 10), **FIVE_PERCENT, go_without_promise=True))
    certified, by_nobody = to_json(a_point()), to_json(certified_point([], [], **FIVE_PERCENT))

    for wrong, message in (
        ({**certified, "go_without_promise": True}, "expected false where an escape limit is certified"),
        ({**record, "go_below": None}, "expected a threshold certified on good parts"),
        ({**by_nobody, "go_without_promise": True, "go_below": 0.0}, "expected a threshold certified on good parts"),
        ({**by_nobody, "no_go_above": 0.0}, "overkill: expected no threshold"),
    ):
        with pytest.raises(InputError, match=message):
            from_json(wrong)


def test_a_record_allows_no_more_errors_than_it_has_parts() -> None:
    record = to_json(a_point())
    for counts in ({"allowed": 101}, {"allowed": None}, {"parts": 0, "allowed": 0}):
        with pytest.raises(InputError, match="escape"):
            from_json({**record, "escape": {**record["escape"], **counts}})
    stricter = {**record, "escape": {**record["escape"], "allowed": 0}}
    assert from_json(stricter).escape.allowed == 0
    joint = {**record, "joint": True}
    with pytest.raises(InputError, match="at most 0"):
        from_json(joint)


# In words


def test_a_rate_is_rounded_up_to_three_digits() -> None:
    rates = {
        0.0: "0 %",
        0.05: "5 %",
        0.07211: "7.22 %",
        0.0721: "7.21 %",
        0.00012345: "0.0124 %",
        1.0: "100 %",
        0.0995: "9.95 %",
    }

    assert {rate: as_percent(rate) for rate in rates} == rates
    assert as_percent(0.999999) == "100 %"


def test_a_claim_says_whose_error_it_bounds() -> None:
    point = certified_point(normal(0, 100), normal(2, 100), **FIVE_PERCENT)

    assert describe_claims(point.escape) == (
        "At most 5 % of bad parts escape, at 95 % confidence "
        "(100 independent bad parts, at most 1 of them on the wrong side)."
    )
    assert describe_claims(point.overkill).startswith(
        "At most 5 % of good parts are rejected, at 95 % confidence (100 "
    )
    nothing = certified_point([], [], **FIVE_PERCENT)
    assert describe_claims(nothing.escape).endswith("59 more are needed in the calibrate split. There are none.")


def test_what_more_parts_would_certify_is_listed_from_the_first_rate_that_is_out_of_reach() -> None:
    point = certified_point(normal(0, 58), normal(2, 59), max_escape=0.01, max_overkill=0.01, confidence=0.95)

    assert what_it_takes(point.escape) == (
        "Of independent bad parts in the calibrate split, 149 would certify that at most 2 % of bad parts escape; "
        "299: 1 % (95 % confidence)."
    )
    assert what_it_takes(point.overkill) == (
        "Of independent good parts in the calibrate split, 59 would certify that at most 5 % of good parts are "
        "rejected; 149: 2 %; 299: 1 % (95 % confidence)."
    )
    assert "72 would certify that at most 5 %" in what_it_takes(point.escape, joint=True)


def test_a_claim_about_what_never_happens_is_vacuous() -> None:
    point = a_point()
    silent = replace(point, go_below=-math.inf, no_go_above=math.inf)
    refused = certified_point([], [], **FIVE_PERCENT)

    assert [vacuous(each, each.escape) for each in (point, silent, refused)] == [False, True, False]
    assert [vacuous(each, each.overkill) for each in (point, silent, refused)] == [False, True, False]
    assert vacuous(replace(silent, go_below=0.0), point.escape) is False
    assert vacuous(replace(silent, no_go_above=0.0), point.overkill) is False


def test_a_go_without_a_promise_says_on_how_few_bad_parts_it_rests() -> None:
    notes = [
        without_promise(certified_point(normal(0, 100), normal(9, bad), **FIVE_PERCENT, go_without_promise=True))
        for bad in (0, 1, 2)
    ]

    assert notes == [
        "go without a promise: nothing is known about escapes",
        "go without a promise: 1 bad calibration part cannot certify an escape limit",
        "go without a promise: 2 bad calibration parts cannot certify an escape limit",
    ]
    assert without_promise(a_point()) == ""


def test_a_verdict_gives_the_thresholds_that_it_was_compared_with() -> None:
    point = certified_point(np.arange(100.0), np.arange(50.0, 150.0), **FIVE_PERCENT)
    too_few = certified_point(np.arange(59.0), np.arange(80.0, 90.0), **FIVE_PERCENT)
    unpromised = certified_point(np.arange(59.0), np.arange(80.0, 90.0), **FIVE_PERCENT, go_without_promise=True)

    for which, score, expected in (
        (point, 50.0, (State.GO, "score 50.000 is below the go threshold 51.000")),
        (point, 99.0, (State.NO_GO, "score 99.000 is above the no-go threshold 98.000")),
        (point, 60.0, (State.REVIEW, "score 60.000 is between the thresholds 51.000 and 98.000: sent to review")),
        (too_few, 1.0, (State.REVIEW, "49 more bad parts are needed before any part may pass: sent to review")),
        (unpromised, 70.0, (State.REVIEW, "score 70.000 is not below the go threshold 58.000: sent to review")),
    ):
        assert state_and_reason(which, score) == expected


# The trade-off


def dialled(**options: object) -> tuple:
    counts = {"good_parts": 400, "bad_parts": 100, "bad_share": 0.05, "max_overkills": (0.05,)}
    return tradeoff(normal(0, 2000), normal(3, 2000, seed=1), **{**counts, **options})


def test_a_stricter_escape_limit_never_needs_less_review() -> None:
    reviews = [point.review_rate for point in dialled() if point.escape.holds]

    assert reviews == sorted(reviews, reverse=True)
    assert len(set(reviews)) > 3


def test_the_dial_knows_from_the_counts_alone_what_can_be_certified() -> None:
    by_limit = {point.escape.max_rate: point.escape for point in dialled(max_escapes=(0.01, 0.05))}

    assert by_limit[0.01].parts_missing == 199
    assert by_limit[0.05].allowed == 1


@pytest.mark.slow
def test_the_dial_predicts_the_review_rate_of_fresh_calibrations() -> None:
    scenario = SCENARIOS[0]
    (point,) = dialled(max_escapes=(0.05,))
    found = simulate(scenario, draws=500, rng=np.random.default_rng(8)).review_rate

    assert point.review_rate == pytest.approx(found, abs=0.03)
    assert point.escape_rate == pytest.approx(2 / 101)


def test_dear_escapes_turn_the_dial_towards_review() -> None:
    points = dialled(max_escapes=(0.03, 0.05, 0.1, 0.3), max_overkills=(0.02, 0.05, 0.2))
    careful = cheapest(points, Costs(escape=10_000, overkill=5, review=1))
    bold = cheapest(points, Costs(escape=2, overkill=5, review=1))

    assert careful.escape.max_rate < bold.escape.max_rate
    assert careful.review_rate > bold.review_rate


def test_nothing_certifiable_says_what_is_missing() -> None:
    with pytest.raises(UnfitError, match="lacks 48 bad and 0 good"):
        cheapest(dialled(bad_parts=11, max_escapes=(0.01, 0.05)), Costs(escape=500, overkill=5, review=1))


def test_a_dial_without_scores_is_refused() -> None:
    with pytest.raises(InputError, match="bad scores"):
        tradeoff([1.0], [], good_parts=100, bad_parts=100, bad_share=0.1)


def ladders(**options: object) -> tuple:
    """59 good scores 1 to 59 and 59 bad ones 40.5, 42.5, ...: with 59 parts each, thresholds at the outermost."""
    counts = {"good_parts": 59, "bad_parts": 59, "bad_share": 0.2, "max_escapes": (0.05,), "max_overkills": (0.05,)}
    return tradeoff(np.arange(1.0, 60.0), 40.5 + 2.0 * np.arange(59.0), **{**counts, **options})


def test_the_rates_of_a_point_are_counted_on_the_scores_that_it_is_given() -> None:
    (point,) = ladders()

    assert (point.go_below, point.no_go_above) == pytest.approx((40.5, 59.0))
    assert point.review_rate == pytest.approx(0.2 * 10 / 59 + 0.8 * 19 / 59)
    assert (point.escape_rate, point.overkill_rate) == pytest.approx((1 / 60, 1 / 60))
    assert point.bad_share == 0.2
    assert point.cost(Costs(escape=100, overkill=10, review=3)) == pytest.approx(
        100 * 0.2 / 60 + 10 * 0.8 / 60 + 3 * point.review_rate
    )


def test_scores_that_equal_a_threshold_are_reviewed_and_no_errors() -> None:
    counts = {"good_parts": 99, "bad_parts": 99, "bad_share": 0.2, "max_escapes": (0.05,), "max_overkills": (0.05,)}
    (point,) = tradeoff(
        np.arange(1.0, 60.0), 41.0 + 2.0 * np.arange(59.0), **{**counts, "good_parts": 59, "bad_parts": 59}
    )
    (equal,) = tradeoff([30.0] * 59, [20.0] * 59, **counts)  # 1 of 99 may err, and none of these does

    assert (point.go_below, point.no_go_above) == pytest.approx((41.0, 59.0))
    assert point.review_rate == pytest.approx(0.2 * 10 / 59 + 0.8 * 19 / 59)
    assert (equal.go_below, equal.no_go_above, equal.review_rate) == (20.0, 30.0, 1.0)
    assert (equal.escape_rate, equal.overkill_rate) == pytest.approx((1 / 60, 1 / 60))


def test_more_calibration_parts_allow_errors_and_move_the_thresholds_inwards() -> None:
    (point,) = ladders(good_parts=99, bad_parts=99)  # 1 of 99 may err at 5 %: the 2 / 100 quantile of 59 scores

    assert (point.escape.allowed, point.overkill.allowed) == (1, 1)
    assert (point.go_below, point.no_go_above) == pytest.approx((40.9, 58.8))
    assert (point.escape_rate, point.overkill_rate) == pytest.approx((2 / 100, 2 / 100))


def test_thresholds_that_cross_err_less_than_the_rule_allows() -> None:
    counts = {"good_parts": 99, "bad_parts": 99, "bad_share": 0.2, "max_escapes": (0.05,), "max_overkills": (0.05,)}
    (point,) = tradeoff(np.arange(1.0, 60.0), np.arange(101.0, 160.0), **counts)

    assert point.go_below == point.no_go_above == pytest.approx((58.8 + 101.2) / 2)
    assert (point.escape_rate, point.overkill_rate, point.review_rate) == pytest.approx((1 / 60, 1 / 60, 0.0))


def test_a_curve_without_an_escape_claim_reviews_everything() -> None:
    (point,) = ladders(bad_parts=58)

    assert (point.go_below, point.no_go_above) == (-math.inf, math.inf)
    assert (point.escape_rate, point.overkill_rate, point.review_rate) == (0.0, 0.0, 1.0)
    assert not point.holds
    assert not ladders(good_parts=58)[0].holds
    assert ladders()[0].holds


def test_settings_compared_on_the_curve_share_the_risk() -> None:
    alone, halved, compared = (ladders(**options)[0] for options in ({}, {"joint": True}, {"choices": 2}))

    assert alone.holds
    assert halved.escape.parts_missing == compared.escape.parts_missing == 72 - 59
    assert halved.overkill.parts_missing == compared.overkill.parts_missing == 72 - 59
    assert ladders(confidence=0.9)[0].escape.best_rate < alone.escape.best_rate
    assert ladders(confidence=0.9)[0].overkill.best_rate < alone.overkill.best_rate


def test_the_curve_has_a_point_for_each_pair_of_limits_escapes_outermost() -> None:
    points = ladders(max_escapes=(0.05, 0.1), max_overkills=(0.2, 0.3))

    assert [(each.escape.max_rate, each.overkill.max_rate) for each in points] == [
        (0.05, 0.2), (0.05, 0.3), (0.1, 0.2), (0.1, 0.3),
    ]  # fmt: skip
    for share in (0.0, 1.0):
        with pytest.raises(InputError, match="bad_share"):
            ladders(bad_share=share)


def test_where_everything_costs_the_same_the_stricter_limits_are_taken() -> None:
    points = ladders(max_escapes=(0.1, 0.05), max_overkills=(0.3, 0.2))
    chosen = cheapest(points, Costs(escape=0, overkill=0, review=0))

    assert (chosen.escape.max_rate, chosen.overkill.max_rate) == (0.05, 0.2)
    with pytest.raises(UnfitError, match="found none"):
        cheapest([], Costs(escape=1, overkill=1, review=1))


def test_what_a_certification_would_give_is_foretold_from_other_scores() -> None:
    good, bad = np.arange(1.0, 60.0), 40.5 + 2.0 * np.arange(59.0)
    enough, too_few = {"good_parts": 59, "bad_parts": 59}, {"good_parts": 59, "bad_parts": 20}
    strict = Promise(max_escape=0.05, max_overkill=0.05)
    point = expected_operating_point(good, bad, strict, **enough)

    assert (point.go_below, point.no_go_above) == pytest.approx((40.5, 59.0))
    assert (point.joint, point.go_without_promise) == (False, False)
    assert expected_operating_point(good, bad, replace(strict, joint=True), **enough).escape.parts_missing == 13
    assert expected_operating_point(good, bad, replace(strict, joint=True), **enough).overkill.parts_missing == 13
    assert expected_operating_point(good, bad, replace(strict, joint=True), **enough).joint
    lenient = expected_operating_point(good, bad, replace(strict, confidence=0.9), **enough)
    assert (lenient.escape.confidence, lenient.overkill.confidence) == (0.9, 0.9)
    for options, expected in (
        ({}, (-math.inf, math.inf)),
        ({"reject": True}, (-math.inf, 59.0)),
        ({"go_without_promise": True}, (40.5, math.inf)),
        ({"reject": True, "go_without_promise": True}, (40.5, 59.0)),
    ):
        point = expected_operating_point(good, bad, replace(strict, **options), **too_few)
        assert (point.go_below, point.no_go_above) == pytest.approx(expected)
        assert point.go_without_promise is options.get("go_without_promise", False)
    assert expected_operating_point(good, [], replace(strict, go_without_promise=True), **too_few).go_below == 59.0
    with pytest.raises(InputError, match="bad scores"):
        expected_operating_point(good, [], strict, **enough)
    with pytest.raises(InputError, match="good scores"):
        expected_operating_point([math.inf], bad, strict, **enough)


# Bounds that may be read at any time


@pytest.mark.parametrize(("errors", "parts"), [(0, 40), (3, 40), (1, 7), (40, 40)])
def test_the_bounds_of_a_sequence_are_where_the_mean_likelihood_is_one_over_the_risk(errors: int, parts: int) -> None:
    delta, around = 0.1, 0.05

    def likelihood(rate: float) -> float:
        return rate**errors * (1.0 - rate) ** (parts - errors)

    def prior(rate: float) -> float:
        return 0.5 + 0.5 / around * (1.0 - rate) ** (1.0 / around - 1.0)

    mixture = integrate.quad(lambda rate: likelihood(rate) * prior(rate), 0.0, 1.0, epsabs=0.0, limit=200)[0]
    low, high = confidence_sequence(errors, parts, delta=delta, around=around)

    assert low < errors / parts or low == 0.0
    for bound, end in ((low, 0.0), (high, 1.0)):
        assert bound == end or likelihood(bound) == pytest.approx(mixture * delta, rel=1e-6)
    assert (low == 0.0) is (errors == 0)
    assert (high == 1.0) is (errors == parts)


def test_the_bounds_of_a_sequence_never_leave_the_range_of_a_rate() -> None:
    assert confidence_sequence(1, 2, delta=1e-30, around=0.05) == (0.0, 1.0)


def test_impossible_counts_have_no_bounds() -> None:
    for errors, parts in ((-1, 5), (6, 5)):
        with pytest.raises(InputError, match="errors among 5 parts"):
            confidence_sequence(errors, parts, delta=0.1, around=0.05)
    for wrong in ({"delta": 0.0}, {"delta": 1.0}, {"around": 0.0}, {"around": 1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            confidence_sequence(1, 5, **{"delta": 0.1, "around": 0.05, **wrong})


# Kinds of defect


def test_a_kind_that_scores_low_lowers_the_threshold_until_its_own_limit_holds() -> None:
    scratches, cracks = normal(6, 200), normal(2, 70, seed=1)
    bad, kinds = np.concatenate([scratches, cracks]), ["scratch"] * 200 + ["crack"] * 70
    point = certified_point(normal(0, 400), bad, **FIVE_PERCENT)
    per_kind = certify_kinds(point, bad, kinds)

    assert list(per_kind.claims) == ["crack", "scratch"]
    assert per_kind.too_few == {}
    assert per_kind.point.go_below == cracks.min() < point.go_below


def test_kinds_with_too_few_examples_are_named() -> None:
    bad, kinds = normal(4, 80), ["scratch"] * 75 + ["crack"] * 5
    point = certified_point(normal(0, 400), bad, **FIVE_PERCENT)
    per_kind = certify_kinds(point, bad, kinds)
    together = certify_kinds(point, bad, kinds, joint=True)

    assert per_kind.too_few == {"crack": 54}
    assert per_kind.claims["scratch"].holds
    assert per_kind.point.go_below == point.go_below > -math.inf
    assert together.claims["crack"].parts_missing == 72 - 5


def test_kinds_must_belong_to_the_same_parts() -> None:
    with pytest.raises(InputError, match="100 bad parts"):
        certify_kinds(a_point(), normal(2, 99), ["crack"] * 99)


def test_kinds_keep_the_limit_the_confidence_and_the_jointness_of_their_point() -> None:
    good, bad, kinds = normal(0, 400), normal(4, 200), ["scratch"] * 140 + ["crack"] * 60
    plain = certify_kinds(certified_point(good, bad, **FIVE_PERCENT), bad, kinds).claims["crack"]
    joint = certify_kinds(certified_point(good, bad, **FIVE_PERCENT, joint=True), bad, kinds).claims["crack"]
    surer = certify_kinds(certified_point(good, bad, **{**FIVE_PERCENT, "confidence": 0.99}), bad, kinds)

    assert (plain.error, plain.max_rate, plain.parts, plain.holds) == ("escape", 0.05, 60, True)
    assert joint.parts_missing == 12
    assert surer.claims["crack"].confidence == 0.99
    for wrong, of in (([math.nan] * 200, kinds), (bad[:199], kinds), (bad, kinds[:199])):
        with pytest.raises(InputError, match="200 bad parts"):
            certify_kinds(certified_point(good, bad, **FIVE_PERCENT), wrong, of)


# The whole line


def test_the_bound_of_the_line_is_its_formula() -> None:
    point = certified_point(normal(0, 400), normal(4, 400), max_escape=0.02, max_overkill=0.05, confidence=0.975)
    bound = line_bound(point, review_misses=1, seeded=100, not_rejected=(20, 300))
    miss, passed = upper_bound(1, 100, confidence=0.9875), upper_bound(20, 300, confidence=0.9875)

    assert (bound.miss, bound.not_rejected) == pytest.approx((miss, passed))
    assert bound.max_rate == pytest.approx(0.02 * (1 - miss) + passed * miss)
    assert (bound.confidence, bound.escape, bound.review_misses, bound.seeded) == (0.95, 0.02, 1, 100)
    assert line_bound(point, review_misses=1, seeded=100, not_rejected=(0, 3000)).not_rejected == 0.02
    joint = certified_point(normal(0, 400), normal(4, 400), **FIVE_PERCENT, joint=True)
    assert line_bound(joint, review_misses=1, seeded=100).miss == pytest.approx(upper_bound(1, 100, confidence=0.975))


def test_a_line_without_an_escape_claim_or_with_impossible_counts_is_refused() -> None:
    surer = certified_point(normal(0, 400), normal(4, 400), max_escape=0.02, max_overkill=0.05, confidence=0.99)
    with pytest.raises(UnfitError, match="59 more bad parts"):
        line_bound(certified_point([], [], **FIVE_PERCENT), review_misses=0, seeded=100)
    for misses, seeded in ((-1, 5), (6, 5), (0, -1)):
        with pytest.raises(InputError, match="misses"):
            line_bound(surer, review_misses=misses, seeded=seeded)


def test_a_line_whose_reviewer_was_never_tested_is_not_bounded() -> None:
    point = certified_point(normal(0, 400), normal(4, 400), max_escape=0.02, max_overkill=0.05, confidence=0.99)

    assert line_bound(point, review_misses=0, seeded=0).max_rate == 1.0


def test_a_tested_reviewer_bounds_the_line() -> None:
    point = certified_point(normal(0, 400), normal(4, 400), max_escape=0.02, max_overkill=0.05, confidence=0.975)
    bound = line_bound(point, review_misses=1, seeded=100)

    miss = upper_bound(1, 100, confidence=0.975)
    assert bound.miss == pytest.approx(miss)
    assert bound.max_rate == pytest.approx(0.02 + 0.98 * miss)
    assert line_bound(point, review_misses=1, seeded=100, not_rejected=(20, 300)).max_rate < bound.max_rate


def test_a_line_cannot_be_surer_than_its_escape_claim() -> None:
    with pytest.raises(UnfitError, match=r"Certify it at confidence 0\.975 or above, or request 0\.9 for the line"):
        line_bound(a_point(), review_misses=0, seeded=100)


@pytest.mark.slow
def test_the_bound_of_the_line_holds_in_simulation() -> None:
    rng, broken, lines = np.random.default_rng(9), 0, 500
    escape, passed, miss = 0.03, 0.4, 0.1
    for _ in range(lines):
        uniform = rng.random(300)
        point = certified_point([], uniform, max_escape=0.05, max_overkill=0.05, confidence=0.975)
        point = replace(point, no_go_above=passed)
        escape = point.go_below
        bound = line_bound(
            point,
            review_misses=int(rng.binomial(60, miss)),
            seeded=60,
            not_rejected=(int(rng.binomial(200, passed)), 200),
        )
        broken += escape + (passed - escape) * miss > bound.max_rate

    assert clopper_pearson(int(broken), lines)[0] <= 0.05


# Against another implementation


def test_the_same_thresholds_are_valid_for_mapie() -> None:
    risk_control = pytest.importorskip("mapie.risk_control")
    rng = np.random.default_rng(10)
    # 256 bad parts: MAPIE forms 1 - recall, which is exact for powers of two only.
    bad, good = rng.uniform(0.2, 1.0, 256), rng.uniform(0.0, 0.8, 300)
    thresholds = np.linspace(0.15, 0.35, 41)
    controller = risk_control.BinaryClassificationController(
        predict_function=lambda x: np.column_stack([1 - x[:, 0], x[:, 0]]),
        risk="recall",  # recall of "bad" at least 0.95 is an escape rate of at most 0.05
        target_level=0.95,
        confidence_level=0.95,
        list_predict_params=thresholds,
        fwer_method="fixed_sequence",
    )
    controller.calibrate(np.concatenate([bad, good])[:, None], np.repeat([1, 0], [256, 300]))
    point = certified_point(good, bad, **FIVE_PERCENT)

    assert point.go_below < point.no_go_above
    assert controller.valid_predict_params.tolist() == thresholds[thresholds <= point.go_below].tolist()
    assert 0 < len(controller.valid_predict_params) < len(thresholds)


def test_without_the_escape_claim_every_part_goes_to_review() -> None:
    good, bad = np.linspace(-3.0, 0.0, 400), np.linspace(1.0, 3.0, 20)
    point = certified_point(good, bad, max_escape=0.05, max_overkill=0.05, confidence=0.95)
    assert not point.escape.holds
    assert point.overkill.holds
    assert {point.state(score) for score in (-1e9, -3.0, 0.5, 3.0, 1e9)} == {State.REVIEW}


@given(parts=st.integers(1, 5000), rate=st.floats(1e-4, 0.5), delta=st.floats(1e-3, 0.5))
def test_the_rule_that_a_line_checks_at_its_start_is_the_one_that_certified(
    parts: int, rate: float, delta: float
) -> None:
    allowed = allowed_errors(parts, rate, delta)
    if allowed is None:
        assert not certifies(0, parts, rate, delta * (1 - 1e-6))
        return
    assert certifies(allowed, parts, rate, delta)
    if allowed < parts:
        assert not certifies(allowed + 1, parts, rate, delta * (1 - 1e-6))
