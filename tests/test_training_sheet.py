"""What the network sees, shown: one sheet of training pictures, pixel for pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import cli, images
from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import InputError
from gonogo.schema import Box, Label
from gonogo.source import TrainingSource
from gonogo.workflow import TrainingOptions
from gonogo.workflow.augmentation_sheet import describe, write_augmentation_sheet
from gonogo.workflow.training_sheet import chosen_samples, sheet_of, write_training_sheet


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
    chosen = chosen_samples(discs.split(Split.TRAIN))
    assert [sample.label for sample in chosen] == [Label.BAD] * 4 + [Label.GOOD] * 4
    assert len({sample.file_name for sample in chosen}) == 8
    assert all(holds(sheet, picture) for picture in source.plain(chosen))


@pytest.mark.parametrize(
    ("bad", "good", "expected"), [(0, 30, (0, 8)), (1, 30, (1, 7)), (30, 2, (6, 2)), (3, 2, (3, 2))]
)
def test_the_sheet_is_filled_with_what_there_is(bad: int, good: int, expected: tuple[int, int]) -> None:
    samples = [Sample(file_name=f"b{n}", label=Label.BAD) for n in range(bad)]
    samples += [Sample(file_name=f"g{n}", label=Label.GOOD) for n in range(good)]
    labels = [sample.label for sample in chosen_samples(samples)]
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


@pytest.mark.slow
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


def invoke(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(cli.app, [str(word) for word in words])
    return (2, str(done.exception)) if isinstance(done.exception, InputError) else (done.exit_code, done.output)


def test_all_augmentations_are_shown_as_fine_tuning_sees_them_and_nothing_is_trained(
    discs: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "sheet.png"
    code, printed = invoke(
        *("train", discs.root, "--show-augmentations", out, "--size", "64x32", "--crops", "2", "--rotations", "3")
    )
    assert code == 0, printed
    assert "2 crops x 3 rotations, 6 views of each. Nothing was trained. Without --finetune" in printed
    sheet = images.load_picture(out)
    sample = chosen_samples(discs.split(Split.TRAIN))[0]
    source = TrainingSource(dataset=discs, size_wh=(64, 32))
    views = source.views([sample], Augmentation(crops=2, rotations=3), seed=0)
    assert all(holds(sheet, view.picture) for view in views)
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


def test_random_windows_are_those_of_the_first_epochs(discs: Dataset, tmp_path: Path) -> None:
    window = Augmentation(crops=1, rotations=3, window=0.5)
    path = tmp_path / "sheet.png"
    write_augmentation_sheet(discs, TrainingOptions(size_wh=(64, 32), augmentation=window), path)
    sheet = images.load_picture(path)
    samples = chosen_samples(discs.split(Split.TRAIN))
    source = TrainingSource(dataset=discs, size_wh=(64, 32))
    for seed in (0, 1):
        assert all(holds(sheet, view.picture) for view in source.drawn(samples[:2], window, seed=seed))


@pytest.mark.slow
def test_many_views_leave_room_for_one_picture_and_large_ones_are_made_smaller(discs: Dataset, tmp_path: Path) -> None:
    options = TrainingOptions(size_wh=(480, 240), augmentation=Augmentation(crops=20, rotations=10))
    assert write_augmentation_sheet(discs, options, tmp_path / "s.jpg") == 1
    assert images.load_picture(tmp_path / "s.jpg").shape[1] <= 2400 + 12


def test_other_augmentations_that_are_on_are_named() -> None:
    assert describe(Augmentation(crops=3, rotations=2, window=0.5)) == (
        "3 crops x 2 rotations, 6 views of each, window 0.5"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--show-augmentations", "sheet.gif"], "ends in .png"),
        (["--show-augmentations", "there.png"], "already exists"),
        (["--show-augmentations", "s.png", "--roi", "learned"], "not known before training"),
        ([], "--out: expected the bundle to create"),
        (["--out", "a.inspector", "--crops", "3"], "only for fine-tuning"),
    ],
)
def test_a_sheet_of_augmentations_is_refused_where_it_cannot_be_written(
    discs: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.png").write_bytes(b"")
    code, printed = invoke("train", discs.root, *words)
    assert code == 2
    assert message in printed
