"""``make guarantee``."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from gonogo.errors import UnfitError
from guarantee import simulate
from guarantee.__main__ import main


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    def run(*words: str) -> str:
        main(["--draws", "60", "--audits", "40", *words])
        return capsys.readouterr().out

    return run


@pytest.mark.slow
def test_the_last_line_is_one_json_object(run: Callable[..., str]) -> None:
    found = json.loads(run().splitlines()[-1])

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


@pytest.mark.slow
def test_the_same_seed_gives_the_same_figures(run: Callable[..., str]) -> None:
    assert run("--seed", "5") == run("--seed", "5")


@pytest.mark.slow
def test_the_command_explains_its_columns(run: Callable[..., str]) -> None:
    text = run()

    assert "both claims together" in text
    assert "false alarms" in text


def test_a_broken_guarantee_ends_with_an_error(run: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    # A population that is not the one the rates are computed from stands for a rule that does not keep its promise.
    class Shifted(simulate.Population):
        def below(self, score: float) -> float:
            return super().below(score + 1.0)

    broken = replace(simulate.SCENARIOS[0], bad=Shifted(mean=3.0))
    monkeypatch.setattr(simulate, "SCENARIOS", (broken,))

    with pytest.raises(UnfitError, match=r"refutes the guarantee \(each claim for itself\)"):
        run()
