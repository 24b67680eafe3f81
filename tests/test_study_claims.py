"""The study of "human level" and "less human review", on made-up judged parts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from claims_people import (
    PEOPLE,
    calls,
    contradiction,
    miss_chances,
    once_each,
    people_study,
    proven_from,
    second_reader,
)
from claims_plot import plot
from claims_sets import FAINT_BOARDS, Judged, Judgement, lowest, parts_of
from gonogo.dataset import Sample
from gonogo.msa import compare, read_study
from gonogo.schema import Label
from study_claims import beside_people, reviewed
from study_sets import Given


def parts(bad: int, good: int, *, overlap: float = 0.0, seed: int = 0, name: str = "P") -> tuple[Judged, ...]:
    """Parts with labels that are uncertain for every fifth, and scores that separate the classes but for an overlap."""
    rng, made = np.random.default_rng(seed), []
    for index in range(bad + good):
        is_bad = index < bad
        score = float(rng.random() + (1.0 - overlap if is_bad else 0.0))
        probability = (2 / 3 if is_bad else 1 / 3) if index % 5 == 0 else float(is_bad)
        state = "review" if 0.8 < score < 1.2 else "no_go" if score >= 1.2 else "go"
        size = 0.01 * (1 + index % 7) if is_bad else None
        made.append(
            Judged(part=f"{name}{index}", bad=is_bad, score=score, state=state, probability=probability, size=size)
        )
    return tuple(made)


def judgement(seed: int = 0, *, overlap: float = 0.0) -> Judgement:
    return Judgement(
        calibrate=parts(60, 60, overlap=overlap, seed=seed + 100, name="C"),
        test=parts(200, 200, overlap=overlap, seed=seed),
        max_escape=0.05,
        max_overkill=0.05,
        certified=True,
    )


def test_a_judgement_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = judgement()
    made.write(tmp_path / "one.json")

    assert Judgement.read(tmp_path / "one.json") == made


@pytest.mark.parametrize(("count", "rate"), [(59, 0.05), (1000, 0.05), (58, 0.051), (18, 0.154), (0, 0.999)])
def test_the_lowest_rate_follows_from_the_number_of_parts_alone(count: int, rate: float) -> None:
    assert lowest(count) == pytest.approx(rate)


def test_pictures_of_one_part_count_once_and_a_bad_one_makes_it_bad() -> None:
    def picture(name: str, label: Label, group: int | None, part: str | None = None) -> Sample:
        return Sample(file_name=name, label=label, group=group, part=part)

    pictures = [
        picture("a.png", Label.GOOD, 1),
        picture("b.png", Label.BAD, 1),
        picture("c.png", Label.GOOD, None, "C"),
        picture("d.png", Label.GOOD, None, "C"),
        picture("e.png", Label.BAD, 2),
    ]

    assert (parts_of(pictures, Label.BAD), parts_of(pictures, Label.GOOD)) == (2, 1)


def test_every_part_counts_once_though_several_splits_judged_it() -> None:
    both = [judgement(0), judgement(1)]

    assert once_each(both) == list(both[0].test)


def test_the_second_reader_contradicts_one_uncertain_label_in_three() -> None:
    assert [contradiction(p) for p in (0.0, 1 / 3, 2 / 3, 1.0)] == pytest.approx([0, 1 / 3, 1 / 3, 0])


def test_the_inspector_gets_the_false_alarms_of_the_reader_and_a_fault_is_a_call() -> None:
    made = judgement(overlap=0.5)
    called = calls(made, 0.1)
    good = [part for part in made.calibrate if not part.bad]

    assert 0.0 < np.mean([called[part.part] for part in made.test if not part.bad]) < 0.25
    assert sum((part.score or 0.0) > sorted(each.score or 0.0 for each in good)[54] for part in good) == 5
    faulty = Judgement(
        calibrate=made.calibrate,
        test=(Judged(part="F", bad=False, score=None, state="fault"),),
        max_escape=0.05,
        max_overkill=0.05,
        certified=True,
    )
    assert calls(faulty, 0.1) == {"F": True}


def test_a_perfect_inspector_beats_the_second_reader_and_a_poor_one_does_not() -> None:
    perfect, poor = (second_reader([judgement(overlap=overlap)])["missed"] for overlap in (0.0, 0.9))

    assert perfect["reader"] == pytest.approx(1 / 15)
    assert perfect["alone"]["rate"] == 0.0
    assert perfect["alone"]["high"] < 0.0
    assert perfect["even_if_certain_contradicted"] == 0.0
    assert poor["alone"]["low"] > 0.0
    assert poor["even_if_certain_contradicted"] > 0.5


def test_the_second_reader_decides_what_the_inspector_sends_to_review() -> None:
    def cell(state: str, probability: float, number: int) -> Judged:
        return Judged(part=f"{state}{number}", bad=True, score=1.0, state=state, probability=probability)

    cells = [cell(state, 2 / 3, number) for state in ("go", "review", "no_go", "fault") for number in range(2)]
    good = Judged(part="G", bad=False, score=0.0, state="go", probability=1 / 3)
    made = Judgement(calibrate=(good,), test=(*cells, good), max_escape=0.05, max_overkill=0.05, certified=True)
    found = second_reader([made])["missed"]

    assert found["reader"] == pytest.approx(1 / 3)
    assert found["together"]["rate"] == pytest.approx((1 + 1 / 3 + 0 + 1 / 3) / 4)


def test_model_inspectors_miss_as_often_as_assumed_and_small_defects_more_often() -> None:
    sizes = np.geomspace(0.001, 0.1, 50)
    chances = miss_chances(sizes, 0.2)

    assert chances.mean() == pytest.approx(0.2)
    assert (np.diff(chances) < 0).all()


def test_the_study_of_model_inspectors_is_read_by_the_program(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(people_study(parts(400, 400)), encoding="utf-8")
    study = read_study(path)
    people = {one.person: one for one in compare(study, "gonogo").comparisons}

    assert study.appraisers == (*PEOPLE, "gonogo")
    for name, misses in PEOPLE.items():
        assert people[name].misses.person == pytest.approx(misses, abs=0.05)
        assert people[name].false_alarms.person == pytest.approx(0.05, abs=0.03)


def test_a_person_is_proven_worse_from_a_rate_that_falls_with_the_number_of_parts() -> None:
    few, many = (proven_from(np.zeros(count, bool)) for count in (20, 400))

    assert few is not None
    assert many is not None
    assert (few, many) == (pytest.approx(6 / 20), pytest.approx(6 / 400))  # six misses
    assert proven_from(np.ones(10, bool)) is None


def test_review_rates_are_weighted_for_a_line_and_count_broken_limits() -> None:
    found = reviewed("boards", [judgement(seed) for seed in range(3)])
    broken = reviewed("boards", [judgement(seed, overlap=0.5) for seed in range(3)])
    mean, low, high = found["seen"]

    assert low <= mean <= high
    assert found["seen_on_line"][0] == pytest.approx(
        0.99 * found["seen_good"][0] + 0.01 * found["seen_bad"][0], abs=1e-3
    )
    assert (found["splits_that_contradict_the_limit"], broken["splits_that_contradict_the_limit"]) == (0, 3)
    assert found["bad_missing_for_5_percent"] == 0


def test_one_split_has_a_review_rate_too(tmp_path: Path) -> None:
    found = reviewed("boards", [judgement()])
    given = Given(out=tmp_path, data=None, quick=True)
    beside = beside_people(given, FAINT_BOARDS, [judgement()])

    assert found["seen"][1] < found["seen"][0] < found["seen"][2]
    assert [one["name"] for one in beside["people"]] == [*PEOPLE, "everyone"]
    assert (tmp_path / "claims" / "faint-boards-people-quick.csv").is_file()
    assert plot({"faint boards": found}).count("<rect") == 5
