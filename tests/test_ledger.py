from __future__ import annotations

import contextlib
import csv
import errno
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.errors import InputError, LedgerError, UnfitError
from gonogo.files import MOST_SETTINGS_BYTES
from gonogo.ledger import (
    REVIEW,
    Action,
    By,
    DuplicateTrigger,
    Flaw,
    Ledger,
    Policy,
    RowKind,
    Tombstone,
    VerdictRecord,
    View,
    Where,
    export,
    formats,
    publish_anchor,
    read_anchors,
    retain,
    retention,
    store,
    tables,
    verify,
    worst_state,
)
from gonogo.ledger.anchors import Anchor
from gonogo.ledger.cursors import (
    Cursor,
    cursor_path,
    expect_publishing,
    read_cursor,
    unpublished_after,
    write_cursor,
)
from gonogo.ledger.forwarded import Mark, expect_forwarding, mark_path, read_mark, write_mark
from gonogo.ledger.records import body_of, row_hash
from gonogo.ledger.sampling import find_schedule, sampled_parts, schedule_sample
from gonogo.ledger.verifying import RowChecks
from gonogo.progress import reported_to
from gonogo.schema import Frame, Label, State
from ledger_timing import fill, measure
from tampering import survey

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def record(trigger: str, state: State = State.GO, *, frame: str | None = None, **changes: Any) -> VerdictRecord:
    score = None if state is State.FAULT else 1.5
    view = View(frame_sha256=frame, state=state, score=score, reason="seen")
    basis: dict[str, Any] = {
        "station": "left",
        "trigger_id": trigger,
        "state": state,
        "score": score,
        "reason": "seen",
        "cause": "dark" if state is State.FAULT else None,
        "views": (view,),
        "triggered_at": NOON,
    }
    return VerdictRecord(**basis | changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "line.ledger"


ENGINES = ("sqlite", "postgres")


@contextlib.contextmanager
def opened_in(engine: str, path: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """A new ledger in one of the two databases, its frames in a folder."""
    if engine == "sqlite":
        with Ledger.open(path) as opened:
            yield opened
        return
    server = request.getfixturevalue("postgres")
    from gonogo.centre import Centre

    with server.database() as database, contextlib.closing(Centre.connect(server.url(database))) as centre:
        centre.prepare()
        yield centre.ledger("line", create=True, frames=f"file://{path}-frames")


@pytest.fixture(params=ENGINES)
def ledger(path: Path, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    with opened_in(request.param, path, request) as opened:
        yield opened


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 verdicts of all states, each on a frame of its own, and two reviews. To be copied, not changed."""
    folder = tmp_path_factory.mktemp("model")
    with Ledger.open(folder / "line.ledger") as ledger:
        for number in range(40):
            state = list(State)[number % 4]
            frame = ledger.frames.put(f"frame {number}".encode())
            ledger.append_verdict(record(str(number), state, frame=frame, lot=f"lot-{number // 10}", part=f"p{number}"))
        ledger.append_action(Action(action=REVIEW, who="anna", about=4, label=Label.BAD, defect="crack"))
        ledger.append_action(Action(action=REVIEW, who="ben", about=8, label=Label.GOOD))
    return folder


@pytest.fixture
def filled(model: Path, path: Path) -> Path:
    """A copy of the model's ledger with its frames."""
    shutil.copytree(model, path.parent, dirs_exist_ok=True)
    return path


@pytest.fixture(scope="module", params=ENGINES)
def large(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Ledger]:
    """2,500 made-up parts: more than one page of rows."""
    with opened_in(request.param, tmp_path_factory.mktemp("large") / "large.ledger", request) as ledger:
        fill(ledger, rows=2500, seed=3)
        yield ledger


def run(*arguments: object) -> tuple[int, str]:
    """Exit code and output of the command, told as `gonogo.cli.main` tells it."""
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    code = {InputError: 2, LedgerError: 2, UnfitError: 1}.get(type(done.exception), done.exit_code)
    return code, done.output + (str(done.exception) if done.exception else "")


def tampered(path: Path, *statements: str) -> None:
    connection = apsw.Connection(str(path))
    connection.execute("DROP TRIGGER IF EXISTS entries_no_update; DROP TRIGGER IF EXISTS entries_no_delete")
    for statement in statements:
        connection.execute(statement)
    for sql in formats.SCHEMA:
        if sql.startswith("CREATE TRIGGER entries_no"):
            connection.execute(sql)
    connection.close()


# Recording


@pytest.mark.slow
def test_a_recorded_verdict_is_read_back_whole(ledger: Ledger) -> None:
    frame = ledger.frames.put(b"picture")
    view = View(frame_sha256=frame, state=State.NO_GO, score=0.1 + 0.2, reason="worse", box_xyxy=(0.5, 1, 2, 3))
    written = ledger.append_verdict(
        record(
            "17/b",
            State.NO_GO,
            score=0.1 + 0.2,
            views=(view, view.model_copy(update={"name": "side", "score": -1e-300})),
            part="Ø 3 \N{SNOWMAN}",
            acquired_at=NOON + timedelta(microseconds=1),
            timings_ms={"network": 6.25},
        )
    )
    assert ledger.find("left", "17/b") == written
    assert written.record.triggered_at == NOON
    assert ledger.row(written.seq) == written
    assert ledger.head().sha256 == written.sha256


def test_the_text_of_a_row_is_canonical_so_that_its_hash_can_be_computed_again() -> None:
    about = Action(action="label", who="Jürgen \N{SNOWMAN}", details={"b": [1.5, 2, None], "a": {"d": True, "c": "é"}})
    assert body_of(about, NOON) == (
        '{"at":"2026-03-02T12:00:00.000000Z","record":{"about":null,"action":"label","defect":null,'
        '"details":{"a":{"c":"é","d":true},"b":[1.5,2,null]},"label":null,"station":null,"who":"Jürgen \N{SNOWMAN}"}}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        body_of(Action(action="label", who="anna", details={"value": float("nan")}), NOON)


def test_a_repeated_trigger_gets_the_stored_verdict_and_writes_nothing(ledger: Ledger) -> None:
    first = ledger.append_verdict(record("1", State.NO_GO, views=(), score=None))
    head = ledger.head()
    with pytest.raises(DuplicateTrigger, match="trigger 1 of left is already recorded in row 2") as caught:
        ledger.append_verdict(record("1", State.REVIEW, views=(), score=None))
    assert caught.value.row == first
    assert ledger.head() == head


def test_the_same_trigger_at_another_station_is_another_part(ledger: Ledger) -> None:
    for station in ("left", "right"):
        ledger.append_verdict(record("1", State.REVIEW, station=station, views=(), score=None))
    assert ledger.count() == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"views": ()},
        {"score": None},
        {"score": 2.5},
        {"late": True},
        {"cause": "dark"},
        {"views": (View(frame_sha256=None, state=State.GO, score=1.5, reason=""),)},
        {"views": (View(frame_sha256="0" * 64, state=State.GO, score=None, reason=""),), "score": None},
        {"views": (View(frame_sha256="0" * 64, state=State.REVIEW, score=1.5, reason=""),)},
        {"triggered_at": NOON.replace(tzinfo=None)},
        {"station": "two\nlines"},
    ],
)
def test_a_go_that_is_no_completed_judgement_cannot_even_be_written_down(changes: dict[str, Any]) -> None:
    record("1", frame="0" * 64)
    with pytest.raises(ValidationError):
        record("1", frame="0" * 64, **changes)


def test_the_worst_view_decides_and_a_fault_is_worst() -> None:
    assert worst_state([State.GO, State.REVIEW]) is State.REVIEW
    assert worst_state([State.NO_GO, State.REVIEW, State.GO]) is State.NO_GO
    assert worst_state([State.NO_GO, State.FAULT]) is State.FAULT


def test_a_row_never_names_a_frame_that_is_not_stored(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="not stored"):
        ledger.append_verdict(record("1", frame="0" * 64))
    assert ledger.count() == 0


def test_an_action_about_a_row_that_is_not_there_is_refused(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="found row 9"):
        ledger.append_action(Action(action="label", who="anna", about=9))
    last = ledger.append_action(Action(action="label", who="anna"))
    with pytest.raises(LedgerError, match=f"found row {last.seq + 1}"):
        ledger.append_action(Action(action="label", who="anna", about=last.seq + 1))
    assert ledger.append_action(Action(action="label", who="anna", about=last.seq)).seq == last.seq + 1


def test_ordinary_sql_can_neither_change_nor_delete_nor_slip_in_a_row(filled: Path) -> None:
    connection = apsw.Connection(str(filled))
    for statement in (
        "UPDATE entries SET kind = 'action' WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 43",
        "INSERT INTO entries SELECT 99, kind, body, previous, sha256 FROM entries WHERE seq = 2",
        "INSERT OR REPLACE INTO entries (seq, kind, body, previous, sha256) "
        "SELECT seq, 'action', body, previous, sha256 FROM entries WHERE seq = 3",
    ):
        with pytest.raises(apsw.ConstraintError):
            connection.execute(statement)
    connection.close()
    assert verify(filled) == []


def test_every_commit_is_forced_to_the_disk_whatever_the_defaults_of_sqlite(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apsw, "connection_hooks", [lambda connection: connection.pragma("synchronous", "OFF")])
    insert, safe = tables.insert, []

    def insert_first(connection: apsw.Connection, **row: Any) -> str:
        safe.append((connection.pragma("synchronous"), connection.pragma("journal_mode")))
        return insert(connection, **row)

    monkeypatch.setattr(tables, "insert", insert_first)
    with Ledger.open(path) as ledger:
        ledger.append_action(Action(action="login", who="anna"))
    assert safe == [(2, "wal"), (2, "wal")]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_ledger_waits_for_other_writers_and_trusts_no_code_in_its_file(path: Path, read_only: bool) -> None:
    Ledger.open(path).close()
    for options, waits_ms in (({}, 10_000), ({"timeout_s": 2.5}, 2500)):
        with Ledger.open(path, read_only=read_only, **options) as ledger:
            connection = ledger.engine.connection
            assert connection.pragma("busy_timeout") == waits_ms
            assert connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, -1) == 1
            assert connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, -1) == 0
            assert connection.readonly("main") == read_only


def test_a_ledger_that_was_closed_is_of_no_use_anymore(path: Path) -> None:
    with Ledger.open(path) as ledger:
        assert ledger.head().seq == 1
    with pytest.raises(LedgerError, match=r"cannot be read .*closed"):
        ledger.head()


def test_a_reader_sees_what_a_writer_commits_but_cannot_write(filled: Path) -> None:
    with Ledger.open(filled) as writer, Ledger.open(filled, read_only=True) as reader:
        row = writer.append_verdict(record("new", State.REVIEW, views=(), score=None))
        assert reader.row(row.seq) == row
        with pytest.raises(LedgerError, match="nothing was recorded"):
            reader.append_action(Action(action="login", who="anna"))


def test_a_writer_that_waits_too_long_says_so(filled: Path) -> None:
    with Ledger.open(filled) as one, Ledger.open(filled, timeout_s=0.05) as other, one.writing():  # noqa: SIM117
        with pytest.raises(LedgerError, match="another process"):
            other.append_action(Action(action="login", who="anna"))


WRITER = textwrap.dedent("""
    import sys
    from datetime import UTC, datetime
    from gonogo.ledger import Ledger, VerdictRecord
    from gonogo.schema import State
    path, station, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    with Ledger.open(path) as ledger:
        for number in range(count):
            ledger.frames.put(f"{station} {number}".encode())
            record = VerdictRecord(
                station=station, trigger_id=str(number), state=State.REVIEW, score=None, reason="",
                triggered_at=datetime.now(UTC))
            print(ledger.append_verdict(record).seq, flush=True)
""")


def start_writer(path: Path, station: str, count: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WRITER, str(path), station, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_several_processes_make_and_append_to_one_ledger(path: Path) -> None:
    writers = [start_writer(path, station, 60) for station in ("left", "right", "middle")]
    told = [int(line) for writer in writers for line in writer.communicate()[0].split()]
    assert sorted(told) == list(range(2, 182))
    assert verify(path) == []
    with Ledger.open(path) as ledger:
        assert ledger.tally((By.STATION,)) == {("left",): 60, ("middle",): 60, ("right",): 60}


@pytest.mark.slow
def test_a_killed_writer_loses_nothing_that_it_told_of(path: Path) -> None:
    for kill in range(3):
        writer = start_writer(path, f"station-{kill}", 100_000)
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(20)]
        os.kill(writer.pid, signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        writer.wait()
        writer.stdout.close()
        assert verify(path) == []
        with Ledger.open(path) as ledger:
            assert all(ledger.row(seq) is not None for seq in told)


# Frames


def test_a_frame_is_stored_once_under_the_hash_of_its_bytes(ledger: Ledger) -> None:
    digest = ledger.frames.put(b"picture")
    assert ledger.frames.put(b"picture") == digest == hashlib.sha256(b"picture").hexdigest()
    assert [each.name for each in ledger.frames.root.rglob("*") if each.is_file()] == [digest]
    assert ledger.frames.read(digest) == b"picture"


def test_a_decoded_frame_comes_back_bit_equal(ledger: Ledger, frame: Frame) -> None:
    np.testing.assert_array_equal(ledger.frames.load(ledger.frames.put_frame(frame)), frame)


def test_a_changed_frame_is_not_given_out(ledger: Ledger) -> None:
    digest = ledger.frames.put(b"picture")
    ledger.frames.path(digest).write_bytes(b"pixture")
    with pytest.raises(LedgerError, match="changed after it was stored"):
        ledger.frames.read(digest)


def test_a_frame_cut_short_by_a_broken_disk_is_stored_anew(ledger: Ledger) -> None:
    digest = ledger.frames.put(b"picture")
    ledger.frames.path(digest).write_bytes(b"pict")
    ledger.frames.put(b"picture")
    assert ledger.frames.read(digest) == b"picture"


def test_a_frame_cannot_be_asked_for_outside_its_folder(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="expected a frame's SHA-256"):
        ledger.frames.read("../../../../etc/passwd")


def test_a_full_disk_leaves_no_frame_behind(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LedgerError, match="No space left on device"):
        ledger.frames.put(b"picture")
    assert not [each for each in ledger.frames.root.rglob("*") if each.is_file()]


# Asking


CONDITIONS = [
    Where(),
    Where(states=(State.NO_GO, State.FAULT)),
    Where(station="station-1", states=(State.REVIEW,)),
    Where(lot="lot-3"),
    Where(lot="lot-3", states=(State.NO_GO,), station="station-0"),
    Where(part="part-77"),
    Where(cause="late"),
    Where(since=datetime(2026, 1, 5, 6, 20, tzinfo=UTC), until=datetime(2026, 1, 5, 7, tzinfo=UTC)),
    Where(states=(State.REVIEW,), undecided=True),
]


def matches(ledger: Ledger, where: Where, row: Any) -> bool:
    entry = row.record
    return (
        (where.station in (None, entry.station) and where.lot in (None, entry.lot) and where.part in (None, entry.part))
        and (not where.states or entry.state in where.states)
        and where.cause in (None, entry.cause)
        and (where.since is None or row.at >= where.since)
        and (where.until is None or row.at < where.until)
        and not (where.undecided and ledger.decision(row.seq) is not None)
    )


@pytest.mark.parametrize("where", CONDITIONS)
def test_conditions_find_the_rows_that_fulfil_them_and_no_others(large: Ledger, where: Where) -> None:
    expected = [row for row in large.verdicts() if matches(large, where, row)]
    assert expected
    assert list(large.verdicts(where)) == expected
    assert list(large.verdicts(where, newest_first=True, limit=5)) == expected[::-1][:5]
    assert large.count(where) == len(expected)
    assert large.tally((By.HOUR, By.STATE), where) == Counter(
        (f"{row.at:%Y-%m-%dT%H}", row.record.state.value) for row in expected
    )


def test_the_index_that_leaves_the_fewest_rows_is_used(filled: Path) -> None:
    def plan(found: Callable[[Ledger], Any]) -> list[str]:
        with Ledger.open(filled) as ledger:
            connection, ask, plans = ledger.engine.connection, ledger.engine.ask, []

            def explain(sql: str, values: Any) -> Any:
                plans.extend(row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", values))
                return ask(sql, values)

            ledger.engine.ask = explain
            found(ledger)
            return plans

    some = Where(since=NOON, until=NOON, station="left", states=(State.GO,))
    by_number = "SEARCH entries USING INDEX {} ({}=? AND rowid>? AND rowid<?)"
    assert plan(lambda ledger: list(ledger.verdicts(some))) == [by_number.format("entries_kind", "kind")]
    counting = plan(lambda ledger: ledger.tally((By.STATE,), some))
    assert counting[0] == "SEARCH entries USING INDEX entries_tally (kind=? AND at>? AND at<?)"
    lot = Where(lot="a", states=(State.GO,))
    assert plan(lambda ledger: list(ledger.verdicts(lot))) == [by_number.format("entries_lot", "lot")]
    assert plan(lambda ledger: ledger.tally((By.LOT,), lot)) == ["SEARCH entries USING INDEX entries_lot (lot=?)"]
    assert plan(lambda ledger: ledger.decision(4))[0] == "SEARCH entries USING INDEX entries_about (about=?)"


def test_a_condition_for_another_database_has_no_hints_and_plain_values(filled: Path) -> None:
    where = Where(station="left", states=(State.GO,), about=4, label=Label.BAD, since=NOON)
    with Ledger.open(filled) as ledger:
        engine = ledger.engine
        assert "+station" in where.sql(engine, RowKind.ACTION)[0]
        engine.hints = False
        condition, values = where.sql(engine, RowKind.ACTION)
    assert "+" not in condition
    assert values == {
        "kind": "action", "station": "left", "about": 4, "label": "bad", "since": "2026-03-02T12:00:00.000000Z",
        "state_0": "go",
    }  # fmt: skip
    assert {name: type(value) for name, value in values.items()} == dict.fromkeys(values, str) | {"about": int}


def test_rows_can_be_read_on_from_any_number(large: Ledger) -> None:
    everything = list(large.rows())
    assert [row.seq for row in everything] == list(range(1, len(everything) + 1))
    assert list(large.rows(after=2000)) == everything[2000:]
    assert list(large.rows(after=10, before=1500)) == everything[10:1499]
    assert list(large.rows(before=1500, newest_first=True, limit=1200)) == everything[298:1499][::-1][:1200]


@pytest.mark.parametrize("limit", [None, 0, 1, 6, 7, 8, 14, 20])
def test_pages_join_without_a_gap_or_a_double(filled: Path, limit: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(filled) as ledger:
        everything = list(ledger.rows())
        monkeypatch.setattr(store, "_PAGE", 7)
        assert list(ledger.rows(limit=limit)) == everything[:limit]
        assert list(ledger.rows(limit=limit, newest_first=True)) == everything[::-1][:limit]
        assert list(ledger.rows(after=3, before=20, limit=limit)) == everything[3:19][:limit]
        assert list(ledger.rows(after=3, before=20, limit=limit, newest_first=True)) == everything[3:19][::-1][:limit]
        assert [row.seq for row in ledger.stored(after=5, limit=8)] == list(range(6, 14))
        assert [row.seq for row in ledger.actions(newest_first=True, limit=1)] == [everything[-1].seq]
        assert [row.seq for row in ledger.actions(before=everything[-1].seq)] == [everything[-2].seq]
        assert [row.seq for row in ledger.actions(after=everything[-2].seq)] == [everything[-1].seq]
        assert [row.seq for row in ledger.verdicts(after=4, before=7)] == [5, 6]


def test_only_the_last_review_of_a_part_counts_and_it_can_be_taken_back(ledger: Ledger) -> None:
    doubtful = Where(states=(State.REVIEW,), undecided=True)
    bad = Where(action=REVIEW, label=Label.BAD, latest=True)
    for number in range(9):
        ledger.append_verdict(record(str(number), State.REVIEW, views=(), score=None))
    ledger.append_action(Action(action=REVIEW, who="anna", about=4, label=Label.BAD, defect="crack"))
    ledger.append_action(Action(action="challenge", who="line", about=4))
    assert ledger.decision(4) is not None
    assert (ledger.count(), ledger.count(kind=RowKind.ACTION)) == (9, 2)
    assert ledger.count(doubtful) == 8
    assert ledger.tally((By.DEFECT,), bad, kind=RowKind.ACTION) == {("crack",): 1}
    ledger.append_action(Action(action=REVIEW, who="ben", about=4))
    assert ledger.decision(4) is None
    assert ledger.count(doubtful) == 9
    assert ledger.tally((By.DEFECT,), bad, kind=RowKind.ACTION) == {}
    again = ledger.append_action(Action(action=REVIEW, who="ben", about=4, label=Label.BAD, defect="hole"))
    assert ledger.decision(4) == again
    assert ledger.tally((By.DEFECT,), bad, kind=RowKind.ACTION) == {("hole",): 1}


def test_groups_come_in_order_with_the_unnamed_first(ledger: Ledger) -> None:
    for number, lot in enumerate(("b", None, "B", "a", "\N{LATIN SMALL LETTER A WITH DIAERESIS}", None)):
        ledger.append_verdict(record(str(number), State.REVIEW, views=(), score=None, lot=lot))
    found = ledger.tally((By.LOT,))
    assert list(found.items()) == [((None,), 2), (("B",), 1), (("a",), 1), (("b",), 1), (("\xe4",), 1)]


@pytest.mark.parametrize(
    ("where", "index"),
    [
        (Where(), "entries_tally (kind=?)"),
        (Where(since=NOON, station="left"), "entries_tally (kind=? AND at>?)"),
        (Where(lot="7"), "entries_lot (lot=?)"),
        (Where(part="7", since=NOON), "entries_part (part=?)"),
    ],
)
def test_rows_are_counted_by_the_index_that_finds_them(
    path: Path, where: Where, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Ledger.open(path) as ledger:
        ask, asked = ledger.engine.ask, []

        def explained(sql: str, values: Any) -> Any:
            (step, *_) = ask(f"EXPLAIN QUERY PLAN {sql}", values)
            asked.append(step[-1].rpartition(" INDEX ")[2])
            return ask(sql, values)

        monkeypatch.setattr(ledger.engine, "ask", explained)
        ledger.tally((By.HOUR, By.STATE), where)
        ledger.count(where)
    assert asked == [index, index]


# Opening


def test_a_sqlite_that_can_corrupt_the_log_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LedgerError, match=r"3\.51\.3 or newer.*found 3\.51\.2"):
        tables.require_safe_sqlite("3.51.2")
    tables.require_safe_sqlite("3.51.3")
    tables.require_safe_sqlite("3.100.0")
    Ledger.open(path).close()
    monkeypatch.setattr(tables, "SAFE_SQLITE", (99,))
    for each in (path, tmp_path / "new.ledger"):
        with pytest.raises(LedgerError, match="expected SQLite 99 or newer"):
            Ledger.open(each)
    assert not (tmp_path / "new.ledger").exists()


def test_a_new_ledger_makes_its_folder_for_whom_the_system_says(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with Ledger.open(tmp_path / "line" / "left" / "line.ledger") as ledger:
            assert ledger.head().seq == 1
    finally:
        os.umask(before)
    for folder in (tmp_path / "line", tmp_path / "line" / "left"):
        assert folder.stat().st_mode & 0o7777 == 0o750


@pytest.mark.slow
def test_without_its_extra_the_command_says_what_to_install(path: Path) -> None:
    code = "import sys; sys.modules['apsw'] = None; from gonogo.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "ledger", "verify", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "gonogo[line]" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_second_look_at_a_ledger_drops_no_lock_of_the_first(filled: Path) -> None:
    def locked() -> bool:
        inode = f":{filled.stat().st_ino} "
        return any(
            f" {os.getpid()} " in line and inode in line for line in Path("/proc/locks").read_text().splitlines()
        )

    with Ledger.open(filled) as ledger:
        ledger.append_action(Action(action="login", who="anna"))
        assert locked()
        Ledger.open(filled, read_only=True).close()
        assert verify(filled) == []
        assert locked()


@pytest.mark.slow
def test_what_is_no_ledger_is_bad_input(tmp_path: Path) -> None:
    text, short, empty, other = (tmp_path / name for name in ("text.ledger", "short.ledger", "empty", "other.db"))
    text.write_text("SQLite? no, and longer than the beginning of such a file")
    short.write_text("SQLite? no")
    empty.touch()
    connection = apsw.Connection(str(other))
    connection.execute("CREATE TABLE bookmarks (url TEXT)")
    connection.close()
    for path, told in (
        (text, "another kind of file"),
        (short, "another kind of file"),
        (empty, "another kind of file"),
        (other, "another schema"),
        (tmp_path / "missing.ledger", "No such file"),
        (tmp_path, "expected a regular file, found a folder"),
    ):
        for read_only in (False, True):
            with pytest.raises(LedgerError, match=f"{path.name}: .*{told}"):
                Ledger.open(path, create=False, read_only=read_only)
        assert run("ledger", "verify", path)[0] == 2
        assert run("ledger", "list", path)[0] == 2
    assert empty.stat().st_size == 0


def test_a_ledger_with_a_changed_schema_is_not_opened_for_use(filled: Path) -> None:
    connection = apsw.Connection(str(filled))
    connection.execute("DROP TRIGGER entries_no_delete")
    connection.close()
    with pytest.raises(LedgerError, match="gonogo ledger verify"):
        Ledger.open(filled)
    assert {finding.flaw for finding in verify(filled)} == {Flaw.SCHEMA}


# Tampering


def test_an_untouched_ledger_is_clean_even_while_it_grows(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        ledger.append_action(Action(action="login", who="anna"))
        assert verify(filled, frames=True) == []


def test_the_findings_are_of_one_moment_though_rows_are_appended_while_it_is_read(filled: Path) -> None:
    def append(seq: int, sha256: str, record: Any) -> tuple[str, ...]:
        line.append_action(Action(action="login", who="anna"))
        return ()

    with Ledger.open(filled) as line:
        assert verify(filled, also=append) == []
        assert line.head().seq == 43 * 2
    assert verify(filled) == []


def test_verification_changes_nothing_and_leaves_the_file_closed(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connection = apsw.Connection(str(filled))
    connection.pragma("journal_mode", "delete")  # the file of a ledger that was copied elsewhere
    connection.close()
    before, made, connect = filled.read_bytes(), [], tables.connect

    def connected(*arguments: Any, **options: Any) -> apsw.Connection:
        made.append(connect(*arguments, **options))
        return made[-1]

    monkeypatch.setattr(tables, "connect", connected)
    assert verify(filled) == []
    assert filled.read_bytes() == before
    with pytest.raises(apsw.ConnectionClosedError):
        made[0].pragma("user_version")


def test_a_ledger_is_not_called_damaged_because_sqlite_is_too_old(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(apsw, "sqlite_lib_version", lambda: "3.51.2")
    with pytest.raises(LedgerError, match=r"expected SQLite 3\.51\.3 or newer"):
        verify(filled)


def test_an_index_that_lacks_a_row_is_damage(filled: Path) -> None:
    def with_schema(statement: str, values: tuple[Any, ...] = ()) -> list[Any]:
        connection = apsw.Connection(str(filled))
        connection.execute("PRAGMA writable_schema = ON")
        found = list(connection.execute(statement, values))
        connection.close()
        return found

    (index,) = with_schema("SELECT * FROM sqlite_schema WHERE name = 'entries_lot'")
    with_schema("DELETE FROM sqlite_schema WHERE name = 'entries_lot'")
    connection = apsw.Connection(str(filled))
    ((last, previous),) = connection.execute("SELECT seq, sha256 FROM entries ORDER BY seq DESC LIMIT 1")
    body = body_of(record("new", State.REVIEW, views=(), score=None, lot="a"), NOON)
    tables.insert(connection, seq=last + 1, kind=RowKind.VERDICT, body=body, previous=previous)
    connection.close()
    with_schema("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", index)
    (finding,) = verify(filled)
    assert (finding.flaw, finding.seq, finding.what) == (Flaw.DAMAGED, None, "row 44 missing from index entries_lot")


@pytest.mark.slow
def test_150_random_edits_are_all_found_and_none_on_the_untouched_file(filled: Path) -> None:
    found = survey(filled, edits=150, seed=11)
    assert (found.found, found.missed, found.false_alarms) == (150, (), 0)
    assert len(found.by_edit) == 11


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_1000_random_edits_are_all_found_and_none_on_the_untouched_file(path: Path) -> None:
    with Ledger.open(path) as ledger:
        fill(ledger, rows=300, seed=4)
    found = survey(path, edits=1000, seed=12)
    assert (found.found, found.missed, found.false_alarms) == (1000, (), 0)


def test_a_finding_names_the_row_and_leaves_the_others_in_peace(filled: Path) -> None:
    tampered(filled, """UPDATE entries SET body = replace(body, '"no_go"', '"go"') WHERE seq = 7""")
    (finding,) = verify(filled)
    assert (finding.flaw, finding.seq) == (Flaw.EDITED, 7)


def test_deleted_rows_are_named(filled: Path) -> None:
    tampered(filled, "DELETE FROM entries WHERE seq IN (5, 6)")
    (finding,) = verify(filled)
    assert (finding.flaw, finding.seq) == (Flaw.MISSING, 7)
    assert "rows 5 to 6" in finding.what


def test_only_an_anchor_shows_an_end_that_was_cut_by_somebody_who_knows_of_the_counter(
    filled: Path, tmp_path: Path
) -> None:
    with Ledger.open(filled) as ledger:
        publish_anchor(ledger, tmp_path / "anchors")
    tampered(filled, "DELETE FROM entries WHERE seq > 40")
    assert [finding.flaw for finding in verify(filled)] == [Flaw.MISSING]
    tampered(filled, "UPDATE sqlite_sequence SET seq = 40")
    assert verify(filled) == []
    assert [finding.flaw for finding in verify(filled, anchors=read_anchors(tmp_path / "anchors"))] == [Flaw.MISSING]
    with Ledger.open(filled) as ledger, pytest.raises(UnfitError, match="row 43"):
        publish_anchor(ledger, tmp_path / "anchors")
    assert len(read_anchors(tmp_path / "anchors")) == 1


def test_an_anchor_holds_while_the_ledger_grows_on(filled: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    with Ledger.open(filled) as ledger:
        for number in range(3):
            publish_anchor(ledger, anchors)
            ledger.append_verdict(record(f"later {number}", State.REVIEW, views=(), score=None))
    assert [anchor.seq for anchor in read_anchors(anchors)] == [43, 44, 45]
    assert verify(filled, anchors=read_anchors(anchors)) == []


def test_an_anchor_is_on_the_disk_with_its_folder_when_it_is_published(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    anchors = tmp_path / "anchors"
    synced: list[tuple[Path, int]] = []
    with Ledger.open(path) as ledger:
        monkeypatch.setattr(os, "fsync", lambda file: synced.append((path_of(file), anchors.stat().st_size)))
        publish_anchor(ledger, anchors)
        publish_anchor(ledger, anchors)
    size = anchors.stat().st_size
    assert synced == [(place, done) for done in (size // 2, size) for place in (anchors, tmp_path)]
    anchors.write_text(f"{anchors.read_text()}\nnonsense\n")
    with pytest.raises(InputError, match="anchors, line 4: expected an anchor"):
        read_anchors(anchors)


def path_of(file: int) -> Path:
    return Path(f"/proc/self/fd/{file}").readlink()


@pytest.mark.parametrize("text", ["", "nonsense\n", '{"seq": 0}\n', '{"seq": 1, "sha256": "ab"'])
def test_a_malformed_anchor_file_is_bad_input(filled: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "anchors").write_text(text)
    assert run("ledger", "verify", filled, "--anchor", tmp_path / "anchors")[0] == 2


@pytest.mark.parametrize(
    "statement",
    [
        "DROP INDEX entries_tally",
        "DROP TRIGGER entries_follow",
        "CREATE VIEW report AS SELECT 'go' AS state",
        "CREATE TRIGGER hush AFTER INSERT ON entries BEGIN SELECT 1; END",
        "PRAGMA application_id = 7",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = replace(sql, '$.record.state', '$.at') "
        "WHERE name = 'entries'",
        "DELETE FROM sqlite_sequence",
        "DROP TABLE entries",
        "ALTER TABLE entries RENAME TO elsewhere",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = 'entries'",
        "PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 77 WHERE name = 'entries'",
    ],
)
def test_a_changed_schema_is_a_finding(filled: Path, statement: str) -> None:
    tampered_connection = apsw.Connection(str(filled))
    tampered_connection.execute(statement)
    tampered_connection.close()
    assert verify(filled)


@pytest.mark.slow
def test_flipped_bytes_are_found_or_hit_nothing_that_is_read(
    filled: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    def content(path: Path) -> list[tuple[Any, ...]]:
        connection = apsw.Connection(str(path))
        try:
            return list(connection.execute("SELECT * FROM entries ORDER BY seq"))
        finally:
            connection.close()

    original, data = content(filled), filled.read_bytes()
    copy = tmp_path / "flipped.ledger"
    unnoticed = 0
    for place in rng.integers(len(tables.MAGIC), len(data), 120):
        flipped = bytearray(data)
        flipped[place] ^= 1 << int(rng.integers(8))
        copy.write_bytes(flipped)
        if not verify(copy):
            unnoticed += 1
            assert content(copy) == original
    assert unnoticed < 120


def test_a_file_cut_in_half_is_a_finding(filled: Path) -> None:
    data = filled.read_bytes()
    filled.write_bytes(data[: len(data) // 2])
    assert {finding.flaw for finding in verify(filled)} & {Flaw.DAMAGED, Flaw.MISSING}


def test_a_missing_or_changed_frame_is_found_when_frames_are_checked(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        digests = [str(row.record.views[0].frame_sha256) for row in ledger.verdicts(limit=2)]
        ledger.frames.remove(digests[0])
        ledger.frames.path(digests[1]).write_bytes(b"other")
    assert verify(filled) == []
    assert [(each.flaw, each.seq) for each in verify(filled, frames=True)] == [(Flaw.FRAME, 2), (Flaw.FRAME, 3)]


# Retention


def later(days: float) -> datetime:
    return datetime.now(UTC) + timedelta(days=days)


def stored(ledger: Ledger) -> set[int]:
    """The rows whose frames are there."""
    return {row.seq for row in ledger.verdicts() if ledger.frames.holds(str(row.record.views[0].frame_sha256))}


def test_old_frames_go_their_rows_stay_and_nothing_looks_tampered(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        before = list(ledger.rows())
        assert retain(ledger, Policy(keep_days=30), who="anna", now=later(29)).deleted == 0
        dry = retain(ledger, Policy(keep_days=30), who="anna", now=later(31), dry_run=True)
        assert stored(ledger) == {row.seq for row in ledger.verdicts()}
        done = retain(ledger, Policy(keep_days=30), who="anna", now=later(31))
        waiting = {row.seq for row in ledger.verdicts(Where(states=(State.REVIEW,), undecided=True))}
        assert stored(ledger) == waiting
        assert (done.deleted, done.kept) == (32, 8)
        assert done == dry
        *rows, tombstone = ledger.rows()
        assert rows == before
        assert isinstance(tombstone.record, Tombstone)
        assert len(tombstone.record.frames_sha256) == 32
        assert retain(ledger, Policy(keep_days=30), who="anna", now=later(31)).deleted == 0
    assert verify(filled, frames=True) == []


def test_frames_of_bad_parts_stay_when_told_so(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        retain(ledger, Policy(keep_days=1, keep_bad=True), who="anna", now=later(2))
        states = {row.seq: row.record.state for row in ledger.verdicts()}
        assert stored(ledger) == {
            seq for seq, state in states.items() if state in (State.NO_GO, State.REVIEW) and seq != 8
        }


def test_a_frame_goes_once_it_is_older_than_the_days_and_not_at_that_very_moment(path: Path) -> None:
    with Ledger.open(path, now=lambda: NOON) as ledger:
        named, stray = ledger.frames.put(b"named"), ledger.frames.put(b"of no row")
        os.utime(ledger.frames.path(stray), (NOON.timestamp(), NOON.timestamp()))
        ledger.append_verdict(record("1", frame=named))
        for late, deleted in ((0, 0), (1, 2)):
            now = NOON + timedelta(days=5, microseconds=late)
            assert retain(ledger, Policy(keep_days=5), who="anna", now=now).deleted == deleted


def test_only_a_review_decides_and_the_last_one_counts(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        waiting = [row.seq for row in ledger.verdicts(Where(states=(State.REVIEW,), undecided=True))]
        ledger.append_action(Action(action="label", who="anna", about=waiting[0], label=Label.GOOD))
        for label in (Label.GOOD, None):
            ledger.append_action(Action(action=REVIEW, who="anna", about=waiting[1], label=label))
        for label in (None, Label.GOOD):
            ledger.append_action(Action(action=REVIEW, who="anna", about=waiting[2], label=label))
        retain(ledger, Policy(keep_days=1), who="anna", now=later(2))
        assert sorted(stored(ledger)) == [*waiting[:2], *waiting[3:]]


def test_old_files_that_no_row_names_go_too(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        stray, young = ledger.frames.put(b"its station died"), ledger.frames.put(b"its row is on the way")
        cut_off = ledger.frames.path(stray).with_name(".cut.off")
        cut_off.write_bytes(b"half")
        for path in (ledger.frames.path(stray), cut_off):
            os.utime(path, (0, 0))
        before = len(list(ledger.frames.files()))
        policy = Policy(keep_days=30)
        foreseen = retain(ledger, policy, who="cron", dry_run=True)
        assert (foreseen.deleted, foreseen.kept) == (2, before - 3)
        assert retain(ledger, policy, who="cron").deleted == 2
        assert (ledger.frames.holds(stray), ledger.frames.holds(young)) == (False, True)
        assert len(list(ledger.frames.files())) == before - 2
        assert not list(ledger.rows(kind=RowKind.TOMBSTONE))
    assert verify(filled, frames=True) == []


def test_a_frame_that_a_younger_row_shares_stays(path: Path) -> None:
    moments = iter([NOON, NOON + timedelta(days=10), *[NOON + timedelta(days=20)] * 9])
    with Ledger.open(path, now=lambda: next(moments)) as ledger:
        frame = ledger.frames.put(b"the same picture")
        ledger.append_verdict(record("old", frame=frame))
        ledger.append_verdict(record("young", frame=frame))
        assert retain(ledger, Policy(keep_days=5), who="anna", now=NOON + timedelta(days=14)).deleted == 0
        assert retain(ledger, Policy(keep_days=5), who="anna", now=NOON + timedelta(days=16)).deleted == 1
        frame = ledger.frames.put(b"the same picture")
        ledger.append_verdict(record("back again", frame=frame))
        ledger.frames.remove(frame)
        assert [each.flaw for each in verify(path, frames=True)] == [Flaw.FRAME]


def test_a_frame_named_by_a_new_row_while_retention_runs_stays(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Ledger.open(filled) as ledger, Ledger.open(filled) as line:
        frame = str(next(ledger.verdicts()).record.views[0].frame_sha256)
        entomb = ledger.append_tombstone

        def meanwhile(tombstone: Tombstone) -> Any:
            line.append_verdict(record("meanwhile", frame=frame))
            return entomb(tombstone)

        monkeypatch.setattr(ledger, "append_tombstone", meanwhile)
        assert retain(ledger, Policy(keep_days=1), who="anna", now=later(2)).deleted == 31
        assert ledger.frames.holds(frame)


def test_frames_go_in_batches_each_behind_its_tombstone(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "_BATCH", 10)
    with Ledger.open(filled) as ledger:
        sizes = {path.name: path.stat().st_size for path in ledger.frames.files()}
        for number in range(23):
            stray = ledger.frames.put(f"nobody's frame {number}".encode())
            sizes[stray] = ledger.frames.path(stray).stat().st_size
            os.utime(ledger.frames.path(stray), (0, 0))
        before = {path.name for path in ledger.frames.files()}
        dry = retain(ledger, Policy(keep_days=1), who="anna", now=later(2), dry_run=True)
        done = retain(ledger, Policy(keep_days=1, keep_bad=False), who="anna", now=later(2))
        gone = before - {path.name for path in ledger.frames.files()}
        tombstones = [row.record for row in ledger.rows(kind=RowKind.TOMBSTONE)]
    assert done == dry
    assert (done.deleted, done.freed_bytes, done.kept) == (32 + 23, sum(sizes[name] for name in gone), 8)
    assert [len(each.frames_sha256) for each in tombstones] == [10, 10, 10, 2]  # type: ignore[union-attr]
    assert {(each.who, each.policy) for each in tombstones} == {("anna", "keep 1 days")}  # type: ignore[union-attr]
    assert str(Policy(keep_days=2.5, keep_bad=True)) == "keep 2.5 days, keep bad parts"


def test_frames_that_a_centre_or_a_destination_still_needs_stay(filled: Path) -> None:
    def kept_and_waiting() -> tuple[int, int]:
        found = retain(ledger, Policy(keep_days=1), who="anna", now=later(2))
        return found.kept, found.unforwarded

    with Ledger.open(filled) as ledger:
        expect_forwarding(filled)
        assert read_mark(filled) == Mark(seq=0)
        expect_publishing(filled, "left", {"erp": True, "mail": False})
        assert kept_and_waiting() == (40, 32)
        write_mark(filled, Mark(seq=21))  # rows 2 to 21, of which three wait for a person
        expect_forwarding(filled)
        assert read_mark(filled) == Mark(seq=21), "it is not begun anew"
        assert kept_and_waiting() == (40, 32), "the destination has none yet"
        write_cursor(cursor_path(filled, "left", "erp"), Cursor(seq=11, pictures=True))
        assert unpublished_after(filled) == 11
        assert kept_and_waiting() == (40 - 10, 32 - 10)
        write_cursor(cursor_path(filled, "left", "erp"), Cursor(seq=30, pictures=True))
        assert kept_and_waiting() == (40 - 17, 32 - 17), "now the centre has fewer rows"
        expect_publishing(filled, "left", {"mail": False})
        assert (unpublished_after(filled), read_cursor(cursor_path(filled, "left", "mail"))) == (None, None)
        write_mark(filled, Mark(seq=99))
        assert kept_and_waiting() == (8, 0)
    assert verify(filled, frames=True) == []


def test_a_cursor_or_a_mark_that_cannot_be_read_stops_retention(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        expect_publishing(filled, "left", {"erp": True})
        cursor_path(filled, "left", "erp").write_text("{}{")
        with pytest.raises(LedgerError, match="how far a destination"):
            retain(ledger, Policy(keep_days=1), who="anna", now=later(2))
        cursor_path(filled, "left", "erp").unlink()
        mark_path(filled).write_text('{"seq": -1}')
        with pytest.raises(LedgerError, match="the mark of a forwarded ledger"):
            retain(ledger, Policy(keep_days=1), who="anna", now=later(2))
        assert len(stored(ledger)) == 40
    for days in (0.99, 100_000, float("nan")):
        with pytest.raises(InputError, match="keep_days"):
            Policy(keep_days=days)


def test_a_cursor_and_a_mark_are_small_files_for_this_user_alone(filled: Path) -> None:
    expect_publishing(filled, "left", {"erp": True})
    expect_forwarding(filled)
    for kept, read in (
        (cursor_path(filled, "left", "erp"), lambda: read_cursor(cursor_path(filled, "left", "erp"))),
        (mark_path(filled), lambda: read_mark(filled)),
    ):
        assert kept.stat().st_mode & 0o777 == 0o600
        text = kept.read_text()
        kept.write_text(text.ljust(MOST_SETTINGS_BYTES))
        assert read() is not None
        kept.write_text(text.ljust(MOST_SETTINGS_BYTES + 1))
        with pytest.raises(LedgerError, match="more than the 1,000,000 allowed"):
            read()


# Samples


def test_a_sample_is_drawn_by_the_hashes_of_judged_parts_and_ends_at_its_size(path: Path) -> None:
    with Ledger.open(path) as ledger:
        for name, one_in, parts, most_bad in (("a", 0, 1, 0.1), ("a", 1, 0, 0.1), ("a", 1, 1, 0.0), ("a", 1, 1, 1.0)):
            with pytest.raises(InputError, match="sample a: expected one part in at least 1"):
                schedule_sample(ledger, name, one_in=one_in, parts=parts, most_bad=most_bad, who="anna")
        ledger.append_verdict(record("before", State.REVIEW, views=(), score=None))
        every = schedule_sample(ledger, "every", one_in=1, parts=1000, most_bad=0.1, who="anna")
        third = schedule_sample(ledger, "third", one_in=3, parts=4, most_bad=0.2, who="anna")
        for number in range(40):
            state = State.FAULT if number % 5 == 0 else State.REVIEW
            sha256 = ("a" if number % 2 else "b") * 64
            row = ledger.append_verdict(record(str(number), state, views=(), score=None, bundle_sha256=sha256))
            if number == 7:
                ledger.append_action(Action(action="challenge", who="line", about=row.seq))
        judged = [
            row
            for row in ledger.verdicts(after=every.row)
            if row.record.state is not State.FAULT and row.record.trigger_id != "7"
        ]
        assert len(judged) == 31
        assert list(sampled_parts(ledger, every)) == judged
        only_a = list(sampled_parts(ledger, every, bundles={"a" * 64}))
        assert only_a == [row for row in judged if row.record.bundle_sha256 == "a" * 64]
        numbers = [int(hashlib.sha256(f"{third.row_sha256}\n{row.sha256}".encode()).hexdigest(), 16) for row in judged]
        by_hand = [row for row, number in zip(judged, numbers, strict=True) if number % 3 == 0]
        assert list(sampled_parts(ledger, third)) == by_hand[:4]
        assert find_schedule(ledger, "third") == third
        assert (third.one_in, third.parts, third.most_bad, third.row) == (3, 4, 0.2, every.row + 1)
        with pytest.raises(InputError, match=r"expected one of the samples in .* \(every, third\)"):
            find_schedule(ledger, "none")
        with pytest.raises(InputError, match="this name already"):
            schedule_sample(ledger, "every", one_in=1, parts=1, most_bad=0.1, who="anna")


def test_a_schedule_that_lacks_a_number_is_named_by_its_row(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        row = ledger.append_action(Action(action="sample_scheduled", who="anna", details={"name": "odd", "one_in": 2}))
        with pytest.raises(InputError, match=rf"row {row.seq}: not the schedule of a sample \('parts'\)"):
            find_schedule(ledger, "odd")


# Checking rows of any database


def test_rows_are_checked_one_after_the_other_whatever_they_hold(filled: Path) -> None:
    with Ledger.open(filled) as ledger:
        rows = [
            (row.seq, row.kind, row.body.encode(), row.previous, row.sha256) for row in ledger.stored(after=0, limit=99)
        ]
        other = Anchor(seq=3, sha256="0" * 64, at=NOON)

    def found(*chosen: tuple[int, str, bytes, str, str], anchors: tuple[Anchor, ...] = ()) -> list[tuple[Flaw, int]]:
        checks = RowChecks(anchors)
        for row in chosen:
            checks.check_row(*row)
        checks.check_anchors()
        return [(each.flaw, each.seq or 0) for each in checks.findings]

    assert found(*rows) == []
    assert found(*rows[:5], *rows[7:9]) == [(Flaw.MISSING, 8)]
    assert found(*rows[1:3]) == [(Flaw.MISSING, 2)]
    assert found(*rows[:4], anchors=(other,)) == [(Flaw.ANCHOR, 3)]
    assert found(*rows[:2], anchors=(other,)) == [(Flaw.MISSING, 3)]
    assert found(*rows[:3], anchors=(other.model_copy(update={"sha256": rows[2][4]}),)) == []
    seq, kind, body, previous, digest = rows[1]
    assert found(rows[0], (seq, kind, body + b" ", previous, digest)) == [(Flaw.EDITED, 2)]
    assert found(rows[0], (seq, kind, body, "x", row_hash("x", seq, kind, body))) == [
        (Flaw.EDITED, 2), (Flaw.BROKEN, 2),
    ]  # fmt: skip
    elsewhere = "1" * 64
    assert found(rows[0], (seq, kind, body, elsewhere, row_hash(elsewhere, seq, kind, body))) == [(Flaw.BROKEN, 2)]
    opening = rows[0][1:3]
    assert found(rows[0], (2, *opening, previous, row_hash(previous, 2, *opening))) == [(Flaw.MALFORMED, 2)]
    start = rows[0][3]
    assert found((1, kind, body, start, row_hash(start, 1, kind, body))) == [(Flaw.MALFORMED, 1)]
    assert found(rows[0], (2, kind, b"{}", previous, row_hash(previous, 2, kind, b"{}"))) == [(Flaw.MALFORMED, 2)]


# Export and commands


def test_an_export_holds_every_row_and_proves_itself(filled: Path, tmp_path: Path) -> None:
    with Ledger.open(filled) as ledger:
        ledger.append_verdict(record("=1+1", State.REVIEW, views=(), score=None))
        rows = list(ledger.rows())
        assert export(ledger, tmp_path / "rows.csv") == export(ledger, tmp_path / "rows.parquet") == len(rows)
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        from_csv = list(csv.DictReader(file))
    from_parquet = pq.read_table(tmp_path / "rows.parquet").to_pylist()
    previous = "0" * 64
    for row, cells, typed in zip(rows, from_csv, from_parquet, strict=True):
        assert cells["body"] == typed["body"] == row.body
        previous = row_hash(previous, int(cells["seq"]), cells["kind"], cells["body"].encode())
        assert previous == cells["sha256"] == typed["sha256"]
        assert typed["at"] == row.at
        if isinstance(row.record, VerdictRecord):
            told = (typed["state"], typed["score"], typed["lot"])
            assert told == (row.record.state, row.record.score, row.record.lot)
    assert from_csv[-1]["trigger_id"] == "'=1+1"  # a spreadsheet must not run it
    assert from_parquet[-1]["trigger_id"] == "=1+1"


def test_an_export_keeps_texts_as_they_are_and_ends_with_the_row_that_was_last_when_it_began(
    filled: Path, tmp_path: Path
) -> None:
    with Ledger.open(filled) as ledger, Ledger.open(filled) as line:
        ledger.append_action(Action(action="label", who="Jürgen", label=Label.BAD, defect="two\nlines, é"))

        def head() -> Any:
            found = Ledger.head(ledger)
            line.append_action(Action(action="login", who="anna"))
            return found

        ledger.head = head
        assert export(ledger, tmp_path / "rows.csv") == 44
        assert export(ledger, tmp_path / "rows.parquet") == 45
    first, *_, last = (tmp_path / "rows.csv").read_bytes().split(b"\r\n")[:-1]
    assert first.startswith(b"seq,at,triggered_at,")
    assert ',label,Jürgen,,bad,"two\nlines, é",'.encode() in last
    assert pq.ParquetFile(tmp_path / "rows.parquet").metadata.row_group(0).column(0).compression == "ZSTD"


def test_whatever_reads_a_whole_ledger_tells_how_much_of_it_is_done(filled: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    with Ledger.open(filled) as ledger, reported_to(lambda done, total: told.append((done, total))):
        export(ledger, tmp_path / "rows.csv")
        assert told == [(done, 43) for done in range(43)]
        told.clear()
        verify(filled, frames=True)
        assert told == [(done, 43) for done in range(43)] + [(done, 40) for done in range(40)]
        told.clear()
        retain(ledger, Policy(keep_days=1), who="anna", dry_run=True)
        assert told[:40] == [(done, 40) for done in range(40)]


def test_an_export_to_another_format_is_bad_input(filled: Path, tmp_path: Path) -> None:
    assert run("ledger", "export", filled, "--out", tmp_path / "rows.xlsx")[0] == 2


@pytest.mark.slow
def test_verify_exits_0_1_and_2(filled: Path, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    assert run("ledger", "anchor", filled, "--to", anchors)[0] == 0
    code, told = run("ledger", "verify", filled, "--anchor", anchors, "--frames")
    assert (code, "row 43" in told) == (0, True)
    tampered(filled, "UPDATE entries SET previous = sha256 WHERE seq = 9")
    code, told = run("ledger", "verify", filled, "--anchor", anchors, "--json")
    assert code == 1
    assert json.loads(told.splitlines()[0])["seq"] == 9
    assert run("ledger", "anchor", tmp_path / "none.ledger", "--to", anchors)[0] == 2


@pytest.mark.slow
def test_list_and_show_tell_of_rows(filled: Path) -> None:
    code, told = run("ledger", "list", filled, "--state", "no_go", "--limit", 3, "--json")
    assert code == 0
    assert [json.loads(line)["record"]["trigger_id"] for line in told.splitlines()] == ["37", "33", "29"]
    assert "review row 4 by anna bad crack" in run("ledger", "list", filled)[1]
    code, told = run("ledger", "show", filled, 4, "--json")
    assert [each["record"]["who"] for each in json.loads(told)["actions"]] == ["anna"]
    assert run("ledger", "show", filled, 99)[0] == 2
    assert run("ledger", "list", filled, "--state", "perfect")[0] == 2


@pytest.mark.slow
def test_retain_says_what_it_did(filled: Path) -> None:
    assert "Deleted 0 frames" in run("ledger", "retain", filled, "--keep-days", 1)[1]
    assert run("ledger", "retain", filled, "--keep-days", 0)[0] == 2


@pytest.mark.slow
def test_timing_a_ledger_leaves_a_sound_one(path: Path) -> None:
    timings = measure(path, rows=1000, repeats=1)
    assert len({timing.what for timing in timings}) == len(timings)
    assert verify(path, frames=True) == []


def test_survey_would_say_what_it_missed(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tampering.verify", lambda *_, **__: [])
    blind = survey(filled, edits=3, seed=1)
    assert blind.found == 0
    assert len(blind.missed) == 3
    assert replace(blind, missed=()).false_alarms == 0


def test_a_new_ledger_its_log_and_its_frames_are_for_this_user_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Ledger.open(tmp_path / "line.ledger") as ledger:
            digest = ledger.frames.put(b"a frame")
            ledger.append_action(Action(action="label", who="anna"))
            files = [path for path in tmp_path.rglob("*") if path.is_file()]
            folders = [path for path in tmp_path.rglob("*") if path.is_dir()]
            assert ledger.frames.path(digest) in files
            assert {path.suffix for path in files} >= {".ledger", ".ledger-wal", ".ledger-shm"}
            assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
            assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}
    finally:
        os.umask(before)
