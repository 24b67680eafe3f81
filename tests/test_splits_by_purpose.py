"""What the calibrate split lacks, which splits make more of what is there, and that a second split is no second try."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo.certification import recertify
from gonogo.certification.shortfall import as_text, fractions_for_escape, shortfalls
from gonogo.cli import app
from gonogo.dataset import Dataset, Fractions, Sample, Split, resplit
from gonogo.dataset.judged import (
    JUDGED,
    judged_before,
    judged_unlabelled,
    record_judged,
    record_unlabelled,
    refuse_redealt,
)
from gonogo.errors import DatasetError, InputError, UnfitError
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Label
from tiny_bundle import make_bundle, make_parts


def photographs(good: int = 193, bad: int = 137, *, twins: int = 0, lots: int = 0) -> tuple[Sample, ...]:
    """330 photographs, split as by default; the first ``twins`` bad parts are shown twice."""
    bad_ones = [
        Sample(
            file_name=f"bad/{number}-{view}.png",
            label=Label.BAD,
            group=number if number < twins else None,
            lot=f"lot {number % lots}" if lots else None,
        )
        for number in range(bad)
        for view in range(2 if number < twins else 1)
    ]
    good_ones = [Sample(file_name=f"good/{number}.png", label=Label.GOOD) for number in range(good)]
    return resplit([*bad_ones, *good_ones], Fractions(), 0, within_lots=False)


def dataset_of(root: Path, samples: tuple[Sample, ...]) -> Dataset:
    dataset = Dataset(root=root, samples=samples)
    root.mkdir(exist_ok=True)
    dataset.write()
    return dataset


def test_the_shortfall_is_told_in_parts_and_pictures_with_the_splits_that_would_do(tmp_path: Path) -> None:
    (found,) = shortfalls(dataset_of(tmp_path, photographs(300)))
    assert (found.label, found.rate, found.parts + found.missing) == (Label.BAD, 0.05, 59)
    assert found.more_pictures == pytest.approx(found.missing / found.share, abs=1)
    assert found.splits == "35/10/45/10"
    told = found.sentence()
    for text in (f"{found.missing} more bad parts there", "more bad pictures at 25 %", "--splits 35/10/45/10"):
        assert text in told
    assert "near-duplicates" not in told


def test_near_duplicates_are_explained_where_pictures_outnumber_parts(tmp_path: Path) -> None:
    (found,) = shortfalls(dataset_of(tmp_path, photographs(300, twins=60)))
    assert found.pictures > found.parts
    assert "count once, and so do near-duplicates" in found.sentence()
    assert found.more_pictures > found.missing / found.share, "a further part takes more than one picture"


def test_nothing_is_told_where_nothing_lacks_and_no_split_is_named_where_none_would_do(tmp_path: Path) -> None:
    assert shortfalls(dataset_of(tmp_path / "much", photographs(400, 400))) == []
    (found,) = shortfalls(dataset_of(tmp_path / "few", photographs(400, 60)))
    assert found.splits == ""
    assert "--splits" not in found.sentence()
    lacking = shortfalls(dataset_of(tmp_path / "none", photographs(400, 0)))
    assert [each.label for each in lacking] == [Label.BAD]
    assert "0 bad parts" in lacking[0].sentence()
    joint = shortfalls(dataset_of(tmp_path / "joint", photographs(400, 260)), Promise(joint=True))
    assert [each.parts + each.missing for each in joint] == [72]


@pytest.mark.parametrize(("good", "bad", "rate"), [(193, 137, 0.05), (300, 300, 0.02), (50, 1000, 0.01)])
def test_splits_by_purpose_hold_as_many_bad_parts_as_the_rate_takes(good: int, bad: int, rate: float) -> None:
    samples = photographs(good, bad)
    fractions = fractions_for_escape(samples, rate)
    dealt = resplit(samples, fractions, 0, within_lots=False)
    there = sum(sample.split is Split.CALIBRATE and sample.label is Label.BAD for sample in dealt)
    assert there >= {0.05: 59, 0.02: 149, 0.01: 299}[rate]
    assert sum(fractions) == pytest.approx(1)
    assert fractions.train >= 0.3
    assert Fractions.parse(as_text(fractions)) == pytest.approx(fractions)


@pytest.mark.slow
def test_the_command_splits_for_a_rate_or_says_how_many_bad_parts_that_takes(tmp_path: Path) -> None:
    samples = photographs(20, 140)
    rng = np.random.default_rng(0)
    for sample in samples:
        path = tmp_path / "set" / sample.file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_png(rng.integers(0, 255, (48, 48, 3), np.uint8)))
    dataset_of(tmp_path / "set", samples)
    run = CliRunner().invoke(app, ["dataset", "split", str(tmp_path / "set"), "--for-escape", "0.05"])
    assert run.exit_code == 0, run.output
    assert "Splits: 35/10/45/10" in run.stdout
    dealt = Dataset.read(tmp_path / "set").split(Split.CALIBRATE)
    assert sum(sample.label is Label.BAD for sample in dealt) >= 59
    refused = CliRunner().invoke(app, ["dataset", "split", str(tmp_path / "set"), "--for-escape", "0.001"])
    assert isinstance(refused.exception, UnfitError)
    both = ["dataset", "split", str(tmp_path / "set"), "--for-escape", "0.05", "--splits", "50/10/25/15"]
    assert isinstance(CliRunner().invoke(app, both).exception, InputError)


@pytest.fixture
def plant(tmp_path: Path) -> tuple[Path, Dataset]:
    """An inspector and its data set, small."""
    dataset = make_parts(tmp_path / "parts", np.random.default_rng(3))
    make_bundle(tmp_path / "tiny.inspector", dataset)
    return tmp_path / "tiny.inspector", dataset


def redealt(dataset: Dataset, *, fresh: bool) -> Dataset:
    """Calibrate and train change places; or calibrate goes to train and parts that are new come into calibrate."""
    swap = {Split.CALIBRATE: Split.TRAIN} | ({} if fresh else {Split.TEST: Split.CALIBRATE})
    moved = [sample.model_copy(update={"split": swap.get(sample.split, sample.split)}) for sample in dataset.samples]  # type: ignore[arg-type]
    if fresh:
        for sample in dataset.split(Split.CALIBRATE):
            name = sample.file_name.replace("calibrate", "fresh")
            shutil.copy(dataset.path(sample), dataset.root / name)
            moved.append(sample.model_copy(update={"file_name": name, "part": f"fresh {sample.part}"}))
    changed = Dataset(root=dataset.root, samples=tuple(moved))
    changed.write()
    return changed


@pytest.mark.slow
def test_a_new_split_after_scores_were_seen_certifies_nothing(plant: tuple[Path, Dataset], tmp_path: Path) -> None:
    recertify(Inspector.load(plant[0]), plant[1], Promise())
    record_judged(plant[1], (Split.TEST,))
    second = redealt(plant[1], fresh=False)
    make_bundle(tmp_path / "second.inspector", second)
    with pytest.raises(DatasetError, match="split again after they were judged, and 60 of 60"):
        recertify(Inspector.load(tmp_path / "second.inspector"), second, Promise())
    # Looking at the new split does not make it one that was always there.
    assert record_judged(second, (Split.CALIBRATE, Split.TEST))
    with pytest.raises(DatasetError, match="second attempt"):
        refuse_redealt(second)
    plant[1].write()
    recertify(Inspector.load(plant[0]), plant[1], Promise())  # back to the split that was seen


@pytest.mark.slow
def test_a_new_split_with_fresh_calibrate_parts_certifies_and_counts_from_then_on(
    plant: tuple[Path, Dataset], tmp_path: Path
) -> None:
    recertify(Inspector.load(plant[0]), plant[1], Promise())
    second = redealt(plant[1], fresh=True)
    make_bundle(tmp_path / "second.inspector", second)
    assert recertify(Inspector.load(tmp_path / "second.inspector"), second, Promise()).point.escape.holds
    recertify(Inspector.load(tmp_path / "second.inspector"), second, Promise())
    third = redealt(second, fresh=False)
    record_judged(second, (Split.TEST,))
    with pytest.raises(DatasetError, match="second attempt"):
        refuse_redealt(third.read(third.root))


@pytest.mark.slow
def test_pictures_that_are_only_added_are_no_new_split(plant: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(plant[0]), plant[1], Promise())
    first = plant[1].split(Split.CALIBRATE)[0]
    more = first.model_copy(update={"file_name": "images/more.png", "part": "more"})
    refuse_redealt(Dataset(root=plant[1].root, samples=(*plant[1].samples, more)))
    refuse_redealt(Dataset(root=plant[1].root, samples=plant[1].samples[5:]))


@pytest.mark.slow
def test_where_the_counts_refuse_nothing_was_seen_and_a_new_split_certifies(plant: tuple[Path, Dataset]) -> None:
    recertify(Inspector.load(plant[0]), plant[1], Promise(max_escape=0.001))
    assert judged_before(plant[1]) == {}
    refuse_redealt(redealt(plant[1], fresh=False))


@pytest.mark.slow
def test_evaluating_is_seeing(plant: tuple[Path, Dataset]) -> None:
    run = CliRunner().invoke(app, ["evaluate", str(plant[0]), str(plant[1].root), "--json"])
    assert run.exit_code == 0, run.output
    assert set(judged_before(plant[1]).values()) == {Split.TEST}
    size = (plant[1].root / JUDGED).stat().st_size
    CliRunner().invoke(app, ["evaluate", str(plant[0]), str(plant[1].root), "--json"])
    assert (plant[1].root / JUDGED).stat().st_size == size, "each picture once"


@pytest.mark.parametrize("text", ["{", "[]", '{"file_name": "a"}', '{"file_name": "a", "split": 3}'])
def test_a_damaged_record_of_what_was_judged_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / JUDGED).write_text(text)
    with pytest.raises(DatasetError, match="Restore the file"):
        judged_before(Dataset(root=tmp_path, samples=()))


def test_a_picture_that_was_judged_before_it_was_labelled_proves_nothing(plant: tuple[Path, Dataset]) -> None:
    open_ones = [
        sample.model_copy(update={"label": None, "defect": None}) if row < 3 else sample
        for row, sample in enumerate(plant[1].split(Split.CALIBRATE))
    ]
    early = [sample.file_name for sample in open_ones[:3]]
    assert record_unlabelled(plant[1], open_ones)
    assert judged_unlabelled(plant[1]) == set(early)
    assert judged_before(plant[1]) == {}, "they are no evidence that could be left out"
    # Labelled since: refused where it would prove something, and a new split puts it into train.
    with pytest.raises(DatasetError, match=r"judged before it was labelled.*3 such pictures"):
        recertify(Inspector.load(plant[0]), plant[1], Promise())
    samples = [sample.model_copy(update={"group": row}) for row, sample in enumerate(plant[1].samples)]
    split = resplit(samples, Fractions(), 0, within_lots=False, early=judged_unlabelled(plant[1]))
    assert {sample.split for sample in split if sample.file_name in early} == {Split.TRAIN}
    moved = replace(
        plant[1],
        samples=tuple(
            sample.model_copy(update={"split": Split.TRAIN}) if sample.file_name in early else sample
            for sample in plant[1].samples
        ),
    )
    refuse_redealt(moved)


def test_evidence_does_not_leave_by_losing_its_label_and_being_judged_again(plant: tuple[Path, Dataset]) -> None:
    record_judged(plant[1], (Split.CALIBRATE,))
    record_unlabelled(plant[1], [sample.model_copy(update={"label": None}) for sample in plant[1].samples[:99]])
    assert not judged_unlabelled(plant[1]) & judged_before(plant[1]).keys()
