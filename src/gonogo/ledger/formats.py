"""The formats of a ledger file: the schema, its history, and migration of older files.

Only five columns are stored, and a row's hash covers them all. Everything else that queries need is a virtual column
computed from ``body`` and kept in indexes, so a column can never disagree with its record. A new format changes only
virtual columns, indexes and triggers: rows, hashes and published anchors stay valid.

To change the schema, append a `Format` to `FORMATS`; never edit a released one. New fields of a record need no new
format: they have defaults, which apply to older bodies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gonogo.errors import LedgerError
from gonogo.ledger.records import NO_HASH

try:
    import apsw as apsw
except ModuleNotFoundError as missing:
    raise LedgerError(
        "the ledger needs apsw, which includes a safe version of SQLite. Install it: pip install 'gonogo[line]'"
    ) from missing

APPLICATION_ID = 0x474E4C31  # "GNL1", so that file(1) and other tools recognize a ledger

_TEXTS = ("station", "trigger_id", "part", "lot", "state", "cause", "bundle_sha256", "action", "who", "label", "defect")
FACTS = {
    "at": ("TEXT", "$.at"),
    "score": ("REAL", "$.record.score"),
    "about": ("INTEGER", "$.record.about"),
    **{name: ("TEXT", f"$.record.{name}") for name in _TEXTS},
}

# AUTOINCREMENT keeps the highest number ever used, so that rows deleted at the end are noticed.
_FORMAT_1 = (
    f"""CREATE TABLE entries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    kind TEXT NOT NULL,
    body TEXT NOT NULL,
    previous TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    {
        ''',
    '''.join(f"{name} {kind} AS (body ->> '{path}') VIRTUAL" for name, (kind, path) in FACTS.items())
    }
) STRICT""",
    "CREATE UNIQUE INDEX entries_trigger ON entries (station, trigger_id) WHERE kind = 'verdict'",
    "CREATE INDEX entries_tally ON entries (kind, at, state, lot, station, cause, bundle_sha256, action)",
    "CREATE INDEX entries_kind ON entries (kind)",
    "CREATE INDEX entries_state ON entries (kind, state)",
    "CREATE INDEX entries_lot ON entries (lot) WHERE lot IS NOT NULL",
    "CREATE INDEX entries_part ON entries (part) WHERE part IS NOT NULL",
    "CREATE INDEX entries_action ON entries (action) WHERE action IS NOT NULL",
    "CREATE INDEX entries_about ON entries (about, action) WHERE about IS NOT NULL",
    "CREATE TRIGGER entries_no_update BEFORE UPDATE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END",
    "CREATE TRIGGER entries_no_delete BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'the ledger only grows'); END",
    """CREATE TRIGGER entries_follow BEFORE INSERT ON entries
WHEN NEW.seq IS NOT (SELECT coalesce(max(seq), 0) + 1 FROM entries)
  OR NEW.previous IS NOT coalesce((SELECT sha256 FROM entries ORDER BY seq DESC LIMIT 1), '"""
    + NO_HASH
    + """')
BEGIN SELECT RAISE(ABORT, 'a row must follow the last one'); END""",
)


@dataclass(frozen=True, kw_only=True)
class Format:
    """One format; its number is its position in `FORMATS`, from 1, stored in SQLite's ``user_version``."""

    schema: tuple[str, ...]
    """Statements that create an empty file; SQLite keeps their text, so that any change of the schema is detected."""
    migration: tuple[str, ...]
    """Statements that migrate from the previous format."""


FORMATS = (Format(schema=_FORMAT_1, migration=()),)
"""Every format that was ever released, the first one of gonogo 0.1.0."""
FORMAT = len(FORMATS)
"""The one that is written."""
SCHEMA = FORMATS[-1].schema


def differences(connection: apsw.Connection) -> list[str]:
    """In what the file's schema is not the one that gonogo makes in the format it states; empty when it is."""
    number = connection.pragma("user_version")
    stated = FORMATS[number - 1] if number in range(1, len(FORMATS) + 1) else FORMATS[-1]
    found = set(_schema_of(connection))
    different = [f"missing or changed: {_title(sql)}" for sql in stated.schema if sql not in found]
    different += [f"not gonogo's: {_title(sql)}" for sql in found if sql not in stated.schema]
    marks = {"application_id": APPLICATION_ID, "user_version": FORMATS.index(stated) + 1, "encoding": "UTF-8"}
    different += [
        f"{mark} is {connection.pragma(mark)!r}, expected {expected!r}"
        for mark, expected in marks.items()
        if connection.pragma(mark) != expected
    ]
    return different


def migrate(connection: apsw.Connection) -> None:
    """Migrate a file without `differences` to the newest format, in one transaction; safe with concurrent processes.

    Raises:
        apsw.Error: the disk is full, or another process locks the ledger for too long; the file is unchanged.
    """
    if connection.pragma("user_version") == len(FORMATS):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        for migrated in FORMATS[connection.pragma("user_version") :]:
            for statement in migrated.migration:
                connection.execute(statement)
        connection.pragma("user_version", len(FORMATS))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _schema_of(connection: apsw.Connection) -> Iterator[str]:
    sql = "SELECT CAST(sql AS BLOB) FROM sqlite_schema WHERE sql IS NOT NULL AND name <> 'sqlite_sequence'"
    return (text.decode(errors="replace") for (text,) in connection.execute(sql))


def _title(sql: str) -> str:
    return " ".join(str(sql).split()[:4])[:60]
