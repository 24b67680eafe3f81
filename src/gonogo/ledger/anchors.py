"""Anchors: hashes of the chain's head, published where those who can change the ledger cannot change them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from pydantic import Field, ValidationError

from gonogo.config import Strict
from gonogo.errors import InputError, LedgerError, UnfitError
from gonogo.files import read_text
from gonogo.ledger.frames import sync_folder
from gonogo.ledger.records import Digest, Moment
from gonogo.ledger.store import Ledger


class Anchor(Strict):
    """The head of a ledger at one time; one line of an anchor file."""

    seq: int = Field(ge=1)
    sha256: Digest
    at: Moment


def publish_anchor(ledger: Ledger, to: Path) -> Anchor:
    """Append the ledger's head to an anchor file; durable when this returns.

    Raises:
        UnfitError: the ledger does not match the anchors in the file; nothing was appended.
        InputError: the file is malformed or cannot be written.
    """
    earlier = read_anchors(to) if to.exists() else ()
    for anchor in earlier:
        row = ledger.row(anchor.seq)
        if row is None or row.sha256 != anchor.sha256:
            raise UnfitError(
                f"{ledger.name}: row {anchor.seq} does not match the anchor of {anchor.at:%Y-%m-%d %H:%M} in {to}. "
                f"Investigate with: gonogo ledger verify {ledger.name} --anchor {to}"
            )
    head = ledger.head()
    anchor = Anchor(seq=head.seq, sha256=head.sha256, at=datetime.now(UTC))
    _append_line(to, anchor.model_dump_json())
    return anchor


def read_anchors(path: Path) -> tuple[Anchor, ...]:
    """Read the anchors of a file, in order.

    Raises:
        InputError: the file is unreadable, empty or malformed.
    """
    try:
        lines = read_text(path).splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: expected an anchor file ({error}). Check the path.") from error
    anchors = tuple(_parse(line, path, number) for number, line in enumerate(lines, start=1) if line.strip())
    if not anchors:
        raise InputError(f"{path}: the anchor file is empty. Publish the head with: gonogo ledger anchor")
    return anchors


def _parse(line: str, path: Path, number: int) -> Anchor:
    try:
        return Anchor.model_validate_json(line)
    except ValidationError as error:
        raise InputError(
            f"{path}, line {number}: expected an anchor, a JSON object with seq, sha256 and at, found {line[:80]!r}. "
            "If the line was cut off while it was written, delete it."
        ) from error


def _append_line(path: Path, line: str) -> None:
    try:
        with path.open("ab") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)  # the file may be new
    except OSError as error:
        raise LedgerError(
            f"{path}: the anchor cannot be written ({error.strerror or error}). Choose another path."
        ) from error
