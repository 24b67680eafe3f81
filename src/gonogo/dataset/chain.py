"""The file of a data set's revisions: one line per revision, each with the hash of the one before."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gonogo.errors import DatasetError
from gonogo.files import parse_json, require_regular

REVISIONS = "revisions.jsonl"
NO_HASH = "0" * 64
"""The ``previous`` hash of the first revision."""
_BLOCK = 1 << 16


class Revision(BaseModel):
    """One line of ``revisions.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=1)
    sha256: str
    """Identity: covers this line and, through ``previous``, all lines before."""
    previous: str
    at: datetime
    who: str
    """Empty if the change was found, not made."""
    what: str
    """``import``, ``add``, ``upload``, ``label``, ``split``, ``train``, ``review``, ``collect``, ``remove``,
    ``restore``, ``prune``; ``found`` for the first look at a data set, ``outside`` for a change by another program,
    ``interrupted`` if the change before was not completed."""
    details: Mapping[str, JsonValue] = {}
    pictures: int
    """Number of pictures after the change."""
    counts: Mapping[str, int]
    """Number of pictures that changed; see `gonogo.dataset.changes.Changes`."""
    state: str
    """SHA-256 of ``metadata.jsonl`` after the change."""
    changed: tuple[Mapping[str, JsonValue], ...] = ()
    """New and changed records."""
    removed: tuple[str, ...] = ()
    files: Mapping[str, str] = {}
    """SHA-256 of the pictures and masks that are named for the first time."""
    order: tuple[str, ...] | None = None
    """All file names, if changed records in place and new ones at the end do not give the order."""

    @property
    def name(self) -> str:
        """Number and first digits of the hash, for messages."""
        return f"{self.number} ({self.sha256[:12]})"


def oldest_first(root: Path) -> Iterator[bytes]:
    """Yield the complete lines. A last line without its end was cut off by a power failure."""
    if (file := _opened(root)) is not None:
        with file:
            yield from (line for line in file if line.endswith(b"\n"))


def latest_first(root: Path) -> Iterator[bytes]:
    """Yield the complete lines in reverse order, reading the file from its end."""
    if (file := _opened(root)) is not None:
        with file:
            position, rest, size, ended = file.seek(0, os.SEEK_END), b"", _BLOCK, False
            while position:
                start = max(0, position - size)
                file.seek(start)
                rest, *lines = (file.read(position - start) + rest).split(b"\n")
                for line in reversed(lines):
                    if ended:
                        yield line
                    ended = True  # the first piece follows the last line end: nothing, or a line that was cut off
                position, size = start, size * 2
            if rest and ended:
                yield rest


def parse(line: bytes, where: Path) -> Revision:
    """Read one line.

    Raises:
        DatasetError: The line is malformed.
    """
    try:
        return Revision.model_validate(parse_json(line))
    except (ValidationError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DatasetError(
            f"{where}: expected one revision per line ({reason}). Restore the file from a backup, or move it away to "
            "start a new list."
        ) from error


_RECORDS = b', "changed": ['
_ORDER_END = re.compile(rb'"state": "([0-9a-f]{64})"\}\s*\Z')


def parse_head(line: bytes, where: Path) -> Revision:
    """Read one line without its records, of which there can be many.

    ``changed``, ``removed``, ``files`` and ``order`` of the result are empty.

    The fields before them are at the beginning of a line that `sealed_line` made, and ``state`` is at its end. A line
    that is laid out in another way is read as a whole.

    Raises:
        DatasetError: The line is malformed.
    """
    cut, end = line.find(_RECORDS), _ORDER_END.search(line, max(0, len(line) - 200))
    if cut >= 0 and end is not None:
        try:
            head = json.loads(line[:cut] + b"}")
            return Revision.model_validate(head | {"state": end[1].decode()})
        except (ValidationError, ValueError):
            pass
    return parse(line, where).model_copy(update={"changed": (), "removed": (), "files": {}, "order": None})


def sealed_line(body: Mapping[str, Any]) -> bytes:
    """The line of a revision, given everything but its own hash."""
    return json.dumps({"sha256": identity(body), **body}, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def identity(body: Mapping[str, Any]) -> str:
    """The hash of a revision: SHA-256 over its other fields as JSON with sorted keys."""
    text = json.dumps({key: value for key, value in body.items() if key != "sha256"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


@contextmanager
def appended(root: Path, line: bytes) -> Iterator[None]:
    """Append a line durably, and take it back if the block raises.

    Raises:
        DatasetError: The line cannot be written; the file is as before.
    """
    path = root / REVISIONS
    try:
        size = _whole(root)
        with path.open("ab") as file:
            file.truncate(size)
            try:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                os.truncate(path, size)
                raise
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be written ({error.strerror or error}); nothing was changed. Free some space, or make "
            "the data set writable."
        ) from error
    try:
        yield
    except BaseException:  # BLE001: undone whatever happened, and raised again
        os.truncate(path, size)
        raise


def _opened(root: Path) -> BinaryIO | None:
    """Open the list; ``None`` if there is none.

    Raises:
        DatasetError: It is a pipe, a device or a folder, or cannot be read.
    """
    path = root / REVISIONS
    try:
        require_regular(path)
        return path.open("rb")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read ({error.strerror or error}). Check the file.") from error


def _whole(root: Path) -> int:
    """Size of the complete lines of the list, in bytes; 0 if there is none."""
    file = _opened(root)
    if file is None:
        return 0
    with file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            cut = file.read(end - start).rfind(b"\n")
            if cut >= 0:
                return start + cut + 1
            end = start
    return 0
