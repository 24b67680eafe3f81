"""The outbox: read the ledger after a cursor, deliver, move the cursor. One for each destination, in its own thread.

A destination that is down holds back only itself, with growing pauses, for as long as it takes. Between a delivery and
its cursor this process may die: then the same results are delivered again, with the same ids and the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from gonogo.errors import LedgerError
from gonogo.ledger import REVIEW, Action, Ledger, Row, RowKind, StoredRow, VerdictRecord
from gonogo.ledger.cursors import Cursor, cursor_path, read_cursor, write_cursor
from gonogo.ledger.records import Opened, record_of
from gonogo.results.delivery import Delivery, DeliveryError, Destination
from gonogo.results.document import Document, content_of, decision_of, document_of
from gonogo.results.lanes import LaneState
from gonogo.results.settings import ResultSettings, WebhookResults, pictures_of
from gonogo.schema import State

ROWS_PER_BATCH = 200
_CURSOR_EVERY_S = 10.0


class LedgerReplacedError(LedgerError):
    """The ledger is not the one that was delivered before; a person must decide."""

    refused = True


class Outbox:
    """Delivers the results of one station to one destination. Used by one thread."""

    def __init__(
        self,
        ledger: Path,
        station: str,
        settings: ResultSettings,
        destination: Destination,
        *,
        rows_per_batch: int = ROWS_PER_BATCH,
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            ledger: The ledger.
            station: Only results of this station are delivered.
            settings: Settings of the destination.
            destination: Where to deliver.
            rows_per_batch: Largest number of rows in one batch.
        """
        self.path, self.station, self.settings = ledger, station, settings
        self.cursor_path = cursor_path(ledger, station, settings.name)
        self._destination, self._rows_per_batch = destination, rows_per_batch
        self._pictures = pictures_of(settings)
        self._ledger: Ledger | None = None
        self._file: tuple[int, int] | None = None
        self._name = ""
        self._cursor = Cursor()
        self._written_s, self._unwritten = float("-inf"), True
        self._local_seq = 0
        self._oldest: datetime | None = None
        self.delivered = self.skipped = self.pictures_missing = 0

    def step(self) -> bool:
        """Deliver the next batch.

        Returns:
            Whether more rows wait.

        Raises:
            DeliveryError: the destination is down or refuses; what it acknowledged counts.
            LedgerReplacedError: another ledger, or an older copy, is in its place. Nothing was delivered.
            LedgerError: the ledger or the cursor cannot be read.
            InputError: the cursor cannot be written, or a file with credentials cannot be read.
        """
        ledger = self._opened()
        rows = ledger.stored(after=self._cursor.seq, limit=self._rows_per_batch)
        self._observe(ledger, rows)
        if not rows:
            self._move(self._cursor, now=False)
            return False
        batch = [
            Delivery(
                document=document,
                content=content_of(document),
                frames=ledger.frames if self._wants_pictures(document) else None,
                missing=self._count_missing,
            )
            for row in rows
            for document in self._documents(ledger, row)
        ]
        self._deliver(batch, rows)
        self._observe(ledger, ledger.stored(after=self._cursor.seq, limit=1))
        return self._cursor.seq < self._local_seq

    def state(self) -> LaneState:
        """Return how far the destination is."""
        now = datetime.now(UTC)
        lag_s = 0.0 if self._oldest is None else max(0.0, (now - self._oldest).total_seconds())
        return LaneState(
            name=self.settings.name,
            kind=self.settings.kind,
            at=now,
            lag_rows=max(0, self._local_seq - self._cursor.seq),
            lag_s=round(lag_s, 3),
            seq=self._cursor.seq,
            delivered=self.delivered,
            skipped=self.skipped,
            pictures_missing=self.pictures_missing,
        )

    def close(self) -> None:
        """Close ledger and destination, and forget the cursor; the next step reads both again."""
        if self._ledger is not None:
            self._ledger.close()
        self._ledger = None
        self._destination.close()

    def finish(self) -> None:
        """Write the cursor, and close."""
        if self._ledger is not None:
            self._move(self._cursor, now=True)
        self.close()

    def _opened(self) -> Ledger:
        """Return the open ledger, checked against the cursor."""
        try:
            found = self.path.stat()
        except OSError as error:
            self.close()
            raise LedgerError(f"{self.path}: the ledger cannot be read ({error.strerror or error}).") from error
        file = (found.st_dev, found.st_ino)
        if self._ledger is None or file != self._file:
            self.close()
            ledger = Ledger.open(self.path, create=False, read_only=True)
            try:
                self._read_cursor(ledger)
            except BaseException:  # BLE001: closed whatever happened, and raised again
                ledger.close()
                raise
            self._ledger, self._file = ledger, file
        return self._ledger

    def _read_cursor(self, ledger: Ledger) -> None:
        first = ledger.row(1)
        assert first is not None, "a ledger has a first row"
        self._name = cast("Opened", first.record).ledger
        cursor = read_cursor(self.cursor_path) or Cursor(pictures=self._pictures != "none")
        if cursor.ledger is None:
            start = min(self.settings.first_row - 1, ledger.head().seq)
            self._cursor = self._at(cursor, ledger.stored(after=start - 1, limit=1)[0] if start else None)
            return
        advice = (
            f"Move {self.cursor_path} away to deliver this ledger from its first row; rows of another ledger that were "
            "not delivered are delivered by a copy of the settings that names it."
        )
        if cursor.ledger != self._name:
            raise LedgerReplacedError(
                f"{self.path}: expected ledger {cursor.ledger}, of which {cursor.seq:,} rows were delivered, found "
                f"another one, {self._name}; nothing was delivered. {advice}"
            )
        same = ledger.stored(after=cursor.seq - 1, limit=1) if cursor.seq else []
        if cursor.seq and (not same or same[0].seq != cursor.seq or same[0].sha256 != cursor.sha256):
            raise LedgerReplacedError(
                f"{self.path}: expected row {cursor.seq:,} as it was delivered, found "
                f"{'another row' if same else f'a ledger that ends at row {ledger.head().seq:,}'}: the ledger was set "
                f"back or changed; nothing was delivered. Restore it, or give a new ledger a new name. {advice}"
            )
        self._cursor = cursor

    def _at(self, cursor: Cursor, row: StoredRow | None) -> Cursor:
        seq, digest = (0, None) if row is None else (row.seq, row.sha256)
        changes = {"ledger": self._name, "seq": seq, "sha256": digest, "pictures": self._pictures != "none"}
        return cursor.model_copy(update=changes)

    def _documents(self, ledger: Ledger, row: StoredRow) -> Iterator[Document]:
        """Yield the document of a row, if it has one and this destination receives it."""
        if row.kind not in (RowKind.VERDICT, RowKind.ACTION):
            return
        try:
            at, record = record_of(row.kind, row.body)
        except ValueError as error:
            raise LedgerError(
                f"{self.path}, row {row.seq}: not a record of this format. Check it with: gonogo ledger verify"
            ) from error
        read = Row(
            seq=row.seq,
            kind=RowKind(row.kind),
            at=at,
            record=record,
            body=row.body,
            previous=row.previous,
            sha256=row.sha256,
        )
        if isinstance(record, VerdictRecord):
            if self._includes(record):
                yield document_of(cast("Row[VerdictRecord]", read), self._name)
        elif self.settings.decisions and isinstance(record, Action) and record.action == REVIEW and record.about:
            about = ledger.row(record.about)
            if about is not None and isinstance(about.record, VerdictRecord) and self._includes(about.record):
                verdict = cast("Row[VerdictRecord]", about)
                yield decision_of(cast("Row[Action]", read), verdict, self._name)

    def _includes(self, record: VerdictRecord) -> bool:
        return record.station == self.station and record.state in self.settings.include

    def _wants_pictures(self, document: Document) -> bool:
        state = getattr(document, "state", None)
        return state is not None and (self._pictures == "all" or (self._pictures == "not_go" and state != State.GO))

    def _deliver(self, batch: list[Delivery], rows: list[StoredRow]) -> None:
        """Deliver a batch and move the cursor over what was acknowledged, or skipped as the settings allow."""
        try:
            if batch:
                self._destination.deliver(batch)
        except DeliveryError as error:
            self.delivered += error.delivered
            reached = batch[error.delivered].document.row
            skips = error.malformed and isinstance(self.settings, WebhookResults) and self.settings.skip_refused
            if skips:
                self._skip(batch[error.delivered], str(error))
            before = [row for row in rows if row.seq < reached + skips]
            if before:
                self._move(self._at(self._cursor, before[-1]), now=True)
            if not skips:
                raise
            return
        self.delivered += len(batch)
        self._move(self._at(self._cursor, rows[-1]), now=bool(batch))

    def _skip(self, refused: Delivery, why: str) -> None:
        """Record a result that the receiver calls malformed, before the cursor passes it."""
        line = {"at": datetime.now(UTC).isoformat(), "result_id": refused.document.result_id, "why": why}
        path = self.cursor_path.with_suffix(".skipped")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise LedgerError(f"{path}: cannot be written ({error.strerror or error}). Free some space.") from error
        self.skipped += 1

    def _move(self, cursor: Cursor, *, now: bool) -> None:
        """Move the cursor. Without a delivery it is written at most every 10 seconds: a flush delays the line."""
        self._unwritten = self._unwritten or cursor != self._cursor
        self._cursor = cursor
        if self._unwritten and (now or time.monotonic() - self._written_s > _CURSOR_EVERY_S):
            write_cursor(self.cursor_path, cursor)
            self._unwritten, self._written_s = False, time.monotonic()

    def _observe(self, ledger: Ledger, waiting: list[StoredRow]) -> None:
        self._local_seq = ledger.head().seq
        self._oldest = datetime.fromisoformat(json.loads(waiting[0].body)["at"]) if waiting else None

    def _count_missing(self, digest: str) -> None:
        self.pictures_missing += 1
