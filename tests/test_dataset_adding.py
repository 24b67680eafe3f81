"""Adding pictures to a data set, words for good and bad, and files that would be skipped without a word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.cli.dataset import app
from gonogo.dataset import Dataset, ImportOptions, Sample, add_folder, check_dataset, import_folder
from gonogo.errors import DatasetError
from gonogo.schema import Frame, Label

Draw = Callable[[], Frame]


@pytest.fixture
def draw(rng: np.random.Generator) -> Draw:
    """Draws another part each time."""

    def surface() -> Frame:
        noise = [cv2.GaussianBlur(rng.normal(size=(80, 100)).astype(np.float32), (0, 0), s) * s for s in (1, 2, 4)]
        grey = np.clip(128 + 60 * np.sum(noise, axis=0), 0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    return surface


def save(path: Path, frame: Frame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_png(frame))
    return path


def parts(root: Path, draw: Draw, good: str = "good", bad: str = "bad", count: int = 6) -> Path:
    for folder in (good, bad):
        for number in range(count):
            save(root / folder / f"{number}.png", draw())
    return root


def labels(dataset: Dataset) -> list[Label | None]:
    return [sample.label for sample in dataset.samples]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("good", "bad"),
    [("OK", "NOK"), ("Pass", "FAIL"), ("gut", "Schlecht"), ("i.O.", "n.i.O."), ("Good", "Bad"), ("ok", "not_ok/bent")],
)
def test_common_words_for_good_and_bad_are_known_in_any_case(tmp_path: Path, draw: Draw, good: str, bad: str) -> None:
    source = parts(tmp_path / "source", draw, good, bad)
    dataset = import_folder(source, tmp_path / "data").dataset
    assert sorted(map(str, labels(dataset))) == ["bad"] * 6 + ["good"] * 6
    assert {sample.defect for sample in dataset.samples} == {None, *(["bent"] if "bent" in bad else [])}


def test_two_folders_of_good_parts_are_asked_about(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw, "good", "OK")
    with pytest.raises(DatasetError, match=r"one folder of good parts, found OK, good\. Name it with --good"):
        import_folder(source, tmp_path / "data")


def test_a_folder_that_says_neither_is_asked_about(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw, "OK", "Krummes")
    with pytest.raises(DatasetError, match=r"Krummes.*--good"):
        import_folder(source, tmp_path / "data")


def test_heic_pictures_are_never_skipped_without_a_word(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw)
    (source / "good" / "IMG_1.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes(100))
    with pytest.raises(DatasetError, match=r"nothing was imported(.|\n)*IMG_1\.HEIC"):
        import_folder(source, tmp_path / "data")


@pytest.mark.slow
def test_files_that_are_no_pictures_are_counted_by_kind(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw)
    for name in ("good/1.CR2", "good/2.cr2", "bad/3.jxl", "notes.txt", "good/.hidden.cr2"):
        (source / name).write_bytes(b"x")
    (told,) = (note for note in import_folder(source, tmp_path / "data").notes if "skipped" in note)
    assert told == "3 files were skipped because they are not supported pictures: 2 .cr2, 1 .jxl."


@pytest.mark.slow
def test_added_pictures_leave_the_old_ones_as_they_are(tmp_path: Path, draw: Draw) -> None:
    before = import_folder(parts(tmp_path / "source", draw, count=12), tmp_path / "data").dataset
    more = parts(tmp_path / "more", draw, count=4)
    save(more / "good" / "copy.png", images.load_picture(tmp_path / "source/good/0.png"))
    added = add_folder(more, tmp_path / "data")
    after = Dataset.read(tmp_path / "data")
    assert added.dataset.samples == after.samples
    assert after.samples[: len(before.samples)] == before.samples
    assert len(after.samples) == len(before.samples) + 8
    assert all(sample.split is not None for sample in after.samples)
    assert len({sample.file_name for sample in after.samples}) == len(after.samples)
    assert all(after.path(sample).is_file() for sample in after.samples)
    assert "1 exact duplicates" in " ".join(added.notes)
    assert not list((tmp_path / "data").glob("*.partial*"))
    again = add_folder(more, tmp_path / "data")
    assert len(again.dataset.samples) == len(after.samples)


@pytest.mark.slow
def test_an_added_picture_of_a_known_part_joins_its_split(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw, count=12)
    options = ImportOptions(part_regex=r"(\w+/\d+)")
    before = import_folder(source, tmp_path / "data", options).dataset
    for number in range(12):
        save(tmp_path / "more" / "good" / f"{number}.png", draw())
    after = add_folder(tmp_path / "more", tmp_path / "data", options).dataset
    split_of = {sample.part: sample.split for sample in before.samples}
    assert [sample.split for sample in after.samples[24:]] == [split_of[s.part] for s in after.samples[24:]]


@pytest.mark.slow
def test_pictures_without_label_take_the_one_they_are_added_with(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw)
    import_folder(source / "good", tmp_path / "data", ImportOptions(unlabelled=True))
    added = add_folder(source, tmp_path / "data")
    assert sorted(map(str, labels(added.dataset))) == ["bad"] * 6 + ["good"] * 6
    assert "6 unlabelled pictures received a label." in added.notes


@pytest.mark.slow
def test_adding_under_another_label_keeps_the_first_and_lists_the_conflict(tmp_path: Path, draw: Draw) -> None:
    import_folder(parts(tmp_path / "source", draw), tmp_path / "data")
    before = Dataset.read(tmp_path / "data").samples
    save(tmp_path / "more/bad/x.png", images.load_picture(tmp_path / "source/good/0.png"))
    save(tmp_path / "more/good/y.png", draw())
    added = add_folder(tmp_path / "more", tmp_path / "data")
    assert len(added.conflicts) == 1
    assert Dataset.read(tmp_path / "data").samples[: len(before)] == before


@pytest.mark.slow
def test_the_command_adds_and_says_what_it_did(tmp_path: Path, draw: Draw) -> None:
    import_folder(parts(tmp_path / "source", draw), tmp_path / "data")
    more = parts(tmp_path / "more", draw, "OK", "NOK", count=2)
    result = CliRunner().invoke(app, ["add", str(more), str(tmp_path / "data")])
    assert result.exit_code == 0, result.output
    assert "4 pictures were added" in result.output
    assert len(Dataset.read(tmp_path / "data").samples) == 16


@pytest.mark.slow
def test_a_part_with_good_and_bad_pictures_is_pointed_out(tmp_path: Path, draw: Draw) -> None:
    source = parts(tmp_path / "source", draw, count=12)
    imported = import_folder(source, tmp_path / "data", ImportOptions(part_regex=r"(\d)\d?\.png"))
    (told,) = (note for note in imported.notes if "--lot-regex" in note)
    assert told.startswith("10 parts have good and bad pictures, for example part 0 (")
    warned = [warning for warning in check_dataset(imported.dataset).warnings if "--lot-regex" in warning]
    assert warned == [told]


def test_bad_pictures_of_a_part_with_another_view_are_not_taken_for_a_mistake_elsewhere(tmp_path: Path) -> None:
    samples = tuple(Sample(file_name=f"{n}.png", label=Label.GOOD, part="a") for n in range(3))
    from gonogo.dataset.checking import parts_with_both_labels

    assert parts_with_both_labels(samples) is None
