"""Ledgers of older formats are read, and brought up to date when something is appended."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import apsw
import pytest

from gonogo.errors import LedgerError
from gonogo.ledger import Action, Ledger, formats, verify
from gonogo.schema import State

FIRST = Path(__file__).parent / "data" / "ledger-0.1.0.sql"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A ledger of gonogo 0.1.0."""
    path = tmp_path / "old.ledger"
    connection = apsw.Connection(str(path))
    connection.execute(FIRST.read_text(encoding="utf-8"))
    connection.close()
    return path


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A format 2 that has one index more and one trigger less."""
    index, kept = "CREATE INDEX entries_who ON entries (who)", "CREATE TRIGGER entries_follow"
    schema = (*(sql for sql in formats.SCHEMA if not sql.startswith(kept)), index)
    second = formats.Format(schema=schema, migration=("DROP TRIGGER entries_follow", index))
    monkeypatch.setattr(formats, "FORMATS", (*formats.FORMATS, second))


def test_a_ledger_of_the_first_format_is_read_verified_and_continued(old: Path) -> None:
    with Ledger.open(old, read_only=True) as ledger:
        verdicts = [(row.record.trigger_id, row.record.state) for row in ledger.verdicts()]
        assert verdicts == [("T0", State.GO), ("T1", State.NO_GO), ("T2", State.FAULT)]
        decision = ledger.decision(3)
        assert decision is not None
        assert decision.record.defect == "crack"
    with Ledger.open(old) as ledger:
        assert ledger.append_action(Action(action="login", who="ben")).seq == 6
    assert verify(old) == []


def test_every_released_format_can_be_brought_to_the_newest_and_keeps_its_rows(old: Path, newer: None) -> None:
    with Ledger.open(old, read_only=True) as ledger:  # a reader changes nothing
        assert ledger.count() == 3
    assert verify(old) == []
    assert _number(old) == 1
    before = _rows(old)
    with Ledger.open(old) as ledger:
        assert _number(old) == 2
        ledger.append_action(Action(action="login", who="ben"))
    assert verify(old) == []
    assert _rows(old)[:-1] == before
    with Ledger.open(old) as ledger:
        assert ledger.count() == 3


def test_a_migration_that_fails_leaves_the_ledger_as_it_was(
    old: Path, newer: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = formats.Format(schema=(), migration=("DROP TRIGGER entries_no_update", "DROP INDEX nothing"))
    monkeypatch.setattr(formats, "FORMATS", (formats.FORMATS[0], broken))
    with pytest.raises(LedgerError, match="nothing"):
        Ledger.open(old)
    connection = apsw.Connection(str(old))
    with pytest.raises(apsw.SQLError, match="nothing"):
        formats.migrate(connection)
    assert not connection.in_transaction
    connection.close()
    assert _number(old) == 1
    assert verify(old) == []


def _killed_before_it_commits(path: Path) -> None:
    class Dying(apsw.Connection):
        def pragma(self, name: str, *value: Any) -> Any:
            if value:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().pragma(name)

    formats.migrate(Dying(str(path)))


def test_a_process_that_is_killed_in_a_migration_leaves_the_ledger_as_it_was(old: Path, newer: None) -> None:
    before = _rows(old)
    process = multiprocessing.get_context("fork").Process(target=_killed_before_it_commits, args=(old,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert (_number(old), _rows(old), verify(old)) == (1, before, [])
    Ledger.open(old).close()
    assert (_number(old), _rows(old), verify(old)) == (2, before, [])


def test_a_ledger_of_a_newer_format_is_refused(old: Path) -> None:
    connection = apsw.Connection(str(old))
    connection.pragma("user_version", 2)
    connection.close()
    with pytest.raises(LedgerError, match=r"expected a ledger of format 1 or older.*user_version is 2"):
        Ledger.open(old)


def _number(path: Path) -> int:
    connection = apsw.Connection(str(path))
    try:
        return int(connection.pragma("user_version"))
    finally:
        connection.close()


def _rows(path: Path) -> list[tuple[object, ...]]:
    connection = apsw.Connection(str(path))
    try:
        return list(connection.execute("SELECT seq, kind, body, previous, sha256 FROM entries ORDER BY seq"))
    finally:
        connection.close()
