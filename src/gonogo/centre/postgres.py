"""The engine of a chain at the centre: PostgreSQL, through SQLAlchemy."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

from sqlalchemy import Connection, text

from gonogo.centre import chains
from gonogo.errors import LedgerError
from gonogo.ledger import ChainHead, Opened, RowKind, StoredRow
from gonogo.ledger.engine import Found, Values
from gonogo.ledger.formats import FORMAT
from gonogo.ledger.records import body_of, row_hash


class PostgresEngine:
    """One chain at the centre; see `gonogo.ledger.engine.Engine`. Not thread-safe."""

    hints = False

    def __init__(
        self, begin: Callable[[], AbstractContextManager[Connection]], chain: chains.Chain, *, shown: str
    ) -> None:
        self._begin = begin
        self._chain = chain
        self._shown = shown
        self._writing: Connection | None = None

    @property
    def name(self) -> str:
        """Address and chain, without the password."""
        return self._shown

    def entries(self, alias: str = "entries") -> str:
        """The rows of the chain: a part of the view of all rows, which the planner sees through."""
        return f"(SELECT * FROM ledger_rows WHERE chain = {self._chain.id}) AS {alias}"

    def ask(self, sql: str, values: Values) -> Found:
        """Return the rows that a statement finds; inside `writing`, in its transaction.

        Raises:
            LedgerError: the database cannot be read.
        """
        if self._writing is not None:
            return [tuple(row) for row in self._writing.execute(text(sql), dict(values))]
        with self._begin() as connection:
            return [tuple(row) for row in connection.execute(text(sql), dict(values))]

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock of the chain while the block runs.

        Raises:
            LedgerError: the chain is forwarded from elsewhere, another process locks it for too long, or the centre
                cannot be reached or written.
        """
        if self._chain.forwarded:
            raise LedgerError(
                f"{self._shown}: its rows come from a ledger elsewhere, which a row of this program would cut off. "
                "Use a chain of another name."
            )
        with self._begin() as connection:
            chains.lock(connection, self._chain.id)
            self._writing = connection
            try:
                yield
            finally:
                self._writing = None

    def append(self, head: ChainHead, kind: RowKind, body: str) -> str:
        """Append a row after ``head`` and return its hash."""
        assert self._writing is not None, "called inside writing()"
        seq = head.seq + 1
        digest = row_hash(head.sha256, seq, kind, body.encode())
        chains.store(self._writing, self._chain.id, StoredRow(seq, str(kind), body, head.sha256, digest))
        return digest

    def open_chain(self) -> None:
        """Write the first row, unless another program has just done so."""
        with self.writing():
            assert self._writing is not None, "inside writing()"
            head = chains.read_head(self._writing, self._chain.id)
            if head.seq == 0:
                opened = Opened(ledger=secrets.token_hex(16), format=FORMAT)
                self.append(head, RowKind.OPENED, body_of(opened, datetime.now(UTC)))

    def close(self) -> None:
        """Nothing to do: connections belong to the centre."""
