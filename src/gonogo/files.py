"""Safe reading of files, and atomic writing of files and folders.

Reading refuses pipes and devices without blocking, and files larger than expected. Writing uses a temporary name in the
same folder, then renames, so that the final name never holds an incomplete file.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.errors import InputError
from gonogo.names import readable

MOST_TEXT_BYTES = 256_000_000
"""Largest text file that is read into memory, in bytes; enough for the records of a million pictures."""
MOST_SETTINGS_BYTES = 1_000_000
"""Largest file of settings, recipes or tokens, in bytes."""


def _is_private(found: os.stat_result) -> bool:
    """Whether only this user may open a file; on Windows, whose permissions are others, always true."""
    return sys.platform == "win32" or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)


def read_regular(path: Path, *, most_bytes: int, follow: bool = True, private: bool = False) -> bytes:
    """Read a regular file; never blocks on a pipe or a device.

    Args:
        path: The file.
        most_bytes: Largest size that is accepted.
        follow: Whether to follow a symbolic link.
        private: Refuse a file that belongs to another user, or that another user may open.

    Raises:
        OSError: The file is missing or unreadable, not a regular file, or too large; ``strerror`` says which.
    """
    require_regular(path)  # opening a device can already have side effects
    flags = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))
    flags |= 0 if follow else getattr(os, "O_NOFOLLOW", 0)
    handle = os.open(path, flags)
    with os.fdopen(handle, "rb") as file:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):  # replaced since the check above
            raise _not_regular(path, found.st_mode)
        if private and not _is_private(found):
            raise OSError(0, "expected a file that only this user may open", str(path))
        data = file.read(found.st_size + 1) if found.st_size <= most_bytes else b""
        if len(data) > found.st_size:  # the file is growing, or its size is unknown
            data += file.read(most_bytes - found.st_size)
    if found.st_size > most_bytes or len(data) > most_bytes:
        raise OSError(0, f"{max(found.st_size, len(data)):,} bytes, more than the {most_bytes:,} allowed", str(path))
    return data


def require_regular(path: Path) -> None:
    """Refuse a folder, a pipe, a socket or a device before anything opens it.

    Raises:
        OSError: The file is one of these, or missing.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        raise _not_regular(path, mode)


def kind_of(mode: int) -> str:
    """Describe a file type from its mode, for messages."""
    kinds = {stat.S_ISDIR: "a folder", stat.S_ISFIFO: "a pipe (FIFO)", stat.S_ISSOCK: "a socket"}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), "a device")


def _not_regular(path: Path, mode: int) -> OSError:
    return OSError(0, f"expected a regular file, found {kind_of(mode)}", str(path))


def read_text(path: Path, *, most_bytes: int = MOST_TEXT_BYTES) -> str:
    """Read a UTF-8 text file; line endings become ``\\n``.

    Raises:
        OSError: See `read_regular`.
        UnicodeDecodeError: The file is not UTF-8.
    """
    return read_regular(path, most_bytes=most_bytes).decode("utf-8").replace("\r\n", "\n").replace("\r", "\n")


def parse_json(text: str | bytes) -> Any:
    """Parse untrusted JSON.

    Raises:
        ValueError: The text is not JSON, or is nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse untrusted TOML.

    Raises:
        tomllib.TOMLDecodeError: The text is not TOML, or is nested too deeply.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deeply") from None


def private_folder(path: Path) -> None:
    """Create a folder that only this user may enter, or restrict an existing one of this user.

    Raises:
        OSError: The folder cannot be created, or belongs to another user.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_beside(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it.

    Raises:
        InputError: The disk is full or the folder is not writable; no partial file is left behind. An existing pipe or
            device is refused, because the rename would replace it.
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
        Path(partial).chmod(mode)
        Path(partial).replace(path)
    except OSError as error:
        if partial is not None:
            Path(partial).unlink(missing_ok=True)
        raise _unwritable(path, error) from error


def vanishing_array(shape: tuple[int, ...], dtype: type[np.generic], folder: Path) -> np.ndarray[Any, Any]:
    """Create an array on disk, which can be larger than memory; its file is deleted together with the array."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    try:
        return np.memmap(name, dtype, "w+", shape=shape)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        Path(name).unlink()  # the mapping keeps the data until it is closed


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one of its causes, says that no disk space is left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if type(error).__name__ == "FullError":  # apsw's name for SQLITE_FULL
            return True
        error = error.__cause__
    return False


def free_bytes(path: Path) -> int:
    """Free space on the disk of a path, or of its nearest existing parent folder; 0 if it cannot be determined."""
    place = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


@contextmanager
def folder_beside(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Create a temporary folder, renamed to ``path`` if the block succeeds and removed if it raises.

    Args:
        path: The final name.
        replace: Whether an existing folder may be replaced; it is kept until the new one is complete.

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


@contextmanager
def scratch_beside(path: Path) -> Iterator[Path]:
    """Create a temporary folder beside ``path``, removed after the block.

    Raises:
        InputError: The disk is full, or the folder of ``path`` is not writable.
    """
    partial: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
        yield partial
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)


def plain_files(root: Path) -> list[str]:
    """List all files below a folder by relative path, sorted. Nothing is opened.

    Raises:
        InputError: An entry is neither a plain file nor a link to one, or its name is not a single line of text.
    """
    found, folders = [], [root]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(Path(entry.path))
                    kind = stat.S_IFREG
                else:
                    kind = stat.S_IFMT(entry.stat().st_mode)
                if kind != stat.S_IFREG or readable(entry.name) != entry.name:
                    raise _no_plain_file(root, entry.path, kind)
                if not entry.is_dir(follow_symlinks=False):
                    found.append(Path(entry.path).relative_to(root).as_posix())
        except OSError as error:
            name = error.filename if isinstance(error.filename, str) else str(folder)
            raise InputError(f"{_shown(root, name)}: cannot be read ({error.strerror or error}).") from error
    return sorted(found)


def _no_plain_file(root: Path, path: str, kind: int) -> InputError:
    if stat.S_ISREG(kind):
        found = "a name that is not a single line of text"
    else:
        found = "a link to a folder" if stat.S_ISDIR(kind) else kind_of(kind)
    return InputError(f"{_shown(root, path)}: expected a plain file, found {found}. Copy the folder again without it.")


def _shown(root: Path, path: str) -> str:
    return readable(str(root / Path(path).relative_to(root)))


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
    return "Free some space or choose another location." if disk_is_full(error) else "Choose another location."
