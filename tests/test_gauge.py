"""Attribute agreement studies."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from gonogo.errors import InputError
from gonogo.msa import Kappa, MsaReport, Rating, Study, StudyDecision, analyse, read_study
from gonogo.msa.kappa import cohen, fleiss

HEADER = "appraiser,trial,part,decision,reference"


def a_study(decisions: object, reference: object, **more: object) -> Study:
    """A study from ``appraisers x trials x parts`` decisions, 0 good, 1 bad, 2 review."""
    table = np.array(decisions)
    return Study(
        appraisers=tuple("ABCDE"[: table.shape[0]]),
        trials=tuple(str(trial + 1) for trial in range(table.shape[1])),
        parts=tuple(f"P{part}" for part in range(table.shape[2])),
        decisions=table,
        reference=np.array(reference),
        **more,
    )


def a_large_study(miss: float = 0.1, seed: int = 0, parts: int = 60) -> Study:
    rng = np.random.default_rng(seed)
    reference = np.arange(parts) % 2
    return a_study((reference + (rng.random((3, 3, parts)) < miss)) % 2, reference)


def a_file(tmp_path: Path, *lines: str, header: str = HEADER) -> Path:
    path = tmp_path / "study.csv"
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def two_parts(*, trials: int = 2, extra: str = "") -> list[str]:
    return [
        f"Ana,{trial},{part},{label},{label}{extra.format(trial=trial, part=part)}"
        for trial in range(1, trials + 1)
        for part, label in (("P1", "good"), ("P2", "bad"))
    ]


# Kappa


def test_cohens_kappa_of_a_table_counted_by_hand() -> None:
    # 20 good-good, 5 good-bad, 10 bad-good, 15 bad-bad: agreement 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    first = np.repeat([0, 0, 1, 1], [20, 5, 10, 15])[None]
    second = np.repeat([0, 1, 0, 1], [20, 5, 10, 15])[None]

    assert cohen(first, second).value == pytest.approx(0.4)


def test_fleiss_kappa_of_ratings_counted_by_hand() -> None:
    # Three ratings of four parts: 3-0, 2-1, 1-2, 0-3. Agreeing pairs 1, 1/3, 1/3, 1; each category half of all.
    ratings = np.array([[0, 0, 0, 1], [0, 0, 1, 1], [0, 1, 1, 1]])

    assert fleiss(ratings).value == pytest.approx((2 / 3 - 1 / 2) / (1 - 1 / 2))


def test_cohens_kappa_agrees_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    first, second = np.random.default_rng(1).integers(0, 3, (2, 1, 200))

    assert cohen(first, second).value == pytest.approx(metrics.cohen_kappa_score(first[0], second[0]))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.02, 0.4))
def test_kappa_lies_inside_its_interval_and_does_not_depend_on_the_order_of_parts(seed: int, miss: float) -> None:
    study = a_large_study(miss, seed, parts=20)
    ratings = study.decisions.reshape(9, 20)
    kappa, shuffled = fleiss(ratings), fleiss(ratings[::-1])

    assert kappa == shuffled
    assert kappa.value is not None
    assert kappa.low is not None
    assert kappa.high is not None
    assert kappa.low <= kappa.value <= kappa.high


@pytest.mark.slow
def test_the_interval_of_kappa_covers_the_truth_about_as_often_as_it_says() -> None:
    # Each of two raters errs on one part in ten, independently: agreement 0.82, by chance 0.5, kappa 0.64.
    rng, covered = np.random.default_rng(2), 0
    for _ in range(200):
        truth = np.arange(80) % 2
        first, second = ((truth + (rng.random((1, 80)) < 0.1)) % 2 for _ in range(2))
        kappa = cohen(first, second)
        covered += kappa.low <= 0.64 <= kappa.high

    assert 0.88 <= covered / 200 <= 0.99


def test_perfect_agreement_on_few_parts_is_no_certainty() -> None:
    reference = np.arange(10) % 2
    kappa = cohen(reference[None], reference[None])

    assert (kappa.value, kappa.high) == (1.0, 1.0)
    assert kappa.low == pytest.approx((0.025 ** (1 / 10) - 0.5) / 0.5)


def test_kappa_is_undefined_where_everybody_always_says_the_same() -> None:
    assert fleiss(np.zeros((3, 10), dtype=int)) == Kappa(value=None)


# The analysis


def test_misses_and_false_alarms_are_counted_by_decision_and_by_part() -> None:
    study = a_study([[[0, 0, 0, 1], [1, 0, 1, 1], [1, 0, 2, 1]]], [0, 0, 1, 1])
    (one,) = analyse(study).appraisers

    assert (one.misses.count, one.misses.total) == (1, 6)
    assert (one.missed_parts.count, one.missed_parts.total) == (1, 2)
    assert (one.false_alarms.count, one.false_alarms.total) == (2, 6)
    assert (one.alarmed_parts.count, one.alarmed_parts.total) == (1, 2)
    assert (one.within.count, one.effectiveness.count) == (2, 2)


def test_steady_but_wrong_is_perfect_within_and_useless_against_the_reference() -> None:
    reference = np.arange(20) % 2
    (one,) = analyse(a_study([[1 - reference] * 2], reference)).appraisers

    assert one.within_kappa.value == 1.0
    assert one.reference_kappa.value == -1.0
    assert one.rating is Rating.UNACCEPTABLE


def test_a_review_is_neither_miss_nor_false_alarm_nor_right() -> None:
    reference = np.arange(20) % 2
    (one,) = analyse(a_study([[[StudyDecision.REVIEW] * 20]], reference)).appraisers

    assert (one.misses.count, one.false_alarms.count, one.effectiveness.count) == (0, 0, 0)


def test_pairs_and_everybody_are_compared() -> None:
    found = analyse(a_large_study())

    assert [(pair.first, pair.second) for pair in found.pairs] == [("A", "B"), ("A", "C"), ("B", "C")]
    assert found.between.count >= found.all_right.count
    assert 0.4 < found.between_kappa.value < 0.9


def test_one_appraiser_in_one_trial_is_compared_with_the_reference_only() -> None:
    found = analyse(a_study([[[0, 1, 1]]], [0, 1, 0]))

    assert (found.pairs, found.between, found.between_kappa) == ((), None, None)
    assert found.appraisers[0].within is None
    assert any("only one trial" in note for note in found.notes)


@pytest.mark.parametrize(
    ("wrong_parts", "rating"), [(0, Rating.ACCEPTABLE), (4, Rating.MARGINAL), (12, Rating.UNACCEPTABLE)]
)
def test_the_rule_of_thumb_rates_an_appraiser(wrong_parts: int, rating: Rating) -> None:
    reference = np.repeat([0, 1], 50)
    decisions = reference.copy()
    decisions[:wrong_parts] = 1  # false alarms only: 8 % of the good parts are marginal

    assert analyse(a_study([[decisions] * 2], reference)).appraisers[0].rating is rating


@pytest.mark.slow
def test_the_same_stored_pictures_are_pointed_out() -> None:
    study = a_large_study()
    warned = analyse(a_study(study.decisions, study.reference, same_picture=np.array([False, False, True])))
    unknown = analyse(study)
    fresh = analyse(a_study(study.decisions, study.reference, same_picture=np.zeros(3, dtype=bool)))

    assert any(note.startswith("C: the same stored picture") and "Re-fixture" in note for note in warned.notes)
    assert any("does not record which pictures" in note for note in unknown.notes)
    assert not any("picture" in note for note in fresh.notes)


# The grey zone


def zones_of(unanimous: str, value: list[float], reference: list[int]) -> MsaReport:
    """One letter a part: a accepted by all, r rejected by all, d disputed."""
    first = [0 if letter == "a" else 1 for letter in unanimous]
    second = [1 if letter == "r" else 0 for letter in unanimous]
    return analyse(a_study([[first, second]], reference, reference_value=np.array(value)))


def test_the_grey_zone_reaches_from_the_last_accepted_to_the_first_rejected_part() -> None:
    (zone,) = zones_of("aaddrr", [1, 2, 3, 4, 5, 6], [0, 0, 0, 1, 1, 1]).grey_zones

    assert (zone.side, zone.accepted_to, zone.rejected_from, zone.width) == ("upper", 2, 5, 3)


def test_a_part_judged_wrongly_by_all_widens_the_grey_zone() -> None:
    (zone,) = zones_of("aarara", [1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 1]).grey_zones

    assert zone.accepted_to == 2
    assert zone.rejected_from is None
    assert zone.width is None


def test_a_two_sided_limit_has_two_grey_zones() -> None:
    upper, lower = zones_of("rdaaadr", [1, 2, 3, 4, 5, 6, 7], [1, 1, 0, 0, 0, 1, 1]).grey_zones

    assert (upper.side, upper.accepted_to, upper.rejected_from) == ("upper", 5, 7)
    assert (lower.side, lower.accepted_to, lower.rejected_from) == ("lower", 3, 1)


def test_a_value_that_does_not_decide_the_reference_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"reference_value of part P1 \(2\) is bad but lies among good parts \(1 to 3\)"
    ):
        zones_of("ara", [1, 2, 3], [0, 1, 0])


# The file


def test_a_study_is_read_from_csv(tmp_path: Path) -> None:
    path = a_file(
        tmp_path,
        *two_parts(extra=",0.{part}5,sha{trial}".replace("{part}", "1")),
        header=f"{HEADER},reference_value,picture",
    )
    study = read_study(path)

    assert (study.appraisers, study.trials, study.parts) == (("Ana",), ("1", "2"), ("P1", "P2"))
    assert study.decisions.tolist() == [[[0, 1], [0, 1]]]
    assert study.reference_value.tolist() == [0.15, 0.15]
    assert study.same_picture.tolist() == [False]


def test_verdicts_of_an_inspector_are_decisions(tmp_path: Path) -> None:
    lines = ["i,1,P1,go,good", "i,1,P2,no_go,bad", "i,1,P3,review,bad"]

    assert read_study(a_file(tmp_path, *lines)).decisions.tolist() == [[[0, 1, 2]]]


def test_a_table_saved_by_a_spreadsheet_is_read(tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    path.write_bytes("\ufeff".encode() + "\r\n".join([HEADER, *two_parts()]).encode())

    assert read_study(path).parts == ("P1", "P2")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            [*two_parts(), "Ana,1,P3,maybe,good"],
            "line 6: decision: expected good, go, bad, no_go, review, found 'maybe'",
        ),
        ([*two_parts(), "Ana,1,P3,good,review"], "line 6: reference: expected good, bad, found 'review'"),
        ([*two_parts(), "Ana,1,,good,good"], "line 6: part is empty"),
        ([*two_parts(), "Ana,1,P1,bad,good"], "line 6: appraiser Ana already decided on part P1 in trial 1 on line 2"),
        ([*two_parts(), "Ben,1,P1,good,bad"], "no decision on part P2 in trial 1"),
        (two_parts()[:-1], "appraiser Ana has no decision on part P2 in trial 2"),
        ([*two_parts()[:-1], "Ana,2,P2,bad,good"], "line 5: the reference of part P2 differs from line 3"),
        ([], "found none"),
        (["Ana,1,P1,good,good"], "expected at least 2 parts, found 1"),
    ],
)
def test_a_malformed_study_names_its_line(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_study(a_file(tmp_path, *lines))


@pytest.mark.parametrize("value", ["nan", "inf", "0,5", "wide"])
def test_a_reference_value_that_is_no_number_names_its_line(tmp_path: Path, value: str) -> None:
    path = a_file(tmp_path, *two_parts(extra=f',"{value}"'), header=f"{HEADER},reference_value")

    with pytest.raises(InputError, match="line 2: reference_value: expected a number"):
        read_study(path)


def test_a_reference_value_given_for_some_parts_only_is_refused(tmp_path: Path) -> None:
    path = a_file(tmp_path, "A,1,P1,good,good,0.5", "A,1,P2,bad,bad,", header=f"{HEADER},reference_value")

    with pytest.raises(InputError, match="line 3: part P2 has no reference_value"):
        read_study(path)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 1: expected the columns .* reference not found"):
        read_study(a_file(tmp_path, header="appraiser,trial,part,decision"))


def test_a_study_that_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "study.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")

    with pytest.raises(InputError, match="UTF-8"):
        read_study(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_study(tmp_path / "none.csv")


# The command


def run(*arguments: str) -> str:
    from gonogo.cli.msa import msa_command

    app = typer.Typer()
    app.command()(msa_command)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


def a_full_file(tmp_path: Path) -> Path:
    rng = np.random.default_rng(7)
    lines = []
    for part in range(30):
        value = part / 30
        for appraiser in ("Ana", "<b>Ben</b>"):
            for trial in (1, 2):
                label = "bad" if value + rng.normal(0, 0.1) > 0.5 else "good"
                lines.append(
                    f"{appraiser},{trial},P{part},{label},{'bad' if value > 0.5 else 'good'},{value},sha{part}"
                )
    return a_file(tmp_path, *lines, header=f"{HEADER},reference_value,picture_sha256")


def test_the_command_prints_one_json_object(tmp_path: Path) -> None:
    found = json.loads(run(str(a_full_file(tmp_path)), "--json"))

    assert found["parts"] == 30
    assert found["appraisers"][0]["miss_rate"]["total"] == 28
    assert found["appraisers"][0]["same_picture"] is True
    assert found["grey_zones"][0]["width"] > 0


def test_the_command_prints_a_table_and_its_caveats(tmp_path: Path) -> None:
    text = run(str(a_full_file(tmp_path)))

    assert "kappa (Cohen)" in text
    assert "1 by construction" in text


def test_the_page_needs_nothing_beside_it_and_escapes_names(tmp_path: Path) -> None:
    pytest.importorskip("gonogo.report")
    run(str(a_full_file(tmp_path)), "--report", str(tmp_path / "study.html"))
    page = (tmp_path / "study.html").read_text(encoding="utf-8")

    assert "&lt;b&gt;Ben&lt;/b&gt;" in page
    assert "<b>Ben</b>" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "The grey zone" in page
