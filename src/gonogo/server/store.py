"""The server's own database: people, sessions, tokens, failed logins. Verdicts and actions go to the ledger instead."""

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

FORMAT = 1
_SCHEMA = """
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


class Store:
    """One connection behind a lock: a few hundred logins a day need no more."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        path.touch(mode=0o600)
        self._connection = apsw.Connection(str(path))
        self._connection.set_busy_timeout(5000)
        for pragma in ("journal_mode = WAL", "synchronous = FULL", "foreign_keys = ON"):
            self._connection.execute(f"PRAGMA {pragma}").fetchall()
        found = self._connection.pragma("user_version")
        if found not in (0, FORMAT):
            raise InputError(f"{path}: expected format {FORMAT}, found {found}. Start the gonogo that wrote it.")
        if found == 0:
            with self.transaction():
                self._connection.execute(_SCHEMA)
                self.run("INSERT INTO settings VALUES ('secret', ?)", secrets.token_bytes(32))
                self._connection.pragma("user_version", FORMAT)
        ((self.secret,),) = self.run("SELECT value FROM settings WHERE name = 'secret'")
        """Keys the CSRF tokens; made once for each workspace."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; other threads wait."""
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


def digest(token: str) -> bytes:
    """What is kept of a random token: its SHA-256. Tokens have 256 bits of their own, so no salt is needed."""
    return hashlib.sha256(token.encode()).digest()
