"""Revisions of a data set: every change makes one, none is lost, any can be brought back."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import gonogo
from gonogo import images
from gonogo.cli.dataset import app
from gonogo.dataset import (
    Dataset,
    ImportOptions,
    Sample,
    Split,
    add_folder,
    catch_up,
    compare,
    import_folder,
    locked,
    prune,
    record_change,
    records_at,
    remove_pictures,
    restore_revision,
    revision_of,
    revisions,
)
from gonogo.dataset import chain as chain_module
from gonogo.dataset import history as history_module
from gonogo.dataset.chain import REVISIONS, latest_first, oldest_first
from gonogo.dataset.history import verify_chain, verify_files
from gonogo.errors import DatasetError, InputError
from gonogo.schema import Frame, Label

Draw = Callable[[], Frame]


@pytest.fixture
def draw(rng: np.random.Generator) -> Draw:
    return lambda: rng.integers(0, 255, (24, 24, 3), np.uint8)


def save(path: Path, frame: Frame) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_png(frame))
    return path


@pytest.fixture
def source(tmp_path: Path, draw: Draw) -> Path:
    for label in ("good", "bad"):
        for number in range(4):
            save(tmp_path / "photos" / label / f"{label}{number}.png", draw())
    return tmp_path / "photos"


@pytest.fixture
def root(source: Path, tmp_path: Path) -> Path:
    return import_folder(source, tmp_path / "parts").dataset.root


def edit(root: Path, number: int = 0, *, what: str = "label", **update: object) -> Sample:
    with locked(root):
        before = Dataset.read(root).samples
        after = before[number].model_copy(update=update)
        record_change(root, [after if each is before[number] else each for each in before], what=what)
    return after


def text(root: Path) -> bytes:
    return (root / "metadata.jsonl").read_bytes()


def run(*words: object) -> tuple[int, str]:
    ended = CliRunner().invoke(app, [str(word) for word in words])
    return ended.exit_code, ended.output + (str(ended.exception) if ended.exception else "")


def test_every_change_makes_a_revision_that_names_who_what_and_how_much(root: Path, source: Path, draw: Draw) -> None:
    edit(root, label=Label.BAD, defect="crack")
    save(source / "good" / "new.png", draw())
    add_folder(source, root)
    assert run("split", root, "--seed", 9)[0] == 0
    name = Dataset.read(root).samples[0].file_name
    remove_pictures(root, [name], who="anna")
    found = revisions(root)
    assert [each.what for each in found] == ["import", "label", "add", "split", "remove"]
    assert [each.number for each in found] == [1, 2, 3, 4, 5]
    assert found[0].counts == {"added": 8}
    assert found[1].counts == {"relabelled": 1}
    assert (found[-1].who, found[-1].pictures, found[-1].removed) == ("anna", 8, (name,))
    assert found[0].details["source"] == str(source)
    assert verify_chain(root) == []


def test_a_change_that_changes_nothing_makes_no_revision(root: Path) -> None:
    edit(root, split=Dataset.read(root).samples[0].split)
    assert len(revisions(root)) == 1
    assert catch_up(root).sha256 == revisions(root)[-1].sha256


def test_a_label_costs_a_few_hundred_bytes_and_copies_no_picture(root: Path) -> None:
    size, files = (root / REVISIONS).stat().st_size, sorted(root.rglob("*.png"))
    edit(root, defect="dent", label=Label.BAD)
    assert (root / REVISIONS).stat().st_size - size < 1500
    assert sorted(root.rglob("*.png")) == files


def test_the_records_of_every_revision_are_reproduced_to_the_byte(root: Path, source: Path, draw: Draw) -> None:
    texts = [text(root)]
    edit(root, 3, box_xyxy=(1.0, 2.0, 9.5, 8.25), polygons=[[[1, 2], [3, 4], [5, 6]]])
    texts.append(text(root))
    save(source / "bad" / "late.png", draw())
    add_folder(source, root)
    texts.append(text(root))
    with locked(root):
        record_change(root, Dataset.read(root).samples[::-1], what="label")
    texts.append(text(root))
    for number, before in enumerate(texts, start=1):
        assert history_module.metadata_bytes(records_at(root, number).samples()) == before
        restore_revision(root, number)
        assert text(root) == before
        read = revision_of(Dataset.read(root))
        assert read is not None
        assert read.state == revisions(root)[number - 1].state


def test_two_revisions_are_compared_picture_by_picture(root: Path, source: Path, draw: Draw) -> None:
    first, second, third, fourth = (sample.file_name for sample in Dataset.read(root).samples[:4])
    edit(root, 0, label=Label.GOOD, defect=None)
    edit(root, 1, split=Split.TEST if Dataset.read(root).samples[1].split is Split.TRAIN else Split.TRAIN)
    (root / "masks").mkdir(exist_ok=True)
    save(root / "masks" / "m.png", draw())
    edit(root, 2, mask_file_name="masks/m.png")
    edit(root, 3, lot="L-7")
    save(source / "good" / "new.png", draw())
    add_folder(source, root)
    remove_pictures(root, [Dataset.read(root).samples[5].file_name])
    found = compare(root, 1, len(revisions(root)))
    assert [each.file for each in found.relabelled] == [first] or found.relabelled == ()
    assert [each.file for each in found.moved] == [second]
    assert [each.file for each in found.remasked] == [third]
    assert [(each.file, each.after) for each in found.other] == [(fourth, "lot")]
    assert (len(found.added), len(found.removed)) == (1, 1)
    code, out = run("compare", root, 1, "--json")
    assert code == 0
    assert json.loads(out)["counts"] == found.counts()
    assert "m.png" in run("compare", root, 1)[1]
    backwards = compare(root, len(revisions(root)), 1)
    assert (backwards.added, backwards.removed) == (found.removed, found.added)


def test_a_redrawn_mask_and_a_replaced_picture_are_found(root: Path, draw: Draw) -> None:
    (root / "masks").mkdir(exist_ok=True)
    save(root / "masks" / "m.png", draw())
    edit(root, 2, mask_file_name="masks/m.png")
    name = Dataset.read(root).samples[0].file_name
    assert run("revisions", root, "--check")[0] == 0
    save(root / name, draw())
    code, said = run("revisions", root, "--check")
    assert code == 1
    assert f"{name}: was replaced" in said
    (root / name).unlink()
    last = revisions(root)[-1].number
    assert verify_files(root, records_at(root, last)) == [f"{name}: is missing."]


def test_an_edited_list_is_found(root: Path) -> None:
    edit(root, label=Label.BAD, defect="x")
    path = root / REVISIONS
    path.write_text(path.read_text().replace('"label"', '"split"', 1))
    assert verify_chain(root)
    path.write_text("[]\n")
    with pytest.raises(DatasetError, match="one revision per line"):
        revisions(root)


def test_removed_pictures_come_back_until_they_are_pruned(root: Path) -> None:
    gone = [sample.file_name for sample in Dataset.read(root).samples[:2]]
    before = text(root)
    assert run("remove", root, *gone)[0] == 0
    assert all((root / name).is_file() for name in gone)
    assert run("restore", root, 1)[0] == 0
    assert text(root) == before
    remove_pictures(root, gone)
    assert prune(root, keep=2).files == ()
    assert set(prune(root, keep=1, dry_run=True).files) == set(gone)
    assert prune(root, keep=1).files == tuple(sorted(gone))
    assert not any((root / name).exists() for name in gone)
    with pytest.raises(DatasetError, match=r"2 pictures of revision 1 were pruned(.|\n)*--without-missing"):
        restore_revision(root, 1)
    assert restore_revision(root, 1, without_missing=True).left_out == tuple(sorted(gone))
    assert verify_chain(root) == []
    assert [each.what for each in revisions(root)][-1:] == ["prune"]  # nothing else was left to restore


def test_pruning_leaves_files_alone_that_no_revision_ever_named(root: Path, draw: Draw) -> None:
    stray = save(root / "images" / "good" / "stray.png", draw())
    edit(root, label=Label.BAD, defect="x")
    prune(root, keep=1)
    assert stray.is_file()


def test_a_name_of_a_removed_picture_is_not_used_again(root: Path, source: Path, draw: Draw) -> None:
    name = Dataset.read(root).samples[0].file_name
    kept = (root / name).read_bytes()
    remove_pictures(root, [name])
    save(source.parent / "more" / Path(name).parent.name / Path(name).name, draw())
    (source.parent / "more" / "good").mkdir(exist_ok=True)
    (source.parent / "more" / "bad").mkdir(exist_ok=True)
    add_folder(source.parent / "more", root)
    assert (root / name).read_bytes() == kept
    assert len(Dataset.read(root).samples) == 8
    restore_revision(root, 1)


def test_a_change_by_another_program_becomes_a_revision_of_its_own(root: Path) -> None:
    rows = [json.loads(line) for line in text(root).splitlines()]
    rows[0]["label"], rows[0]["defect"] = "bad", "by hand"
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    edit(root, 1, lot="L-1")
    found = revisions(root)
    assert [each.what for each in found] == ["import", "outside", "label"]
    assert found[1].who == ""
    assert records_at(root, 2).records[str(rows[0]["file_name"])]["defect"] == "by hand"


def test_a_data_set_without_revisions_gets_its_first_when_it_is_looked_at(root: Path) -> None:
    (root / REVISIONS).unlink()
    assert run("revisions", root)[1].count("found") == 1
    (root / REVISIONS).unlink()
    edit(root, label=Label.BAD, defect="x")
    assert [each.what for each in revisions(root)] == ["found", "label"]


# Nothing that is labelled is lost by a second import


def labels(root: Path) -> dict[str, tuple[str | None, str | None]]:
    return {sample.file_name: (sample.label, sample.defect) for sample in Dataset.read(root).samples}


def test_the_same_folder_imported_again_changes_nothing(root: Path, source: Path) -> None:
    edit(root, 0, label=Label.BAD, defect="crack", box_xyxy=(1, 1, 8, 8), labelled_by="anna")
    before = text(root)
    assert run("import", source, "--out", root)[0] != 0
    added = add_folder(source, root, ImportOptions(good="good"))
    assert text(root) == before
    assert len(revisions(root)) == 2
    assert len(added.conflicts) <= 1


def test_an_overlapping_folder_adds_what_is_new_and_keeps_every_label(root: Path, source: Path, draw: Draw) -> None:
    edit(root, 0, label=Label.BAD, defect="crack")
    before = Dataset.read(root).samples
    save(source / "bad" / "new.png", draw())
    add_folder(source, root)
    after = Dataset.read(root).samples
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1


def test_the_same_pictures_under_other_names_and_labels_are_listed_and_the_first_label_stays(
    root: Path, source: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    for number, path in enumerate(sorted((source / "good").iterdir())):
        save(other / "bad" / "scratch" / f"again-{number}.png", images.load_picture(path))
    for number, path in enumerate(sorted((source / "bad").iterdir())):
        save(other / "bad" / "scratch" / f"kind-{number}.png", images.load_picture(path))
    (other / "good").mkdir()
    before = labels(root)
    added = add_folder(other, root)
    assert len(added.conflicts) == 4
    assert "is good, but" in added.conflicts[0]
    after = labels(root)
    for name, (label, _) in before.items():
        assert after[name] == (label, "scratch" if label is Label.BAD else None)  # an open kind contradicts nothing
    code, said = run("add", other, root)
    assert code == 0
    assert "4 pictures have another label" in said
    assert "again-0.png" in said
    add_folder(other, root, ImportOptions(relabel=True))
    assert {label for label, _ in labels(root).values()} == {Label.BAD}
    restore_revision(root, 1)
    assert labels(root) == before


def test_relabelling_a_bad_part_good_takes_its_mask_and_a_source_with_two_labels_is_refused(
    root: Path, source: Path, tmp_path: Path, draw: Draw
) -> None:
    number = next(row for row, each in enumerate(Dataset.read(root).samples) if each.label is Label.BAD)
    (root / "masks").mkdir(exist_ok=True)
    save(root / "masks" / "m.png", draw())
    sample = edit(root, number, mask_file_name="masks/m.png", defect="crack")
    picture = images.load_picture(root / sample.file_name)
    save(tmp_path / "a" / "good" / "same.png", picture)
    add_folder(tmp_path / "a", root, ImportOptions(relabel=True))
    now = Dataset.read(root).samples[number]
    assert (now.label, now.defect, now.mask_file_name) == (Label.GOOD, None, None)
    save(tmp_path / "a" / "bad" / "same.png", picture)
    with pytest.raises(DatasetError, match=r"two labels|different labels"):
        add_folder(tmp_path / "a", root, ImportOptions(relabel=True))


# Two writers, a kill, a full disk


def test_two_writers_at_once_lose_no_label_and_break_no_chain(root: Path) -> None:
    def label(number: int) -> None:
        for turn in range(5):
            edit(root, number, defect=f"kind-{number}-{turn}", label=Label.BAD)

    threads = [threading.Thread(target=label, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sample.defect for sample in Dataset.read(root).samples[:4]] == [f"kind-{n}-4" for n in range(4)]
    assert len(revisions(root)) == 21
    assert verify_chain(root) == []


_KILLED = """
import os, signal, sys
from pathlib import Path
from gonogo.dataset import Dataset, locked, record_change, revisions
from gonogo.dataset import history as module
from gonogo.schema import Label
root, when = Path(sys.argv[1]), sys.argv[2]
write = module.write_beside
def die(path, data, **more):
    if when == "after":
        write(path, data, **more)
    os.kill(os.getpid(), signal.SIGKILL)
module.write_beside = die
with locked(root):
    first, *rest = Dataset.read(root).samples
    record_change(root, [first.model_copy(update={"lot": "L-9"}), *rest], what="label")
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_killed_in_the_middle_leaves_a_whole_revision(root: Path, when: str) -> None:
    before = text(root)
    environment = os.environ | {"PYTHONPATH": str(Path(gonogo.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", _KILLED, str(root), when], env=environment, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (text(root) == before) == (when == "before")
    assert Dataset.read(root).samples
    edit(root, 1, lot="L-10")
    whats = [each.what for each in revisions(root)]
    assert whats == ["import", "label", *(["interrupted"] if when == "before" else []), "label"]
    assert verify_chain(root) == []
    if when == "before":
        assert records_at(root, 3).records == records_at(root, 1).records
    restore_revision(root, 1)
    assert text(root) == before


def test_a_line_that_was_cut_off_is_no_revision(root: Path) -> None:
    whole = (root / REVISIONS).read_bytes()
    with (root / REVISIONS).open("ab") as file:
        file.write(whole[:100])
    assert len(revisions(root)) == len(revisions(root, last=5)) == 1
    edit(root, lot="L-2")
    assert [each.what for each in revisions(root)] == ["import", "label"]
    assert verify_chain(root) == []
    (root / REVISIONS).write_bytes(whole[:100])
    assert revisions(root) == ()


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_changes_neither_records_nor_list(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, listed = text(root), (root / REVISIONS).read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(chain_module.os, "fsync", full)
        with pytest.raises(InputError, match="nothing was changed"):
            edit(root, lot="L-3")
    assert (text(root), (root / REVISIONS).read_bytes()) == (before, listed)
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise InputError("full")

        patch.setattr(history_module, "write_beside", refuse)
        with pytest.raises(InputError, match="full"):
            edit(root, lot="L-3")
    assert (text(root), (root / REVISIONS).read_bytes()) == (before, listed)
    edit(root, lot="L-3")
    assert len(revisions(root)) == 2


def test_an_import_that_fails_at_the_end_leaves_no_picture_behind(
    root: Path, source: Path, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(source / "good" / "new.png", draw())
    files = sorted(root.rglob("*.png"))
    monkeypatch.setattr(chain_module.os, "fsync", full)
    with pytest.raises(InputError):
        add_folder(source, root)
    assert sorted(root.rglob("*.png")) == files


def test_lines_are_read_from_the_end_whatever_their_length(tmp_path: Path) -> None:
    lines = [b"x" * length for length in (1, 70_000, 3, 200_000, 65_535, 2)]
    (tmp_path / REVISIONS).write_bytes(b"".join(line + b"\n" for line in lines) + b"torn")
    assert [line.rstrip() for line in oldest_first(tmp_path)] == lines
    assert [*latest_first(tmp_path)] == lines[::-1]


@pytest.mark.parametrize("name", ["metadata.jsonl", REVISIONS])
def test_a_pipe_in_place_of_a_file_is_refused_without_waiting(root: Path, name: str) -> None:
    (root / name).unlink()
    os.mkfifo(root / name)
    for words in (("revisions", root), ("restore", root, 1), ("prune", root), ("compare", root, 1)):
        code, said = run(*words)
        assert code != 0
        assert "cannot be read" in said or "expected" in said


@pytest.mark.parametrize("words", [("restore", "ROOT", 9), ("compare", "ROOT", 9), ("remove", "ROOT", "no.png")])
def test_what_is_not_there_is_refused_by_name(root: Path, words: tuple[object, ...]) -> None:
    code, said = run(*(root if word == "ROOT" else word for word in words))
    assert code != 0
    assert "expected" in said
    assert len(revisions(root)) == 1
