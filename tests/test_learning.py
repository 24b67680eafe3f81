"""Learning from review: what enters the data set, when a new inspector is promoted, and what it then sees."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo.bundle import read_bundle, write_manifest
from gonogo.certification import recount
from gonogo.certification.trust import refuse_other_data
from gonogo.cli import app
from gonogo.config import Checks
from gonogo.dataset import Dataset, Split
from gonogo.dataset.judged import judged_before
from gonogo.errors import InputError, UnfitError
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.ledger import Action, Ledger, VerdictRecord, View
from gonogo.operating_point import Promise, expected_operating_point
from gonogo.schema import Label, State
from gonogo.workflow import TrainingOptions, train_inspector
from gonogo.workflow.learning import learn_bundle, options_of
from gonogo.workflow.made_with import MADE_WITH, read_made_with, sha256_of
from gonogo.workflow.reviewed import grow
from lines import add, render

TRAIN, VAL, CALIBRATE, TEST = Split.TRAIN, Split.VAL, Split.CALIBRATE, Split.TEST
OPTIONS = TrainingOptions(size_wh=(96, 64))
FAINT = 0.3
"""Contrast of a scratch that an inspector which knows only spots lets pass."""
DIM = 0.2
"""Contrast of spots that few parts do not teach."""


@pytest.fixture(scope="module")
def spots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inspector that knows spots, and its data set beside it."""
    folder = tmp_path_factory.mktemp("spots")
    counts = {(TRAIN, "good"): 30, (TRAIN, "spot"): 20, (VAL, "good"): 10, (VAL, "spot"): 6}
    counts |= {(split, kind): count for split, count in ((CALIBRATE, 60), (TEST, 10)) for kind in ("good", "spot")}
    dataset = add(Dataset(root=folder / "parts", samples=()), counts, np.random.default_rng(1))
    train_inspector(dataset, folder / "old.inspector", OPTIONS)
    return folder


@pytest.fixture(scope="module")
def dim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An inspector that learned from few parts, and its data set, grown since."""
    folder = tmp_path_factory.mktemp("dim")
    counts = {(TRAIN, "good"): 8, (TRAIN, "spot"): 3, (VAL, "good"): 4, (VAL, "spot"): 2}
    counts |= {(split, kind): count for split, count in ((CALIBRATE, 60), (TEST, 40)) for kind in ("good", "spot")}
    parts = add(Dataset(root=folder / "parts", samples=()), counts, np.random.default_rng(3), contrast=DIM)
    train_inspector(parts, folder / "old.inspector", OPTIONS)
    more = {(TRAIN, "good"): 40, (TRAIN, "spot"): 40}
    add(parts, more, np.random.default_rng(4), contrast=DIM, tag="n")
    return folder


@pytest.fixture
def copy(spots: Path, tmp_path: Path) -> Path:
    shutil.copytree(spots, tmp_path / "copy")
    return tmp_path / "copy"


def decided(path: Path, pictures: list[tuple[bytes, str, Label | None]]) -> Path:
    """A ledger whose parts a person decided."""
    at = datetime(2026, 1, 2, tzinfo=UTC)
    with Ledger.open(path) as ledger:
        for number, (data, part, label) in enumerate(pictures):
            view = View(frame_sha256=ledger.frames.put(data), state=State.REVIEW, score=0.5, reason="between")
            row = ledger.append_verdict(
                VerdictRecord(
                    station="s",
                    trigger_id=f"t{number}",
                    part=part,
                    state=State.REVIEW,
                    score=0.5,
                    reason="between",
                    views=(view,),
                    triggered_at=at,
                )
            )
            ledger.append_action(Action(action="review", who="anna", about=row.seq, label=Label.GOOD))
            ledger.append_action(Action(action="review", who="anna", about=row.seq, label=label))
    return path


def passes(bundle: Path, *, kind: str = "scratch", count: int = 20) -> int:
    """Of so many parts of a kind that nobody learned from, how many score below the go threshold."""
    inspector, rng = Inspector.load(bundle), np.random.default_rng(5)
    point = inspector.operating_point
    assert point is not None
    scores = [inspector.inspect(render(kind, rng, contrast=FAINT)).score for _ in range(count)]
    return sum(score is not None and score < point.go_below for score in scores)


@pytest.mark.slow
def test_one_missed_defect_from_the_ledger_changes_the_verdict_on_its_like(copy: Path) -> None:
    missed = encode_png(render("scratch", np.random.default_rng(9), contrast=FAINT))
    ledger = decided(copy / "line.ledger", [(missed, "missed", Label.BAD)])
    data = Dataset.read(copy / "parts")
    found = learn_bundle(Inspector.load(copy / "old.inspector"), ledger, copy / "new", dataset=data, force=True)
    assert found.new == 1
    assert passes(copy / "old.inspector") >= 15
    assert passes(copy / "new") <= 8
    grown = Dataset.read(copy / "parts")
    (new,) = set(grown.samples) - set(data.samples)
    assert (new.split, new.label, new.part) == (TRAIN, Label.BAD, "missed")
    assert sha256_of(grown.path(new)) in new.file_name
    refuse_other_data(read_bundle(copy / "new"), grown)  # it is what the new one was trained on, record by record


@pytest.mark.slow
def test_an_inspector_that_is_not_better_is_not_sealed_and_leaves_everything_as_it_was(copy: Path) -> None:
    before = (copy / "parts" / "metadata.jsonl").read_bytes()
    missed = encode_png(render("scratch", np.random.default_rng(9), contrast=FAINT))
    ledger = decided(copy / "line.ledger", [(missed, "missed", Label.BAD)])
    words = ["bundle", "learn", str(copy / "old.inspector"), "--from", str(ledger), "--dataset", str(copy / "parts")]
    ended = CliRunner().invoke(app, [*words, "--out", str(copy / "new"), "--json"])
    assert ended.exit_code == 1
    said = json.loads(ended.stdout.splitlines()[0])
    assert (said["promoted"], said["bundle"]) == (False, None)
    assert "The review rate is not significantly lower" in said["reasons"][0]
    assert said["compared"]["parts"] == 20
    assert not (copy / "new").exists()
    assert (copy / "parts" / "metadata.jsonl").read_bytes() == before
    assert not list((copy / "parts").glob("reviewed/*"))
    assert not [each for each in copy.iterdir() if each.name.startswith(".")]


@pytest.mark.slow
def test_a_better_inspector_is_promoted_and_certified_once_for_the_same_promise(dim: Path) -> None:
    old = Inspector.load(dim / "old.inspector")
    found = learn_bundle(old, dim / "parts", dim / "new.inspector")
    assert found.promoted, found.tried.reasons
    assert found.new == 80
    assert found.tried.only_before > found.tried.only_after
    assert found.tried.p_value <= 0.05
    new = Inspector.load(dim / "new.inspector")
    before, after = old.operating_point, new.operating_point
    assert before is not None
    assert after is not None
    assert (after.escape.max_rate, after.escape.holds) == (before.escape.max_rate, True)
    counted = recount(new, Dataset.read(dim / "parts"))
    assert counted is not None
    assert (counted.thresholds, counted.scores) == ((), ())
    learned = new.bundle.manifest.training["learned"]
    assert isinstance(learned, dict)
    assert learned["before_sha256"] == old.bundle_sha256
    assert TEST in judged_before(Dataset.read(dim / "parts")).values()
    with pytest.raises(UnfitError, match="nothing new to learn"):
        learn_bundle(new, dim / "parts", dim / "again.inspector")


@pytest.mark.slow
def test_the_comparison_never_opens_the_calibrate_split(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.read(copy / "parts")
    add(dataset, {(TRAIN, "good"): 2}, np.random.default_rng(2), tag="n")
    for sample in dataset.split(CALIBRATE):
        with dataset.path(sample).open("ab") as file:
            file.write(b"\0")  # whoever opens it sees another picture, whoever decodes it the same
    opened: list[str] = []
    load = Dataset.load
    monkeypatch.setattr(Dataset, "load", lambda self, sample: opened.append(sample.split) or load(self, sample))
    monkeypatch.setattr(Inspector, "inspect_file", _noting(opened, {dataset.path(s): s.split for s in dataset.samples}))
    found = learn_bundle(Inspector.load(copy / "old.inspector"), copy / "parts", copy / "new")
    assert found.bundle is None
    assert TEST in opened
    assert CALIBRATE not in opened


def _noting(opened: list[str], splits: dict[Path, Split | None]):  # type: ignore[no-untyped-def]
    judge = Inspector.inspect_file

    def noted(self: Inspector, path: Path) -> object:
        opened.append(str(splits.get(Path(path))))
        return judge(self, path)

    return noted


@pytest.mark.slow
def test_reviewed_parts_enter_train_alone_and_those_that_prove_something_are_held_back(copy: Path) -> None:
    dataset, rng = Dataset.read(copy / "parts"), np.random.default_rng(8)
    calibrate, train = dataset.split(CALIBRATE)[0], dataset.split(TRAIN)[0]
    fresh = encode_png(render("scratch", rng))
    ledger = decided(
        copy / "line.ledger",
        [
            (fresh, "fresh", Label.BAD),
            (encode_png(render("good", rng)), calibrate.part or "", Label.GOOD),  # another picture of such a part
            (dataset.path(calibrate).read_bytes(), "renamed", Label.GOOD),  # the same picture under another name
            (dataset.path(train).read_bytes(), train.part or "", train.label),
            (encode_png(render("good", rng)), "taken back", None),
        ],
    )
    grown = grow(dataset, ledger)
    assert [(each.part, each.split, each.label) for each in grown.added] == [("fresh", TRAIN, Label.BAD)]
    assert (grown.there, grown.held_back, grown.gone) == (1, 2, 0)
    grown.keep()
    again = grow(Dataset.read(copy / "parts"), ledger)
    assert (again.added, again.there) == ((), 2)


@pytest.mark.slow
def test_a_frame_that_retention_deleted_is_counted_and_a_label_that_changed_is_learned(copy: Path) -> None:
    dataset, rng = Dataset.read(copy / "parts"), np.random.default_rng(8)
    train = next(each for each in dataset.split(TRAIN) if each.label is Label.GOOD)
    gone = encode_png(render("good", rng))
    pictures = [(gone, "gone", Label.GOOD), (dataset.path(train).read_bytes(), train.part or "", Label.BAD)]
    ledger = decided(copy / "line.ledger", [*pictures])
    with Ledger.open(ledger) as opened:
        (first, *_) = opened.verdicts()
        opened.frames.path(str(first.record.views[0].frame_sha256)).unlink()
    grown = grow(dataset, ledger)
    assert grown.gone == 1
    assert [(each.file_name, each.label) for each in grown.added] == [(train.file_name, Label.BAD)]
    assert len(grown.dataset.samples) == len(dataset.samples)


@pytest.mark.slow
def test_a_bundle_states_what_it_was_made_with_and_its_options_come_back(spots: Path) -> None:
    inspector, dataset = Inspector.load(spots / "old.inspector"), Dataset.read(spots / "parts")
    made = read_made_with(inspector.bundle)
    assert len(made.pictures) == 66 + 120
    scored = [each for each in made.pictures if each.score is not None]
    assert {each.split for each in scored} == {TRAIN, VAL}
    test = dataset.split(TEST)[0]
    assert not made.includes(test, sha256_of(dataset.path(test)))
    assert made.includes(test.model_copy(update={"part": dataset.split(CALIBRATE)[3].part}), "0" * 64)
    assert inspector.recipe.health is not None
    assert options_of(inspector) == replace(OPTIONS, promise=Promise(), checks=Checks.of(inspector.recipe))


@pytest.mark.slow
def test_test_parts_that_the_old_inspector_used_are_left_out(copy: Path) -> None:
    dataset = Dataset.read(copy / "parts")
    moved = [
        each.model_copy(update={"split": TEST}) if each.split is VAL and each.label is Label.GOOD else each
        for each in dataset.samples
    ]
    Dataset(root=dataset.root, samples=tuple(moved)).write()
    add(Dataset.read(copy / "parts"), {(TRAIN, "good"): 2, (VAL, "good"): 4}, np.random.default_rng(2), tag="n")
    found = learn_bundle(Inspector.load(copy / "old.inspector"), copy / "parts", copy / "new")
    assert found.tried.left_out == 10
    assert len(found.tried.after.judged.parts) == 20


@pytest.mark.slow
def test_a_bundle_that_says_too_little_and_a_ledger_without_a_data_set_are_refused(copy: Path) -> None:
    old = copy / "old.inspector"
    ledger = decided(copy / "line.ledger", [])
    with pytest.raises(UnfitError, match="nothing new to learn"):
        learn_bundle(Inspector.load(old), copy / "parts", copy / "new")
    ended = CliRunner().invoke(app, ["bundle", "learn", str(old), "--from", str(ledger), "--out", str(copy / "new")])
    assert "Add --dataset" in str(ended.exception)
    with pytest.raises(InputError, match="already exists"):
        learn_bundle(Inspector.load(old), copy / "parts", old)
    manifest = read_bundle(old).manifest
    (old / MADE_WITH).unlink()
    write_manifest(old, manifest)
    with pytest.raises(InputError, match="with the pictures the inspector was made with"):
        learn_bundle(Inspector.load(old), copy / "parts", copy / "new")
    other = manifest.classifier.model_copy(update={"pool": "mean"})
    write_manifest(old, manifest.model_copy(update={"classifier": other}))
    with pytest.raises(InputError, match="by the default method of gonogo train"):
        learn_bundle(Inspector.load(old), copy / "parts", copy / "new")


def test_expected_thresholds_follow_the_rule_that_certifies() -> None:
    good, bad = np.arange(59.0), np.arange(59.0) + 100
    point = expected_operating_point(good, bad, Promise(), good_parts=59, bad_parts=59)
    assert (point.go_below, point.no_go_above) == (79.0, 79.0)  # they cross and meet
    alone = expected_operating_point(
        good, [], Promise(reject=True, go_without_promise=True), good_parts=59, bad_parts=0
    )
    assert (alone.go_below, alone.no_go_above, alone.go_without_promise) == (58.0, 58.0, True)
    assert expected_operating_point(good, [], Promise(), good_parts=59, bad_parts=0).go_below == -np.inf
