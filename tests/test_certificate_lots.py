"""The promise over lots and time: a check by lot beside the certificate, an end of validity, renewal by a sample."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from gonogo import bundle as bundles
from gonogo.certification import recertify
from gonogo.certification.sampling import evaluate_sample, record_result, renew
from gonogo.cli import app
from gonogo.dataset import Dataset, catch_up
from gonogo.errors import InputError, UnfitError
from gonogo.inspector import Inspector
from gonogo.ledger import Ledger
from gonogo.ledger.sampling import schedule_sample
from gonogo.operating_point import Promise, allowed_errors, best_rate, clopper_pearson
from gonogo.operating_point.lots import (
    check_lots,
    clustered_bound,
    effective_parts,
    lot_correlation,
    to_record,
    worst_case_bound,
)
from gonogo.operating_point.rule import make_claim
from gonogo.report.qualification import examine_bundle
from gonogo.schema import Label
from gonogo.validity import Validity, read_validity, standing
from gonogo.workflow.collecting import CollectRules, collect_parts
from server_kit import record
from study_lots import MAX_ESCAPE, Scenario, draw
from tiny_bundle import make_bundle, make_parts

NOW = datetime(2026, 6, 1, tzinfo=UTC)


# Lots


def test_with_correlated_lots_the_certificate_fails_to_cover_and_both_checks_cover() -> None:
    rng, draws = np.random.default_rng(0), 300
    rates, by_correlation, worst, _ = np.array(
        [draw(Scenario(lots=10, size=20, correlation=0.6), rng) for _ in range(draws)]
    ).T
    assert clopper_pearson(int((rates <= MAX_ESCAPE).sum()), draws)[1] < 0.9
    assert (rates <= by_correlation).mean() >= 0.95
    assert (rates <= worst).mean() >= 0.95


def test_without_correlation_all_three_cover_and_nearly_nothing_is_lost() -> None:
    rng, draws = np.random.default_rng(1), 300
    rates, by_correlation, _, found = np.array(
        [draw(Scenario(lots=20, size=10, correlation=0.0), rng) for _ in range(draws)]
    ).T
    assert (rates <= MAX_ESCAPE).mean() > 0.92
    assert found.mean() < 0.05
    assert by_correlation.mean() < MAX_ESCAPE * 1.1


def test_the_correlation_found_is_the_one_that_was_drawn() -> None:
    rng = np.random.default_rng(2)
    lots = np.repeat(np.arange(300), 5)
    scores = np.sqrt(0.4) * rng.normal(size=300)[lots] + np.sqrt(0.6) * rng.normal(size=1500)
    assert lot_correlation(scores, lots) == pytest.approx(0.4, abs=0.06)
    assert lot_correlation(np.exp(scores), lots) == pytest.approx(lot_correlation(scores, lots))  # ranks alone count
    assert lot_correlation(rng.normal(size=8), np.arange(8)) == 0.0
    assert lot_correlation(np.ones(8), np.repeat([0, 1], 4)) == 0.0
    assert lot_correlation(np.array([np.inf, np.inf, 1.0, 2.0]), np.array([0, 0, 1, 1])) > 0.5


def test_the_bounds_end_in_the_exact_ones() -> None:
    assert effective_parts([1] * 50, 0.7) == 50
    assert effective_parts([10] * 5, 0.0) == 50
    assert effective_parts([10] * 50, 1.0) <= 50
    assert clustered_bound(1, 100, 100.0, 0.05) == pytest.approx(best_rate(100, 0.05, 1), abs=1e-6)
    assert worst_case_bound(0, 10, 0.05) == pytest.approx(1 - 0.05 ** (1 / 10), abs=1e-6)
    assert worst_case_bound(3, 3, 0.05) == worst_case_bound(4, 3, 0.05) == 1.0


def test_a_check_counts_parts_without_lot_as_one_and_warns_of_few_lots() -> None:
    rng = np.random.default_rng(3)
    claim = make_claim("escape", 100, 0.05, confidence=0.95)
    lots = [*(f"L{n // 20}" for n in range(80)), *[None] * 20]
    found = check_lots(claim, rng.normal(size=100), lots, delta=0.05)
    assert found is not None
    assert (found.lots, found.without_lot, found.few) == (5, 20, True)
    assert found.by_correlation >= claim.max_rate
    assert found.worst_case == pytest.approx(worst_case_bound(claim.allowed or 0, 5, 0.05))
    assert "5 lots" in found.warning()
    assert "20 parts name no lot" in found.sentence()
    assert found.sentence().startswith("Sensitivity to lots, bad parts: 100 parts from 5 lots")
    assert "escape instead of 5 %" in found.sentence()
    mirrored = replace(found, error="overkill")
    assert mirrored.sentence().startswith("Sensitivity to lots, good parts:")
    assert "are rejected instead of 5 %" in mirrored.sentence()
    assert ("The 100 bad" in found.warning(), "The 100 good" in mirrored.warning()) == (True, True)
    many = check_lots(claim, rng.normal(size=100), [f"L{n // 5}" for n in range(100)], delta=0.05)
    assert many is not None
    assert many.warning() == ""
    assert "parts from 20 lots. Their scores" in many.sentence(), "nothing of parts without a lot where there are none"
    named_none = check_lots(claim, rng.normal(size=100), [*["None"] * 50, *[None] * 50], delta=0.05)
    assert named_none is not None
    assert (named_none.lots, named_none.without_lot) == (2, 50)
    assert check_lots(claim, rng.normal(size=100), [None] * 100, delta=0.05) is None
    refused = make_claim("escape", 10, 0.05, confidence=0.95)
    assert check_lots(refused, rng.normal(size=10), ["a"] * 10, delta=0.05) is None
    with pytest.raises(InputError):
        check_lots(claim, rng.normal(size=99), lots, delta=0.05)
    assert allowed_errors(100, 0.05, 0.05) == claim.allowed


@pytest.mark.parametrize(
    ("scores", "lots"),
    [
        ([1.0, 2.0, 4.0, 3.0, 7.0, 9.0, 5.0], [0, 0, 0, 2, 2, 5, 5]),
        ([1.0, 2.0, 4.0, 3.0, 7.0, 9.0, 5.0], [0, 0, 0, 2, 3, 5, 5]),  # two lots of one part
        ([1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 2.0], [0, 0, 0, 2, 2, 5, 5]),  # equal scores: the normal ones have a mean
        ([3.0, 2.0, 3.0, 1.0, 3.0], [0, 1, 2, 3, 1]),  # a total variance below 1
    ],
)
def test_the_correlation_is_that_of_an_analysis_of_variance_of_normal_scores(
    scores: list[float], lots: list[int]
) -> None:
    parts = len(scores)
    normal = stats.norm.ppf((stats.rankdata(scores) - 0.5) / parts)
    groups = [normal[np.array(lots) == lot] for lot in sorted(set(lots))]
    between = sum(len(group) * (group.mean() - normal.mean()) ** 2 for group in groups) / (len(groups) - 1)
    within = sum(((group - group.mean()) ** 2).sum() for group in groups) / (parts - len(groups))
    size = (parts - sum(len(group) ** 2 for group in groups) / parts) / (len(groups) - 1)
    expected = (between - within) / (between + (size - 1) * within)

    assert 0.05 < expected < 1.0
    assert lot_correlation(np.array(scores), lots) == pytest.approx(expected)


def test_a_correlation_is_never_negative_and_infinite_scores_count_by_their_rank() -> None:
    assert lot_correlation(np.array([1.0, 4.0, 2.0, 3.0]), np.array([0, 0, 1, 1])) == 0.0, "never below"
    with np.errstate(all="raise"):  # nothing is divided by a number of lots that leaves no freedom
        assert lot_correlation(np.array([1.0, 2.0, 9.0, 8.0]), np.zeros(4, int)) == 0.0, "one lot"
        assert lot_correlation(np.array([1.0, 2.0, 9.0, 8.0]), np.arange(4)) == 0.0, "a lot for each part"
    assert lot_correlation(np.array([5.0, -np.inf, 9.0, np.inf]), np.array([0, 0, 1, 1])) == pytest.approx(
        lot_correlation(np.array([2.0, 1.0, 3.0, 4.0]), np.array([0, 0, 1, 1]))
    )


def test_correlated_parts_are_worth_as_many_as_the_design_effect_and_the_number_of_lots_leave() -> None:
    ratio = stats.t.ppf(0.95, 49) / stats.t.ppf(0.95, 4)
    assert effective_parts([10] * 5, 0.3) == pytest.approx(50 / (1 + 9 * 0.3) * ratio**2)
    ratio = stats.t.ppf(0.95, 39) / stats.t.ppf(0.95, 1)
    assert effective_parts([30, 10], 0.01) == pytest.approx(max(40 / (1 + 24 * 0.01) * ratio**2, 1.0))
    assert effective_parts([30, 10], 1.0) == 1.0
    assert effective_parts([20], 0.5) == pytest.approx(20 / (1 + 19 * 0.5))
    assert effective_parts([5, 5], -0.1) == 10


def test_a_bound_for_fewer_parts_is_that_of_clopper_and_pearson() -> None:
    assert clustered_bound(2, 100, 40.0, 0.05) == pytest.approx(stats.beta.ppf(0.95, 1.8, 39.2), rel=1e-6)
    assert clustered_bound(5, 5, 3.0, 0.05) == 1.0
    assert clustered_bound(1, 2, 2.0, 0.05) == pytest.approx(stats.beta.ppf(0.95, 2, 1), rel=1e-6)
    assert worst_case_bound(2, 10, 0.05) == pytest.approx(best_rate(10, 0.05, 2))


def test_a_check_never_says_less_than_the_certificate_and_its_record_is_rounded() -> None:
    claim = make_claim("escape", 200, 0.05, confidence=0.95)
    rng = np.random.default_rng(4)
    found = check_lots(claim, rng.normal(size=200), [f"L{n // 2}" for n in range(200)], delta=0.05)
    assert found is not None
    assert (found.error, found.max_rate, found.parts, found.lots, found.without_lot) == ("escape", 0.05, 200, 100, 0)
    assert found.by_correlation == max(0.05, clustered_bound(claim.allowed or 0, 200, found.worth, 0.05))
    assert found.by_correlation < found.worst_case
    lenient = replace(claim, max_rate=0.4)
    capped = check_lots(lenient, rng.normal(size=200), [f"L{n // 2}" for n in range(200)], delta=0.05)
    assert capped is not None
    assert (capped.by_correlation, capped.worst_case) == (0.4, 0.4)
    wide = replace(found, correlation=0.123456789)
    assert to_record(wide)["correlation"] == 0.123457
    assert to_record(wide)["sentence"] == wide.sentence()
    assert not replace(found, lots=10).few
    assert replace(found, lots=9).few
    with pytest.raises(InputError):
        check_lots(claim, rng.normal(size=100), ["L"] * 100, delta=0.05)


# One certified bundle for the rest


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Dataset]:
    root = tmp_path_factory.mktemp("lots")
    dataset = make_parts(root / "parts", np.random.default_rng(5))
    make_bundle(root / "tiny.inspector", dataset)
    recertify(Inspector.load(root / "tiny.inspector"), dataset, Promise(max_escape=0.1, max_overkill=0.1))
    return root / "tiny.inspector", dataset


@pytest.mark.slow
def test_a_certificate_states_its_lots_and_its_end_and_keeps_its_bound(made: tuple[Path, Dataset]) -> None:
    opened = bundles.read_bundle(made[0])
    evidence = json.loads(opened.data("evidence.json"))
    assert [each["error"] for each in evidence["lots"]] == ["escape", "overkill"]
    assert all(each["lots"] == 10 and each["max_rate"] == 0.1 for each in evidence["lots"])
    validity = read_validity(opened)
    assert validity is not None
    assert (validity.days, validity.parts) == (365.0, None)
    point = opened.manifest.operating_point
    assert point is not None
    assert point.escape.max_rate == 0.1
    findings = {each.what: each for each in examine_bundle(Inspector.load(made[0]), made[1]).findings}
    assert findings["Certificate still valid"].passed


def test_a_certificate_ends_after_its_days_and_its_parts_with_a_warning_before() -> None:
    year = Validity(certified_at=NOW, days=100)
    assert standing(year, now=NOW + timedelta(days=89)).sentence == ""
    assert "expires in 5 days" in standing(year, now=NOW + timedelta(days=95)).sentence
    assert standing(year, now=NOW + timedelta(days=100)).expired
    thousand = Validity(certified_at=NOW, parts=1000)
    assert standing(thousand, now=NOW, judged=899).sentence == ""
    assert "expires in 50 parts" in standing(thousand, now=NOW, judged=950).sentence
    assert standing(thousand, now=NOW, judged=1000).expired
    assert not standing(None, now=NOW, judged=10**9).expired
    assert not standing(Validity(certified_at=NOW, days=9e5), now=NOW).expired
    for wrong in ({"valid_days": 0.0}, {"valid_parts": 0}, {"valid_days": float("nan")}):
        with pytest.raises(InputError):
            Promise(**wrong)


def run(*words: object) -> tuple[int, str]:
    ended = CliRunner().invoke(app, [str(word) for word in words])
    return ended.exit_code, ended.output + (str(ended.exception) if ended.exception else "")


@pytest.mark.slow
def test_a_bundle_is_shown_with_its_promise_and_its_end(made: tuple[Path, Dataset]) -> None:
    code, said = run("bundle", "show", made[0])
    assert code == 0
    assert "At most 10 % of bad parts escape" in said
    assert "is valid until" in said
    assert json.loads(run("bundle", "show", made[0], "--json")[1])["expired"] is False


# Renewal by a random sample


@pytest.fixture
def sample(made: tuple[Path, Dataset], tmp_path: Path) -> tuple[Path, Path, Path]:
    """A copy of the bundle, a ledger with a sample of 60 parts, and the data set of its unlabelled pictures."""
    import shutil

    place = shutil.copytree(made[0], tmp_path / "tiny.inspector")
    judge, rng, ledger = Inspector.load(place), np.random.default_rng(6), tmp_path / "line.ledger"
    with Ledger.open(ledger) as opened:
        schedule_sample(opened, "q1", one_in=2, parts=60, most_bad=0.1, who="anna")
        for number in range(170):
            point = judge.operating_point
            assert point is not None
            red = 40.0 if number % 10 else 160.0
            limits = {"go_below": point.go_below, "no_go_above": point.no_go_above}
            record(opened, number, red, rng=rng, judge=judge, **limits)
    collect_parts([ledger], tmp_path / "q1", CollectRules(sample="q1"))
    return place, ledger, tmp_path / "q1"


def label(root: Path, ledger: Path, *, leave: int = 0, bad: int = 0) -> None:
    """Label all but the first ``leave`` goes; ``bad`` of the goes are bad."""
    with Ledger.open(ledger, read_only=True) as opened:
        go = {row.sha256 for row in opened.verdicts() if row.record.state == "go"}
    samples, passed = [], 0
    for each in Dataset.read(root).samples:
        went = (each.model_extra or {})["collected"]["row_sha256"] in go
        passed += went
        said = (Label.BAD if passed <= leave + bad else Label.GOOD) if went else Label.BAD
        samples.append(each.model_copy(update={"label": None if went and passed <= leave else said}))
    Dataset(root=root, samples=tuple(samples)).write()
    catch_up(root)


@pytest.mark.slow
def test_a_sample_without_escapes_renews_the_certificate(sample: tuple[Path, Path, Path]) -> None:
    place, ledger, root = sample
    label(root, ledger)
    code, said = run("certify", place, root, "--sample", "q1", "--ledger", ledger, "--valid-days", 90)
    assert code == 0, said
    assert "renewed by the sample q1" in said
    validity = read_validity(bundles.read_bundle(place))
    assert validity is not None
    assert (validity.days, validity.sample) == (90.0, "q1")
    with Ledger.open(ledger, read_only=True) as opened:
        found = [row.record for row in opened.actions()]
    assert [each.action for each in found] == ["sample_scheduled", "sample_evaluated"]
    assert found[-1].details["confirmed"] is True
    before, after = (bundles.read_bundle(path).manifest.operating_point for path in (place, place))
    assert before == after
    words = ("certify", place, root, "--sample", "q1", "--ledger", ledger, "--json")
    code, said = run(*words)  # the renewed bundle judged none
    assert code == 0, said
    assert json.loads(said)["validity"]["sample"] == "q1"


@pytest.mark.slow
def test_parts_without_a_label_count_against_the_promise(sample: tuple[Path, Path, Path]) -> None:
    place, ledger, root = sample
    label(root, ledger, leave=7)
    with Ledger.open(ledger) as opened:
        bundle = bundles.read_bundle(place)
        found = evaluate_sample(bundle, opened, Dataset.read(root), "q1")
        assert (found.unlabelled, found.accepted.errors, found.escape.errors) == (7, 7, 7)
        assert not found.confirmed
        assert "7 parts have no label" in found.refusals[0]
        record_result(bundle, opened, found, who="anna")
        label(root, ledger)  # labels that are added later are no second attempt
        assert evaluate_sample(bundle, opened, Dataset.read(root), "q1").confirmed
        label(root, ledger, bad=9)
        with pytest.raises(UnfitError, match="second attempt"):
            evaluate_sample(bundle, opened, Dataset.read(root), "q1")


@pytest.mark.slow
def test_escapes_refuse_the_renewal_and_a_changed_label_is_a_second_attempt(sample: tuple[Path, Path, Path]) -> None:
    place, ledger, root = sample
    label(root, ledger, bad=9)
    code, said = run("certify", place, root, "--sample", "q1", "--ledger", ledger)
    assert code != 0
    assert "not renewed" in said
    validity = read_validity(bundles.read_bundle(place))
    assert validity is not None
    assert validity.sample is None
    label(root, ledger)
    code, said = run("certify", place, root, "--sample", "q1", "--ledger", ledger)
    assert code != 0
    assert "second attempt" in said


@pytest.mark.slow
def test_a_sample_that_is_not_complete_and_a_part_removed_from_it_are_refused_or_counted(
    sample: tuple[Path, Path, Path],
) -> None:
    place, ledger, root = sample
    label(root, ledger)
    data = Dataset.read(root)
    bundle = bundles.read_bundle(place)
    with Ledger.open(ledger) as opened:
        fewer = replace(data, samples=data.samples[5:])
        assert evaluate_sample(bundle, opened, fewer, "q1").unlabelled == 5
        schedule_sample(opened, "q2", one_in=2, parts=10, most_bad=0.1, who="anna")
        with pytest.raises(UnfitError, match="0 of 10 parts are drawn"):
            evaluate_sample(bundle, opened, data, "q2")
    assert run("certify", place, root, "--sample", "q1")[0] != 0
    assert renew.__doc__
