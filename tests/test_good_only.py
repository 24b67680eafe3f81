"""Training, certifying and judging where there is no bad part at all."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import bundle as bundles
from gonogo import operating_point as points
from gonogo.certification import recertify, recount
from gonogo.cli import app
from gonogo.dataset import Dataset, Split
from gonogo.dataset.judged import judged_before
from gonogo.errors import InputError, UnfitError
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.model_card import model_card
from gonogo.operating_point import Promise, describe_point
from gonogo.report import phrases
from gonogo.report.page import write_report
from gonogo.report.qualification import examine_bundle
from gonogo.schema import Label, OperatingPoint, State
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.quantizing import quantize_bundle
from tiny_bundle import make_bundle, make_parts

SAID = "go without a promise: nothing is known about escapes"


def good_only(dataset: Dataset, root: Path) -> Dataset:
    shutil.copytree(dataset.root, root)
    left = Dataset(root=root, samples=tuple(each for each in dataset.samples if each.label is Label.GOOD))
    left.write()
    (root / "judged.jsonl").unlink(missing_ok=True)
    return Dataset.read(root)


def certified(good: int = 100, bad: tuple[float, ...] = (), **asked: bool) -> OperatingPoint:
    scores = np.arange(good, dtype=float)
    return points.certified_point(scores, np.array(bad), max_escape=0.05, max_overkill=0.05, confidence=0.95, **asked)


@pytest.fixture
def tiny(tmp_path: Path) -> tuple[Path, Dataset]:
    dataset = good_only(make_parts(tmp_path / "all", np.random.default_rng(3)), tmp_path / "parts")
    make_bundle(tmp_path / "tiny.inspector", dataset)
    return tmp_path / "tiny.inspector", dataset


# The thresholds


def test_without_a_bad_part_everything_goes_to_review_unless_more_is_asked_for() -> None:
    point = certified()
    assert (point.go_below, point.no_go_above, point.go_without_promise) == (-math.inf, math.inf, False)
    assert point.overkill.holds


def test_rejecting_uses_the_threshold_that_good_parts_certify() -> None:
    point = certified(reject=True)
    assert (point.go_below, point.no_go_above) == (-math.inf, 98.0)  # one of 100 may lie above
    assert point.state(99.0) is State.NO_GO
    assert point.state(0.0) is State.REVIEW


@pytest.mark.parametrize("reject", [False, True])
def test_going_without_a_promise_passes_what_is_below_the_no_go_threshold(reject: bool) -> None:
    point = certified(reject=reject, go_without_promise=True)
    assert point.go_without_promise
    assert point.state(97.0) is State.GO
    assert point.state(98.0) is State.REVIEW
    assert point.state(99.0) is (State.NO_GO if reject else State.REVIEW)


def test_no_part_as_bad_as_a_known_bad_one_passes_without_a_promise() -> None:
    assert certified(bad=(50.0, 70.0), go_without_promise=True, reject=True).go_below == 50.0
    assert certified(bad=(math.inf,), go_without_promise=True).go_below == 98.0


def test_nothing_passes_and_nothing_is_rejected_where_overkill_cannot_be_certified_either() -> None:
    point = certified(good=20, go_without_promise=True, reject=True)
    assert (point.go_below, point.no_go_above, point.go_without_promise) == (-math.inf, math.inf, False)


def test_a_promise_ends_the_going_without_one() -> None:
    bad = tuple(np.arange(59) + 200.0)
    asked, plain = certified(bad=bad, go_without_promise=True, reject=True), certified(bad=bad)
    assert asked == plain
    assert asked.escape.holds


def test_the_flag_survives_the_record_and_one_that_claims_too_much_is_refused() -> None:
    point = certified(go_without_promise=True, reject=True)
    record = points.to_json(point)
    assert points.from_json(record) == point
    with pytest.raises(InputError, match="expected no threshold"):
        points.from_json({**record, "go_without_promise": False})
    with pytest.raises(InputError, match="expected a threshold certified on good parts"):
        points.from_json({**record, "go_below": None})
    promised = points.to_json(certified(bad=tuple(np.arange(59) + 200.0)))
    with pytest.raises(InputError, match="expected false where an escape limit is certified"):
        points.from_json({**promised, "go_without_promise": True})


def test_a_record_of_an_earlier_version_goes_with_its_promise_alone() -> None:
    record = points.to_json(certified())
    del record["go_without_promise"]
    assert points.from_json(record) == certified()


# What is said


def test_of_escapes_it_says_that_nothing_is_known_and_how_many_bad_parts_would_promise_what() -> None:
    escape, overkill = describe_point(certified())
    assert escape.startswith("Nothing is known about escapes: the calibrate split has no bad parts.")
    assert "19 would certify that at most 15 % of bad parts escape; 29: 10 %; 59: 5 %; 149: 2 %; 299: 1 %" in escape
    assert "With --reject: at most 5 % of good parts would be rejected, at 95 % confidence (100 independent" in overkill
    assert describe_point(certified(go_without_promise=True))[0].startswith(f"G{SAID[1:]}.")
    few = describe_point(certified(bad=(50.0,) * 7, go_without_promise=True))[0]
    assert few.startswith("Go without a promise: 7 bad calibration parts cannot certify an escape limit.")


@pytest.mark.slow
def test_every_verdict_page_and_listing_says_that_it_goes_without_a_promise(tiny: tuple[Path, Dataset]) -> None:
    path, dataset = tiny
    made = recertify(Inspector.load(path), dataset, Promise(go_without_promise=True, reject=True))
    assert not made.refusals
    inspector = Inspector.load(path)
    test = evaluate(inspector, dataset, tuple(Split), with_regions=False)
    assert {picture.state for picture in test.pictures} >= {State.GO, State.NO_GO}
    for sample in dataset.samples[:20]:
        assert SAID in inspector.inspect(dataset.load(sample)).reason
    assert f"G{SAID[1:]}" in model_card(inspector.bundle.manifest)
    assert SAID in phrases.which_is_the_promise(test).replace("Go without", "go without")
    write_report(test, inspector, dataset, path.parent / "report.html")
    assert SAID in (path.parent / "report.html").read_text()
    ended = CliRunner().invoke(app, ["inspect", str(path), str(dataset.root / "images"), "--json"])
    rows = [json.loads(line) for line in ended.stdout.splitlines()]
    assert all(row["go_without_promise"] for row in rows)
    assert judged_before(dataset)  # thresholds follow from their scores


@pytest.mark.slow
def test_a_plain_verdict_asks_for_bad_parts_and_uses_up_no_calibration_part(tiny: tuple[Path, Dataset]) -> None:
    path, dataset = tiny
    recertify(Inspector.load(path), dataset)
    verdict = Inspector.load(path).inspect(dataset.load(dataset.samples[0]))
    assert verdict.state is State.REVIEW
    assert "59 more bad parts are needed before any part may pass" in verdict.reason
    assert not judged_before(dataset)


@pytest.mark.slow
@pytest.mark.parametrize("asked", [Promise(), Promise(reject=True), Promise(go_without_promise=True, reject=True)])
def test_counting_again_gives_the_same_thresholds(tiny: tuple[Path, Dataset], asked: Promise) -> None:
    path, dataset = tiny
    recertify(Inspector.load(path), dataset, asked)
    found = recount(Inspector.load(path), dataset)
    assert found is not None
    assert (found.thresholds, found.scores) == ((), ())


@pytest.mark.slow
def test_a_threshold_moved_by_hand_is_found_by_counting_again(tiny: tuple[Path, Dataset]) -> None:
    path, dataset = tiny
    recertify(Inspector.load(path), dataset, Promise(go_without_promise=True))
    manifest = bundles.read_bundle(path).manifest
    assert manifest.operating_point is not None
    moved = replace(manifest.operating_point, go_below=manifest.operating_point.go_below + 5)
    bundles.write_manifest(path, manifest.model_copy(update={"operating_point": moved}))
    found = recount(Inspector.load(path), dataset)
    assert found is not None
    assert any(each.startswith("go_below") for each in found.thresholds)
    assert not examine_bundle(Inspector.load(path), dataset).qualified


@pytest.mark.slow
def test_the_command_operates_without_a_promise_only_when_asked(tiny: tuple[Path, Dataset]) -> None:
    path, dataset = tiny
    plain = CliRunner().invoke(app, ["certify", str(path), str(dataset.root)])
    assert plain.exit_code == 1
    asked = CliRunner().invoke(app, ["certify", str(path), str(dataset.root), "--go-without-promise", "--reject"])
    assert asked.exit_code == 0, asked.output
    assert f"G{SAID[1:]}" in asked.output


# The real training


@pytest.mark.slow
def test_good_pictures_alone_train_an_inspector_that_rejects_what_it_never_saw(discs: Dataset, tmp_path: Path) -> None:
    dataset = good_only(discs, tmp_path / "parts")
    asked = Promise(max_overkill=0.1, reject=True, go_without_promise=True)
    out = tmp_path / "disc.inspector"
    train_inspector(dataset, out, TrainingOptions(size_wh=(96, 64), promise=asked))
    inspector = Inspector.load(out)
    point = inspector.operating_point
    assert point is not None
    assert point.overkill.holds
    assert point.go_without_promise
    manifest = inspector.bundle.manifest
    assert manifest.golden
    assert manifest.heat_scale.cold < manifest.heat_scale.hot
    bad = [each for each in discs.samples if each.label is Label.BAD][:30]
    good = [each for each in dataset.samples if each.split == "test"]
    judged = [inspector.inspect(discs.load(each)) for each in bad]
    # What it never saw is out of distribution, too, and then a person decides about it.
    rejected = [each.state is State.NO_GO or "above the no-go threshold" in each.reason for each in judged]
    assert not any(each.state is State.GO for each in judged)
    passed = [inspector.inspect(dataset.load(each)).state is State.GO for each in good]
    assert np.mean(rejected) > 0.8
    assert np.mean(passed) > 0.7
    with pytest.raises(UnfitError, match="expected a certified escape rate"):
        quantize_bundle(inspector, dataset, tmp_path / "int8.inspector")
