"""The audit test: how sure, how fast, and whether it survives being stored."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.errors import InputError
from gonogo.operating_point import AuditTest, bad_among_accepted
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


def test_at_the_promised_rate_false_alarms_stay_within_the_confidence() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=1000, audits=3000, rng=np.random.default_rng(1))

    assert not trial.refuted
    assert trial.false_alarms > 0  # or the simulation would show nothing


def test_ten_times_the_promised_rate_is_found_within_a_hundred_audits() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=1000, audits=1000, rng=np.random.default_rng(2))

    assert len(trial.until_alarm) == 1000
    assert np.median(trial.until_alarm) < 40
    assert np.quantile(trial.until_alarm, 0.95) < 100


def test_a_leak_that_starts_late_is_not_hidden_by_a_good_past() -> None:
    trial = simulate_audits(promised_rate=0.01, confidence=0.95, runs=300, audits=4000, rng=np.random.default_rng(3))

    assert len(trial.until_alarm_late) == trial.runs - trial.false_alarms
    assert np.median(trial.until_alarm_late) < 120


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
    ("key", "value"),
    [
        ("promised_rate", 0.0),
        ("audits", -1),
        ("bad", 9),
        ("capital", [1.0]),
        ("capital", [-1.0, 0.0, 0.0]),
        ("peak", 0.5),
        ("capital", [9.0, 0.0, 0.0]),
    ],
)
def test_a_damaged_state_is_refused(key: str, value: object) -> None:
    record = {**audited(AuditTest(promised_rate=0.01), [False] * 3).to_json(), key: value}

    with pytest.raises(InputError, match="audit test"):
        AuditTest.from_json(record)


def test_a_promise_that_is_no_share_is_refused() -> None:
    with pytest.raises(InputError, match="promised_rate"):
        AuditTest(promised_rate=1.0)


def test_an_escape_bound_becomes_a_share_of_accepted_parts() -> None:
    # Of 1000 parts 50 are bad; at most 5 % of those escape: 2.5 among 900 accepted.
    assert bad_among_accepted(max_escape=0.05, bad_share=0.05, accepted_share=0.9) == pytest.approx(2.5 / 900)
