"""Writing files and folders so that a final name never holds half a thing: write beside, then rename."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.errors import InputError
from gonogo.names import readable


def private_folder(path: Path) -> None:
    """Make a folder, where it is missing, that only this user may enter; one of this user's own is closed to others.

    Raises:
        OSError: it cannot be made, or is somebody else's.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.mkdir(mode=0o700, exist_ok=True)
    if path.stat().st_mode & 0o077:
        path.chmod(0o700)


def write_beside(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it.

    Raises:
        InputError: the disk is full or the place is not writable; nothing is left under either name.
    """
    partial: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
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
    """An array on disk, for what can be larger than memory; its file is gone when the array is."""
    folder.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=folder)
    os.close(handle)
    try:
        return np.memmap(name, dtype, "w+", shape=shape)
    except OSError as error:
        raise _unwritable(folder, error) from error
    finally:
        Path(name).unlink()  # the mapping keeps the space until it is released


def disk_is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that there is no space left."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return True
        if type(error).__name__ == "FullError":  # apsw's name for SQLITE_FULL
            return True
        error = error.__cause__
    return False


def free_bytes(path: Path) -> int:
    """Space left on the disk of a place, or of the nearest folder above it that exists; 0 where it cannot be asked."""
    place = next((each for each in (path, *path.parents) if each.exists()), Path("/"))
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0


@contextmanager
def folder_beside(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A new folder to fill, renamed to ``path`` when the block ends well and removed when it does not.

    Args:
        path: The final name.
        replace: Whether a folder already there may be replaced; it is kept until the new one is complete.

    Raises:
        InputError: ``path`` exists and ``replace`` is false, or the disk is full.
    """
    if path.exists() and not replace:
        raise InputError(f"{path}: already exists. Choose another name or remove it first.")
    partial: Path | None = None
    try:
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


def plain_files(root: Path) -> list[str]:
    """Every file below a folder as a path from there, sorted. Nothing is opened.

    Raises:
        InputError: something in it is no plain file or a link to one, or has a name that is no line of text.
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
    kinds = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a link to a folder"}
    found = "a name that is no line of text" if kind == stat.S_IFREG else kinds.get(kind, "a device")
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


def _unwritable(path: Path, error: OSError) -> InputError:
    return InputError(
        f"{path}: cannot be written ({error.strerror or error}). Free some space or choose another place."
    )
