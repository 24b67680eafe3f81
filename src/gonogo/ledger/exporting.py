"""Export a ledger as a Parquet or CSV table, streaming row by row."""

from __future__ import annotations

import codecs
import csv
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from gonogo.errors import InputError, LedgerError
from gonogo.ledger.records import Action, Record, Row, VerdictRecord, iso
from gonogo.names import no_formula
from gonogo.progress import track

if TYPE_CHECKING:
    from gonogo.ledger.store import Ledger

_TIMES = ("at", "triggered_at", "acquired_at", "judged_at")
_NUMBERS = ("score", "go_below", "no_go_above")
_TEXTS = ("kind", "station", "trigger_id", "part", "lot", "state", "cause", "reason", "bundle_sha256", "device")
COLUMNS = (
    "seq",
    *_TIMES,
    *_TEXTS,
    *_NUMBERS,
    "late",
    "action",
    "who",
    "about",
    "label",
    "defect",
    "body",
    "previous",
    "sha256",
)
"""Columns of the table. ``body`` is the whole record as it was hashed, so an export is complete and verifiable."""

_BATCH = 5000


def export(ledger: Ledger, to: Path) -> int:
    """Write all rows to a ``.parquet`` or ``.csv`` file, atomically.

    Returns:
        The number of rows.

    Raises:
        InputError: the suffix is another one, pyarrow is missing for Parquet, or the file cannot be written.
    """
    if to.suffix not in (".parquet", ".csv"):
        raise InputError(f"{to}: expected a name ending in .parquet or .csv, found {to.suffix or 'no suffix'}.")
    last = ledger.head().seq
    rows = track(ledger.rows(before=last + 1), "exporting", total=last)
    with _beside(to) as file:
        return (_write_parquet if to.suffix == ".parquet" else _write_csv)(rows, file)


def _cells(row: Row[Record]) -> dict[str, Any]:
    cells: dict[str, Any] = dict.fromkeys(COLUMNS)
    record = row.record
    if isinstance(record, VerdictRecord):
        cells |= record.model_dump(include={*_TEXTS, *_NUMBERS, *_TIMES, "late"})
    elif isinstance(record, Action):
        cells |= record.model_dump(include={"station", "action", "who", "about", "label", "defect"})
    envelope = {name: getattr(row, name) for name in ("seq", "at", "kind", "body", "previous", "sha256")}
    return cells | envelope


def _write_csv(rows: Iterator[Row[Record]], file: BinaryIO) -> int:
    writer = csv.writer(codecs.getwriter("utf-8")(file))
    writer.writerow(COLUMNS)
    count = 0
    for row in rows:
        writer.writerow([csv_cell(value) for value in _cells(row).values()])
        count += 1
    return count


def csv_cell(value: Any) -> Any:
    """Format a cell: times as in the ledger; an apostrophe before text that a spreadsheet would run as a formula."""
    if hasattr(value, "astimezone"):
        return iso(value)
    return no_formula(value) if isinstance(value, str) else value


def _write_parquet(rows: Iterator[Row[Record]], file: BinaryIO) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise InputError("Parquet needs pyarrow. Install it: pip install 'gonogo[line]', or export to .csv") from error

    types = {"seq": pa.int64(), "about": pa.int64(), "late": pa.bool_()}
    types |= dict.fromkeys(_TIMES, pa.timestamp("us", tz="UTC")) | dict.fromkeys(_NUMBERS, pa.float64())
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        batch: list[dict[str, Any]] = []
        for row in rows:
            batch.append(_cells(row))
            count += 1
            if len(batch) == _BATCH:
                writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
                batch = []
        writer.write_batch(pa.RecordBatch.from_pylist(batch, schema=schema))
    return count


@contextmanager
def _beside(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that is renamed to ``path`` if the block succeeds."""
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        partial = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.chmod(0o644)
        partial.replace(path)
    except OSError as error:
        raise LedgerError(
            f"{path}: cannot be written ({error.strerror or error}). Free some space or choose another place."
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)
