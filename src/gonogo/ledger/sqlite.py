"""The engine of a local ledger: one SQLite file, through apsw."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gonogo.errors import LedgerError
from gonogo.ledger import tables
from gonogo.ledger.engine import Found, Values
from gonogo.ledger.formats import apsw
from gonogo.ledger.records import ChainHead, RowKind


class SqliteEngine:
    """An open ledger file; see `gonogo.ledger.engine.Engine`. Not thread-safe."""

    hints = True

    def __init__(self, path: Path, connection: apsw.Connection) -> None:
        self.path = path
        self.connection = connection

    @property
    def name(self) -> str:
        """The path of the file."""
        return str(self.path)

    def entries(self, alias: str = "entries") -> str:
        """The file holds one chain: the whole table."""
        return f"entries AS {alias}"

    def ask(self, sql: str, values: Values) -> Found:
        """Return the rows that a statement finds.

        Raises:
            LedgerError: the file cannot be read.
        """
        try:
            return list(self.connection.execute(sql, values))
        except apsw.Error as error:
            raise LedgerError(f"{self.path}: cannot be read ({error}). Check it with: gonogo ledger verify") from error

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock of the file while the block runs.

        Raises:
            LedgerError: another process locks the ledger for too long, the disk is full, or the ledger is damaged.
        """
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            finally:
                if self.connection.in_transaction:  # not committed because of any exception, interrupts included
                    self.connection.execute("ROLLBACK")
        except apsw.BusyError as error:
            raise LedgerError(
                f"{self.path}: another process has locked the ledger for too long; nothing was recorded. "
                "Find the program that has it open."
            ) from error
        except apsw.Error as error:
            raise LedgerError(
                f"{self.path}: nothing was recorded ({error}). Check whether the disk is full or read-only."
            ) from error

    def append(self, head: ChainHead, kind: RowKind, body: str) -> str:
        """Append a row after ``head`` and return its hash."""
        return tables.insert(self.connection, seq=head.seq + 1, kind=kind, body=body, previous=head.sha256)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
