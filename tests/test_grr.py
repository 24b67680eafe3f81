"""The variables study: AIAG's own example, edge cases, and the command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.errors import InputError
from gonogo.msa import MeasuredStudy, analyse_variables, read_measured_study

# AIAG, Measurement Systems Analysis, 4th edition: ten parts, three appraisers, three trials.
A = [
    [0.29, -0.56, 1.34, 0.47, -0.80, 0.02, 0.59, -0.31, 2.26, -1.36],
    [0.41, -0.68, 1.17, 0.50, -0.92, -0.11, 0.75, -0.20, 1.99, -1.25],
    [0.64, -0.58, 1.27, 0.64, -0.84, -0.21, 0.66, -0.17, 2.01, -1.31],
]
B = [
    [0.08, -0.47, 1.19, 0.01, -0.56, -0.20, 0.47, -0.63, 1.80, -1.68],
    [0.25, -1.22, 0.94, 1.03, -1.20, 0.22, 0.55, 0.08, 2.12, -1.62],
    [0.07, -0.68, 1.34, 0.20, -1.28, 0.06, 0.83, -0.34, 2.19, -1.50],
]
C = [
    [0.04, -1.38, 0.88, 0.14, -1.46, -0.29, 0.02, -0.46, 1.77, -1.49],
    [-0.11, -1.13, 1.09, 0.20, -1.07, -0.67, 0.01, -0.56, 1.45, -1.77],
    [-0.15, -0.96, 0.67, 0.11, -1.45, -0.49, 0.21, -0.49, 1.87, -2.16],
]


def study(values: np.ndarray, reference: np.ndarray | None = None) -> MeasuredStudy:
    operators, trials, parts = (tuple(map(str, range(count))) for count in values.shape)
    return MeasuredStudy(operators=operators, trials=trials, parts=parts, values=values, reference=reference)


def test_the_example_of_the_manual_gives_the_figures_of_the_manual() -> None:
    found = analyse_variables(study(np.array([A, B, C])))
    assert found.pooled
    assert found.repeatability == pytest.approx(0.199933, abs=1e-6)
    assert found.reproducibility == pytest.approx(0.226838, abs=1e-6)
    assert found.gauge == pytest.approx(0.302373, abs=2e-6)
    assert found.part_variation == pytest.approx(1.042327, abs=1e-6)
    assert found.total == pytest.approx(1.085, abs=1e-3)
    assert found.share_of_total == pytest.approx(0.2786, abs=1e-4)
    assert found.distinct_categories == 4
    assert found.rating == "unacceptable"


def test_known_variances_are_found_again() -> None:
    rng = np.random.default_rng(0)
    part, operator = rng.normal(0, 2.0, 400), np.array([-0.5, 0.0, 0.5])
    values = part[None, None, :] + operator[:, None, None] + rng.normal(0, 0.3, (3, 4, 400))
    found = analyse_variables(study(values), tolerance=10.0)
    assert found.repeatability == pytest.approx(0.3, rel=0.05)
    assert found.reproducibility == pytest.approx(0.5, rel=0.05)
    assert found.part_variation == pytest.approx(2.0, rel=0.1)
    assert found.share_of_tolerance == pytest.approx(6 * np.hypot(0.3, 0.5) / 10, rel=0.05)


def test_an_operator_who_measures_some_parts_differently_shows_in_the_interaction() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0, 1, 20)[None, None, :] + rng.normal(0, 0.05, (3, 3, 20))
    values[1, :, ::2] += 0.6
    found = analyse_variables(study(values))
    assert not found.pooled
    assert found.reproducibility > 0.2
    assert found.repeatability == pytest.approx(0.05, rel=0.2)


def test_a_perfect_gauge_and_the_bias_against_references() -> None:
    true = np.linspace(1, 5, 8)
    found = analyse_variables(study(np.broadcast_to(true, (2, 2, 8)) + 0.25, true))
    assert found.gauge == 0
    assert found.distinct_categories == 1000
    assert found.bias is not None
    assert found.bias.mean == pytest.approx(0.25)
    assert found.bias.low <= 0.25 <= found.bias.high
    assert found.bias.error_95 == pytest.approx(0.25)


def test_too_small_a_study_and_an_impossible_tolerance_are_refused() -> None:
    for shape in ((1, 3, 10), (3, 1, 10), (3, 3, 1)):
        with pytest.raises(InputError, match="at least 2"):
            analyse_variables(study(np.zeros(shape)))
    with pytest.raises(InputError, match="tolerance"):
        analyse_variables(study(np.array([A, B])), tolerance=0.0)


def table(*lines: str, reference: bool = True) -> str:
    return "\n".join(["operator,trial,part,value" + (",reference" if reference else ""), *lines]) + "\n"


FULL = [f"{o},{t},p{p},{p + 0.1 * t},{p}" for o in "AB" for t in (1, 2) for p in range(4)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not found"),
        (table(), "found none"),
        (table(*FULL[1:]), "no value of part p0 in trial 1"),
        (table(*FULL, FULL[0]), "already measured"),
        (table(*FULL[1:], "A,1,p0,x,0"), "expected a number"),
        (table(*FULL[1:], "A,1,p0,nan,0"), "expected a number"),
        (table(*FULL[1:], "A,1,p0,1,7"), "differs from an earlier line"),
        (table(*FULL[1:], "A,1,,1,7"), "part is empty"),
        (table("A,1,p0,1,", "A,2,p0,1,", "A,1,p1,1,1", "A,2,p1,1,1"), "no reference"),
    ],
)
def test_malformed_studies_are_refused_with_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        read_measured_study(path)


@pytest.mark.slow
def test_the_command_prints_the_figures_and_writes_a_report(tmp_path: Path) -> None:
    path, page = tmp_path / "study.csv", tmp_path / "report.html"
    path.write_text(table(*FULL))
    ran = CliRunner().invoke(app, ["station", "grr", str(path), "--tolerance", "5", "--report", str(page)])
    assert ran.exit_code == 0, ran.output
    assert "Repeatability" in ran.output
    assert "Gauge R&amp;R" in page.read_text()
    as_json = CliRunner().invoke(app, ["station", "grr", str(path), "--json"])
    assert json.loads(as_json.output)["bias"]["mean"] == pytest.approx(0.15)
