"""Pictures of the line come back into a data set by rule: with provenance, within a budget, never twice, into train."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo.cli.dataset import app
from gonogo.dataset import Dataset, Fractions, Sample, Split, check_dataset, locked, record_change, resplit, revisions
from gonogo.dataset.collected import Why, provenance, refuse_collected
from gonogo.dataset.splits import complete_splits
from gonogo.errors import DatasetError, InputError
from gonogo.images import encode_png
from gonogo.ledger import Ledger, Policy, retain
from gonogo.ledger.sampling import drawn, find_schedule, sampled_parts, schedule_sample
from gonogo.schema import Label, State
from gonogo.workflow.collecting import CollectRules, collect_parts
from server_kit import record, record_fault
from tiny_bundle import make_frame

RULES = CollectRules(go_one_in=0)
SPREAD = (50.0, 92.0, 130.0)  # go, review, no-go


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    rng, path = np.random.default_rng(3), tmp_path / "line.ledger"
    with Ledger.open(path) as opened:
        for number in range(12):
            record(opened, number, SPREAD[number % 3], rng=rng)
        record_fault(opened, 12)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    rng, root = np.random.default_rng(4), tmp_path / "parts"
    (root / "images").mkdir(parents=True)
    samples = []
    for number, split in enumerate(Split):
        name = f"images/{number}.png"
        (root / name).write_bytes(encode_png(make_frame(60, rng)))
        samples.append(Sample(file_name=name, label=Label.GOOD, part=f"old-{number}", split=split))
    Dataset(root=root, samples=tuple(samples)).write()
    return root


def collected(root: Path) -> list[Sample]:
    return [sample for sample in Dataset.read(root).samples if provenance(sample) is not None]


def test_no_goes_and_reviews_come_with_their_provenance_unlabelled_into_train(ledger: Path, root: Path) -> None:
    done = collect_parts([ledger], root, RULES, who="anna")
    assert done.by_rule == {"no_go": 4, "review": 4}
    with Ledger.open(ledger, read_only=True) as opened:
        for sample in collected(root):
            assert (sample.label, sample.split, sample.lot) == (None, Split.TRAIN, "L-7")
            found = provenance(sample)
            assert found is not None
            row = opened.row(found.row)
            assert row is not None
            assert row.sha256 == found.row_sha256
            assert (found.station, found.state) == ("line-1", row.record.state)  # type: ignore[union-attr]
            assert (root / sample.file_name).is_file()
    assert [(each.what, each.who) for each in revisions(root)] == [("found", ""), ("collect", "anna")]


def test_no_picture_comes_twice_not_even_one_that_was_removed_or_imported(ledger: Path, root: Path) -> None:
    collect_parts([ledger], root, RULES)
    again = collect_parts([ledger, ledger], root, RULES)
    assert (len(again.added), again.known) == (0, 16)
    gone = collected(root)[0].file_name
    assert CliRunner().invoke(app, ["remove", str(root), gone]).exit_code == 0
    assert collect_parts([ledger], root, RULES).added == ()
    assert len(revisions(root)) == 3


def test_goes_are_drawn_by_the_hash_of_their_row(ledger: Path, root: Path) -> None:
    rules = replace(RULES, no_go=False, review=False, go_one_in=2)
    done = collect_parts([ledger], root, rules, dry_run=True)
    assert done == collect_parts([ledger], root, rules, dry_run=True)
    assert collected(root) == []
    # The rows hold times: which of them are drawn differs from run to run.
    rows = {found.row_sha256 for sample in done.added if (found := provenance(sample))}
    with Ledger.open(ledger, read_only=True) as opened:
        goes = [row.sha256 for row in opened.verdicts() if row.record.state is State.GO]
    assert len(goes) == 4
    assert rows == {row for row in goes if drawn("gonogo dataset collect", row, 2)}
    shares = np.mean([drawn("seed", f"{number:064x}", 10) for number in range(4000)])
    assert 0.08 < shares < 0.12


def test_parts_near_a_threshold_are_collected_and_a_fault_never_is(ledger: Path, root: Path) -> None:
    done = collect_parts([ledger], root, CollectRules(no_go=False, review=False, go_one_in=0, near=1000.0))
    assert done.by_rule == {"near": 12}
    assert done.gone == 0


def test_the_budget_drops_the_least_valuable_and_oldest_unlabelled_pictures(ledger: Path, root: Path) -> None:
    with Ledger.open(ledger, read_only=True) as opened:
        size = opened.frames.path(next(opened.verdicts()).record.views[0].frame_sha256 or "").stat().st_size  # type: ignore[attr-defined]
    rules = CollectRules(go_one_in=1, most_mb=5.5 * size / 1e6)
    first = collect_parts([ledger], root, replace(rules, no_go=False, review=False))
    assert first.by_rule == {"go": 4}
    labelled = collected(root)[0].file_name
    with locked(root):
        before = Dataset.read(root).samples
        record_change(
            root,
            [s.model_copy(update={"label": Label.GOOD}) if s.file_name == labelled else s for s in before],
            what="label",
        )
    done = collect_parts([ledger], root, rules)
    now = collected(root)
    assert labelled in [sample.file_name for sample in now]
    assert len(done.dropped) == 3
    assert not any((root / sample.file_name).exists() for sample in done.dropped)
    kept = [found.why for sample in now if sample.label is None and (found := provenance(sample))]
    assert kept.count(Why.REVIEW) == 4
    assert len(kept) == 5
    assert done.over_budget == 3
    assert collect_parts([ledger], root, rules).added == ()


def test_a_part_that_proves_something_is_held_back(ledger: Path, root: Path) -> None:
    with locked(root):
        before = Dataset.read(root).samples
        record_change(root, [*before[:2], before[2].model_copy(update={"part": "P-0001"}), before[3]], what="label")
    assert collect_parts([ledger], root, RULES).held_back == 1


def test_frames_that_retention_deleted_are_counted(ledger: Path, root: Path) -> None:
    from datetime import UTC, datetime, timedelta

    with Ledger.open(ledger) as opened:
        retain(opened, Policy(keep_days=1), who="x", now=datetime.now(UTC) + timedelta(days=9))
    done = collect_parts([ledger], root, RULES)
    assert done.gone == 4
    assert done.by_rule == {"review": 4}


def moved(root: Path, split: Split) -> Dataset:
    now = Dataset.read(root)
    return replace(
        now, samples=tuple(s.model_copy(update={"split": split}) if provenance(s) else s for s in now.samples)
    )


@pytest.mark.parametrize("split", [Split.VAL, Split.CALIBRATE, Split.TEST])
def test_a_collected_picture_outside_train_is_refused_with_its_reason(ledger: Path, root: Path, split: Split) -> None:
    collect_parts([ledger], root, replace(RULES, review=False))
    refuse_collected(Dataset.read(root))
    wrong = moved(root, split)
    with pytest.raises(DatasetError, match=rf"is in {split}, but was collected by a rule \(no_go\)"):
        refuse_collected(wrong)
    assert sum("collected by a rule" in each for each in check_dataset(wrong).problems) == 4


def test_splitting_never_moves_a_collected_picture_out_of_train(ledger: Path, root: Path) -> None:
    collect_parts([ledger], root, RULES)
    for seed in range(5):
        dealt = resplit(Dataset.read(root).samples, Fractions(), seed, within_lots=True)
        assert {s.split for s in dealt if provenance(s)} == {Split.TRAIN}
    wrong = moved(root, Split.CALIBRATE).samples
    assert {s.split for s in complete_splits([*wrong, Sample(file_name="x.png")], Fractions(), 0) if provenance(s)} == {
        None
    }


# Designated random samples


def test_a_sample_is_drawn_by_a_committed_seed_whatever_the_verdict(ledger: Path, root: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(9)
    with Ledger.open(ledger) as opened:
        schedule = schedule_sample(opened, "q1", one_in=3, parts=20, most_bad=0.1, who="anna")
        for number in range(100, 190):
            record(opened, number, SPREAD[number % 3], rng=rng)
        rows = list(sampled_parts(opened, schedule))
        assert rows == list(sampled_parts(opened, find_schedule(opened, "q1")))
        with pytest.raises(InputError, match="already"):
            schedule_sample(opened, "q1", one_in=3, parts=20, most_bad=0.1, who="anna")
        with pytest.raises(InputError, match=r"one of the samples in .* \(q1\)"):
            find_schedule(opened, "q2")
    assert len(rows) == 20
    assert all(row.seq > schedule.row for row in rows)
    assert {row.record.state for row in rows} == {State.GO, State.REVIEW, State.NO_GO}
    place = tmp_path / "q1"
    done = CliRunner().invoke(app, ["collect", str(ledger), "--sample", "q1", "--into", str(place), "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["added"] == 20
    text = (place / "metadata.jsonl").read_text()
    assert "no_go" not in text
    assert "score" not in text
    assert {sample.split for sample in collected(place)} == {None}
    refuse_collected(moved(place, Split.CALIBRATE))
