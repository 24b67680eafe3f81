"""The ledger: open, append, query."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from gonogo.errors import GonogoError, LedgerError
from gonogo.ledger import formats, tables
from gonogo.ledger.formats import apsw
from gonogo.ledger.frames import FrameStore, frames_folder
from gonogo.ledger.queries import By, Where
from gonogo.ledger.records import (
    REVIEW,
    Action,
    ChainHead,
    Record,
    Row,
    RowKind,
    Tombstone,
    VerdictRecord,
    body_of,
    record_of,
)

R = TypeVar("R", bound=Record)

_PAGE = 1000
_SELECT = "SELECT seq, kind, body, previous, sha256 FROM entries"


class DuplicateTrigger(GonogoError):  # noqa: N818  an event to handle rather than an error
    """The trigger already has a verdict, which is in ``row``; nothing was written."""

    def __init__(self, row: Row[VerdictRecord]) -> None:
        super().__init__(
            f"trigger {row.record.trigger_id} of {row.record.station} is already recorded in row {row.seq}."
        )
        self.row = row


class Ledger:
    """An open ledger. Not thread-safe: open one per thread or process; several may append to one file."""

    def __init__(self, path: Path, connection: apsw.Connection, *, now: Callable[[], datetime]) -> None:
        self.path = path
        self.frames = FrameStore(frames_folder(path))
        self._connection = connection
        self._now = now

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 10.0,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> Self:
        """Open a ledger; create it if it does not exist, and migrate it if it has an older format.

        Args:
            path: The ledger's file, on a local disk. Its frames are in the folder with ``-frames`` added to the name.
            create: Create the ledger if it does not exist; never with ``read_only``.
            read_only: Refuse every append.
            timeout_s: How long to wait for another process that is appending.
            now: Clock for the time of rows; must return times with a time zone.

        Raises:
            LedgerError: the ledger does not exist, the file is not a ledger, its schema was changed, or SQLite is older
                than 3.51.3.
        """
        path = Path(path)
        if create and not read_only and not path.exists():
            tables.create_tables(path)
        connection = tables.connect(path, read_only=read_only, timeout_s=timeout_s)
        try:
            different = formats.differences(connection)
            if not different and not read_only:
                formats.migrate(connection)
        except apsw.Error as error:
            connection.close()
            raise LedgerError(f"{path}: cannot be read ({error}). Check it with: gonogo ledger verify") from error
        if different:
            connection.close()
            raise LedgerError(
                f"{path}: expected a ledger of format {formats.FORMAT} or older, found another schema "
                f"({different[0]}). Check it with: gonogo ledger verify"
            )
        return cls(path, connection, now=now)

    def close(self) -> None:
        """Close the file; the ledger cannot be used afterwards."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append_verdict(self, record: VerdictRecord) -> Row[VerdictRecord]:
        """Record the verdict on one part in one transaction; durable when this returns.

        Raises:
            DuplicateTrigger: the trigger already has a verdict, which the error carries.
            LedgerError: a frame is not stored, the disk is full, or another process locks the ledger for too long.
                Nothing was recorded.
        """
        with self.writing():
            stored = self.find(record.station, record.trigger_id)
            if stored is not None:
                raise DuplicateTrigger(stored)
            # Under the write lock, so that retention cannot delete a frame between this check and the commit.
            for view in record.views:
                if view.frame_sha256 is not None and not self.frames.holds(view.frame_sha256):
                    raise LedgerError(
                        f"{self.path}: view {view.name} of trigger {record.trigger_id} names frame "
                        f"{view.frame_sha256}, which is not stored. Put the frame before the row."
                    )
            return self._append(RowKind.VERDICT, record)

    def append_action(self, action: Action) -> Row[Action]:
        """Record an action in one transaction; durable when this returns.

        Raises:
            LedgerError: the action refers to a row that does not exist, the disk is full, or another process locks the
                ledger for too long. Nothing was recorded.
        """
        with self.writing():
            if action.about is not None and action.about > self.head().seq:
                raise LedgerError(f"{self.path}: expected an action about an existing row, found row {action.about}.")
            return self._append(RowKind.ACTION, action)

    def append_tombstone(self, tombstone: Tombstone) -> Row[Tombstone]:
        """Record that frames are about to be deleted; see `gonogo.ledger.retain`."""
        with self.writing():
            return self._append(RowKind.TOMBSTONE, tombstone)

    def head(self) -> ChainHead:
        """Return number and hash of the last row."""
        found = self._ask("SELECT seq, sha256 FROM entries ORDER BY seq DESC LIMIT 1", ())
        if not found:
            raise LedgerError(f"{self.path}: the ledger has lost all its rows. Check it with: gonogo ledger verify")
        return ChainHead(seq=found[0][0], sha256=found[0][1])

    def find(self, station: str, trigger_id: str) -> Row[VerdictRecord] | None:
        """Return the recorded verdict of a trigger, or ``None``."""
        rows = self._ask(f"{_SELECT} WHERE kind = 'verdict' AND station = ? AND trigger_id = ?", (station, trigger_id))
        return cast("Row[VerdictRecord]", self._row(rows[0])) if rows else None

    def row(self, seq: int) -> Row[Record] | None:
        """Return a row by its number, or ``None``."""
        rows = self._ask(f"{_SELECT} WHERE seq = ?", (seq,))
        return self._row(rows[0]) if rows else None

    def rows(
        self,
        where: Where = Where(),  # noqa: B008  frozen
        *,
        kind: RowKind | None = None,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row[Record]]:
        """Yield rows in order of their numbers, read in pages, so that a slow reader never blocks the writers.

        Args:
            where: Filter.
            kind: Only rows of this kind.
            after: Only rows with a higher number.
            before: Only rows with a lower number.
            limit: Largest number of rows.
            newest_first: Start with the highest number.
        """
        condition, values = where.sql(kind)
        low, high = after or 0, before or 2**63 - 1
        order = "DESC" if newest_first else "ASC"
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self._ask(
                f"{_SELECT} WHERE {condition} AND seq > ? AND seq < ? ORDER BY seq {order} LIMIT ?",
                (*values, low, high, size),
            )
            yield from map(self._row, page)
            if len(page) < size:
                return
            low, high = (low, page[-1][0]) if newest_first else (page[-1][0], high)
            left = None if left is None else left - size

    def verdicts(
        self,
        where: Where = Where(),  # noqa: B008  frozen
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row[VerdictRecord]]:
        """Yield verdicts; see `rows`."""
        found = self.rows(
            where, kind=RowKind.VERDICT, after=after, before=before, limit=limit, newest_first=newest_first
        )
        return cast("Iterator[Row[VerdictRecord]]", found)

    def actions(
        self,
        where: Where = Where(),  # noqa: B008  frozen
        *,
        after: int | None = None,
        before: int | None = None,
        limit: int | None = None,
        newest_first: bool = False,
    ) -> Iterator[Row[Action]]:
        """Yield actions; see `rows`."""
        found = self.rows(
            where, kind=RowKind.ACTION, after=after, before=before, limit=limit, newest_first=newest_first
        )
        return cast("Iterator[Row[Action]]", found)

    def decision(self, seq: int) -> Row[Action] | None:
        """Return the valid review of a verdict; ``None`` if there is none or it was withdrawn."""
        latest = next(self.actions(Where(about=seq, action=REVIEW), newest_first=True, limit=1), None)
        return latest if latest is not None and latest.record.label is not None else None

    def count(self, where: Where = Where(), *, kind: RowKind = RowKind.VERDICT) -> int:  # noqa: B008  frozen
        """Return the number of rows."""
        return self.tally((), where, kind=kind).get((), 0)

    def tally(
        self,
        by: Sequence[By],
        where: Where = Where(),  # noqa: B008  frozen
        *,
        kind: RowKind = RowKind.VERDICT,
    ) -> dict[tuple[str | None, ...], int]:
        """Return the number of rows per group, in ascending order: ``{("2026-01-31T14", "go"): 311, ...}``."""
        condition, values = where.sql(kind, counting=True)
        groups = [group.value for group in by]
        hint = "" if where.narrow else "INDEXED BY entries_tally"  # a covering index for all groups
        grouping = f"GROUP BY {', '.join(groups)} ORDER BY {', '.join(groups)}" if groups else ""
        found = self._ask(
            f"SELECT {', '.join([*groups, 'count(*)'])} FROM entries {hint} WHERE {condition} {grouping}",
            values,
        )
        return {tuple(row[:-1]): row[-1] for row in found}

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the write lock while the block runs; its appends are committed together, or not at all.

        Raises:
            LedgerError: another process locks the ledger for too long, the disk is full, or the ledger is damaged.
        """
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._connection.execute("COMMIT")
            finally:
                if self._connection.in_transaction:  # not committed because of any exception, interrupts included
                    self._connection.execute("ROLLBACK")
        except apsw.BusyError as error:
            raise LedgerError(
                f"{self.path}: another process has locked the ledger for too long; nothing was recorded. "
                "Find the program that has it open."
            ) from error
        except apsw.Error as error:
            raise LedgerError(
                f"{self.path}: nothing was recorded ({error}). Check whether the disk is full or read-only."
            ) from error

    def _append(self, kind: RowKind, record: R) -> Row[R]:
        head, at = self.head(), self._now()
        body = body_of(record, at)
        digest = tables.insert(self._connection, seq=head.seq + 1, kind=kind, body=body, previous=head.sha256)
        return Row(seq=head.seq + 1, kind=kind, at=at, record=record, body=body, previous=head.sha256, sha256=digest)

    def _ask(self, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return list(self._connection.execute(sql, tuple(values)))
        except apsw.Error as error:
            raise LedgerError(f"{self.path}: cannot be read ({error}). Check it with: gonogo ledger verify") from error

    def _row(self, found: tuple[Any, ...]) -> Row[Record]:
        seq, kind, body, previous, digest = found
        try:
            at, record = record_of(kind, body)
        except ValueError as error:
            raise LedgerError(
                f"{self.path}, row {seq}: not a record of this format ({str(error).splitlines()[0]}). "
                "Check it with: gonogo ledger verify"
            ) from error
        return Row(seq=seq, kind=RowKind(kind), at=at, record=record, body=body, previous=previous, sha256=digest)
