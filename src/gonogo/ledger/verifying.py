"""Verify a ledger: read the whole file without trusting it, and report every sign of tampering."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from gonogo.errors import LedgerError
from gonogo.ledger import formats, tables
from gonogo.ledger.anchors import Anchor
from gonogo.ledger.formats import apsw
from gonogo.ledger.frames import Frames, FrameStore, frames_folder
from gonogo.ledger.records import NO_HASH, Opened, Record, Tombstone, VerdictRecord, record_of, row_hash
from gonogo.progress import track

_HASH = re.compile(r"[0-9a-f]{64}")
_MOST_MESSAGES = 20
_COLUMNS = ("seq", "kind", "body", "previous", "sha256")


class Flaw(StrEnum):
    """Kind of a finding."""

    SCHEMA = "schema"
    """Tables, indexes or triggers differ from those that gonogo creates."""
    DAMAGED = "damaged"
    """SQLite cannot read all of the file, or its indexes disagree with its rows."""
    EDITED = "edited"
    """A row's content does not match its hash."""
    BROKEN = "broken"
    """A row does not follow the previous one: a row between them was deleted, inserted or moved."""
    MISSING = "missing"
    """Row numbers are missing, in the middle or at the end."""
    ANCHOR = "anchor"
    """A row does not match its anchor: the chain was recomputed."""
    MALFORMED = "malformed"
    """A row is in the chain but does not contain a valid record."""
    FRAME = "frame"
    """A stored frame is missing without a tombstone, or was changed."""
    SIGNATURE = "signature"
    """A person's signature does not belong to its row, or not to a key of that person."""


@dataclass(frozen=True, kw_only=True)
class Break:
    """One sign of tampering or damage."""

    flaw: Flaw
    seq: int | None
    """Number of the row, if any."""
    what: str
    """One sentence that describes the finding."""


class RecordCheck(Protocol):
    """Checks what the rows of one chain say, in their order, beyond the chain itself; made anew for each chain."""

    def __call__(self, seq: int, sha256: str, record: Record) -> Iterable[str]:
        """Return what is wrong with a row whose hash is right: sentences, which become findings of `Flaw.SIGNATURE`."""


def verify(
    path: str | os.PathLike[str],
    *,
    anchors: Sequence[Anchor] = (),
    frames: bool = False,
    also: RecordCheck | None = None,
) -> list[Break]:
    """Check the whole chain of a ledger, and compare it with anchors kept elsewhere.

    Editing, deleting, inserting or moving a row breaks the chain. Only an anchor reveals that the end was cut off or
    that the whole chain was recomputed, and only for the rows up to it.

    Args:
        path: The ledger's file, or a copy of it; it is opened read-only.
        anchors: Heads published earlier; see `gonogo.ledger.publish_anchor`.
        frames: Also read every stored frame and compare it with its hash.
        also: A further check of the records, such as `gonogo.signed_actions.SignatureCheck`.

    Returns:
        The findings in order of the rows; empty for an intact ledger.

    Raises:
        LedgerError: the file is not a ledger.
    """
    path = Path(path)
    try:
        connection = tables.connect(path, read_only=True, timeout_s=10.0)
    except LedgerError as error:
        tables.require_safe_sqlite(apsw.sqlite_lib_version())
        tables.require_sqlite_file(path)
        return [Break(flaw=Flaw.DAMAGED, seq=None, what=str(error))]
    try:
        return _Check(connection, path, RowChecks(anchors, also)).run(frames=frames)
    finally:
        connection.close()


class RowChecks:
    """Checks of the rows of one chain, in order, in whatever database they are; nothing is assumed to be valid."""

    def __init__(self, anchors: Sequence[Anchor], also: RecordCheck | None = None) -> None:
        self.findings: list[Break] = []
        self.last_seq = 0
        self.last_hash = NO_HASH
        self._anchors, self._also = anchors, also
        self._frames: dict[str, int] = {}

    def add(self, flaw: Flaw, seq: int | None, what: str) -> None:
        """Add a finding."""
        self.findings.append(Break(flaw=flaw, seq=seq, what=what))

    def check_row(self, seq: int, kind: str, body: bytes, previous: str, digest: str) -> None:
        """Check the next row: its hash, its record, and that it follows the row before."""
        if not _HASH.fullmatch(previous) or row_hash(previous, seq, kind, body) != digest:
            self.add(Flaw.EDITED, seq, f"row {seq} does not match its hash: it was edited")
        else:
            self._check_record(seq, kind, body, digest)
        if seq != self.last_seq + 1:
            self.add(Flaw.MISSING, seq, f"rows {self.last_seq + 1} to {seq - 1} are missing before row {seq}")
        elif previous != self.last_hash:
            self.add(Flaw.BROKEN, seq, f"row {seq} does not follow the present row {self.last_seq}")
        for anchor in self._anchors:
            if anchor.seq == seq and anchor.sha256 != digest:
                self.add(Flaw.ANCHOR, seq, f"row {seq} does not match the anchor of {anchor.at}")
        self.last_seq, self.last_hash = seq, digest

    def _check_record(self, seq: int, kind: str, body: bytes, digest: str) -> None:
        try:
            _, record = record_of(kind, body)
        except ValueError as error:
            self.add(Flaw.MALFORMED, seq, f"row {seq} is not a valid record: {str(error).splitlines()[0]}")
            return
        if isinstance(record, Opened) != (seq == 1):
            self.add(Flaw.MALFORMED, seq, f"expected the opening record in row 1 only, found row {seq}")
        if isinstance(record, VerdictRecord):
            self._frames |= {view.frame_sha256: seq for view in record.views if view.frame_sha256 is not None}
        if isinstance(record, Tombstone):
            for frame in record.frames_sha256:
                self._frames.pop(frame, None)
        for what in () if self._also is None else self._also(seq, digest, record):
            self.add(Flaw.SIGNATURE, seq, what)

    def check_anchors(self) -> None:
        """After the last row: report every anchor of a row that is not there."""
        for anchor in self._anchors:
            if anchor.seq > self.last_seq:
                self.add(
                    Flaw.MISSING,
                    anchor.seq,
                    f"row {anchor.seq}, anchored at {anchor.at}, is missing: the end was cut off",
                )

    def check_frames(self, frames: Frames) -> None:
        """Read every frame that a row names and no tombstone does."""
        for digest, seq in track(self._frames.items(), "verifying frames"):
            try:
                frames.read(digest)
            except LedgerError as error:
                self.add(Flaw.FRAME, seq, str(error))


class _Check:
    """One pass over one file; no column is assumed to have the right type or content."""

    def __init__(self, connection: apsw.Connection, path: Path, rows: RowChecks) -> None:
        self._connection = connection
        self._path = path
        self._rows = rows

    def run(self, *, frames: bool) -> list[Break]:
        with self._reading("the schema"):
            self._connection.execute("BEGIN")  # one snapshot, even if rows are appended meanwhile
            self._check_schema()
        with self._reading("the rows"):
            self._check_rows()
        with self._reading("the row counter"):
            self._check_end()
        self._rows.check_anchors()
        with self._reading("the pages"):
            self._check_pages()
        if frames:
            self._rows.check_frames(FrameStore(frames_folder(self._path)))
        return self._rows.findings

    @contextmanager
    def _reading(self, part: str) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, UnicodeDecodeError) as error:
            after = f" after row {self._rows.last_seq}" if self._rows.last_seq else ""
            self._rows.add(Flaw.DAMAGED, None, f"{part} cannot be read{after}: {error}")

    def _check_schema(self) -> None:
        if not tables.is_ledger(self._connection):
            raise LedgerError(f"{self._path}: expected a ledger, found another program's database. Check the path.")
        for difference in formats.differences(self._connection):
            self._rows.add(Flaw.SCHEMA, None, difference)

    def _check_rows(self) -> None:
        columns = ", ".join(f"typeof({name}), CAST({name} AS BLOB)" for name in _COLUMNS)
        (total,) = next(self._connection.execute("SELECT count(*) FROM entries"))
        rows = self._connection.execute(f"SELECT {columns} FROM entries NOT INDEXED ORDER BY seq")
        for row in track(rows, "verifying rows", total=total):
            self._check_row(row[::2], row[1::2])

    def _check_row(self, types: tuple[str, ...], stored: tuple[bytes, ...]) -> None:
        if types != ("integer", "text", "text", "text", "text"):
            found = f"{dict(zip(_COLUMNS, types, strict=True))}"
            what = f"the row after row {self._rows.last_seq} has values of wrong types: {found}"
            self._rows.add(Flaw.EDITED, None, what)
            return
        seq, kind, body, previous, digest = stored
        self._rows.check_row(int(seq), _text(kind), body, _text(previous), _text(digest))

    def _check_end(self) -> None:
        last = self._rows.last_seq
        if last == 0:
            self._rows.add(Flaw.MISSING, None, "there are no rows, not even the opening record")
        found = list(self._connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'entries'"))
        counted = found[0][0] if len(found) == 1 else None
        if counted != last:
            self._rows.add(Flaw.MISSING, None, f"the last row is {last}, but {counted} rows were written")

    def _check_pages(self) -> None:
        for (message,) in self._connection.execute(f"PRAGMA integrity_check({_MOST_MESSAGES})"):
            if message != "ok":
                self._rows.add(Flaw.DAMAGED, None, str(message))


def _text(stored: bytes) -> str:
    return stored.decode(errors="replace")
