from __future__ import annotations

import importlib.util
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.cli import app
from gonogo.dataset import Dataset, ImportOptions, import_folder
from gonogo.demo import run_photo_demo
from gonogo.demo.photos import (
    OPTIONS,
    PACKAGE,
    Cell,
    accuracy_above,
    best_threshold,
    copy_cells,
    find_photos,
    read_cells,
)
from gonogo.errors import DatasetError, InputError
from gonogo.inspector import Inspector
from gonogo.schema import Label, Prediction, State

PACKAGED = pytest.mark.skipif(importlib.util.find_spec(PACKAGE) is None, reason="the extra photos is not installed")


def stand_in(folder: Path) -> Path:
    """A data folder like the package's, with one small picture of noise for each probability."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    lines = []
    for number, probability in enumerate(("0.0", "0.3333333333333333", "0.6666666666666666", "1.0"), start=1):
        name = f"images/cell{number:04}.png"
        (folder / name).write_bytes(images.encode_png(rng.integers(0, 256, (40, 40, 3), np.uint8)))
        lines.append(f"{name}  {probability} {'mono' if number < 3 else 'poly'}\n")
    (folder / "labels.csv").write_text("".join(lines))
    return folder


def test_a_cell_above_one_half_is_bad_and_keeps_what_the_experts_said(tmp_path: Path) -> None:
    source = stand_in(tmp_path / "data")
    copy_cells(source, read_cells(source), tmp_path / "photos")
    dataset = import_folder(tmp_path / "photos", tmp_path / "cells", ImportOptions()).dataset
    assert [sample.label for sample in dataset.samples] == [Label.GOOD, Label.GOOD, Label.BAD, Label.BAD]
    assert [sample.part for sample in dataset.samples] == ["cell0001", "cell0002", "cell0003", "cell0004"]
    kept = [json.loads(sample.model_dump_json()) for sample in Dataset.read(tmp_path / "cells").samples]
    assert [record["probability"] for record in kept] == [0.0, 0.333, 0.667, 1.0]
    assert [record["silicon"] for record in kept] == ["mono", "mono", "poly", "poly"]


def test_an_incomplete_package_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    source = stand_in(tmp_path / "data")
    cells = read_cells(source)
    (source / "images" / "cell0002.png").unlink()
    with pytest.raises(DatasetError, match=r"expected 4 photographs, found 3 .*cell0002"):
        copy_cells(source, cells, tmp_path / "photos")
    assert not (tmp_path / "photos").exists()
    (source / "labels.csv").write_text("images/cell0001.png  0.0\n")
    with pytest.raises(DatasetError, match="line 1: expected a file, a probability"):
        read_cells(source)
    (source / "labels.csv").unlink()
    with pytest.raises(DatasetError, match="cannot be read"):
        read_cells(source)


def test_without_the_package_one_line_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gonogo.demo.photos.PACKAGE", "no_such_package")
    with pytest.raises(InputError, match=r"pip install 'gonogo\[photos\]'") as refused:
        run_photo_demo(tmp_path / "demo")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "demo").exists()


def test_only_write_needs_photos(tmp_path: Path) -> None:
    answer = CliRunner().invoke(app, ["demo", "--only-write", "--out", str(tmp_path / "demo")])
    assert isinstance(answer.exception, InputError)
    assert not (tmp_path / "demo").exists()


def test_the_threshold_makes_most_verdicts_right() -> None:
    good, bad = np.array([0.0, 1.0, 2.0, 5.0]), np.array([3.0, 4.0, 6.0])
    threshold = best_threshold(good, bad)
    assert 2.0 < threshold < 3.0
    parts = [prediction(score, Label.GOOD) for score in good] + [prediction(score, Label.BAD) for score in bad]
    assert (accuracy_above(threshold, parts).count, accuracy_above(threshold, parts).of) == (6, 7)
    assert accuracy_above(threshold, [prediction(None, Label.BAD)]).count == 0


@PACKAGED
def test_the_package_holds_what_the_demo_says() -> None:
    cells = read_cells(find_photos())
    assert len(cells) == 2624
    assert sum(cell.label is Label.BAD for cell in cells) == 821
    assert {round(3 * cell.probability) for cell in cells} == {0, 1, 2, 3}


@PACKAGED
def test_the_demo_on_photographs_goes_the_whole_way(tmp_path: Path) -> None:
    quick = replace(OPTIONS, size_wh=(64, 64))
    made = run_photo_demo(tmp_path / "demo", options=quick, choose=a_few_of_each)
    assert Inspector.load(made.bundle).operating_point is not None
    assert 0 < len(made.sure.parts) < len(made.evaluation.parts)
    assert "<html" in made.report.read_text()
    assert "<html" in made.qualification.read_text()
    assert any(made.heatmaps.iterdir())
    assert images.load_picture(made.folder / "sheet.jpg").shape[2] == 3
    figures = json.loads((made.folder / "figures.json").read_text())
    assert figures["all_cells"]["good"] + figures["all_cells"]["bad"] == len(made.evaluation.parts)


def a_few_of_each(cells: Sequence[Cell]) -> list[Cell]:
    """Every fortieth cell of each probability, and at least twelve."""
    chosen: list[Cell] = []
    for _, group in groupby(sorted(cells, key=lambda cell: cell.probability), key=lambda cell: cell.probability):
        few = list(group)
        chosen += few[:: max(1, len(few) // 16)]
    return chosen


def prediction(score: float | None, label: Label) -> Prediction:
    state = State.FAULT if score is None else State.REVIEW
    return Prediction(file="a.png", part="a", label=label, defect=None, state=state, score=score)
