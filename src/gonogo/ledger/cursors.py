"""Cursors: how far each destination of the results is, in small files in the folder ``line1.ledger-published``.

A lost cursor loses nothing: everything is delivered again, and receivers drop doubles by their ``result_id``. While a
destination with pictures has a cursor, retention deletes no frame of a later row.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.errors import LedgerError
from gonogo.files import MOST_SETTINGS_BYTES, read_text, write_beside
from gonogo.ledger.records import Digest, Moment


class Cursor(Strict):
    """How far one destination is."""

    ledger: str | None = None
    """Random name of the ledger; ``None`` before the first row was read."""
    seq: int = Field(default=0, ge=0)
    """Last row that was delivered or need not be."""
    sha256: Digest | None = None
    """Hash of that row."""
    pictures: bool = False
    """Whether the frames of later rows are still needed."""
    until: Moment | None = None
    """End of the last shift that was reported; only for a digest."""


def cursors_folder(ledger: Path) -> Path:
    """Return the folder of a ledger's cursors."""
    return ledger.with_name(ledger.name + "-published")


def cursor_path(ledger: Path, station: str, name: str) -> Path:
    """Return the path of the cursor of one destination of a station."""
    return cursors_folder(ledger) / f"{station}~{name}.json"


def read_cursor(path: Path) -> Cursor | None:
    """Read a cursor; ``None`` if there is none.

    Raises:
        LedgerError: the cursor is there and cannot be read.
    """
    try:
        return Cursor.model_validate_json(read_text(path, most_bytes=MOST_SETTINGS_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LedgerError(
            f"{path}: expected how far a destination of the results is ({str(error).splitlines()[0]}). Delete the file "
            "to deliver everything again; receivers drop doubles by their result_id."
        ) from error


def write_cursor(path: Path, cursor: Cursor) -> None:
    """Write a cursor durably.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    write_beside(path, f"{cursor.model_dump_json()}\n".encode(), mode=0o600)


def unpublished_after(ledger: Path) -> int | None:
    """Return the last row whose pictures every destination has; ``None`` if no destination needs pictures.

    Raises:
        LedgerError: a cursor cannot be read.
    """
    found = (read_cursor(path) for path in sorted(cursors_folder(ledger).glob("*~*.json")))
    return min((cursor.seq for cursor in found if cursor is not None and cursor.pictures), default=None)


def expect_publishing(ledger: Path, station: str, destinations: dict[str, bool]) -> None:
    """Write the first cursors, so that retention keeps what is not delivered, and release those of removed ones.

    Args:
        ledger: The ledger.
        station: Name of the station.
        destinations: Its destinations, and whether each receives pictures.

    Raises:
        InputError: the disk is full, the folder is not writable, or a cursor cannot be read.
    """
    names = {path.stem.removeprefix(f"{station}~") for path in cursors_folder(ledger).glob(f"{station}~*.json")}
    for name in sorted(names | set(destinations)):
        path, pictures = cursor_path(ledger, station, name), destinations.get(name, False)
        cursor = read_cursor(path) or Cursor()
        if cursor.pictures != pictures:
            write_cursor(path, cursor.model_copy(update={"pictures": pictures}))
