"""Reading files that are what they should be, and writing so that a final name never holds half a thing.

Reading refuses pipes and devices without waiting for them, and more bytes than expected. Writing goes beside the final
name, then renames.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gonogo.errors import InputError

MOST_TEXT_BYTES = 256_000_000
"""Largest text file that is read at once: records of a million pictures."""
MOST_SETTINGS_BYTES = 1_000_000
"""Largest file of settings, recipes or tokens."""


def read_regular(path: Path, *, most_bytes: int) -> bytes:
    """Read a regular file, without ever waiting for a writer or a device.

    Args:
        path: What to read.
        most_bytes: Refuse a file with more.

    Raises:
        OSError: missing or unreadable, not a regular file, or too large; ``strerror`` says which.
    """
    require_regular(path)  # opening alone can move a device
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):  # put in its place since it was looked at
            raise _not_regular(path, found.st_mode)
        data = file.read(most_bytes + 1) if found.st_size <= most_bytes else b""
    if found.st_size > most_bytes or len(data) > most_bytes:
        raise OSError(0, f"{max(found.st_size, len(data)):,} bytes, more than the {most_bytes:,} allowed", str(path))
    return data


def require_regular(path: Path) -> None:
    """Refuse a folder, a pipe, a socket or a device before anything opens it.

    Raises:
        OSError: that, or missing.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _not_regular(path, mode)


def kind_of(mode: int) -> str:
    """What a file's mode says it is, for messages."""
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe (FIFO)", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _not_regular(path: Path, mode: int) -> OSError:
    return OSError(0, f"expected a regular file, found {kind_of(mode)}", str(path))


def read_text(path: Path, *, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Read a UTF-8 text file; line ends become ``\\n``.

    Raises:
        OSError: as `read_regular`.
        UnicodeDecodeError: not UTF-8.
    """
    return read_regular(path, most_bytes=most_bytes).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse JSON from outside.

    Raises:
        ValueError: not JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML from outside.

    Raises:
        tomllib.TOMLDecodeError: not TOML, or nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deeply") from None


def write_beside(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it.

    Raises:
        InputError: the disk is full or the place is not writable; nothing is left under either name. A pipe or a device
            already there is left alone: a rename would replace it.
    """
    partial: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _require_replaceable(path)
        handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise _unwritable(path, error) from error


@contextmanager
def folder_beside(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill, renamed to ``path`` when the block ends well and removed when it does not.

    Args:
        path: The final name.
        replace: Whether a folder already there may be replaced; it is kept until the new one is complete.

    Raises:
        InputError: ``path`` exists and ``replace`` is false, or the disk is full.
    """
    partial: Path | None = None
    try:
        if path.exists() and not replace:
            raise InputError(f"{path}: already exists. Choose another name or remove it first.")
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        partial.chmod(0o755)
        yield partial
        _swap(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, path: Path) -> None:
    if not path.exists():
        partial.replace(path)
        return
    retired = partial.with_name(partial.name + ".old")
    path.replace(retired)
    partial.replace(path)
    shutil.rmtree(retired)


def _require_replaceable(path: Path) -> None:
    try:
        require_regular(path)
    except FileNotFoundError:
        return


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path}: cannot be written ({error.strerror or error}). {_next_step(error)}")


def _next_step(error: OSError) -> str:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return "Free some space or choose another place." if full else "Choose another place."
