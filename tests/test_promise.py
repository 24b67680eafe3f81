"""What is promised where nobody asked for a limit, what is not given up silently, and the way back."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import bundle
from gonogo import operating_point as points
from gonogo.certification import EVIDENCE, certify_judged, recertify, recount, restore
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.drift import read_reference as read_drift
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import Evaluation, auroc, auroc_interval
from gonogo.inspector import Inspector
from gonogo.operating_point import (
    Costs,
    Promise,
    certified_point,
    describe_point,
    losses,
    missing_for_default,
    rate_by_counts,
)
from gonogo.operating_point.rule import make_claim
from gonogo.report import phrases
from gonogo.schema import Label, OperatingPoint, Prediction, State
from gonogo.workflow import TrainingOptions
from guarantee.simulate import SCENARIOS, simulate
from tiny_bundle import make_bundle, make_parts


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    folder = tmp_path_factory.mktemp("promise")
    dataset = make_parts(folder / "parts", np.random.default_rng(3))
    make_bundle(folder / "tiny.inspector", dataset)
    return folder / "tiny.inspector", dataset


@pytest.fixture
def gauge(made: tuple[Path, Dataset], tmp_path: Path) -> Path:
    shutil.copytree(made[0], tmp_path / "tiny.inspector")
    return tmp_path / "tiny.inspector"


def run(*arguments: str | Path) -> object:
    return CliRunner().invoke(app, [str(each) for each in arguments])


# One default everywhere


def test_training_operate_and_the_pages_ask_for_the_same_where_nobody_says_otherwise() -> None:
    asked, trained = Promise(), TrainingOptions().promise
    assert isinstance(asked, Promise)
    assert {field.name: getattr(asked, field.name) for field in fields(Promise)} == {
        field.name: getattr(trained, field.name) for field in fields(Promise)
    }
    assert not asked.joint
    assert asked.limits(good_parts=59, bad_parts=59) == (0.05, 0.05)


@pytest.mark.parametrize(
    ("parts", "rate"),
    [(1000, 0.05), (59, 0.05), (58, 0.0504), (45, 0.0645), (19, 0.1459), (18, 0.05), (0, 0.05)],
)
def test_a_limit_that_nobody_asked_for_follows_from_the_number_of_parts_alone(parts: int, rate: float) -> None:
    assert rate_by_counts(parts, 0.05) == rate
    claim = certified_point(np.zeros(100), np.zeros(parts), max_escape=rate, max_overkill=0.05, confidence=0.95).escape
    assert claim.holds is (parts >= 19)


def test_a_rate_by_counts_is_said_as_plainly_as_a_refusal() -> None:
    rng = np.random.default_rng(1)
    point = certified_point(
        rng.normal(0, 1, 400), rng.normal(4, 1, 45), max_escape=0.0645, max_overkill=0.05, confidence=0.95
    )
    escape, overkill = describe_point(point)
    assert "At most 6.45 % of bad parts escape" in escape
    assert "No limit was requested" in escape
    assert "5 % requires 14 more bad parts" in escape
    assert "No limit was requested" not in overkill


def test_limits_that_are_asked_for_are_kept_and_the_rest_follow_from_the_counts() -> None:
    assert Promise(max_escape=0.01).limits(good_parts=45, bad_parts=45) == (0.01, 0.0645)
    assert Promise(max_overkill=0.01).limits(good_parts=45, bad_parts=45) == (0.0645, 0.01)
    assert Promise(joint=True).limits(good_parts=59, bad_parts=100) == (rate_by_counts(59, 0.025), 0.05)[::-1]
    assert Promise(confidence=0.9).limits(good_parts=45, bad_parts=30) == (rate_by_counts(30, 0.1), 0.05)
    free = Costs(escape=0, overkill=0, review=0)
    assert Promise(costs=free).limits(good_parts=5, bad_parts=5) == (0.3, 0.3)
    assert Promise(costs=free, max_escape=0.1, max_overkill=0.2).limits(good_parts=5, bad_parts=5) == (0.1, 0.2)
    assert rate_by_counts(18, 0.0537) == 0.15, "the largest rate that counts may set"


def test_costs_and_ends_of_a_certificate_that_mean_nothing_are_refused() -> None:
    for wrong in (-0.1, math.inf, math.nan):
        for name in ("escape", "overkill", "review"):
            with pytest.raises(InputError, match=f"cost of {name}"):
                Costs(**{"escape": 1, "overkill": 1, "review": 1, name: wrong})
    for days in (0.0, -1.0, 1e6, math.inf):
        with pytest.raises(InputError, match="valid_days"):
            Promise(valid_days=days)
    with pytest.raises(InputError, match="valid_parts"):
        Promise(valid_parts=0)
    assert Promise(valid_days=None, valid_parts=1).valid_parts == 1
    assert Promise(valid_days=0.5).valid_days == 0.5


def test_how_many_parts_are_missing_for_the_default_is_said_only_of_a_limit_set_by_counts() -> None:
    def missing(parts: int, rate: float, *, joint: bool = False) -> int:
        return missing_for_default(make_claim("escape", parts, rate, confidence=0.95, joint=joint), joint=joint)

    assert missing(45, 0.0645) == 14
    assert missing(45, 0.07) == 0, "asked for"
    assert missing(59, 0.05) == 0
    assert missing(45, 0.05) == 0, "not certified"
    assert missing(45, rate_by_counts(45, 0.025), joint=True) == 72 - 45


def judged(good: list[float | None], bad: list[float | None]) -> Evaluation:
    rows = [
        Prediction(
            file=f"{label}-{number}",
            part=f"{label}-{number}",
            label=label,
            defect=None,
            state=State.FAULT if score is None else State.REVIEW,
            score=score,
        )
        for label, scores in ((Label.GOOD, good), (Label.BAD, bad))
        for number, score in enumerate(scores)
    ]
    return Evaluation(
        pictures=tuple(rows),
        faults=(),
        timings_ms={},
        splits=(Split.CALIBRATE,),
        unlabelled=0,
        data_fingerprint="",
        bundle_sha256="",
        operating_point=None,
    )


def test_parts_that_could_not_be_judged_stay_in_the_count() -> None:
    good: list[float | None] = [float(number) for number in range(-60, 0)]
    bad: list[float | None] = [float(number) for number in range(1, 60)]
    bad[3] = None  # 59 parts, 58 scores
    point = certify_judged(judged(good, bad), Promise())
    assert (point.escape.parts, point.escape.max_rate) == (59, 0.05)
    good[5] = None
    assert certify_judged(judged(good, bad), Promise()).overkill.parts == 60


def test_a_bad_part_of_which_a_picture_faulted_is_never_go_and_a_good_one_is_rejected_by_what_was_judged() -> None:
    def row(label: Label, score: float | None, state: State) -> Prediction:
        return Prediction(file="", part=str(label), label=label, defect=None, state=state, score=score)

    rows = judged([], [])
    both = (None, State.FAULT), (3.0, State.NO_GO)
    for label, expected in ((Label.BAD, math.inf), (Label.GOOD, 3.0)):
        pictures = tuple(row(label, score, state) for score, state in both)
        found = Evaluation(**{**vars(rows), "pictures": pictures}).calibration_scores(label)
        assert found.tolist() == [expected]


@pytest.mark.slow
def test_the_rule_keeps_its_promise_at_the_limit_that_the_counts_give() -> None:
    scenario = next(each for each in SCENARIOS if each.name == "45 bad parts, limit by counts")
    assert scenario.max_escape == 0.0645
    found = simulate(scenario, draws=1500, rng=np.random.default_rng(7))
    assert not found.refuted
    assert 0.02 < found.violations / found.draws < 0.07, "it is used up, not wasted"


# Nothing is switched off silently


@pytest.mark.slow
def test_operate_does_not_switch_off_what_training_certified(gauge: Path, made: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.05, max_overkill=0.05))
    before = bundle.read_bundle(gauge)
    result = run("certify", gauge, made[1].root)
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    after = bundle.read_bundle(gauge).manifest.operating_point
    assert after is not None
    assert before.manifest.operating_point == after


@pytest.mark.slow
def test_a_promise_in_force_is_given_up_only_with_force(gauge: Path, made: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(gauge), made[1], Promise())
    before = bundle.read_bundle(gauge).sha256
    refused = run("certify", gauge, made[1].root, "--max-escape", "0.001")
    assert isinstance(refused.exception, UnfitError)  # type: ignore[attr-defined]
    for text in ("Now: at most 5 % of bad parts escape. Then: no promise", "was not changed", "--force"):
        assert text in str(refused.exception)  # type: ignore[attr-defined]
    assert bundle.read_bundle(gauge).sha256 == before
    forced = run("certify", gauge, made[1].root, "--max-escape", "0.001", "--force")
    assert "every part goes to review" in str(forced.exception)  # type: ignore[attr-defined]
    assert bundle.read_bundle(gauge).sha256 != before


@pytest.mark.slow
def test_a_limit_is_not_loosened_unless_somebody_asks_for_that_very_limit(
    gauge: Path, made: tuple[Path, Dataset]
) -> None:
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.03, joint=False))
    with pytest.raises(UnfitError, match=r"Now: at most 3 % of bad parts escape\. Then: at most 5 %"):
        recertify(Inspector.load(gauge), made[1], Promise())
    found = recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.04))
    assert any("The new promise is weaker. Now: at most 3 %" in warning for warning in found.warnings)
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.05, joint=True))
    with pytest.raises(UnfitError, match="--joint"):
        recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.05))
    with pytest.raises(UnfitError, match="90 %"):
        recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.05, joint=True, confidence=0.9))


@pytest.mark.slow
def test_the_promise_of_each_kind_is_not_dropped_silently(gauge: Path, made: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.1, per_kind=True))
    with pytest.raises(UnfitError, match="--per-kind"):
        recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.1))


@pytest.mark.slow
def test_an_earlier_revision_is_restored_with_the_files_that_belonged_to_it(
    gauge: Path, made: tuple[Path, Dataset]
) -> None:
    first = recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.05, guard=0.1))
    evidence, golden = (gauge / EVIDENCE).read_bytes(), frames(gauge)
    second = recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.1, guard=None))
    assert read_drift(gauge).guard is None  # type: ignore[union-attr]
    listed = json.loads(run("certify", gauge, "--revisions", "--json").stdout)["revisions"]  # type: ignore[attr-defined]
    assert [row["bundle_sha256"] for row in listed] == [first.bundle.sha256, second.bundle.sha256]
    assert [row["replaced"] is None for row in listed] == [False, True]
    result = run("certify", gauge, "--restore", "1")
    assert result.exit_code == 0, result.output  # type: ignore[attr-defined]
    assert "Revision 1 is in force again, as revision 3." in result.stdout  # type: ignore[attr-defined]
    manifest = Inspector.load(gauge).bundle.manifest
    assert manifest.operating_point == first.point
    assert (gauge / EVIDENCE).read_bytes() == evidence
    assert frames(gauge) == golden
    found = recount(Inspector.load(gauge), made[1])
    assert found is not None
    assert (found.thresholds, found.scores) == ((), ())
    assert read_drift(gauge).guard == first.reference.guard  # type: ignore[union-attr]
    assert len(manifest.revisions) == 2
    restore(bundle.read_bundle(gauge), 2)
    assert bundle.read_bundle(gauge).manifest.operating_point == second.point
    assert {each.file for each in bundle.read_bundle(gauge).manifest.golden} == frames(gauge).keys()


def frames(gauge: Path) -> dict[str, bytes]:
    return {path.relative_to(gauge).as_posix(): path.read_bytes() for path in (gauge / bundle.GOLDEN).iterdir()}


@pytest.mark.slow
def test_restoring_a_revision_that_promises_nothing_takes_force(gauge: Path, made: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.001))
    recertify(Inspector.load(gauge), made[1], Promise())
    assert isinstance(run("certify", gauge, "--restore", "1").exception, UnfitError)  # type: ignore[attr-defined]
    assert run("certify", gauge, "--restore", "1", "--force").exit_code == 0  # type: ignore[attr-defined]
    for number in ("0", "3", "-1"):
        assert isinstance(run("certify", gauge, "--restore", number).exception, InputError)  # type: ignore[attr-defined]
    assert isinstance(run("certify", gauge).exception, InputError)  # type: ignore[attr-defined]


# Nothing vacuous


def point_of(escape: bool, overkill: bool) -> OperatingPoint:
    rng = np.random.default_rng(2)
    good, bad = rng.normal(0, 1, 100 if overkill else 10), rng.normal(5, 1, 100 if escape else 10)
    return certified_point(good, bad, max_escape=0.05, max_overkill=0.05, confidence=0.95)


def test_nothing_is_said_of_rejected_parts_where_no_part_can_be_rejected() -> None:
    refused = point_of(escape=False, overkill=True)
    assert refused.overkill.holds
    assert refused.no_go_above == math.inf
    assert "No part is rejected automatically" in describe_point(refused)[1]
    assert "At most 5 % of good parts" in describe_point(point_of(escape=True, overkill=True))[1]


def test_a_vacuous_promise_is_no_loss() -> None:
    empty, full = point_of(escape=False, overkill=True), point_of(escape=True, overkill=True)
    assert losses(empty, full) == []
    assert [loss.about for loss in losses(full, empty)] == ["escape", "overkill"]
    assert all(loss.gone for loss in losses(full, empty))
    assert losses(None, empty) == []


def test_a_promise_about_good_parts_alone_is_a_loss_too() -> None:
    silent = point_of(escape=False, overkill=True)
    rejecting = replace(silent, no_go_above=3.0)
    assert [(loss.about, loss.gone) for loss in losses(rejecting, silent)] == [("overkill", True)]


def test_each_promise_that_becomes_weaker_is_a_loss_of_its_own() -> None:
    def point(**options: object) -> OperatingPoint:
        rng = np.random.default_rng(2)
        asked = {"max_escape": 0.05, "max_overkill": 0.05, "confidence": 0.95, **options}
        return certified_point(rng.normal(0, 1, 200), rng.normal(5, 1, 200), **asked)

    def lost(before: OperatingPoint, after: OperatingPoint) -> list[tuple[str, bool, str]]:
        return [(each.about, each.gone, each.sentence) for each in losses(before, after)]

    assert lost(point(), point()) == lost(point(), point(joint=True)) == []
    assert lost(point(), point(max_escape=0.04, max_overkill=0.04, confidence=0.99)) == []
    assert lost(point(), point(max_escape=0.1)) == [
        ("escape", False, "Now: at most 5 % of bad parts escape. Then: at most 10 %.")
    ]
    assert lost(point(), point(max_overkill=0.1)) == [
        ("overkill", False, "Now: at most 5 % of good parts are rejected. Then: at most 10 %.")
    ]
    assert lost(point(), point(confidence=0.9)) == [
        ("confidence", False, f"Now: at most 5 % of {what}, with 95 % confidence. Then: 90 %.")
        for what in ("bad parts escape", "good parts are rejected")
    ]
    assert lost(point(joint=True), point()) == [
        ("confidence", False, "Now: both limits hold jointly. Then: separately (pass --joint to keep them joint).")
    ]
    for name in ("max_escape", "max_overkill"):
        half = point(joint=True, **{name: 0.001})
        assert lost(half, replace(half, joint=False)) == [], "one limit alone is not joint"
    silent = replace(point(), go_below=-math.inf, no_go_above=math.inf)
    assert [each[:2] for each in lost(point(), silent)] == [("escape", True), ("overkill", True)]


def test_a_point_is_described_by_what_it_promises_and_by_what_is_missing() -> None:
    def sentences(good: int, bad: int, **options: object) -> tuple[str, str]:
        rng = np.random.default_rng(2)
        asked = {"max_escape": 0.05, "max_overkill": 0.05, "confidence": 0.95, **options}
        return describe_point(certified_point(rng.normal(0, 1, good), rng.normal(5, 1, bad), **asked))

    escape, overkill = sentences(100, 0)
    assert escape.startswith(
        "Nothing is known about escapes: the calibrate split has no bad parts. Of independent bad "
    )
    assert overkill.startswith("No part is rejected automatically. With --reject: at most 5 % of good parts would")
    escape, _ = sentences(100, 0, go_without_promise=True)
    assert escape.startswith("Go without a promise: nothing is known about escapes. Of independent bad parts")
    escape, _ = sentences(100, 10, go_without_promise=True)
    assert escape.startswith("Go without a promise: 10 bad calibration parts cannot certify an escape limit. That at ")
    assert "72 would certify that at most 5 %" not in escape
    assert "would certify that at most 15 %" in escape
    assert "23 would certify" in sentences(100, 10, joint=True)[0]
    rng = np.random.default_rng(2)
    point = certified_point(
        rng.normal(0, 1, 100), rng.normal(5, 1, 100), max_escape=0.05, max_overkill=0.05, confidence=0.95
    )
    nothing = describe_point(replace(point, go_below=-math.inf, no_go_above=math.inf))
    assert nothing[0].startswith("No part is passed automatically")
    assert nothing[1].endswith("Certify an escape limit first.")
    counted = certified_point(
        rng.normal(0, 1, 45), rng.normal(5, 1, 100), max_escape=0.05, max_overkill=0.0645, confidence=0.95
    )
    assert describe_point(counted)[1].endswith("5 % requires 14 more good parts in the calibrate split.")


@pytest.mark.slow
def test_the_model_card_says_nothing_of_infinite_thresholds(gauge: Path, made: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(gauge), made[1], Promise(max_escape=0.001))
    card = (gauge / bundle.MODEL_CARD).read_text()
    assert "inf" not in card.split("## Facts")[0].replace("information", "")
    assert "No thresholds yet: every part goes to review." in card
    assert "No part is rejected automatically" in card
    assert points.vacuous(
        bundle.read_bundle(gauge).manifest.operating_point, bundle.read_bundle(gauge).manifest.operating_point.overkill
    )  # type: ignore[arg-type, union-attr]


def test_a_report_names_the_one_figure_that_is_the_promise() -> None:
    rows = judged([float(number) for number in range(-20, 0)], [float(number) for number in range(5, 23)])
    rng = np.random.default_rng(3)
    point = certified_point(
        rng.normal(-5, 1, 100), rng.normal(12, 1, 100), max_escape=0.05, max_overkill=0.05, confidence=0.95
    )
    told = phrases.which_is_the_promise(Evaluation(**{**vars(rows), "operating_point": point})).replace(
        phrases.SPACE, " "
    )
    for text in ("The promise is one figure: at most 5 %", "15.4 % (one-sided)", "0 % to 18.5 % (two-sided"):
        assert text in told
    refused = point_of(escape=False, overkill=True)
    told = phrases.which_is_the_promise(Evaluation(**{**vars(rows), "operating_point": refused}))
    assert told.startswith("Nothing is promised about bad parts.")
    assert "No part is rejected automatically" in phrases.promise(refused.overkill, refused)


def test_one_good_and_one_bad_part_show_next_to_nothing_of_how_well_they_are_told_apart() -> None:
    assert auroc_interval(1.0, 1, 1) == pytest.approx((0.025, 1.0))
    assert auroc_interval(0.0, 1, 1) == pytest.approx((0.0, 0.975))
    low, high = auroc_interval(0.9, 400, 100)
    assert 0.75 < low < 0.85
    assert 0.94 < high < 0.98
    assert auroc_interval(0.5, 0, 0) == (0.0, 1.0)
    told = phrases.tells_apart(1.0, 1, 1).replace(phrases.SPACE, " ")
    assert told == "100 % (2.5 % to 100 %)"


def test_the_interval_of_the_area_holds_the_true_one_in_at_least_as_many_draws_as_it_says() -> None:
    rng, missed = np.random.default_rng(5), 0
    true = 0.760_250_013_4  # of two normal distributions one standard deviation apart
    for _ in range(400):
        good, bad = rng.normal(0, 1, 12), rng.normal(1, 1, 7)
        low, high = auroc_interval(auroc(good, bad) or 0.0, 12, 7)
        missed += not low <= true <= high
    assert missed <= 20
