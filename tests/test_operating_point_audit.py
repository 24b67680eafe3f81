"""The audit test: how sure, how fast, and whether it survives being stored."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.errors import InputError
from gonogo.operating_point import AuditTest, bad_among_accepted, confidence_sequence
from guarantee.simulate import simulate_audits


def audited(test: AuditTest, outcomes: list[bool]) -> AuditTest:
    for bad in outcomes:
        test = test.update(bad=bad)
    return test


def test_a_new_test_says_nothing() -> None:
    test = AuditTest(promised_rate=0.01)

    assert test.e_value == 1.0
    assert not test.alarm


def test_good_parts_never_alarm() -> None:
    test = audited(AuditTest(promised_rate=0.01), [False] * 2000)

    assert test.peak == 1.0
    assert 0.0 < test.e_value < 1.0


def test_bad_parts_alarm_and_the_alarm_stays() -> None:
    test = audited(AuditTest(promised_rate=0.01), [True] * 3)
    later = audited(test, [False] * 500)

    assert test.alarm
    assert later.alarm
    assert later.e_value < 20.0
    assert (later.audits, later.bad) == (503, 3)


@given(rate=st.floats(0.0005, 0.9), history=st.lists(st.booleans(), max_size=30))
def test_one_more_audit_never_gains_on_average_at_the_promised_rate(rate: float, history: list[bool]) -> None:
    test = audited(AuditTest(promised_rate=rate), history)
    if max(test.capital) >= 1e200:
        return
    mean = rate * test.update(bad=True).e_value + (1 - rate) * test.update(bad=False).e_value

    assert mean == pytest.approx(test.e_value, rel=1e-9)


@pytest.mark.slow
def test_at_the_promised_rate_false_alarms_stay_within_the_confidence() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=1000, audits=3000, rng=np.random.default_rng(1))

    assert not trial.refuted
    assert trial.false_alarms > 0  # or the simulation would show nothing


@pytest.mark.slow
def test_ten_times_the_promised_rate_is_found_within_a_hundred_audits() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=1000, audits=1000, rng=np.random.default_rng(2))

    assert len(trial.until_alarm) == 1000
    assert np.median(trial.until_alarm) < 40
    assert np.quantile(trial.until_alarm, 0.95) < 100


@pytest.mark.slow
def test_a_leak_that_starts_late_is_not_hidden_by_a_good_past() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=300, audits=4000, rng=np.random.default_rng(3))

    assert len(trial.until_alarm_late) == trial.runs - trial.false_alarms
    assert np.median(trial.until_alarm_late) < 120


@pytest.mark.parametrize(("rate", "around"), [(0.02, 0.01), (0.3, 0.01), (0.5, 0.5)])
def test_a_confidence_sequence_ever_misses_the_rate_no_more_often_than_it_says(rate: float, around: float) -> None:
    """Exact: the probabilities of all paths that have not yet left the bounds, part by part."""
    delta, kept = 0.2, np.array([1.0])
    for parts in range(1, 13):
        kept = np.append(kept, 0.0) * (1.0 - rate) + np.insert(kept, 0, 0.0) * rate
        for errors in np.flatnonzero(kept).tolist():
            low, high = confidence_sequence(errors, parts, delta=delta, around=around)
            kept[errors] *= low <= rate <= high

    assert 1.0 - kept.sum() <= delta


def test_a_confidence_sequence_holds_the_rate_seen_and_rises_with_the_errors() -> None:
    bounds = [confidence_sequence(errors, 50, delta=0.05, around=0.02) for errors in range(0, 51, 5)]

    assert bounds == sorted(bounds)
    assert all(low < share / 10 < high for share, (low, high) in enumerate(bounds[1:-1], 1))
    assert bounds[0][0] == 0.0
    assert bounds[-1][1] == 1.0
    assert confidence_sequence(0, 0, delta=0.05, around=0.02) == (0.0, 1.0)
    narrow = confidence_sequence(40, 2000, delta=0.05, around=0.02)
    assert 0.01 < narrow[0] < 0.02 < narrow[1] < 0.035


def test_a_test_goes_on_where_it_was_stored() -> None:
    test = audited(AuditTest(promised_rate=0.02, confidence=0.99), [False, True, False])
    restored = AuditTest.from_json(json.loads(json.dumps(test.to_json())))

    assert restored == test
    assert restored.update(bad=True) == test.update(bad=True)


def test_overwhelming_evidence_stays_finite() -> None:
    test = audited(AuditTest(promised_rate=0.0005), [True] * 400)

    assert np.isfinite(test.e_value)
    json.dumps(test.to_json(), allow_nan=False)


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("promised_rate", 0.0, "promised_rate"),
        ("audits", -1, "audits"),
        ("bad", 9, "record"),
        ("capital", [1.0], "capital"),
        ("capital", [-1.0, 0.0, 0.0], r"capital\.0"),
        ("peak", 0.5, "peak"),
        ("capital", [9.0, 0.0, 0.0], "record"),
    ],
)
def test_a_damaged_state_is_refused_and_said_where(key: str, value: object, where: str) -> None:
    record = {**audited(AuditTest(promised_rate=0.01), [False] * 3).to_json(), key: value}

    with pytest.raises(InputError, match=f"audit test: {where}: "):
        AuditTest.from_json(record)


def test_a_promise_that_is_no_share_is_refused() -> None:
    for rate in (0.0, 1.0):
        with pytest.raises(InputError, match="promised_rate"):
            AuditTest(promised_rate=rate)
        with pytest.raises(InputError, match="confidence"):
            AuditTest(promised_rate=0.01, confidence=rate)


def test_an_escape_bound_becomes_a_share_of_accepted_parts() -> None:
    # Of 1000 parts 50 are bad; at most 5 % of those escape: 2.5 among 900 accepted.
    assert bad_among_accepted(max_escape=0.05, bad_share=0.05, accepted_share=0.9) == pytest.approx(2.5 / 900)


@pytest.mark.parametrize("history", [[], [False] * 40, [True, False, True], [True] * 6])
def test_at_the_promised_rate_an_audit_changes_the_evidence_neither_way_on_average(history: list[bool]) -> None:
    for rate in (0.001, 0.03, 0.4):
        test = audited(AuditTest(promised_rate=rate), history)
        after = rate * test.update(bad=True).e_value + (1.0 - rate) * test.update(bad=False).e_value

        assert after == pytest.approx(test.e_value, rel=1e-9)
        better = rate / 2
        kept = better * test.update(bad=True).e_value + (1.0 - better) * test.update(bad=False).e_value
        assert kept < test.e_value


def test_half_of_what_is_bet_goes_on_ten_times_the_promised_odds_and_the_rest_on_twice_and_four_times() -> None:
    rate = 0.02
    bet = 1.0 - 1.0 / (1.0 + math.log(2.0))  # the reserve after one audit is 1 / (1 + ln 2)
    expected = []
    for share, multiple in ((0.25, 2.0), (0.25, 4.0), (0.5, 10.0)):
        odds = multiple * rate / (1.0 - rate)
        expected.append(share * bet * odds / (1.0 + odds) / rate)
    test = AuditTest(promised_rate=rate).update(bad=True)

    assert test.capital == pytest.approx(expected, rel=1e-12)
    assert test.e_value == pytest.approx(sum(expected) + 1.0 - bet, rel=1e-12)
    assert (test.audits, test.bad, test.peak) == (1, 1, test.e_value)


def test_the_alarm_comes_when_the_evidence_reaches_one_over_the_risk() -> None:
    record = {**AuditTest(promised_rate=0.01, confidence=0.75).to_json(), "audits": 1}

    assert AuditTest.from_json({**record, "peak": 4.0}).alarm
    assert not AuditTest.from_json({**record, "peak": 3.999}).alarm


def test_a_state_at_its_limits_is_read() -> None:
    test = audited(AuditTest(promised_rate=0.3), [True] * 2)
    record = {**test.to_json(), "peak": test.e_value}

    assert AuditTest.from_json(record).bad == 2
    with pytest.raises(InputError, match="at most as many bad parts as audits"):
        AuditTest.from_json({**record, "bad": 3})
    with pytest.raises(InputError, match="peak of at least"):
        AuditTest.from_json({**record, "peak": test.e_value * (1.0 - 1e-6)})


def test_every_part_may_be_bad_or_accepted_and_more_than_all_are_never_bad() -> None:
    assert bad_among_accepted(max_escape=1.0, bad_share=1.0, accepted_share=1.0) == 1.0
    assert bad_among_accepted(max_escape=0.5, bad_share=0.5, accepted_share=0.1) == 1.0
    for name in ("max_escape", "bad_share", "accepted_share"):
        for value in (0.0, 1.01):
            with pytest.raises(InputError, match=name):
                bad_among_accepted(**{"max_escape": 0.5, "bad_share": 0.5, "accepted_share": 0.5, name: value})
