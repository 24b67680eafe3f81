"""The centre: many stations' chains in PostgreSQL, each row exactly once whatever breaks in between."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("sqlalchemy", reason="needs the extra scale")
pytest.importorskip("psycopg", reason="needs the extra scale")

from psycopg import sql

from cut_network import Proxy
from gonogo.centre import Centre, ChainForked, Forwarder, Link, move, open_frames, prepare_frames, verify_chain
from gonogo.centre import chains as chain_tables
from gonogo.centre.address import masked, read_address, without_secrets
from gonogo.centre.database import REVISION, CentreUnreachable
from gonogo.centre.logins import create_login
from gonogo.errors import InputError, LedgerError, UnfitError
from gonogo.ledger import (
    REVIEW,
    Action,
    Flaw,
    Ledger,
    Policy,
    StoredRow,
    VerdictRecord,
    View,
    Where,
    publish_anchor,
    read_anchors,
    retain,
    verify,
)
from gonogo.ledger.forwarded import Mark, expect_forwarding, mark_path, read_mark, write_mark
from gonogo.schema import Label, State
from gonogo.testing import postgres as servers
from gonogo.testing.postgres import Server
from tests import command_kit as kit

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "s3cr3t/pass"


def record(trigger: str, *, frame: str | None = None, **changes: Any) -> VerdictRecord:
    basis: dict[str, Any] = {
        "station": "left",
        "trigger_id": trigger,
        "state": State.NO_GO if frame else State.REVIEW,
        "score": 1.5 if frame else None,
        "reason": "seen",
        "views": (View(frame_sha256=frame, state=State.NO_GO, score=1.5, reason="seen"),) if frame else (),
        "triggered_at": NOON,
    }
    return VerdictRecord(**basis | changes)


def fill(path: Path, count: int, *, first: int = 0) -> Path:
    with Ledger.open(path) as ledger, ledger.writing():
        for number in range(first, first + count):
            ledger._append("verdict", record(str(number)))  # type: ignore[arg-type]
    return path


def rows(path: Path) -> list[StoredRow]:
    with Ledger.open(path, create=False, read_only=True) as ledger:
        return ledger.stored(after=0, limit=10**6)


def store_one_by_one(centre: Centre, chain: int, given: list[StoredRow]) -> None:
    with centre.begin() as connection:
        for row in given:
            chain_tables.store(connection, chain, row)


def received(server: Server, database: str) -> list[tuple[object, ...]]:
    return server.sql(
        "SELECT entries.seq, kind, body, previous, entries.sha256 FROM entries JOIN chains ON chains.id = chain "
        "WHERE name = 'line' ORDER BY seq",
        database=database,
    )


@pytest.fixture
def database(postgres: Server) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def url(postgres: Server, database: str) -> str:
    return postgres.url(database)


@pytest.fixture
def centre(url: str) -> Iterator[Centre]:
    made = Centre.connect(url)
    made.prepare()
    yield made
    made.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "line.ledger"


# The address


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://station:{SECRET.replace('/', '%2F')}@host/plant",
        f"postgresql://station@host/plant?password={SECRET.replace('/', '%2F')}",
    ],
)
def test_a_password_is_taken_from_a_private_file_or_the_environment_and_never_shown(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match="no password in an argument") as refused:
        read_address(text)
    file = tmp_path / "centre.url"
    file.write_text(text + "\n")
    file.chmod(0o644)
    with pytest.raises(InputError, match="chmod 600") as open_to_all:
        read_address(f"@{file}")
    file.chmod(0o600)
    monkeypatch.setenv("PLANT", text)
    for url in (read_address(f"@{file}"), read_address("env:PLANT")):
        assert masked(url) == "postgresql://station@host/plant"
        assert SECRET not in without_secrets(f"connection with {SECRET} failed", url)
    assert not any(SECRET in str(each.value) for each in (refused, open_to_all))


@pytest.mark.parametrize(
    "text",
    ["postgresql://u:hidden@host:port/db", "mysql://u:hidden@host/db", "hidden", "postgresql://u:hidden@host", ""],
)
def test_an_address_that_is_none_is_bad_input_and_its_text_is_not_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANT", text)
    with pytest.raises(InputError) as caught:
        read_address("env:PLANT")
    assert "hidden" not in str(caught.value)


def test_an_unreachable_centre_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLANT", f"postgresql://station:hidden@127.0.0.1:{servers.free_port()}/plant")
    centre = Centre.connect("env:PLANT")
    with pytest.raises(CentreUnreachable, match=r"postgresql://station@127\.0\.0\.1") as caught:
        centre.chains()
    assert "hidden" not in str(caught.value)
    for words in (["chains"], ["prepare"], ["verify"], ["list", "--chain=x"]):
        ended = kit.run_here(["ledger", *words, "env:PLANT"])
        assert (ended.code, "hidden" in ended.out + ended.err) == (2, False)


# The same bytes

ODD_TEXTS = ("\0", "\\u0000", "\\\0", "\\\\\0\0x", "\u2028", "\uffff", "e\u0301", "\U0001f600")
TEXTS = st.text(max_size=40) | st.sampled_from(ODD_TEXTS)
VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
DETAILS = st.dictionaries(TEXTS, st.recursive(VALUES, lambda inner: st.lists(inner, max_size=3), max_leaves=5))
ODD_FLOATS = (0.1 + 0.2, -0.0, 5e-324, 1.7976931348623157e308, 1e16, 1e-7, math.pi)


@pytest.mark.slow
@given(details=DETAILS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_databases_store_and_hash_the_same_bytes(details: dict[str, Any], centre: Centre, path: Path) -> None:
    moment = NOON + timedelta(microseconds=1)
    with Ledger.open(path, now=lambda: moment) as local:
        row = local.append_action(Action(action="note", who="Ø \N{SNOWMAN}", details=details))
        target = centre.forwarded_chain("line")
        for each in local.stored(after=target.head.seq, limit=100):
            centre.receive(target, [each])
        with centre.ledger("line") as there:
            assert there.row(row.seq) == row
            assert there.stored(after=row.seq - 1, limit=1) == local.stored(after=row.seq - 1, limit=1)


def test_odd_numbers_names_and_nothing_are_the_same_in_both_and_found_by_both(centre: Centre, path: Path) -> None:
    lots = ("Ä", "a'b\"c", "%s :lot", None, "\N{RIGHT-TO-LEFT MARK}x", "x" * 200)
    with Ledger.open(path, now=lambda: NOON) as local:
        for number, score in enumerate(ODD_FLOATS):
            frame = local.frames.put(b"picture")
            view = View(frame_sha256=frame, state=State.NO_GO, score=score, reason="\0 and \\u0000")
            lot = lots[number % len(lots)]
            local.append_verdict(record(f"T{number}", frame=frame, score=score, views=(view,), lot=lot))
        move(path, centre, "line")
        with centre.ledger("line") as there:
            assert list(there.rows()) == list(local.rows())
            for lot in lots:
                assert list(there.verdicts(Where(lot=lot))) == list(local.verdicts(Where(lot=lot)))
            scores = there.engine.ask("SELECT score FROM ledger_rows WHERE kind = 'verdict' ORDER BY seq", {})
            assert [score for (score,) in scores] == list(ODD_FLOATS)
    assert verify_chain(centre, "line") == []


def test_a_ledger_of_gonogo_0_1_0_is_migrated_as_it_is(centre: Centre, path: Path) -> None:
    connection = apsw.Connection(str(path))
    connection.execute((Path(__file__).parent / "data" / "ledger-0.1.0.sql").read_text(encoding="utf-8"))
    connection.close()
    before = rows(path)
    moved = move(path, centre, "old")
    assert (moved.rows, moved.sent, moved.head_sha256) == (len(before), len(before), before[-1].sha256)
    with centre.ledger("old") as there:
        assert there.stored(after=0, limit=100) == before
        decision = there.decision(3)
        assert decision is not None
        assert decision.record.defect == "crack"


# Exactly once


def test_rows_and_frames_are_forwarded_once_and_the_mark_follows(
    postgres: Server, database: str, centre: Centre, path: Path, tmp_path: Path
) -> None:
    store = f"file://{tmp_path}/shared"
    with Ledger.open(path) as ledger:
        for number in range(3):
            frame = ledger.frames.put(b"same" if number < 2 else b"other")
            ledger.append_verdict(record(str(number), frame=frame))
    links: list[Link] = []
    forwarder = Forwarder(
        path, centre, "line", frames=open_frames(store), frames_url=store, rows_per_batch=2, say=links.append
    )
    assert list(forwarder.catch_up()) == [2, 4]
    assert (forwarder.link().rows_sent, forwarder.link().frames_sent) == (4, 2)
    assert received(postgres, database) == rows(path)
    assert read_mark(path) == Mark(seq=4)
    assert [link.lag_rows for link in links] == [2, 0]
    assert links[0].lag_s >= 0
    again = Forwarder(path, centre, "line", frames=open_frames(store), frames_url=store)
    assert (list(again.catch_up()), again.link().rows_sent, again.link().frames_sent) == ([4], 0, 0)
    assert verify_chain(centre, "line", frames=True) == []
    with centre.ledger("line") as there:
        assert there.frames.read(str(frame)) == b"other"


def test_two_forwarders_and_two_migrations_at_once_store_every_row_once(
    postgres: Server, database: str, centre: Centre, path: Path
) -> None:
    fill(path, 120)
    forwarders = [Forwarder(path, centre, "line", rows_per_batch=7) for _ in range(3)]
    with ThreadPoolExecutor(5) as threads:
        works: list[Callable[[], object]] = [lambda each=each: list(each.catch_up()) for each in forwarders]  # type: ignore[misc]
        works += [lambda: move(path, centre, "line")] * 2
        for done in [threads.submit(work) for work in works]:
            done.result(timeout=120)
    assert received(postgres, database) == rows(path)
    assert verify_chain(centre, "line") == []


def test_a_lost_acknowledgement_neither_loses_nor_doubles_a_row(postgres: Server, database: str, path: Path) -> None:
    fill(path, 9)
    with Proxy(postgres.port) as proxy:
        centre = Centre.connect(postgres.url(database, port=proxy.port))
        centre.prepare()
        forwarder = Forwarder(path, centre, "line", rows_per_batch=4)
        proxy.lose_reply_to = (b"FROM receive",)
        with pytest.raises(CentreUnreachable):
            list(forwarder.catch_up())
        assert proxy.lost == 1
        assert len(received(postgres, database)) == 4, "committed, but not acknowledged"
        list(forwarder.catch_up())
        assert forwarder.link().rows_sent == 6
        assert received(postgres, database) == rows(path)
        centre.close()


def test_the_line_goes_on_without_a_network_and_the_forwarder_catches_up(
    postgres: Server, database: str, path: Path
) -> None:
    fill(path, 5)
    with Proxy(postgres.port) as proxy:
        centre = Centre.connect(postgres.url(database, port=proxy.port))
        centre.prepare()
        proxy.cut()
        heard = threading.Condition()
        links: list[Link] = []

        def say(link: Link) -> None:
            with heard:
                links.append(link)
                heard.notify_all()

        forwarder, stop = Forwarder(path, centre, "line", say=say), threading.Event()
        thread = threading.Thread(target=lambda: forwarder.run(stop, every_s=0.02))
        thread.start()
        with heard:
            assert heard.wait_for(lambda: any(link.trouble for link in links), 60)
        fill(path, 5, first=5)
        with Ledger.open(path) as ledger:
            assert ledger.head().seq == 11
        proxy.mend()
        with heard:
            assert heard.wait_for(lambda: links[-1].centre_seq == 11 and not links[-1].trouble, 60)
        stop.set()
        thread.join(30)
        centre.close()
    assert received(postgres, database) == rows(path)


@pytest.mark.slow
def test_a_database_that_crashes_in_the_middle_of_a_batch_loses_and_doubles_nothing(path: Path, tmp_path: Path) -> None:
    why_not = servers.missing()
    if why_not:
        pytest.skip(why_not)
    fill(path, 400)
    with servers.server() as server:
        centre = Centre.connect(server.url())
        centre.prepare()
        forwarder, stop = Forwarder(path, centre, "line", rows_per_batch=5), threading.Event()
        thread = threading.Thread(target=lambda: forwarder.run(stop, every_s=0.02))
        thread.start()
        for wanted in (50, 150):
            while forwarder.link().centre_seq < wanted:
                stop.wait(0.002)
            server.stop("immediate")
            server.start()
        while forwarder.link().centre_seq < 401:
            stop.wait(0.01)
        stop.set()
        thread.join(30)
        assert received(server, "postgres") == rows(path)
        assert verify_chain(centre, "line") == []
        centre.close()


def fill_disk(ballast: Path) -> None:
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(bytes(100_000)):
            pass


@pytest.mark.slow
def test_a_full_disk_at_the_centre_delays_and_loses_nothing(path: Path, tmp_path: Path) -> None:
    why_not = servers.missing()
    small = Path("/var/tmp") / f"gonogo-small-{tmp_path.name}"
    mount = ["mount", "-t", "tmpfs", "-o", "size=110m,mode=755", "gonogo-test", str(small)]
    if why_not:
        pytest.skip(why_not)
    small.mkdir()
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        small.rmdir()
        pytest.skip("needs the right to mount a small disk")
    fill(path, 3000)
    try:
        with servers.server(below=small, extra="-c min_wal_size=32MB -c max_wal_size=32MB") as server:
            centre = Centre.connect(server.url())
            centre.prepare()
            ballast = small / "ballast"
            fill_disk(ballast)
            forwarder = Forwarder(path, centre, "line")
            with pytest.raises(CentreUnreachable):
                list(forwarder.catch_up())
            ballast.unlink()
            for _ in range(2):  # the server may have stopped when it could not write its log
                try:
                    list(forwarder.catch_up())
                except CentreUnreachable:
                    server.stop()
                    server.start()
            list(forwarder.catch_up())
            assert received(server, "postgres") == rows(path)
            centre.close()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)
        small.rmdir()


def test_a_station_whose_clock_is_days_wrong_is_forwarded_and_the_clocks_are_compared(
    centre: Centre, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = datetime.now(UTC) + timedelta(days=3)
    with Ledger.open(path, now=lambda: wrong) as ledger:
        ledger.append_verdict(record("1"))
        ledger.append_verdict(record("0"))
    real = time.time
    monkeypatch.setattr("gonogo.centre.forwarding.time.time", lambda: real() + 3 * 86_400)
    forwarder = Forwarder(path, centre, "line")
    list(forwarder.catch_up())
    (chain,) = centre.chains()
    assert chain.head.seq == 3
    assert chain.clock_ahead_s == pytest.approx(3 * 86_400, abs=60)
    assert abs((chain.seen_at - datetime.now(UTC)).total_seconds()) < 60
    assert forwarder.link().lag_s == 0


# Forks


def test_two_machines_with_one_station_name_are_noticed_and_the_second_is_refused(
    postgres: Server, database: str, centre: Centre, path: Path, tmp_path: Path
) -> None:
    list(Forwarder(fill(path, 3), centre, "line").catch_up())
    other = fill(tmp_path / "other.ledger", 9)
    links: list[Link] = []
    impostor = Forwarder(other, centre, "line", say=links.append)
    for _ in range(2):
        with pytest.raises(ChainForked, match="Another machine"):
            list(impostor.catch_up())
    assert received(postgres, database) == rows(path)
    (chain,) = centre.chains()
    assert chain.alarm is not None
    assert "Another machine" in chain.alarm
    assert postgres.sql("SELECT times FROM alarms", database=database) == [(2,)]
    list(Forwarder(fill(path, 1, first=3), centre, "line").catch_up())
    assert centre.chains()[0].head.seq == 5, "the right machine goes on"
    with pytest.raises(ChainForked):
        move(other, centre, "line")


def test_a_ledger_that_was_set_back_and_went_on_is_refused(centre: Centre, path: Path, tmp_path: Path) -> None:
    fill(path, 3)
    shutil.copy(path, tmp_path / "backup")
    list(Forwarder(fill(path, 2, first=3), centre, "line").catch_up())
    for each in tmp_path.glob("line.ledger*"):
        each.unlink()
    shutil.copy(tmp_path / "backup", path)
    with pytest.raises(ChainForked, match="a ledger that ends at row 4"):
        list(Forwarder(path, centre, "line").catch_up())
    with pytest.raises(ChainForked, match="another row"):
        list(Forwarder(fill(path, 5, first=10), centre, "line").catch_up())


def test_a_centre_that_was_restored_from_a_backup_gets_the_lost_rows_again(
    postgres: Server, database: str, centre: Centre, path: Path
) -> None:
    forwarder = Forwarder(fill(path, 6), centre, "line")
    list(forwarder.catch_up())
    third = "(SELECT seq, sha256 FROM entries WHERE seq = 3)"
    back = f"DELETE FROM entries WHERE seq > 3; UPDATE chains SET (seq, sha256) = {third}"
    postgres.sql(f"SET session_replication_role = replica; {back}", database=database)
    fill(path, 2, first=6)
    with pytest.raises(LedgerError, match="expected row 4, found row 8") as caught:
        forwarder.step()
    assert not isinstance(caught.value, ChainForked)
    list(forwarder.catch_up())
    assert received(postgres, database) == rows(path)
    assert centre.chains()[0].alarm is None


def test_the_centre_itself_refuses_rows_that_do_not_follow_or_do_not_match_their_hash(
    centre: Centre, path: Path
) -> None:
    first, second, third = rows(fill(path, 2))
    chain = centre.forwarded_chain("line")
    for wrong in (
        [second],
        [first._replace(previous="1" * 64)],
        [first, third],
        [first, second._replace(body=second.body.replace("left", "lefd"))],
        [first, second._replace(sha256="ab" * 32), third],
        [first._replace(body="not JSON")],
    ):
        with pytest.raises(LedgerError):
            centre.receive(chain, wrong)
        with pytest.raises(LedgerError, match=r"follow|hash|json|duplicate"):
            store_one_by_one(centre, chain.id, wrong)
    assert centre.chain("line").head.seq == 0
    assert centre.receive(chain, [first, second]).seq == 2
    assert centre.receive(chain, [first, second, third]).seq == 3
    assert centre.receive(chain, [second]).seq == 3
    with pytest.raises(ChainForked):
        centre.receive(chain, [second._replace(sha256="ab" * 32)])


def test_a_row_edited_at_the_station_before_it_was_forwarded_is_refused_with_an_alarm(
    centre: Centre, path: Path
) -> None:
    fill(path, 4)
    connection = apsw.Connection(str(path))
    trigger = next(sql for (sql,) in connection.execute("SELECT sql FROM sqlite_schema WHERE name='entries_no_update'"))
    connection.execute("DROP TRIGGER entries_no_update")
    connection.execute("UPDATE entries SET body = replace(body, 'left', 'lefd') WHERE seq = 3")
    connection.execute(trigger)
    connection.close()
    with pytest.raises(ChainForked, match="row 3"):
        list(Forwarder(path, centre, "line").catch_up())
    (chain,) = centre.chains()
    assert chain.head.seq == 0
    assert "row 3" in str(chain.alarm)
    with pytest.raises(UnfitError, match="row 3 does not match its hash"):
        move(path, centre, "other")


def test_a_chain_that_is_forwarded_takes_no_row_at_the_centre_and_the_other_way_round(
    centre: Centre, path: Path
) -> None:
    list(Forwarder(fill(path, 1), centre, "line").catch_up())
    with centre.ledger("line") as there, pytest.raises(LedgerError, match="cut off"):
        there.append_action(Action(action="note", who="anna"))
    with centre.ledger("desk", create=True) as own:
        own.append_action(Action(action="note", who="anna"))
    with centre.ledger("desk", create=True) as again:
        assert again.head().seq == 2
    with pytest.raises(LedgerError, match="written at the centre"):
        list(Forwarder(path, centre, "desk").catch_up())
    assert verify_chain(centre, "desk") == []
    with pytest.raises(InputError, match=r"\(desk, line\)"):
        centre.ledger("lime")


# Tampering


def test_ordinary_sql_at_the_centre_can_neither_change_nor_delete_a_row(
    postgres: Server, database: str, centre: Centre, path: Path
) -> None:
    import psycopg

    move(fill(path, 3), centre, "line")
    for statement in (
        "UPDATE entries SET kind = 'action' WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 4",
        "TRUNCATE entries",
        "INSERT INTO entries SELECT chain, 9, kind, body, previous, sha256 FROM entries WHERE seq = 2",
        "UPDATE entries SET facts = row_facts(body)",
    ):
        with pytest.raises(psycopg.Error):
            postgres.sql(statement, database=database)
    assert verify_chain(centre, "line") == []


@pytest.mark.parametrize(
    ("statement", "flaw", "seq"),
    [
        ("UPDATE entries SET body = replace(body, 'left', 'lefd') WHERE seq = 3", Flaw.EDITED, 3),
        ("DELETE FROM entries WHERE seq IN (2, 3)", Flaw.MISSING, 4),
        ("DELETE FROM entries WHERE seq = 4", Flaw.MISSING, None),
        ("UPDATE entries SET kind = 'action' WHERE seq = 2", Flaw.EDITED, 2),
        ("ALTER TABLE entries DISABLE TRIGGER entries_grow", Flaw.SCHEMA, None),
        ("DROP TRIGGER entries_follow ON entries", Flaw.SCHEMA, None),
    ],
)
def test_edits_behind_the_back_of_the_triggers_are_found(
    statement: str, flaw: Flaw, seq: int | None, postgres: Server, database: str, centre: Centre, path: Path
) -> None:
    move(fill(path, 3), centre, "line")
    postgres.sql(f"SET session_replication_role = replica; {statement}", database=database)
    found = verify_chain(centre, "line")
    assert (found[0].flaw, found[0].seq) == (flaw, seq)


def test_an_anchor_of_the_station_holds_at_the_centre(
    postgres: Server, database: str, centre: Centre, path: Path, tmp_path: Path
) -> None:
    move(fill(path, 3), centre, "line")
    with Ledger.open(path) as ledger:
        publish_anchor(ledger, tmp_path / "anchors")
    anchors = read_anchors(tmp_path / "anchors")
    assert verify_chain(centre, "line", anchors=anchors) == []
    cut = (
        "SET session_replication_role = replica; DELETE FROM entries WHERE seq > 2; UPDATE chains SET seq = 2, sha256 ="
    )
    postgres.sql(f"{cut} (SELECT sha256 FROM entries WHERE seq = 2)", database=database)
    assert verify_chain(centre, "line") == []
    assert [each.flaw for each in verify_chain(centre, "line", anchors=anchors)] == [Flaw.MISSING]


# Migration


def test_an_interrupted_migration_goes_on_where_it_ended(
    postgres: Server, database: str, centre: Centre, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path, 30)
    monkeypatch.setattr("gonogo.centre.moving._ROWS_PER_BATCH", 7)
    real, calls = centre.receive, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(centre, "receive", interrupted)
    with pytest.raises(KeyboardInterrupt):
        move(path, centre, "line")
    assert len(received(postgres, database)) == 14
    moved = move(path, centre, "line")
    assert (moved.rows, moved.sent) == (31, 17)
    assert received(postgres, database) == rows(path)
    assert not mark_path(path).exists(), "a ledger that was only copied is not forwarded"
    assert move(path, centre, "line").sent == 0


@pytest.mark.slow
def test_commands_migrate_list_show_verify_anchor_and_export_a_chain(url: str, path: Path, tmp_path: Path) -> None:
    with Ledger.open(fill(path, 3)) as ledger:
        ledger.append_action(Action(action=REVIEW, who="anna", about=2, label=Label.BAD, defect="crack"))

    def run(*words: object, code: int = 0) -> str:
        ended = kit.run_here(["ledger", *map(str, words)])
        assert ended.code == code, ended
        return ended.out + ended.err

    assert "prepare" in run("chains", url, code=2)
    assert "prepared" in run("prepare", url)
    assert "up to date" in run("prepare", url)
    moved = json.loads(run("migrate", path, url, "--json"))
    assert (moved["chain"], moved["rows"], moved["sent"]) == ("line", 5, 5)
    assert "verified on both sides: 5 rows" in run("migrate", path, url)
    assert json.loads(run("chains", url, "--json"))["head"]["seq"] == 5
    assert "no_go" not in run("list", url, "--chain", "line", "--state", "review")
    assert "anna bad crack" in run("show", url, 2, "--chain", "line").replace("by ", "")
    assert "intact" in run("verify", url)
    assert "intact" in run("verify", url, "--chain", "line")
    assert "row 5" in run("anchor", url, "--chain", "line", "--to", tmp_path / "anchors")
    assert "anchors up to row 5" in run("verify", path, "--anchor", tmp_path / "anchors")
    assert "anchors up to row 5" in run("verify", url, "--chain", "line", "--anchor", tmp_path / "anchors")
    assert "Wrote 5 rows" in run("export", url, "--chain", "line", "--out", tmp_path / "rows.csv")
    assert "expected --chain" in run("list", url, code=2)
    assert "expected --chain" in run("verify", url, "--anchor", tmp_path / "anchors", code=2)
    assert "found a file" in run("list", path, "--chain", "line", code=2)
    assert "expected the name of a chain (line)" in run("verify", url, "--chain", "other", code=2)
    fill(path, 2, first=3)
    assert "sent 2 rows" in run("forward", path, url, "--once")
    assert json.loads(run("forward", path, url, "--once", "--json"))["centre_seq"] == 7


def test_verify_names_the_chain_of_a_finding(postgres: Server, database: str, centre: Centre, tmp_path: Path) -> None:
    for name in ("left", "right"):
        move(fill(tmp_path / f"{name}.ledger", 2), centre, name)
    previous = rows(tmp_path / "right.ledger")[2].previous
    edit = f"UPDATE entries SET body = replace(body, 'left', 'lefd') WHERE seq = 3 AND previous = '{previous}'"
    postgres.sql(f"SET session_replication_role = replica; {edit}", database=database)
    ended = kit.run_here(["ledger", "verify", postgres.url(database)])
    assert (ended.code, ended.out.count("right: row 3"), "left:" in ended.out) == (1, 1, False)


# The tables


def test_programs_that_prepare_at_once_wait_for_each_other(url: str) -> None:
    centres = [Centre.connect(url) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert sorted(threads.map(lambda each: each.prepare(), centres)) == [False, False, False, True]
    for each in centres:
        each.close()


def test_tables_of_a_newer_version_are_refused_and_none_are_taken_back(
    postgres: Server, database: str, centre: Centre
) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    from gonogo.centre import migrations

    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == REVISION == centre.revision()
    for each in script.walk_revisions():
        with pytest.raises(LedgerError, match="cannot be taken back"):
            each.module.downgrade()
    postgres.sql("UPDATE revision SET version_num = '9999'", database=database)
    with pytest.raises(LedgerError, match="9999, of a newer gonogo"):
        centre.prepare()


def test_tables_of_the_first_revision_keep_their_rows_and_are_brought_up_to_date_once(
    postgres: Server, database: str, url: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gonogo.centre import migrations

    upgrade, centre, expected = migrations.command.upgrade, Centre.connect(url), rows(fill(path, 3))

    def first_only(config: Any, _: str) -> None:
        upgrade(config, "0001")

    def interrupted(config: Any, revision: str) -> None:
        upgrade(config, revision)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrations.command, "upgrade", first_only)
        centre.prepare()
    postgres.sql("INSERT INTO chains (name, forwarded) VALUES ('line', true)", database=database)
    store_one_by_one(centre, 1, expected)
    before = received(postgres, database)
    fill(path, 1, first=3)
    refused = kit.run_here(["ledger", "forward", str(path), url, "--chain", "line", "--once"])
    assert (refused.code, "gonogo ledger prepare" in refused.err) == (2, True), refused
    with monkeypatch.context() as patch:
        patch.setattr(migrations.command, "upgrade", interrupted)
        with pytest.raises(KeyboardInterrupt):
            centre.prepare()
    assert centre.revision() == "0001"
    assert [centre.prepare(), centre.prepare(), centre.revision()] == [True, False, REVISION]
    assert received(postgres, database) == before
    assert verify_chain(centre, "line") == []
    list(Forwarder(path, centre, "line").catch_up())
    assert [row[0] for row in received(postgres, database)] == [1, 2, 3, 4, 5]
    centre.close()


def test_what_reads_works_on_a_database_that_refuses_every_write_such_as_a_replica(
    postgres: Server, database: str, url: str, centre: Centre, path: Path, tmp_path: Path
) -> None:
    move(fill(path, 3), centre, "line")
    name = sql.Identifier(database).as_string()
    postgres.sql(f"ALTER DATABASE {name} SET default_transaction_read_only = on", database=database)
    try:
        for words in (["list"], ["show", "2"], ["verify"], ["export", "--out", str(tmp_path / "rows.csv")]):
            ended = kit.run_here(["ledger", words[0], url, *words[1:], "--chain", "line"])
            assert ended.code == 0, ended
        assert kit.run_here(["ledger", "chains", url]).code == 0
        assert kit.run_here(["ledger", "prepare", url]).code == 0
        with pytest.raises(LedgerError, match="read-only"):
            list(Forwarder(fill(path, 1, first=3), Centre.connect(url), "line").catch_up())
    finally:
        postgres.sql(f"ALTER DATABASE {name} RESET default_transaction_read_only", database="postgres")


# The login of a station


@pytest.fixture
def logins(postgres: Server, database: str, centre: Centre, tmp_path: Path) -> Iterator[dict[str, Centre]]:
    """Two stations with their logins, each connected with the file that ``prepare --station`` wrote."""
    access = postgres.folder / "data" / "pg_hba.conf"
    trusting = access.read_text()
    stations = ("left", 'Ri"ght 2')
    access.write_text("".join(f"host all {name_of_login(each)} all scram-sha-256\n" for each in stations) + trusting)
    postgres.run("pg_ctl", "reload", "-D", f"{postgres.folder}/data")
    made = {}
    for number, station in enumerate(stations):
        file = tmp_path / f"{number}.url"
        assert create_login(centre, station, file)
        made[station] = Centre.connect(f"@{file}")
    yield made
    for each in made.values():
        each.close()
    centre.close()
    access.write_text(trusting)
    for station in stations:
        name = sql.Identifier(station).as_string()
        postgres.sql(f"DROP OWNED BY {name}; DROP ROLE {name}", database=database)


def name_of_login(station: str) -> str:
    return '"' + station.replace('"', '""') + '"'


def test_the_login_of_a_station_forwards_its_own_chain_and_sees_no_other(
    logins: dict[str, Centre], centre: Centre, path: Path, tmp_path: Path
) -> None:
    for station, mine in logins.items():
        own = fill(tmp_path / f"{len(station)}.ledger", 3)
        assert mine.prepare() is False
        list(Forwarder(own, mine, station).catch_up())
        with pytest.raises(ChainForked):
            mine.receive(mine.chain(station), [rows(own)[1]._replace(sha256="ab" * 32)])
        assert [each.name for each in mine.chains()] == [station]
        assert mine.chain(station).alarm
        assert verify_chain(mine, station) == []
        with mine.begin() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM ledger_rows").scalar_one() == 4
    assert len(centre.chains()) == 2


def test_the_login_of_a_station_can_neither_read_nor_write_as_another(
    logins: dict[str, Centre], centre: Centre, path: Path
) -> None:
    (name, mine), (other, theirs) = logins.items()
    list(Forwarder(fill(path, 3), theirs, other).catch_up())
    target, before = centre.chain(other), rows(path)
    following = rows(fill(path, 1, first=3))[-1]
    with pytest.raises(LedgerError, match="this login may not"):
        mine.receive(target, [following])
    with pytest.raises(LedgerError, match="this login may not"):
        store_one_by_one(mine, target.id, [following])
    for chain in (other, "a third"):
        with pytest.raises(LedgerError, match="ledger prepare --station"):
            list(Forwarder(path, mine, chain).catch_up())
    with pytest.raises(LedgerError, match="this login may not"):
        mine.alarm(target, "nonsense")
    with pytest.raises(InputError, match=f"name of a chain .{name}"):
        mine.ledger(other)
    with mine.begin() as connection:
        for table in ("chains", "entries", "ledger_rows", "alarms"):
            column = "id" if table == "chains" else "chain"
            found = connection.exec_driver_sql(f"SELECT count(*) FROM {table} WHERE {column} = {target.id}")
            assert found.scalar_one() == 0, table
        assert connection.exec_driver_sql(f"UPDATE chains SET seen_at = now() WHERE id = {target.id}").rowcount == 0
    assert theirs.receive(target, [*before, following]).seq == 5, "nothing is locked or lost"


def test_the_login_for_reports_in_the_documentation_reads_every_chain_and_writes_nothing(
    postgres: Server, database: str, centre: Centre, url: str, path: Path
) -> None:
    page = (Path(__file__).parents[1] / "docs" / "centre.md").read_text("utf-8")
    move(fill(path, 3), centre, "line")
    postgres.sql(page.partition("```sql\n")[2].partition("```")[0], database=database)
    reports = Centre.connect(url.replace("gonogo@", "reports@"))
    assert [each.name for each in reports.chains()] == ["line"]
    assert verify_chain(reports, "line") == []
    with pytest.raises(LedgerError, match="this login may not"):
        list(Forwarder(fill(path, 1, first=3), reports, "line").catch_up())
    reports.close()
    postgres.sql("DROP OWNED BY reports; DROP ROLE reports", database=database)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET kind = 'action'",
        "DELETE FROM entries",
        "TRUNCATE entries",
        "DROP TABLE entries",
        "UPDATE chains SET seq = 0",
        "UPDATE chains SET login = 'postgres'",
        "UPDATE chains SET name = 'x'",
        "INSERT INTO chains (name, forwarded, login) VALUES ('x', true, current_user)",
        "DELETE FROM alarms",
        "ALTER TABLE entries DISABLE ROW LEVEL SECURITY",
        "SET session_replication_role = replica",
        "CREATE TABLE gonogo.mine ()",
    ],
)
def test_the_login_of_a_station_can_change_or_delete_no_row_not_even_its_own(
    statement: str, logins: dict[str, Centre], path: Path
) -> None:
    name, mine = next(iter(logins.items()))
    list(Forwarder(fill(path, 1), mine, name).catch_up())
    with pytest.raises(LedgerError), mine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert verify_chain(mine, name) == []


def test_a_new_password_replaces_the_old_one_and_other_logins_are_left_alone(
    logins: dict[str, Centre], postgres: Server, database: str, url: str, centre: Centre, tmp_path: Path
) -> None:
    name = next(iter(logins))
    old, new = (tmp_path / "0.url"), (tmp_path / "new.url")

    def prepare(station: str, out: Path, code: int = 0) -> str:
        ended = kit.run_here(["ledger", "prepare", url, "--station", station, "--out", str(out)])
        assert ended.code == code, ended
        return ended.out + ended.err

    assert "replaced the password" in prepare(name, new)
    assert new.stat().st_mode & 0o777 == 0o600
    assert new.read_text() != old.read_text()
    fresh = [Centre.connect(f"@{file}") for file in (new, old)]
    assert [each.name for each in fresh[0].chains()] == [name]
    with pytest.raises(LedgerError, match="password authentication failed"):
        fresh[1].chains()
    stored = postgres.sql("SELECT rolpassword FROM pg_authid WHERE rolname = 'left'", database=database)
    assert str(stored[0][0]).startswith("SCRAM-SHA-256")
    assert "found one" in prepare(name, new, code=2)
    assert "which is not this station's" in prepare("gonogo", tmp_path / "x", code=2)
    assert "63 bytes" in prepare("ä" * 40, tmp_path / "x", code=2)
    assert "0.url" in prepare("third", old / "x", code=2)
    assert "--station and --out" in kit.run_here(["ledger", "prepare", url, "--station", "x"]).err
    with centre.ledger("desk", create=True):
        assert "written at the centre" in prepare("desk", tmp_path / "x", code=2)
    with pytest.raises(LedgerError, match="this login may not"):
        create_login(fresh[0], "third", tmp_path / "x")
    assert not (tmp_path / "x").exists()
    assert {each.name for each in centre.chains()} == {*logins, "desk"}
    for each in fresh:
        each.close()


# Retention


def test_retention_keeps_the_frames_that_the_centre_does_not_have(centre: Centre, path: Path, tmp_path: Path) -> None:
    store = f"file://{tmp_path}/shared"
    with Ledger.open(path) as ledger:
        digests = [ledger.frames.put(f"frame {number}".encode()) for number in range(4)]
        for number, digest in enumerate(digests):
            ledger.append_verdict(record(str(number), frame=digest))
        later = datetime.now(UTC) + timedelta(days=40)
        policy = Policy(keep_days=30)
        expect_forwarding(path)
        done = retain(ledger, policy, who="cron", now=later)
        assert (done.deleted, done.kept, done.unforwarded) == (0, 4, 4)
        write_mark(path, Mark(seq=3))
        assert retain(ledger, policy, who="cron", now=later, dry_run=True).deleted == 2
        done = retain(ledger, policy, who="cron", now=later)
        assert (done.deleted, done.kept, done.unforwarded) == (2, 2, 2)
        assert [ledger.frames.holds(digest) for digest in digests] == [False, False, True, True]
        mark_path(path).write_text("nonsense")
        with pytest.raises(LedgerError, match="expected the mark"):
            retain(ledger, policy, who="cron", now=later)
        forwarder = Forwarder(path, centre, "line", frames=open_frames(store), frames_url=store)
        list(forwarder.catch_up())
        assert (forwarder.link().frames_sent, forwarder.link().frames_missing) == (2, 2)
        assert retain(ledger, policy, who="cron", now=later).deleted == 2
    assert verify(path, frames=True) == []
    assert verify_chain(centre, "line", frames=True) == [], "tombstones name the two that came too late"


# Frames in S3


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    pytest.importorskip("s3fs", reason="needs the extra scale")
    moto = pytest.importorskip("moto.server", reason="needs moto and flask")
    boto3 = pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="plant")
        yield "s3://plant/frames"
    server.stop()


@pytest.mark.slow
def test_frames_in_s3_have_the_same_addresses_and_are_checked_when_they_are_read(
    s3: str, centre: Centre, path: Path
) -> None:
    import boto3

    with Ledger.open(path) as ledger:
        digests = [ledger.frames.put(f"frame {number}".encode()) for number in range(3)]
        for number, digest in enumerate(digests):
            ledger.append_verdict(record(str(number), frame=digest))
    store = open_frames(s3)
    assert store.put(b"frame 0") == digests[0]
    forwarder = Forwarder(path, centre, "line", frames=store, frames_url=s3)
    list(forwarder.catch_up())
    assert forwarder.link().frames_sent == 2, "one was there already"
    assert verify_chain(centre, "line", frames=True) == []
    first, second, third = digests
    client = boto3.client("s3")
    keys = {each["Key"] for each in client.list_objects_v2(Bucket="plant")["Contents"]}
    assert keys == {f"frames/{each[:2]}/{each[2:4]}/{each}" for each in digests}
    client.put_object(Bucket="plant", Key=f"frames/{first[:2]}/{first[2:4]}/{first}", Body=b"frame X")
    client.delete_object(Bucket="plant", Key=f"frames/{second[:2]}/{second[2:4]}/{second}")
    assert [each.seq for each in verify_chain(centre, "line", frames=True)] == [2, 3]
    with centre.ledger("line") as there:
        assert there.frames.read(third) == b"frame 2"
        assert not there.frames.holds(second)
        with pytest.raises(LedgerError, match="expected a frame's SHA-256"):
            there.frames.read("../../secret")


@pytest.mark.slow
def test_preparing_a_store_creates_its_bucket_once(s3: str, tmp_path: Path) -> None:
    fresh = s3.replace("plant", "another-plant")
    with pytest.raises(LedgerError, match="cannot be stored"):
        open_frames(fresh).put(b"a picture")
    for _ in range(2):
        prepare_frames(fresh)
    assert open_frames(fresh).read(open_frames(fresh).put(b"a picture")) == b"a picture"
    prepare_frames(f"file://{tmp_path}/frames")


@pytest.mark.slow
def test_rows_wait_for_their_frames_when_the_store_is_away(s3: str, centre: Centre, path: Path) -> None:
    with Ledger.open(path) as ledger:
        ledger.append_verdict(record("1", frame=ledger.frames.put(b"a picture")))
    nowhere = s3.replace("plant", "another-bucket")
    with pytest.raises(LedgerError, match="cannot be stored"):
        list(Forwarder(path, centre, "line", frames=open_frames(nowhere), frames_url=nowhere).catch_up())
    assert centre.chain("line").head.seq == 0
    for wrong in ("plant/frames", "s3://", "nothing://x/y", "ftp://user:hidden@host/x"):
        with pytest.raises(InputError) as caught:
            open_frames(wrong)
        assert "hidden" not in str(caught.value)


# The line stays light


@pytest.mark.slow
def test_a_station_and_the_inspector_start_without_sqlalchemy() -> None:
    code = """
import sys
import gonogo.inspector, gonogo.ledger, gonogo.station, gonogo.station.running, gonogo.station.worker
import gonogo.cli, gonogo.server.ledger_pool
heavy = {"sqlalchemy", "psycopg", "alembic", "fsspec", "s3fs", "botocore"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", code], check=True)
