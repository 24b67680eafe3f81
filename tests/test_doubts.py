"""Labels that are probably wrong: found on parts left out, ranked, shown with their pictures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gonogo import cli
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import DatasetError, InputError
from gonogo.schema import Label
from gonogo.workflow.doubts import find_doubts, open_search

SIZE = (96, 64)


@pytest.fixture(scope="module")
def flipped(discs: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, set[str]]:
    """100 discs of all splits without masks, five of which carry the wrong label."""
    root = tmp_path_factory.mktemp("flipped") / "set"
    shutil.copytree(discs.root, root)
    samples, wrong = [], set()
    for index, sample in enumerate(discs.samples[:100]):
        label, split = sample.label, sample.split
        if index in (3, 18, 41, 66, 87):
            label = Label.GOOD if label is Label.BAD else Label.BAD
            wrong.add(sample.file_name)
            split = (Split.CALIBRATE, Split.TEST, None)[index % 3]
        samples.append(Sample(file_name=sample.file_name, label=label, part=sample.part, split=split))
    made = Dataset(root=root, samples=tuple(samples))
    made.write()
    return Dataset.read(root), wrong


@pytest.mark.slow
def test_flipped_labels_of_every_split_come_first(flipped: tuple[Dataset, set[str]]) -> None:
    dataset, wrong = flipped
    found = find_doubts(dataset, size_wh=SIZE)
    assert found.pictures == 100
    assert {doubt.sample.file_name for doubt in found.found[:5]} == wrong
    assert all(doubt.likely is not doubt.sample.label for doubt in found.found)
    assert all((doubt.score > 0) == (doubt.likely is Label.BAD) for doubt in found.found)
    assert len(found.found) <= 8
    assert found.auroc is not None


@pytest.mark.slow
def test_the_command_lists_them_and_writes_a_page_of_pictures(
    flipped: tuple[Dataset, set[str]], tmp_path: Path
) -> None:
    dataset, wrong = flipped
    page, command = tmp_path / "page.html", ["dataset", "doubts", str(dataset.root), "--size", "96x64", "--most", "4"]
    run = CliRunner().invoke(cli.app, [*command, "--out", str(page), "--json"])
    assert run.exit_code == 0, run.output
    told = json.loads(run.stdout)
    assert told["doubts"] >= 5
    assert len(told["shown"]) == 4
    assert {row["file"] for row in told["shown"]} <= wrong
    assert all(row["label"] != row["likely"] for row in told["shown"])
    text = page.read_text()
    assert text.count("data:image/jpeg") == 4
    assert "calibrate and test included" in text
    assert f"Shown: 4 of {told['doubts']}" in text
    assert all(row["file"] in text for row in told["shown"])


@pytest.mark.slow
def test_a_bad_part_among_good_ones_alone_is_doubted(discs: Dataset, tmp_path: Path) -> None:
    """No bad label to learn from: distance from good parts is all there is."""
    good = [sample for sample in discs.samples if sample.label is Label.GOOD][:60]
    slipped = discs.samples[1]
    assert slipped.label is Label.BAD
    taken = [Sample(file_name=each.file_name, label=Label.GOOD, part=each.part) for each in (*good, slipped)]
    found = find_doubts(Dataset(root=discs.root, samples=tuple(taken)), size_wh=SIZE)
    assert found.auroc is None
    assert found.found[0].sample.file_name == slipped.file_name
    assert len(found.found) <= 3


@pytest.mark.slow
def test_what_cannot_be_read_is_left_out_and_said(flipped: tuple[Dataset, set[str]], tmp_path: Path) -> None:
    dataset, _ = flipped
    root = tmp_path / "torn"
    shutil.copytree(dataset.root, root)
    torn, gone = dataset.samples[0].file_name, dataset.samples[2].file_name
    (root / torn).write_bytes(b"torn")
    (root / gone).unlink()
    none_there = Sample(file_name=dataset.samples[4].file_name, label=Label.GOOD, present=False)
    samples = tuple(none_there if index == 4 else sample for index, sample in enumerate(dataset.samples[:40]))
    found = find_doubts(Dataset(root=root, samples=samples), size_wh=SIZE)
    assert found.unreadable == (torn, gone)
    assert found.pictures == 37


def test_a_set_without_good_parts_and_a_missing_recipe_are_refused(flipped: tuple[Dataset, set[str]]) -> None:
    dataset, _ = flipped
    bad = tuple(sample for sample in dataset.samples if sample.label is Label.BAD)
    with pytest.raises(DatasetError, match="at least 5 parts labelled good, found 0"):
        find_doubts(Dataset(root=dataset.root, samples=bad), size_wh=SIZE)
    with pytest.raises(InputError):
        open_search("nowhere.toml")
