"""Workspaces that an earlier version made are opened, and brought up to date where that is needed."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from gonogo.errors import InputError
from gonogo.server import Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.database import FORMAT, Database
from gonogo.server.label.shortcuts import Shortcuts
from gonogo.server.label.views import KEYS
from gonogo.server.options import Options
from gonogo.server.training.jobs import Jobs, Phase
from gonogo.server.training.presets import Effort
from server_kit import PASSWORD, WEAK_HASHER, Browser, Clock

TABLES_0_1_0 = """
CREATE TABLE users (
  id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE COLLATE NOCASE, role TEXT NOT NULL, password_hash TEXT NOT NULL,
  must_change INTEGER NOT NULL, disabled INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, language TEXT,
  theme TEXT
) STRICT;
CREATE TABLE sessions (
  token_sha256 BLOB PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at REAL NOT NULL, seen_at REAL NOT NULL, notice TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY, token_sha256 BLOB NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
  created_by TEXT NOT NULL, created_at REAL NOT NULL, expires_at REAL NOT NULL, revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE throttle (
  subject BLOB PRIMARY KEY, failures INTEGER NOT NULL, last_at REAL NOT NULL, blocked_until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
LATER_TABLES_0_1_0 = """
CREATE TABLE preferences (
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE review_kinds (
  graph TEXT PRIMARY KEY, dataset TEXT NOT NULL, kinds TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""0.1.0 made these where a part of the server first needed them."""
JOB_0_1_0 = (
    '{"number":7,"dataset":"tile","bundle":"tile-1.inspector","effort":"standard","weights":"none","roi":"learned",'
    '"who":"Anna","asked_at":"2026-01-05T07:00:00Z"}'
)
STATUS_0_1_0 = '{"phase":"done","began_at":"2026-01-05T07:00:01Z","ended_at":"2026-01-05T07:09:00Z","problem":""}'


def old_database(path: Path, *, tables: str = TABLES_0_1_0) -> None:
    connection = apsw.Connection(str(path))
    connection.execute(tables)
    connection.execute("INSERT INTO settings VALUES ('secret', ?)", (b"s" * 32,))
    connection.execute(
        "INSERT INTO users (name, role, password_hash, must_change, created_at) "
        "VALUES ('engineer', 'engineer', ?, 0, 1)",
        (WEAK_HASHER.hash(PASSWORD),),
    )
    connection.pragma("user_version", 1)
    connection.close()


def test_the_people_of_an_earlier_version_log_in_and_keep_what_they_set(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "plant")
    old_database(space.database, tables=TABLES_0_1_0 + LATER_TABLES_0_1_0)
    connection = apsw.Connection(str(space.database))
    connection.execute("INSERT INTO preferences VALUES (1, 'keys label', '{\"good\": \"y\"}')")
    connection.execute("INSERT INTO review_kinds VALUES ('graph', 'tile', '[\"crack\"]')")
    connection.close()
    app = create_app(space, options=Options(hasher=WEAK_HASHER, now=Clock(), names=("testserver",)))
    components = app.state.components
    browser = Browser(app)
    assert browser.login("engineer").status_code == 303
    assert browser.get("/datasets").status_code == 200
    assert components.accounts.people.find(1).role is Role.ENGINEER
    assert components.labelling.shortcuts.keys(1, "label", KEYS)["good"] == "y"
    assert components.review.keys.kept("graph") == ["crack"]
    assert components.accounts.database.secret == b"s" * 32
    components.close()


def test_a_database_is_brought_up_to_date_once_and_refused_when_it_is_newer(tmp_path: Path) -> None:
    old_database(tmp_path / "server.db")
    opened = Database.open(tmp_path / "server.db")
    assert opened.run("PRAGMA user_version") == [(FORMAT,)]
    assert Shortcuts(opened).keys(1, "label", KEYS) == KEYS
    opened.run(f"PRAGMA user_version = {FORMAT + 1}")
    opened.close()
    with pytest.raises(InputError, match=f"found {FORMAT + 1}"):
        Database.open(tmp_path / "server.db")


def test_a_new_database_has_the_schema_of_one_that_was_brought_up_to_date(tmp_path: Path) -> None:
    old_database(tmp_path / "old.db")
    found = []
    for name in ("old.db", "new.db"):
        opened = Database.open(tmp_path / name)
        found.append({table: opened.run(f"PRAGMA table_info({table})") for (table,) in _tables(opened)})
        opened.close()
    assert found[0] == found[1]


def _tables(database: Database) -> list[tuple[str]]:
    rows: list[tuple[str]] = database.run("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")
    return rows


def test_training_runs_of_an_earlier_version_are_listed(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path / "plant")
    folder = space.jobs / "0007"
    folder.mkdir()
    (folder / "job.json").write_text(JOB_0_1_0)
    (folder / "status.json").write_text(STATUS_0_1_0)
    (job,) = Jobs(space).all()
    assert (job.request.number, job.request.effort, job.request.roi) == (7, Effort.STANDARD, "learned")
    assert job.status.phase is Phase.DONE
