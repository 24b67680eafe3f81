"""What a ledger needs from its database: read, append, and a transaction. SQLite and PostgreSQL differ in nothing else.

The statements of `gonogo.ledger.store` and `gonogo.ledger.queries` are one set of texts for both databases: apsw takes
their ``:names`` as they are, SQLAlchemy binds them for PostgreSQL (`gonogo.centre`). So the line needs no SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

from gonogo.ledger.records import ChainHead, RowKind

Values = Mapping[str, Any]
Found = list[tuple[Any, ...]]


class Engine(Protocol):
    """The database of one chain of rows."""

    @property
    def name(self) -> str:
        """The chain's place, for messages; without a password."""

    @property
    def hints(self) -> bool:
        """Whether statements carry the hints that SQLite's planner needs without statistics."""

    def entries(self, alias: str = "entries") -> str:
        """Return the ``FROM`` item with all rows of the chain, under a name."""

    def ask(self, sql: str, values: Values) -> Found:
        """Return the rows that a statement finds.

        Raises:
            LedgerError: the database cannot be read.
        """

    def writing(self) -> AbstractContextManager[None]:
        """Hold the write lock of the chain while the block runs; its appends are committed together, or not at all.

        Raises:
            LedgerError: the lock cannot be had in time, or nothing can be written.
        """

    def append(self, head: ChainHead, kind: RowKind, body: str) -> str:
        """Append a row after ``head``, inside `writing`, and return its hash."""

    def close(self) -> None:
        """Close the connection."""
