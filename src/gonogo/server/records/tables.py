"""Exported tables: verdicts with what people decided, and actions, as CSV or JSON Lines, written row by row."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any, BinaryIO

from gonogo.ledger import Action, Ledger, Row, VerdictRecord
from gonogo.ledger.exporting import csv_cell
from gonogo.ledger.records import iso
from gonogo.server.records.row_index import RowIndex, Wanted
from gonogo.server.review.decisions import ReviewDecision
from gonogo.server.signatures import Signatures, SignedChange

VERDICT_COLUMNS = (
    *("row", "at", "station", "product", "part", "lot", "serial", "trigger_id", "codes"),
    *("verdict", "cause", "reason", "late", "score", "go_below", "no_go_above", "defect_kind", "defect_kind_share"),
    *("decision", "decision_defect", "decided_by", "decided_at", "decision_row"),
    *("limits_signed_by", "limits_signed_at", "limits_meaning", "limits_reason", "limits_key", "limits_row"),
    *("inspector", "bundle_sha256", "device", "triggered_at", "acquired_at", "judged_at", "cameras", "sha256"),
)
"""Columns of the table of verdicts; docs/parts.md explains them."""
ACTION_COLUMNS = (
    *("row", "at", "who", "action", "about_row", "part", "lot", "station", "label", "defect", "details", "sha256"),
)
"""Columns of the table of actions; docs/parts.md explains them."""
_PAGE = 500


class TableFormat(StrEnum):
    """File format of a table."""

    CSV = "csv"
    JSON_LINES = "jsonl"


def write_table(
    rows: Iterable[Mapping[str, Any]], columns: tuple[str, ...], file: BinaryIO, table_format: TableFormat
) -> int:
    """Write a table row by row and return the number of rows.

    A CSV file has a header, UTF-8 and CRLF; text that a spreadsheet would run as a formula begins with an apostrophe,
    and lists and objects are JSON. A line of JSON Lines is one object with every column.
    """
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    count = 0
    if table_format is TableFormat.CSV:
        writer = csv.writer(text)
        writer.writerow(columns)
        for row in rows:
            writer.writerow([csv_cell(_text(row[column])) for column in columns])
            count += 1
    else:
        for row in rows:
            text.write(json.dumps({column: row[column] for column in columns}, ensure_ascii=False) + "\n")
            count += 1
    text.detach()
    return count


def verdict_rows(
    ledger: Ledger, numbers: Iterable[int], decisions: Mapping[int, ReviewDecision], signatures: Signatures
) -> Iterator[dict[str, Any]]:
    """The table of verdicts, one row for each of these rows of the ledger."""
    signed: dict[str | None, dict[str, Any]] = {}
    for number in numbers:
        row = ledger.row(number)
        if row is not None and isinstance(row.record, VerdictRecord):
            bundle_sha256 = row.record.bundle_sha256
            if bundle_sha256 not in signed:
                signed[bundle_sha256] = _signed(signatures.in_force(bundle_sha256))
            yield {**_verdict(row, row.record, decisions.get(number)), **signed[bundle_sha256]}


def action_rows(ledger: Ledger, numbers: Iterable[int]) -> Iterator[dict[str, Any]]:
    """The table of actions, one row for each of these rows of the ledger."""
    for number in numbers:
        row = ledger.row(number)
        if row is not None and isinstance(row.record, Action):
            about = ledger.row(row.record.about) if row.record.about is not None else None
            yield _action(row, row.record, about.record if about is not None else None)


def numbers_of(index: RowIndex, wanted: Wanted, last: int) -> Iterator[int]:
    """The rows that match, up to the row ``last``, oldest first, a few hundred at a time."""
    after = 0
    while found := index.find(wanted, after=after, before=last + 1, limit=_PAGE, newest_first=False):
        yield from found
        after = found[-1]


def _verdict(row: Row[Any], record: VerdictRecord, decision: ReviewDecision | None) -> dict[str, Any]:
    kept: tuple[str, ...] = (
        "station",
        "product",
        "part",
        "lot",
        "serial",
        "trigger_id",
        "cause",
        "reason",
        "late",
        "score",
    )
    kept += ("go_below", "no_go_above", "bundle_sha256", "device")
    named = record.named
    return {
        **{name: getattr(record, name) for name in kept},
        "row": row.seq,
        "at": iso(row.at),
        "codes": list(record.codes),
        "verdict": str(record.state),
        "defect_kind": None if named is None else named.kind,
        "defect_kind_share": None if named is None else named.kind_share,
        "decision": None if decision is None else str(decision.label),
        "decision_defect": None if decision is None else decision.defect,
        "decided_by": None if decision is None else decision.who,
        "decided_at": None if decision is None else iso(decision.at),
        "decision_row": None if decision is None else decision.row,
        "inspector": None if record.bundle is None else record.bundle.rsplit("/", 1)[-1],
        "triggered_at": iso(record.triggered_at),
        "acquired_at": None if record.acquired_at is None else iso(record.acquired_at),
        "judged_at": None if record.judged_at is None else iso(record.judged_at),
        "cameras": [
            {"name": view.name, "verdict": str(view.state), "score": view.score, "frame_sha256": view.frame_sha256}
            for view in record.views
        ],
        "sha256": row.sha256,
    }


def _signed(change: SignedChange | None) -> dict[str, Any]:
    """Who signed the limits that judged a part; a wrong signature counts as none: verifying the chain reports it."""
    right = change is not None and not change.signature.problem
    found = change.signature if change is not None and right else None
    return {
        "limits_signed_by": None if found is None else found.who,
        "limits_signed_at": None if found is None else iso(found.at),
        "limits_meaning": None if found is None else found.meaning,
        "limits_reason": None if found is None else found.reason,
        "limits_key": None if found is None else found.key_id,
        "limits_row": None if change is None or found is None else change.seq,
    }


def _action(row: Row[Any], record: Action, about: object) -> dict[str, Any]:
    part = about if isinstance(about, VerdictRecord) else None
    return {
        "row": row.seq,
        "at": iso(row.at),
        "who": record.who,
        "action": record.action,
        "about_row": record.about,
        "part": None if part is None else part.part or part.serial,
        "lot": None if part is None else part.lot,
        "station": record.station or (None if part is None else part.station),
        "label": None if record.label is None else str(record.label),
        "defect": record.defect,
        "details": dict(record.details),
        "sha256": row.sha256,
    }


def _text(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value
