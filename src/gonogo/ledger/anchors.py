"""Anchors: the head of the chain, published where whoever can change the ledger cannot change it too."""

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
    """The head of a ledger at some time: one line of an anchor file."""

    seq: int = Field(ge=1)
    sha256: Digest
    at: Moment


def publish_anchor(ledger: Ledger, to: Path) -> Anchor:
    """Append the ledger's head to an anchor file, durable when this returns.

    Raises:
        UnfitError: the ledger no longer holds what the file's anchors say; nothing was appended.
        InputError: the file is malformed or cannot be written.
    """
    earlier = read_anchors(to) if to.exists() else ()
    for anchor in earlier:
        row = ledger.row(anchor.seq)
        if row is None or row.sha256 != anchor.sha256:
            raise UnfitError(
                f"{ledger.path}: row {anchor.seq} is not the one that {to} was told of on {anchor.at:%Y-%m-%d %H:%M}. "
                f"Look into it: gonogo ledger verify {ledger.path} --anchor {to}"
            )
    head = ledger.head()
    anchor = Anchor(seq=head.seq, sha256=head.sha256, at=datetime.now(UTC))
    _append_line(to, anchor.model_dump_json())
    return anchor


def read_anchors(path: Path) -> tuple[Anchor, ...]:
    """The anchors of a file, in its order.

    Raises:
        InputError: unreadable, empty or malformed.
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
            "Was its writing cut short? Then delete the line."
        ) from error


def _append_line(path: Path, line: str) -> None:
    try:
        with path.open("ab") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
        sync_folder(path.parent)  # the first anchor's file is a new name
    except OSError as error:
        raise LedgerError(
            f"{path}: the anchor cannot be written ({error.strerror or error}). Choose another place."
        ) from error
