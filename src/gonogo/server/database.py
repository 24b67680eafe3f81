"""The server's database and its schema: people, sessions, tokens, failed logins, shortcuts, parts assigned for review,
background work, wall screens, private signing keys under their owners' passphrases.

Verdicts and actions are stored in the ledger instead.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import apsw

from gonogo.errors import InputError

Value: TypeAlias = str | int | float | bytes | None

_FORMAT_1 = """
CREATE TABLE users (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE COLLATE NOCASE,
  role TEXT NOT NULL,
  password_hash TEXT NOT NULL,
  must_change INTEGER NOT NULL,
  disabled INTEGER NOT NULL DEFAULT 0,
  created_at REAL NOT NULL,
  language TEXT,
  theme TEXT
) STRICT;
CREATE TABLE sessions (
  token_sha256 BLOB PRIMARY KEY,
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  created_at REAL NOT NULL,
  seen_at REAL NOT NULL,
  notice TEXT
) STRICT, WITHOUT ROWID;
CREATE TABLE tokens (
  id INTEGER PRIMARY KEY,
  token_sha256 BLOB NOT NULL UNIQUE,
  name TEXT NOT NULL,
  role TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at REAL NOT NULL,
  expires_at REAL NOT NULL,
  revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE throttle (
  subject BLOB PRIMARY KEY,
  failures INTEGER NOT NULL,
  last_at REAL NOT NULL,
  blocked_until REAL NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE settings (name TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
"""
"""Version 0.1.0, which also created the tables of format 2 when they were first needed."""
_FORMAT_2 = """
CREATE TABLE IF NOT EXISTS devices (
  device_sha256 BLOB NOT NULL,
  account BLOB NOT NULL,
  seen_at REAL NOT NULL,
  PRIMARY KEY (device_sha256, account)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS preferences (
  user_id INTEGER NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (user_id, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deals (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  ticket TEXT NOT NULL UNIQUE,
  who TEXT NOT NULL,
  seq INTEGER NOT NULL,
  blind INTEGER NOT NULL,
  until REAL NOT NULL,
  answer INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS owed_checks (who TEXT PRIMARY KEY, count INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS review_kinds (
  graph TEXT PRIMARY KEY,
  dataset TEXT NOT NULL,
  kinds TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
_FORMAT_3 = """
CREATE TABLE IF NOT EXISTS directory_people (
  user_id INTEGER PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  dn TEXT NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""People whose passwords the plant's directory checks."""
_FORMAT_4 = """
CREATE TABLE IF NOT EXISTS work (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL,
  who TEXT NOT NULL,
  about TEXT NOT NULL,
  arguments TEXT NOT NULL,
  asked_at REAL NOT NULL,
  state TEXT NOT NULL,
  ended_at REAL,
  failure TEXT
) STRICT;
CREATE TABLE IF NOT EXISTS screens (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  stations TEXT NOT NULL,
  created_by TEXT NOT NULL,
  created_at REAL NOT NULL,
  code_sha256 BLOB,
  code_until REAL NOT NULL,
  token_sha256 BLOB UNIQUE,
  used_at REAL,
  address TEXT NOT NULL DEFAULT '',
  revoked INTEGER NOT NULL DEFAULT 0
) STRICT;
"""
"""Background work that people asked for, and the logins of wall screens."""
_FORMAT_5 = """
CREATE TABLE IF NOT EXISTS signing_keys (
  user_id INTEGER PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  key_id TEXT NOT NULL,
  locked BLOB NOT NULL
) STRICT, WITHOUT ROWID;
"""
"""Private signing keys, encrypted under their owners' passphrases. Public keys are in the ledger."""
MIGRATIONS = (_FORMAT_1, _FORMAT_2, _FORMAT_3, _FORMAT_4, _FORMAT_5)
"""Migrations from each format to the next. To change the schema, add an entry; never edit one."""
FORMAT = len(MIGRATIONS)


class Database:
    """One SQLite connection behind a lock, enough for a few hundred logins a day. Create it with `open`."""

    def __init__(self, connection: apsw.Connection, secret: bytes) -> None:
        self._lock = threading.RLock()
        self._connection = connection
        self.secret = secret
        """Secret key of the CSRF tokens, created once per workspace."""

    @classmethod
    def open(cls, path: Path) -> Database:
        """Open the file, create it if it is missing, and migrate its schema.

        Raises:
            InputError: it was written by a newer version of gonogo, is no database, or the disk is full.
        """
        path.touch(mode=0o600)
        connection = apsw.Connection(str(path))
        try:
            connection.set_busy_timeout(5000)
            for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            _migrate(connection, path)
            ((secret,),) = connection.execute("SELECT value FROM settings WHERE name = 'secret'").fetchall()
        except (apsw.Error, InputError) as error:
            connection.close()
            if isinstance(error, InputError):
                raise
            raise InputError(
                f"{path}: expected the database of a server, which can be written ({error}). Free disk space, or "
                "restore the workspace from a backup: gonogo workspace restore"
            ) from error
        assert isinstance(secret, bytes), "written by the migration"
        return cls(connection, secret)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A transaction; other threads wait until it ends."""
        with self._lock, self._connection:
            yield

    def run(self, statement: str, *values: Value) -> list[tuple[Any, ...]]:
        """Run one statement and return its rows."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def changed(self, statement: str, *values: Value) -> int:
        """Run one statement and return how many rows it changed."""
        with self._lock:
            self._connection.execute(statement, values)
            return int(self._connection.changes())

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()


def _migrate(connection: apsw.Connection, path: Path) -> None:
    """Migrate the schema in one transaction: all of it or nothing, also if another process does the same now."""
    newest = len(MIGRATIONS)
    if (found := int(connection.pragma("user_version"))) > newest:
        raise InputError(
            f"{path}: expected format {newest} or lower, found {found}. Use the version of gonogo that wrote it."
        )
    if found < newest:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for script in MIGRATIONS[int(connection.pragma("user_version")) :]:
                connection.execute(script)
            connection.pragma("user_version", newest)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    connection.execute("INSERT OR IGNORE INTO settings VALUES ('secret', ?)", (secrets.token_bytes(32),))


def digest(token: str) -> bytes:
    """SHA-256 of a random token, for storage. Tokens have 256 bits of entropy, so no salt is needed."""
    return hashlib.sha256(token.encode()).digest()
