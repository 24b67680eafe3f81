"""What a ledger says when a disk, a folder, a file or a row is not as it should be; nothing is lost or half done."""

from __future__ import annotations

import csv
import errno
import functools
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn

import apsw
import numpy as np
import pytest
from pydantic import ValidationError

from gonogo import images
from gonogo.config import PictureLimits
from gonogo.errors import ImageError, InputError, LedgerError
from gonogo.ledger import (
    Action,
    Flaw,
    Ledger,
    Policy,
    RowKind,
    VerdictRecord,
    View,
    Where,
    export,
    exporting,
    formats,
    publish_anchor,
    read_anchors,
    retain,
    retention,
    tables,
    verify,
)
from gonogo.ledger.frames import FrameStore, sync_folder
from gonogo.ledger.records import body_of
from gonogo.schema import Box, ItemCount, Label, Measurement, State, Verdict, ZoneVerdict

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "line.ledger"


def verdict(trigger: str, *views: View, state: State = State.REVIEW, **changes: Any) -> VerdictRecord:
    scores = [view.score for view in views if view.score is not None]
    basis: dict[str, Any] = {
        "station": "left",
        "trigger_id": trigger,
        "state": state,
        "score": max(scores, default=None),
        "reason": "seen",
        "views": views,
        "triggered_at": NOON,
    }
    return VerdictRecord(**basis | changes)


def view(state: State = State.REVIEW, score: float | None = 1.5, **changes: Any) -> View:
    return View(**{"frame_sha256": None, "state": state, "score": score, "reason": "seen"} | changes)


def no_space(*_: object, **__: object) -> NoReturn:
    raise OSError(errno.ENOSPC, "No space left on device")


def changed(path: Path, *statements: str) -> None:
    """Change a ledger as somebody could who can write its file."""
    connection = apsw.Connection(str(path))
    for trigger in ("entries_no_update", "entries_no_delete", "entries_follow"):
        connection.execute(f"DROP TRIGGER IF EXISTS {trigger}")
    for statement in statements:
        connection.execute(statement)
    connection.close()


# Records


def test_a_view_keeps_what_the_inspector_said() -> None:
    said = Verdict(state=State.NO_GO, score=3.25, reason="above", kind="crack", kind_share=0.75, notes=("one hole",))
    kept = View.of(said, frame_sha256="a" * 64, name="left")

    assert (kept.name, kept.frame_sha256, kept.state, kept.score, kept.reason) == (
        "left", "a" * 64, State.NO_GO, 3.25, "above",
    )  # fmt: skip
    assert (kept.kind, kept.kind_share, kept.notes) == ("crack", 0.75, ("one hole",))
    assert (kept.box_xyxy, kept.zones) == (None, ())


def test_a_view_keeps_where_and_what_was_measured_counted_and_how_long_it_took() -> None:
    scratch = Measurement(
        length_mm=4.0, length_error_mm=0.1, width_mm=0.5, width_error_mm=0.1, area_mm2=2.0, area_error_mm2=0.2,
        path_xy=((1.0, 2.0), (3.0, 4.0)), refined=True,
    )  # fmt: skip
    said = Verdict(
        state=State.NO_GO,
        score=3.25,
        reason="above",
        box=Box(x1=1.0, y1=2.0, x2=30.0, y2=40.0),
        zones=(
            ZoneVerdict(name="rim", score=3.25, state=State.NO_GO),
            ZoneVerdict(name="rest", score=-1.5, state=State.GO),
        ),
        measurements=(scratch,),
        counts=(ItemCount(zone="screws", expected=2, items=()),),
        timings_ms={"network": 4.5},
    )
    kept = View.of(said, frame_sha256=None)

    assert kept.box_xyxy == (1.0, 2.0, 30.0, 40.0)
    assert [(zone.name, zone.score, zone.state) for zone in kept.zones] == [
        ("rim", 3.25, State.NO_GO),
        ("rest", -1.5, State.GO),
    ]
    assert (kept.measurements, kept.counts) == ((scratch,), said.counts)
    assert kept.timings_ms == {"network": 4.5}


def test_the_worst_picture_that_names_a_defect_names_that_of_the_part() -> None:
    views = (
        view(score=9.0),
        view(score=2.0, kind="crack"),
        view(score=3.0, kind="hole"),
        view(score=None, kind="dent"),
    )
    named = verdict("1", *views).named

    assert named is not None
    assert named.kind == "hole"
    assert verdict("2", view(score=9.0)).named is None
    assert verdict("3", *views, state=State.FAULT, cause="late").named is None


def test_a_go_needs_a_judged_picture_and_a_good_part_has_no_defect() -> None:
    with pytest.raises(ValidationError, match="expected at least one judged view for a go, found none"):
        verdict("1", state=State.GO)
    with pytest.raises(ValidationError, match="expected a defect kind only for a part labelled bad, found 'crack'"):
        Action(action="review", who="anna", label=Label.GOOD, defect="crack")


# Frames


def test_sixteen_bits_are_kept_and_a_stored_frame_comes_back_as_a_photograph(tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "frames")
    deep = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    digest = store.put_frame(deep)

    photograph = store.photograph(digest)
    assert store.read(digest).startswith(b"\x89PNG")
    assert np.array_equal(images.decode_raw(store.read(digest), name="deep"), deep)
    assert photograph.frame.shape == (3, 4, 3)
    other = store.put(b"no picture")
    with pytest.raises(ImageError, match=other):
        _ = store.photograph(other).frame


def test_a_frame_that_cannot_be_encoded_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cv2.imencode", lambda *_: (False, None))
    with pytest.raises(ImageError, match=r"cannot encode a picture of shape \(2, 2, 3\) as BMP"):
        FrameStore(tmp_path / "frames").put_frame(np.zeros((2, 2, 3), np.uint8))
    assert not (tmp_path / "frames").exists()


def test_a_full_disk_leaves_no_partial_frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FrameStore(tmp_path / "frames")
    kept = store.put(b"an earlier picture")
    monkeypatch.setattr(os, "fsync", no_space)
    same_folder = next(data for number in range(10**6) if (data := b"%d" % number) and _beside(store, data, kept))
    with pytest.raises(LedgerError, match=r"cannot be stored \(No space left on device\)\. Free some space"):
        store.put(same_folder)
    assert [file.name for file in store.files()] == [kept]


def _beside(store: FrameStore, data: bytes, other: str) -> bool:
    """Whether these bytes would be stored in the folder of another frame."""
    return hashlib.sha256(data).hexdigest()[:4] == other[:4]


def test_a_frame_that_cannot_even_be_begun_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FrameStore(tmp_path / "frames")
    digest = store.put(b"picture")
    store.path(digest).write_bytes(b"pict")
    monkeypatch.setattr(os, "open", no_space)
    with pytest.raises(LedgerError, match="No space left on device"):
        store.put(b"picture")


def test_frames_are_not_stored_where_the_folder_of_their_ledger_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match=r"cannot be stored .*No such file"):
        FrameStore(tmp_path / "gone" / "frames").put(b"picture")
    assert list(tmp_path.iterdir()) == []


def test_a_frame_that_is_no_picture_or_too_large_is_refused_by_name(tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "frames")
    text, large = store.put(b"no picture"), store.put_frame(np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ImageError, match=text):
        store.load(text)
    assert store.load(large, limits=PictureLimits(max_pixels=16)).shape == (4, 4, 3)
    with pytest.raises(ImageError, match=large):
        store.load(large, limits=PictureLimits(max_pixels=15))


def test_deleting_a_frame_twice_frees_nothing_and_a_folder_in_its_place_is_a_fault(tmp_path: Path) -> None:
    store = FrameStore(tmp_path / "frames")
    digest = store.put(b"picture")
    assert [store.remove(digest), store.remove(digest)] == [7, 0]
    (store.path(digest) / "x").mkdir(parents=True)
    with pytest.raises(LedgerError, match="cannot be deleted"):
        store.remove(digest)


# What has to be on the disk before the answer


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the disk is asked for, in order: to keep some bytes, to name them, to keep the names in a folder."""
    done: list[str] = []
    fsync, replace, link = os.fsync, Path.replace, os.link

    def forced(handle: int) -> None:
        place = Path(f"/proc/self/fd/{handle}").readlink()
        done.append(f"keep {place.relative_to(tmp_path) if place.is_dir() else os.fstat(handle).st_size}")
        fsync(handle)

    def replaced(source: Path, target: Path) -> Path:
        done.append(f"name {target.relative_to(tmp_path)}")
        return replace(source, target)

    def linked(source: Path, target: Path) -> None:
        done.append(f"name {target.relative_to(tmp_path)}")
        link(source, target)

    monkeypatch.setattr(os, "fsync", forced)
    monkeypatch.setattr(Path, "replace", replaced)
    monkeypatch.setattr(os, "link", linked)
    return done


def open_handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_the_bytes_of_a_frame_are_kept_before_its_name_and_its_name_before_the_answer(
    tmp_path: Path, asked: list[str]
) -> None:
    store, handles = FrameStore(tmp_path / "frames"), open_handles()
    digest = store.put(b"picture")
    folder = f"frames/{digest[:2]}/{digest[2:4]}"
    written = ["keep 7", f"name {folder}/{digest}", f"keep {folder}"]
    assert asked == ["keep .", "keep frames", f"keep frames/{digest[:2]}", *written]

    asked.clear()
    store.put(b"picture")
    assert asked == [f"keep {folder}"], "its writer may have died before the name was kept"

    asked.clear()
    store.path(digest).write_bytes(b"pict")
    store.put(b"picture")
    assert asked == written
    assert open_handles() == handles


def test_a_new_ledger_and_its_folders_are_kept_under_their_names(tmp_path: Path, asked: list[str]) -> None:
    Ledger.open(tmp_path / "line" / "left" / "line.ledger").close()
    assert asked == ["keep .", "keep line", "name line/left/line.ledger", "keep line/left"]


def test_only_the_names_in_a_folder_are_kept_as_those_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        sync_folder(tmp_path / "file")


# Creating and opening


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[apsw.Connection]:
    """All connections to a database file."""
    made: list[apsw.Connection] = []
    monkeypatch.setattr(apsw, "connection_hooks", [made.append])
    return made


def open_files(connections: list[apsw.Connection]) -> list[str]:
    """The files of the connections that are not closed."""
    return [name for each in connections if (name := _file_of(each)) is not None]


def _file_of(connection: apsw.Connection) -> str | None:
    try:
        return Path(connection.filename).name
    except apsw.ConnectionClosedError:
        return None


def test_a_ledger_that_cannot_be_opened_is_closed_again(
    path: Path, tmp_path: Path, connections: list[apsw.Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(error: type[apsw.Error]) -> Callable[..., NoReturn]:
        def fail(*_: object, **__: object) -> NoReturn:
            raise error("a broken disk")

        return fail

    with Ledger.open(path):
        assert open_files(connections) == [path.name], "that which made it is closed"
    for module, name, error in (
        (tables, "_configure", apsw.CantOpenError),
        (tables, "_configure", apsw.IOError),
        (formats, "differences", apsw.IOError),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, fails(error))
            with pytest.raises(LedgerError, match="a broken disk"):
                Ledger.open(path)
        assert open_files(connections) == []
    changed(path)
    with pytest.raises(LedgerError, match="another schema"):
        Ledger.open(path)
    assert len(connections) == 7
    assert open_files(connections) == []


def test_a_ledger_is_not_made_beside_the_log_of_one_that_was_moved_away(path: Path) -> None:
    path.with_name("line.ledger-wal").write_bytes(b"log")
    with pytest.raises(LedgerError, match="found the write-ahead log of a ledger that was moved away"):
        Ledger.open(path)
    assert not path.exists()


def test_a_ledger_that_another_process_makes_at_the_same_time_is_taken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def too_late(source: Path, target: Path) -> None:
        Path(target).write_bytes(Path(source).read_bytes())
        link(source, target)

    monkeypatch.setattr(os, "link", too_late)
    with Ledger.open(path) as ledger:
        assert ledger.head().seq == 1
    assert {each.name for each in path.parent.iterdir()} <= {path.name, f"{path.name}-wal", f"{path.name}-shm"}


def test_a_ledger_that_cannot_be_made_leaves_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", no_space)
    with pytest.raises(LedgerError, match=r"cannot be created .*another folder on a local disk"):
        Ledger.open(path)
    assert list(path.parent.iterdir()) == []
    path.touch()
    with pytest.raises(LedgerError, match=r"cannot be created .*Not a directory"):
        Ledger.open(path / "line.ledger")


def test_a_disk_without_a_write_ahead_log_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Ledger.open(path).close()
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "delete")
    connection.close()
    monkeypatch.setattr(apsw, "Connection", functools.partial(apsw.Connection, vfs="unix-dotfile"))
    with pytest.raises(LedgerError, match="does not support a write-ahead log, only delete; a ledger needs a local"):
        Ledger.open(path)


def test_a_ledger_in_a_folder_that_nobody_can_write_is_read_unless_its_log_holds_rows(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure, refused = tables._configure, []

    def refuse_first(*arguments: Any, **options: Any) -> None:
        if len(refused) < 1:
            refused.append(arguments)
            raise apsw.CantOpenError("unable to open database file")
        configure(*arguments, **options)

    with Ledger.open(path) as ledger:
        ledger.append_action(Action(action="login", who="anna"))
        monkeypatch.setattr(tables, "_configure", refuse_first)
        with pytest.raises(LedgerError, match=r"cannot be opened .*unable to open database file"):
            Ledger.open(path, read_only=True)  # what the log holds would be missing
    refused.clear()
    with Ledger.open(path, read_only=True, timeout_s=2.5) as ledger:
        assert ledger.head().seq == 2
        connection = ledger.engine.connection  # type: ignore[attr-defined]
        assert connection.pragma("busy_timeout") == 2500
        assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
    refused.clear()
    with pytest.raises(LedgerError, match="cannot be opened"):
        Ledger.open(path)


# Rows


def test_a_row_that_is_no_record_is_named_and_found(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.append_action(Action(action="login", who="anna"))
    changed(path, "UPDATE entries SET body = '{}' WHERE seq = 2")
    connection = apsw.Connection(str(path))
    for statement in formats.SCHEMA:
        if "TRIGGER" in statement:
            connection.execute(statement)
    connection.close()
    with Ledger.open(path) as ledger, pytest.raises(LedgerError, match="row 2: not a record of this format"):
        ledger.row(2)
    assert [each.flaw for each in verify(path)] == [Flaw.EDITED]


def test_a_ledger_without_rows_records_nothing(path: Path) -> None:
    Ledger.open(path).close()
    with Ledger.open(path) as ledger:
        connection = apsw.Connection(str(path))
        connection.execute("DROP TRIGGER entries_no_delete")
        connection.execute("DELETE FROM entries")
        connection.close()
        with pytest.raises(LedgerError, match="has lost all its rows"):
            ledger.append_action(Action(action="login", who="anna"))
    assert [each.what for each in verify(path) if each.flaw is Flaw.MISSING] == [
        "there are no rows, not even the opening record",
        "the last row is 0, but 1 rows were written",
    ]


def test_a_row_of_wrong_types_is_found(path: Path) -> None:
    with Ledger.open(path) as ledger:
        for _ in range(2):
            ledger.append_action(Action(action="login", who="anna"))
    changed(
        path,
        "PRAGMA writable_schema = 1",
        "UPDATE sqlite_schema SET sql = replace(sql, ') STRICT', ')') WHERE name = 'entries'",
    )
    changed(path, "UPDATE entries SET body = CAST(body AS BLOB) WHERE seq = 2")
    found = verify(path)

    assert any("the row after row 1 has values of wrong types" in each.what for each in found)


def test_a_file_that_can_no_longer_be_read_is_named(path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.engine.connection.set_authorizer(lambda *_: apsw.SQLITE_DENY)  # type: ignore[attr-defined]
        with pytest.raises(LedgerError, match=r"line\.ledger: cannot be read .*gonogo ledger verify"):
            list(ledger.rows(Where(part="7")))


# Anchors


def test_an_anchor_file_that_cannot_be_read_or_written_is_named(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors = tmp_path / "anchors"
    with pytest.raises(InputError, match="anchors: expected an anchor file"):
        read_anchors(anchors)
    with Ledger.open(path) as ledger:
        published = publish_anchor(ledger, anchors)
        with pytest.raises(LedgerError, match=r"the anchor cannot be written \(No such file or directory\)"):
            publish_anchor(ledger, tmp_path / "absent" / "anchors")
    assert read_anchors(anchors) == (published,)
    anchors.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="anchors: expected an anchor file"):
        read_anchors(anchors)


# Exports


def test_an_export_in_several_batches_holds_every_row(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyarrow.parquet as pq

    monkeypatch.setattr(exporting, "_BATCH", 2)
    with Ledger.open(path) as ledger:
        for number in range(4):
            ledger.append_action(Action(action="login", who=f"=person {number}"))
        assert export(ledger, tmp_path / "rows.parquet") == 5
        assert export(ledger, tmp_path / "rows.csv") == 5
    groups = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [2, 2, 1]
    table = pq.read_table(tmp_path / "rows.parquet")
    assert table.column("who").to_pylist() == [None, *(f"=person {number}" for number in range(4))]
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        assert [row["who"] for row in csv.DictReader(file)] == ["", *(f"'=person {number}" for number in range(4))]


def test_parquet_without_pyarrow_says_what_to_install_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with Ledger.open(path) as ledger:
        with pytest.raises(InputError, match=r"gonogo\[line\]'?, or export to \.csv"):
            export(ledger, tmp_path / "out" / "rows.parquet")
        (tmp_path / "file").write_text("")
        with pytest.raises(LedgerError, match=r"rows\.csv: cannot be written"):
            export(ledger, tmp_path / "file" / "rows.csv")
    assert list((tmp_path / "out").iterdir()) == []


# Retention


def test_a_frame_that_a_new_row_names_while_strays_are_swept_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(path) as ledger:
        taken, stray = ledger.frames.put(b"taken"), ledger.frames.put(b"stray")
        for digest in (taken, stray):
            os.utime(ledger.frames.path(digest), (0, 0))  # type: ignore[attr-defined]
        named_since = retention._named_since

        def a_row_comes_first(*arguments: Any) -> set[str]:
            monkeypatch.setattr(retention, "_named_since", named_since)
            ledger.engine.append(ledger.head(), *_verdict_row(taken))
            return named_since(*arguments)

        monkeypatch.setattr(retention, "_named_since", a_row_comes_first)
        found = retain(ledger, Policy(keep_days=1), who="anna", now=datetime.now(UTC) + timedelta(days=2))
        assert (found.deleted, found.freed_bytes) == (1, 5)
        assert ledger.frames.holds(taken)
        assert not ledger.frames.holds(stray)
    assert verify(path, frames=True) == []


def _verdict_row(frame: str) -> tuple[Any, str]:
    return RowKind.VERDICT, body_of(verdict("new", view(frame_sha256=frame)), datetime.now(UTC))


def test_only_a_local_ledger_deletes_frames(path: Path) -> None:
    with Ledger.open(path) as ledger:
        shared = Ledger(ledger.engine, frames=object())  # type: ignore[arg-type]
        with pytest.raises(LedgerError, match="expected a local ledger"):
            retain(shared, Policy(keep_days=1), who="anna")


# Without its extra


@pytest.mark.slow
def test_without_apsw_the_package_says_what_to_install() -> None:
    code = "import sys; sys.modules['apsw'] = None; import gonogo.ledger"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "the ledger needs apsw, which includes a safe version of SQLite. Install it: pip install" in done.stderr
