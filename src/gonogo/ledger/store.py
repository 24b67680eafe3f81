"""The ledger: open, append, query."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from gonogo.errors import GonogoError, LedgerError
from gonogo.ledger import formats, tables
from gonogo.ledger.engine import Engine
from gonogo.ledger.formats import apsw
from gonogo.ledger.frames import Frames, FrameStore, frames_folder
from gonogo.ledger.queries import By, Where
from gonogo.ledger.records import (
    REVIEW,
    Action,
    ChainHead,
    Record,
    Row,
    RowKind,
    StoredRow,
    Tombstone,
    VerdictRecord,
    body_of,
    record_of,
)
from gonogo.ledger.sqlite import SqliteEngine

R = TypeVar("R", bound=Record)

_PAGE = 1000


def _utc_now() -> datetime:
    return datetime.now(UTC)


class DuplicateTrigger(GonogoError):  # noqa: N818  an event to handle rather than an error
    """The trigger already has a verdict, which is in ``row``; nothing was written."""

    def __init__(self, row: Row[VerdictRecord]) -> None:
        super().__init__(
            f"trigger {row.record.trigger_id} of {row.record.station} is already recorded in row {row.seq}."
        )
        self.row = row


class Ledger:
    """An open ledger. Not thread-safe: open one per thread or process; several may append to one file."""

    def __init__(self, engine: Engine, frames: Frames, *, now: Callable[[], datetime] = _utc_now) -> None:
        self.engine = engine
        self.frames = frames
        self._now = now
        self._entries = engine.entries()
        self._select = f"SELECT seq, kind, body, previous, sha256 FROM {self._entries}"

    @property
    def name(self) -> str:
        """The ledger's place, for messages."""
        return self.engine.name

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        *,
        create: bool = True,
        read_only: bool = False,
        timeout_s: float = 10.0,
        now: Callable[[], datetime] = _utc_now,
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
        return cls(SqliteEngine(path, connection), FrameStore(frames_folder(path)), now=now)

    def close(self) -> None:
        """Close the connection; the ledger cannot be used afterwards."""
        self.engine.close()

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
                        f"{self.name}: view {view.name} of trigger {record.trigger_id} names frame "
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
                raise LedgerError(f"{self.name}: expected an action about an existing row, found row {action.about}.")
            return self._append(RowKind.ACTION, action)

    def append_tombstone(self, tombstone: Tombstone) -> Row[Tombstone]:
        """Record that frames are about to be deleted; see `gonogo.ledger.retain`."""
        with self.writing():
            return self._append(RowKind.TOMBSTONE, tombstone)

    def head(self) -> ChainHead:
        """Return number and hash of the last row."""
        found = self.engine.ask(f"SELECT seq, sha256 FROM {self._entries} ORDER BY seq DESC LIMIT 1", {})
        if not found:
            raise LedgerError(f"{self.name}: the ledger has lost all its rows. Check it with: gonogo ledger verify")
        return ChainHead(seq=found[0][0], sha256=found[0][1])

    def find(self, station: str, trigger_id: str) -> Row[VerdictRecord] | None:
        """Return the recorded verdict of a trigger, or ``None``."""
        rows = self.engine.ask(
            f"{self._select} WHERE kind = 'verdict' AND station = :station AND trigger_id = :trigger_id",
            {"station": station, "trigger_id": trigger_id},
        )
        return cast("Row[VerdictRecord]", self._row(rows[0])) if rows else None

    def row(self, seq: int) -> Row[Record] | None:
        """Return a row by its number, or ``None``."""
        rows = self.engine.ask(f"{self._select} WHERE seq = :seq", {"seq": seq})
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
        condition, values = where.sql(self.engine, kind)
        low, high = after or 0, before or 2**63 - 1
        order = "DESC" if newest_first else "ASC"
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(_PAGE, left)
            page = self.engine.ask(
                f"{self._select} WHERE {condition} AND seq > :low AND seq < :high ORDER BY seq {order} LIMIT :size",
                {**values, "low": low, "high": high, "size": size},
            )
            yield from map(self._row, page)
            if len(page) < size:
                return
            low, high = (low, page[-1][0]) if newest_first else (page[-1][0], high)
            left = None if left is None else left - size

    def stored(self, *, after: int, limit: int) -> list[StoredRow]:
        """Return the rows after a number as they are stored, unread; for copies that keep every hash."""
        found = self.engine.ask(
            f"{self._select} WHERE seq > :after ORDER BY seq LIMIT :limit", {"after": after, "limit": limit}
        )
        return [StoredRow(*row) for row in found]

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
        return self.tally((), where, kind=kind)[()]

    def tally(
        self,
        by: Sequence[By],
        where: Where = Where(),  # noqa: B008  frozen
        *,
        kind: RowKind = RowKind.VERDICT,
    ) -> dict[tuple[str | None, ...], int]:
        """Return the number of rows per group, in ascending order: ``{("2026-01-31T14", "go"): 311, ...}``."""
        condition, values = where.sql(self.engine, kind)
        groups = [group.value for group in by]
        # a covering index for all groups
        hint = "INDEXED BY entries_tally" if self.engine.hints and not where.narrow else ""
        order = ", ".join(f"{group} NULLS FIRST" for group in groups)
        grouping = f"GROUP BY {', '.join(groups)} ORDER BY {order}" if groups else ""
        found = self.engine.ask(
            f"SELECT {', '.join([*groups, 'count(*)'])} FROM {self._entries} {hint} WHERE {condition} {grouping}",
            values,
        )
        return {tuple(row[:-1]): row[-1] for row in found}

    def writing(self) -> AbstractContextManager[None]:
        """Hold the write lock while the block runs; its appends are committed together, or not at all.

        Raises:
            LedgerError: another process locks the ledger for too long, the disk is full, or the ledger is damaged.
        """
        return self.engine.writing()

    def _append(self, kind: RowKind, record: R) -> Row[R]:
        head, at = self.head(), self._now()
        body = body_of(record, at)
        digest = self.engine.append(head, kind, body)
        return Row(seq=head.seq + 1, kind=kind, at=at, record=record, body=body, previous=head.sha256, sha256=digest)

    def _row(self, found: tuple[Any, ...]) -> Row[Record]:
        seq, kind, body, previous, digest = found
        try:
            at, record = record_of(kind, body)
        except ValueError as error:
            raise LedgerError(
                f"{self.name}, row {seq}: not a record of this format ({str(error).splitlines()[0]}). "
                "Check it with: gonogo ledger verify"
            ) from error
        return Row(seq=seq, kind=RowKind(kind), at=at, record=record, body=body, previous=previous, sha256=digest)
