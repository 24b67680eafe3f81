"""People beside an inspector on the same parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from gonogo.errors import InputError
from gonogo.msa import compare, paired_difference
from gonogo.msa.paired import mcnemar, newcombe
from test_gauge import HEADER, a_file, a_study, run

GO, BAD, REVIEW = 0, 1, 2


def pairs(both: int, only_person: int, only_inspector: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors of a person and an inspector with these counts of pairs."""
    counts = [both, only_person, only_inspector, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def test_the_published_example_of_paired_proportions_is_met() -> None:
    # Airway hyper-responsiveness before and after a transplantation, 21 children (Fagerland, Lydersen and Laake,
    # Statistics in Medicine 33, 2014, 2850-2875): Newcombe's interval -0.507 to -0.026, exact McNemar p = 0.070.
    found = paired_difference(*pairs(1, 7, 1, 12))

    assert found.value == pytest.approx(-6 / 21)
    assert (found.low, found.high) == (pytest.approx(-0.507, abs=5e-4), pytest.approx(-0.026, abs=5e-4))
    assert found.p_value == pytest.approx(0.0703, abs=5e-5)
    assert found.finding == "unproven"  # the interval excludes 0, the exact test does not


@pytest.mark.parametrize(("first", "second"), [(0, 0), (5, 5), (1, 7), (12, 3), (0, 6), (90, 130), (3, 2000)])
def test_mcnemars_test_is_a_two_sided_binomial_test_of_the_discordant_pairs(first: int, second: int) -> None:
    pairs = first + second

    assert mcnemar(first, second) == pytest.approx(stats.binomtest(first, pairs).pvalue if pairs else 1.0)


def test_the_interval_turns_with_the_roles() -> None:
    person, inspector = pairs(3, 9, 2, 40)
    forth, back = paired_difference(person, inspector), paired_difference(inspector, person)

    assert (forth.low, forth.high) == (pytest.approx(-back.high), pytest.approx(-back.low))
    assert forth.p_value == back.p_value


def test_people_without_any_error_prove_little_on_few_parts() -> None:
    found = paired_difference(*pairs(0, 0, 0, 10))

    assert (found.value, found.p_value) == (0.0, 1.0)
    assert found.low < -0.2
    assert found.high > 0.2


def test_repeats_that_say_the_same_bring_nothing() -> None:
    person, inspector = pairs(3, 9, 2, 40)
    once = newcombe(inspector.astype(float), person.astype(float))
    thrice = paired_difference(np.stack([person] * 3), np.stack([inspector] * 3))

    assert (thrice.low, thrice.high) == pytest.approx(once)
    assert thrice.p_value is None


@pytest.mark.parametrize(("parts", "people"), [(40, 1), (40, 4), (100, 4)])
def test_the_interval_covers_the_true_difference_about_as_often_as_it_says(parts: int, people: int) -> None:
    rng, covered = np.random.default_rng(parts + people), 0
    for _ in range(400):
        hard = rng.random(parts) < 0.25  # people miss 4 of 10 hard parts, the inspector 3; hardly any of the others
        person = rng.random((people, parts)) < np.where(hard, 0.4, 0.02)
        inspector = np.broadcast_to(rng.random(parts) < np.where(hard, 0.3, 0.02), person.shape)
        found = paired_difference(person, inspector)
        covered += found.low <= -0.025 <= found.high

    assert covered / 400 >= 0.93


def test_a_person_decides_what_the_inspector_sends_to_review() -> None:
    reference = [BAD, BAD, BAD, GO, GO]
    study = a_study([[[GO, BAD, GO, BAD, GO]], [[REVIEW, REVIEW, BAD, REVIEW, BAD]]], reference)
    paired = compare(study, "B")
    (one,) = paired.comparisons

    assert paired.reviewed == pytest.approx(0.6)
    assert (one.misses.person, one.misses.inspector) == (pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (one.false_alarms.person, one.false_alarms.inspector) == (0.5, 1.0)
    assert (one.misses.only_person, one.misses.only_inspector) == (1, 0)


def test_an_inspector_that_reviews_everything_is_as_good_as_the_person() -> None:
    reference = np.arange(40) % 2
    person = np.where(np.arange(40) % 5 == 0, 1 - reference, reference)
    (one,) = compare(a_study([[person], [[REVIEW] * 40]], reference), "B").comparisons

    assert one.misses.value == one.false_alarms.value == 0.0
    assert one.misses.finding == "unproven"


def test_several_people_are_compared_one_by_one_and_together() -> None:
    rng, reference = np.random.default_rng(3), np.arange(200) % 2
    people = (reference + (rng.random((3, 1, 200)) < 0.2)) % 2
    found = compare(a_study(np.concatenate([people, reference[None, None]]), reference), "D")

    assert [one.person for one in found.comparisons] == ["A", "B", "C", "everyone"]
    together = found.comparisons[-1].misses
    assert together.person == pytest.approx(np.mean([one.misses.person for one in found.comparisons[:3]]))
    assert together.high - together.low < found.comparisons[0].misses.high - found.comparisons[0].misses.low
    assert together.finding == "fewer"


def test_a_study_without_good_parts_has_no_false_alarms_to_compare() -> None:
    (one,) = compare(a_study([[[BAD, GO]], [[BAD, BAD]]], [BAD, BAD]), "B").comparisons

    assert one.false_alarms.value is None
    assert one.false_alarms.finding == "unproven"


def test_an_inspector_must_be_in_the_study_and_not_alone() -> None:
    alone = a_study([[[GO, BAD]]], [GO, BAD])

    with pytest.raises(InputError, match="expected an appraiser of the study, found A"):
        compare(alone, "inspector")
    with pytest.raises(InputError, match="expected people beside it"):
        compare(alone, "A")


def a_beside_file(folder: Path) -> Path:
    lines = []
    for part in range(60):
        label = "bad" if part % 2 else "good"
        wrong = "good" if part % 2 else "bad"
        lines += [f"{who},1,P{part},{wrong if part % 6 == 1 else label},{label}" for who in ("<b>Ana</b>", "Ben")]
        lines.append(f"line 1,1,P{part},{'review' if part % 10 == 1 else label},{label}")
    return a_file(folder, *lines, header=HEADER)


def test_the_command_compares_people_with_the_inspector(tmp_path: Path) -> None:
    study = str(a_beside_file(tmp_path))
    page = tmp_path / "study.html"
    found = json.loads(run(study, "--inspector", "line 1", "--report", str(page), "--json"))["beside_inspector"]
    text, html = run(study, "--inspector", "line 1"), page.read_text("utf-8")

    assert [one["name"] for one in found["people"]] == ["<b>Ana</b>", "Ben", "everyone"]
    assert found["review_rate"] == pytest.approx(0.1)
    assert found["people"][1]["misses"]["only_person"] == 8
    assert found["people"][1]["misses"]["p_value"] == pytest.approx(2 / 2**8)
    assert "Ben, missed: alone 33.3%, with line 1 6.7%" in text
    assert "line 1 errs less often" in text
    assert "People beside line 1" in html
    assert "&lt;b&gt;Ana" in html
    assert "<b>Ana" not in html


def test_without_an_inspector_nobody_is_compared(tmp_path: Path) -> None:
    study, page = str(a_beside_file(tmp_path)), tmp_path / "study.html"

    assert json.loads(run(study, "--report", str(page), "--json"))["beside_inspector"] is None
    assert "People beside" not in page.read_text("utf-8")
