"""A simulated week, and the shift leader's page about it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.ledger import Ledger, Where
from gonogo.schema import State
from gonogo.station.shift_page import shift_subline
from gonogo.station.shift_report import gather
from gonogo.testing import write_fake_bundle
from week import fake_parts, simulate_week


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("week")
    bundle = write_fake_bundle(folder / "fake.inspector").root
    return simulate_week(folder / "out", bundle, fake_parts(folder / "parts"), parts=450, seed=3)


@pytest.mark.slow
def test_a_week_is_told_from_its_ledger_alone(week: Path) -> None:
    period = gather(week)
    assert not period.broken
    assert period.total.parts == 450
    assert len(period.shifts) == 15
    assert {kind.name for kind in period.kinds} <= {"crack", "stain", "other"}
    assert {"dark", "camera_lost", "frozen", "challenge"} <= set(period.faults)
    assert len(period.bundles) == 2
    changes = [row.record.action for row in period.notable if row.record.action != "acknowledge"]
    assert changes == ["started", "bundle_refused", "bundle_swapped"]
    assert all(row.record.details["passed"] for row in period.challenges)
    assert len(period.challenges) == 14
    assert not any((part or "").startswith("CHALLENGE") for part in (kind.rows[0].record.part for kind in period.kinds))


def test_the_shift_leaders_page_needs_nothing_beside_it(week: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    result = CliRunner().invoke(
        app, ["station", "report", str(week), "--out", str(out), "--zone", "Europe/Berlin", "--shifts", "6,14,22"]
    )
    assert result.exit_code == 0, result.output
    page = out.read_text()
    assert not re.search(r'(src|href)="(?!data:)', page)
    for text in ("Shift by shift", "camera frozen", "Challenge parts", "picture too dark", "a new bundle was refused"):
        assert text in page
    assert page.count("data:image/jpeg") >= 6


def test_the_first_lines_tell_what_passed_in_the_end(week: Path) -> None:
    period = gather(week)
    passed = period.total.states[State.GO]
    asked = replace(period, reviews=replace(period.reviews, sent=5, good=3, bad=2, rejected_good=1))
    assert f"In total {passed + 4} parts" in shift_subline(asked)
    assert "In total" not in shift_subline(replace(period, reviews=replace(period.reviews, good=0, rejected_good=0)))


def test_every_shift_decides_its_own_doubtful_parts(week: Path) -> None:
    with Ledger.open(week, create=False, read_only=True) as ledger:
        reviewers = {row.record.who for row in ledger.actions(Where(action="review"))}
    assert reviewers == {"A. Frueh", "B. Spaet", "C. Nacht"}
