"""The mark of a forwarded ledger: up to which row the centre has rows and frames, kept beside the ledger.

A file ``line1.ledger-forwarded`` says that the ledger is forwarded to a centre. While it exists, retention deletes no
frame of a later row. It is written when a station with a centre starts, before anything was forwarded, and after each
batch that the centre has committed.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.errors import LedgerError
from gonogo.files import MOST_SETTINGS_BYTES, read_text, write_beside


class Mark(Strict):
    """The last row that the centre has, with its frames."""

    seq: int = Field(ge=0)
    """0 before the first row was forwarded."""


def mark_path(ledger: Path) -> Path:
    """Return the path of a ledger's mark."""
    return ledger.with_name(ledger.name + "-forwarded")


def read_mark(ledger: Path) -> Mark | None:
    """Read the mark of a ledger; ``None`` if it is not forwarded.

    Raises:
        LedgerError: the mark is there and cannot be read.
    """
    path = mark_path(ledger)
    try:
        return Mark.model_validate_json(read_text(path, most_bytes=MOST_SETTINGS_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise LedgerError(
            f"{path}: expected the mark of a forwarded ledger ({str(error).splitlines()[0]}). Run the forwarder, which "
            "writes it again; delete the file only if no centre is used any more."
        ) from error


def write_mark(ledger: Path, mark: Mark) -> None:
    """Write the mark of a ledger durably.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    write_beside(mark_path(ledger), f"{mark.model_dump_json()}\n".encode(), mode=0o600)


def expect_forwarding(ledger: Path) -> None:
    """Write the first mark, so that retention keeps what was not forwarded; an existing mark is left unchanged.

    Raises:
        InputError: the disk is full or the folder is not writable.
    """
    if not mark_path(ledger).exists():
        write_mark(ledger, Mark(seq=0))
