"""What the network sees, shown: one sheet of training pictures, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import cli, images
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.schema import Box, Label
from gonogo.source import TrainingSource
from gonogo.workflow.training_sheet import _chosen, sheet_of, write_training_sheet


def holds(sheet: np.ndarray, picture: np.ndarray) -> bool:
    """Whether a sheet shows a picture pixel for pixel."""
    rows, columns = picture.shape[:2]
    first = np.argwhere((sheet[: 1 - rows or None, : 1 - columns or None] == picture[0, 0]).all(-1))
    return any((sheet[y : y + rows, x : x + columns] == picture).all() for y, x in first)


def test_the_sheet_shows_training_pictures_of_both_labels_as_the_network_gets_them(
    discs: Dataset, tmp_path: Path
) -> None:
    size_wh = (64, 32)
    region = {sample.file_name: Box(x1=10, y1=5, x2=90, y2=45) for sample in discs.samples}
    source = TrainingSource(dataset=discs, size_wh=size_wh, regions=region)
    path = tmp_path / "deep" / "sheet.png"
    write_training_sheet(source, path)
    sheet = images.load_picture(path)
    chosen = _chosen(discs.split(Split.TRAIN))
    assert [sample.label for sample in chosen] == [Label.BAD] * 4 + [Label.GOOD] * 4
    assert len({sample.file_name for sample in chosen}) == 8
    assert all(holds(sheet, picture) for picture in source.plain(chosen))


@pytest.mark.parametrize(
    ("bad", "good", "expected"), [(0, 30, (0, 8)), (1, 30, (1, 7)), (30, 2, (6, 2)), (3, 2, (3, 2))]
)
def test_the_sheet_is_filled_with_what_there_is(bad: int, good: int, expected: tuple[int, int]) -> None:
    samples = [Sample(file_name=f"b{n}", label=Label.BAD) for n in range(bad)]
    samples += [Sample(file_name=f"g{n}", label=Label.GOOD) for n in range(good)]
    labels = [sample.label for sample in _chosen(samples)]
    assert (labels.count(Label.BAD), labels.count(Label.GOOD)) == expected


def test_odd_names_and_large_inputs_fit_the_sheet(tmp_path: Path) -> None:
    name = "images/\u202e\u043e\u0434\u0434 \t name with a great many characters in it, more than fit a picture.png"
    (tmp_path / "images").mkdir()
    (tmp_path / name).write_bytes(images.encode_png(np.zeros((40, 300, 3), np.uint8)))
    sample = Sample(file_name=name, label=Label.BAD, defect="cr\nack", split=Split.TRAIN)
    for size_wh in ((32, 32), (2048, 64)):
        write_training_sheet(
            TrainingSource(dataset=Dataset(root=tmp_path, samples=(sample,)), size_wh=size_wh), tmp_path / "s"
        )
        assert images.load_picture(tmp_path / "s").shape[1] == size_wh[0] + 24


def test_train_writes_the_sheet_beside_the_bundle_or_where_it_is_told(discs: Dataset, tmp_path: Path) -> None:
    out = tmp_path / "disc.inspector"
    command = ["train", str(discs.root), "--out", str(out), "--size", "96x64", "--no-masks"]
    run = CliRunner().invoke(cli.app, command)
    assert run.exit_code == 0, run.output
    assert sheet_of(out) == tmp_path / "disc.training.png"
    assert images.load_picture(sheet_of(out)).shape[1] == 4 * (96 + 12) + 12


def test_a_sheet_that_cannot_be_written_says_so(discs: Dataset, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_training_sheet(TrainingSource(dataset=discs, size_wh=(32, 32)), tmp_path / "folder")
