"""The end of a certificate at a station: an alarm before and after, and review instead of go where that is set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gonogo.errors import InputError
from gonogo.ledger import Ledger
from gonogo.schema import State, Verdict
from gonogo.station.example import EXAMPLE
from gonogo.station.expiry import ExpiryWatch
from gonogo.station.models import LoadedBundle
from gonogo.station.outcomes import Outcome
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.validity import Validity

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SHA256 = "a" * 64


def settings(after: str) -> StationSettings:
    return parse_settings(f'{EXAMPLE}\n[expiry]\nafter = "{after}"\n')


def model(**validity: Any) -> LoadedBundle:
    return LoadedBundle(
        name="chip",
        path=Path("chip"),
        sha256=SHA256,
        go_below=1.0,
        no_go_above=2.0,
        device="CPU",
        inspect=lambda _: Verdict(state=State.GO, score=0.0, reason=""),
        validity=Validity(certified_at=NOW, **validity),
    )


def outcome(state: State, loaded: LoadedBundle) -> Outcome:
    return Outcome(state=state, reason="score 0.5", cause=None, model=loaded)


@pytest.mark.parametrize(("after", "state"), [("warn", State.GO), ("review", State.REVIEW)])
def test_after_the_end_a_go_stays_one_or_goes_to_review_as_set(tmp_path: Path, after: str, state: State) -> None:
    loaded = model(days=30)
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        for days, expected in ((1, State.GO), (29, State.GO), (30, state)):
            watch = ExpiryWatch(settings(after), ledger=lambda: ledger, now=lambda: NOW + timedelta(days=days))  # noqa: B023
            assert watch.limited(outcome(State.GO, loaded)).state is expected
            assert watch.limited(outcome(State.NO_GO, loaded)).state is State.NO_GO
            assert bool(watch.standing(loaded).sentence) == (days >= 29)
            assert watch.standing(None).sentence == ""
        limited = watch.limited(outcome(State.GO, loaded))
    assert ("the certificate expired on 2026-07-01" in limited.reason) == (after == "review")


def test_the_parts_of_a_bundle_are_counted_from_the_ledger_and_then_one_by_one(tmp_path: Path) -> None:
    loaded = model(parts=3)
    with Ledger.open(tmp_path / "line.ledger") as ledger:
        watch = ExpiryWatch(settings("review"), ledger=lambda: ledger, now=lambda: NOW)
        for _ in range(3):
            assert watch.limited(outcome(State.GO, loaded)).state is State.GO
            watch.judged(SHA256)
        watch.judged("b" * 64)
        assert watch.limited(outcome(State.GO, loaded)).state is State.REVIEW
        assert "after 3 parts" in watch.standing(loaded).sentence


def test_an_unknown_consequence_is_refused() -> None:
    with pytest.raises(InputError, match="expiry"):
        settings("stop")
