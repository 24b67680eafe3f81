"""The search index over the ledger: finds rows by words, dates and filters, in the workspace's ``cache`` folder.

It holds nothing of its own. The ledger's rows are read once, in order, and what is shown or exported is always read
from the ledger itself, so an index that was lost or damaged costs a rebuild and never a wrong page.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import apsw

from gonogo.ledger import ChainHead, Ledger, RowKind, StoredRow
from gonogo.ledger.records import iso
from gonogo.schema import State
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records.index_rows import COLUMNS, FORMAT, SCHEMA, identities_of, parsed, plain, row_of

LARGEST_COUNT = 10_000
"""Larger results are not counted to the end."""
AT_ONCE = 2000
"""Largest number of new rows that a page reads before it answers."""
_PAGE = 1000
_IDLE = 8
_TRIGRAM = 3  # the index finds words of at least three characters
_MOST_WORDS = 8
_EVERYTHING = 2**62
_FEW = 2000
"""Of so few rows with a verdict, an action or a person the words are compared one by one: the index of the words would
go through every row that holds them."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A search; all given conditions must hold."""

    kind: RowKind
    """Verdicts or actions."""
    text: str = ""
    """Words that must all occur, in any order; capitals do not matter."""
    since: datetime | None = None
    """Committed at or after this time."""
    until: datetime | None = None
    """Committed before this time."""
    state: State | None = None
    station: str = ""
    product: str = ""
    who: str = ""
    action: str = ""


class RowIndex:
    """Finds rows of the ledger. Safe to use from several threads.

    Args:
        path: The file; created if missing, and again if it is damaged or belongs to another ledger.
        ledger_pool: The ledger.
    """

    def __init__(self, path: Path, ledger_pool: LedgerPool) -> None:
        self._path, self._ledger_pool = path, ledger_pool
        self._updating = threading.Lock()
        self._idle: queue.LifoQueue[apsw.Connection] = queue.LifoQueue(maxsize=_IDLE)
        self._checked = False

    def update(self, *, most: int = _EVERYTHING, step: Callable[[int, int], None] | None = None) -> int:
        """Read new rows of the ledger, unless another thread is doing so, and return how many are still unread.

        Args:
            most: Read nothing if more rows than this are new.
            step: Called with the last row read and the last row of the ledger.
        """
        with self._ledger_pool.reading() as ledger:
            head = ledger.head()
            if not self._updating.acquire(blocking=most == _EVERYTHING):
                return head.seq - self.read_up_to()
            try:
                self._check(ledger)
                done = self.read_up_to()
                if head.seq - done > most:
                    return head.seq - done
                while done < head.seq:
                    if step is not None:
                        step(done, head.seq)
                    done = self._read(ledger.stored(after=done, limit=_PAGE))
            finally:
                self._updating.release()
        return max(0, head.seq - done)

    def read_up_to(self) -> int:
        """The last row of the ledger that the index knows."""
        return int(self._ask("SELECT seq FROM read_up_to")[0][0])

    def find(
        self, wanted: Wanted, *, after: int = 0, before: int | None = None, limit: int, newest_first: bool = True
    ) -> list[int]:
        """Return the numbers of the rows that match, within bounds on the row number that are not included."""
        few = self._among_few(wanted)
        if few is not None:
            found_ones = [seq for seq in few if after < seq < (_EVERYTHING if before is None else before)]
            return (found_ones[::-1] if newest_first else found_ones)[:limit]
        source, condition, values = _sql(wanted)
        order = "DESC" if newest_first else "ASC"
        bounds = {"after": after, "before": _EVERYTHING if before is None else before, "limit": limit}
        found = self._ask(
            f"SELECT rows.seq FROM {source} WHERE {condition} AND {_SEQ[source]} > :after AND {_SEQ[source]} < :before "
            f"ORDER BY {_SEQ[source]} {order} LIMIT :limit",
            {**values, **bounds},
        )
        return [seq for (seq,) in found]

    def count(self, wanted: Wanted, *, most: int | None = LARGEST_COUNT) -> int:
        """Return the number of rows that match, at most one more than ``most``."""
        few = self._among_few(wanted)
        if few is not None:
            return len(few) if most is None else min(len(few), most + 1)
        source, condition, values = _sql(wanted)
        limit = -1 if most is None else most + 1
        found = self._ask(f"SELECT count(*) FROM (SELECT 1 FROM {source} WHERE {condition} LIMIT {limit})", values)
        return int(found[0][0])

    def _among_few(self, wanted: Wanted) -> list[int] | None:
        """All rows that match, in order, if the other conditions leave only few; ``None`` if they leave many."""
        words = _words(wanted)
        if not words or (wanted.state is None and not wanted.action and not wanted.who):
            return None
        _, condition, values = _sql(replace(wanted, text=""))
        chosen = f"SELECT rows.seq, rows.text FROM rows WHERE {condition} ORDER BY rows.seq LIMIT {_FEW + 1}"
        rows = self._ask(chosen, values)
        if len(rows) > _FEW:
            return None
        folded = [word.casefold() for word in words]
        return [seq for seq, text in rows if all(word in text.casefold() for word in folded)]

    def one_part(self, code: str) -> int | None:
        """Return the newest row of the part that a name, serial number, trigger or code text belongs to.

        Returns:
            ``None`` if it belongs to no part, or to several.
        """
        found = self._ask(
            "SELECT rows.seq, rows.name, rows.lot FROM identities JOIN rows ON rows.seq = identities.seq "
            "WHERE word = :word ORDER BY rows.seq DESC LIMIT 200",
            {"word": plain(code).strip()},
        )
        same = found and (len(found) == 1 or (found[0][1] is not None and len({row[1:] for row in found}) == 1))
        return int(found[0][0]) if same else None

    def rows_of_part(self, name: str, lot: str | None) -> list[int]:
        """Return the rows of one part, at most 200, the newest first."""
        found = self._ask(
            "SELECT seq FROM rows WHERE name = :name AND lot IS :lot ORDER BY seq DESC LIMIT 200",
            {"name": name, "lot": lot},
        )
        return [seq for (seq,) in found]

    def choices(self, kind: str) -> list[str]:
        """Return the names in use, sorted: of a ``station``, a ``product`` or an ``action``."""
        return [name for (name,) in self._ask("SELECT name FROM choices WHERE kind = :kind", {"kind": kind})]

    def deleted_frame(self, digest: str) -> int | None:
        """Return the row that recorded that a frame would be deleted."""
        found = self._ask("SELECT seq FROM deleted_frames WHERE digest = :digest", {"digest": digest})
        return int(found[0][0]) if found else None

    def close(self) -> None:
        """Close every connection."""
        while not self._idle.empty():
            self._idle.get_nowait().close()

    def _read(self, rows: list[StoredRow]) -> int:
        with self._connected() as connection, connection:
            for stored in rows:
                _put(connection, stored)
            last = ChainHead(seq=rows[-1].seq, sha256=rows[-1].sha256)
            connection.execute("UPDATE read_up_to SET seq = ?, sha256 = ?", (last.seq, last.sha256))
        return last.seq

    def _check(self, ledger: Ledger) -> None:
        """Start again if the index was made from another ledger, for example after a backup was restored."""
        if self._checked:
            return
        ((seq, sha256),) = self._ask("SELECT seq, sha256 FROM read_up_to")
        row = ledger.row(seq) if seq else None
        if seq and (row is None or row.sha256 != sha256):
            self.close()
            _remove(self._path)
        self._checked = True

    def _ask(self, statement: str, values: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._connected() as connection:
            return connection.execute(statement, values or {}).fetchall()

    @contextmanager
    def _connected(self) -> Iterator[apsw.Connection]:
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = _open(self._path)
        try:
            yield connection
        except apsw.Error:
            connection.close()
            raise
        try:
            self._idle.put_nowait(connection)
        except queue.Full:
            connection.close()


_SEQ = {"rows": "rows.seq", "words CROSS JOIN rows ON rows.seq = words.rowid": "words.rowid"}


def _words(wanted: Wanted) -> list[str]:
    return [plain(word) for word in re.split(r"\s+", wanted.text.strip()) if plain(word)][:_MOST_WORDS]


def _sql(wanted: Wanted) -> tuple[str, str, dict[str, Any]]:
    """The tables, the condition and its values."""
    plain_table, searched = _SEQ
    words = _words(wanted)
    long = [word for word in words if len(word) >= _TRIGRAM]
    tests: dict[str, tuple[str, Any]] = {
        "kind": ("rows.kind =", str(wanted.kind)),
        "since": ("rows.at >=", None if wanted.since is None else iso(wanted.since)),
        "until": ("rows.at <", None if wanted.until is None else iso(wanted.until)),
        "state": ("rows.state =", None if wanted.state is None else str(wanted.state)),
        **{name: (f"rows.{name} =", getattr(wanted, name) or None) for name in ("station", "product", "who", "action")},
    }
    values = {name: value for name, (_, value) in tests.items() if value is not None}
    conditions = [f"{tests[name][0]} :{name}" for name in values]
    for number, word in enumerate(each for each in words if len(each) < _TRIGRAM):
        conditions.append(f"rows.text LIKE :short_{number} ESCAPE '\\'")
        values[f"short_{number}"] = "%" + re.sub(r"([%_\\])", r"\\\1", word) + "%"
    if long:
        conditions.append("words MATCH :words")
        values["words"] = " AND ".join('"' + word.replace('"', '""') + '"' for word in long)
    return (searched if long else plain_table), " AND ".join(conditions), values


def _put(connection: apsw.Connection, stored: StoredRow) -> None:
    content = parsed(stored)
    if stored.kind == RowKind.TOMBSTONE:
        frames = [(digest, stored.seq) for digest in content["record"]["frames_sha256"]]
        connection.executemany("INSERT OR REPLACE INTO deleted_frames VALUES (?, ?)", frames)
    row = row_of(stored, content)
    if row is None:
        return
    values = dict(zip(COLUMNS, row, strict=True))
    connection.execute(f"INSERT OR REPLACE INTO rows VALUES ({', '.join('?' * len(COLUMNS))})", row)
    connection.execute("INSERT INTO words (rowid, text) VALUES (?, ?)", (stored.seq, values["text"]))
    if stored.kind == RowKind.VERDICT:
        named = [(word, stored.seq) for word in identities_of(content)]
        connection.executemany("INSERT OR IGNORE INTO identities VALUES (?, ?)", named)
    chosen = [(kind, values[kind]) for kind in ("station", "product", "action") if values[kind]]
    connection.executemany("INSERT OR IGNORE INTO choices VALUES (?, ?)", chosen)


def _open(path: Path) -> apsw.Connection:
    """Open the file; one that is damaged or has another format is made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        return _connect(path)
    except apsw.Error:
        _remove(path)
        return _connect(path)


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(10_000)
    try:
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        if connection.pragma("user_version") != FORMAT:
            connection.execute("BEGIN IMMEDIATE")
            if connection.pragma("user_version") != FORMAT:
                connection.execute(SCHEMA)
                connection.pragma("user_version", FORMAT)
            connection.execute("COMMIT")
    except apsw.Error:
        connection.close()
        raise
    return connection


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
