"""``gonogo simulate-guarantee``."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import typer
from typer.testing import CliRunner

from gonogo.cli.proof import simulate_guarantee
from gonogo.errors import UnfitError
from gonogo.operating_point import simulate


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.command()(simulate_guarantee)
    result = CliRunner().invoke(app, ["--draws", "60", "--audits", "40", *arguments], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def test_the_command_prints_one_json_object() -> None:
    found = json.loads(run("--json"))

    assert (found["alpha"], found["delta"], found["draws"]) == (0.05, 0.05, 60)
    assert found["violation_rate_low"] <= found["violation_rate"] <= found["violation_rate_high"]
    assert found["violation_rate_low"] <= found["delta"]
    assert found["naive_violation_rate"] > 0.4
    assert found["oracle_review_rate"] < found["review_rate"]
    assert [scenario["name"] for scenario in found["scenarios"] if scenario["expected_to_fail"]] == [
        "5 pictures, each counted"
    ]
    assert found["audit"]["false_alarm_rate_low"] <= 0.05
    assert found["audit"]["tenfold"]["median_audits"] < 40
    assert found["audit"]["tenfold"]["audits_95"] is None  # 40 audits are too few for 19 of 20 lines


def test_the_same_seed_gives_the_same_figures() -> None:
    assert run("--json", "--seed", "5") == run("--json", "--seed", "5")


def test_the_command_explains_its_columns() -> None:
    text = run()

    assert "both claims together" in text
    assert "false alarms" in text


def test_a_broken_guarantee_ends_with_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # A population that is not the one the rates are computed from stands for a rule that does not keep its promise.
    class Shifted(simulate.Population):
        def below(self, score: float) -> float:
            return super().below(score + 1.0)

    broken = replace(simulate.SCENARIOS[0], bad=Shifted(mean=3.0))
    monkeypatch.setattr(simulate, "SCENARIOS", (broken,))

    with pytest.raises(UnfitError, match=r"refutes the guarantee \(each claim for itself\)"):
        run()
