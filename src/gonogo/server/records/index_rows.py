"""What the search index keeps of a row of the ledger."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gonogo.ledger import RowKind, StoredRow

FORMAT = 1
"""Changes with the schema; an index of another format is built again."""
SCHEMA = """
CREATE TABLE rows (
  seq INTEGER PRIMARY KEY,
  kind TEXT NOT NULL,
  at TEXT NOT NULL,
  state TEXT,
  station TEXT,
  product TEXT,
  name TEXT,
  lot TEXT,
  who TEXT,
  action TEXT,
  text TEXT NOT NULL
) STRICT;
CREATE INDEX rows_kind ON rows (kind, seq);
CREATE INDEX rows_at ON rows (kind, at);
CREATE INDEX rows_state ON rows (kind, state, seq);
CREATE INDEX rows_name ON rows (name, seq) WHERE name IS NOT NULL;
CREATE INDEX rows_who ON rows (who, seq) WHERE who IS NOT NULL;
CREATE INDEX rows_action ON rows (action, seq) WHERE action IS NOT NULL;
CREATE VIRTUAL TABLE words USING fts5 (text, content = 'rows', content_rowid = 'seq', tokenize = 'trigram');
CREATE TABLE identities (
  word TEXT NOT NULL COLLATE NOCASE,
  seq INTEGER NOT NULL,
  PRIMARY KEY (word, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE deleted_frames (digest TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE choices (kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (kind, name)) STRICT, WITHOUT ROWID;
CREATE TABLE read_up_to (seq INTEGER NOT NULL, sha256 TEXT NOT NULL) STRICT;
INSERT INTO read_up_to VALUES (0, '');
"""
COLUMNS = ("seq", "kind", "at", "state", "station", "product", "name", "lot", "who", "action", "text")


def plain(text: str) -> str:
    """Return a text on one line without control characters, which codes contain and scanners may leave out."""
    return "".join(sign for sign in text if sign.isprintable())


def row_of(stored: StoredRow, content: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """The values of `COLUMNS` for a verdict or an action; ``None`` for other rows.

    Args:
        stored: The row as the ledger stores it.
        content: Its body, parsed.
    """
    record = content["record"]
    if stored.kind == RowKind.VERDICT:
        name = record.get("part") or record.get("serial")
        words = [*_identities(record), record.get("lot"), record.get("product"), record["station"]]
        words += [record.get("cause"), *(view.get("kind") for view in record.get("views", ()))]
        middle = (record["state"], record["station"], record.get("product"), name, record.get("lot"), None, None)
    elif stored.kind == RowKind.ACTION:
        about = record.get("about")
        words = [record["who"], record["action"], record.get("station"), record.get("label"), record.get("defect")]
        words += [None if about is None else f"row {about}", *_texts(record.get("details", {}))]
        middle = (None, record.get("station"), None, None, None, record["who"], record["action"])
    else:
        return None
    text = plain(" ".join(str(word) for word in dict.fromkeys(words) if word))
    return (stored.seq, stored.kind, content["at"], *middle, text)


def identities_of(content: Mapping[str, Any]) -> list[str]:
    """What names the part of a verdict: its name, its serial number, its trigger, and the texts of its codes."""
    return [word for word in dict.fromkeys(plain(each) for each in _identities(content["record"])) if word]


def parsed(stored: StoredRow) -> Mapping[str, Any]:
    """The body of a row."""
    content: Mapping[str, Any] = json.loads(stored.body)
    return content


def _identities(record: Mapping[str, Any]) -> list[str]:
    named = (record.get("part"), record.get("serial"), record["trigger_id"], *record.get("codes", ()))
    return [each for each in named if each]


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif value is not None:
        yield str(value)
