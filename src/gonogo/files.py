"""Writing files and folders so that a final name never holds half a thing: write beside, then rename."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from gonogo.errors import InputError


def write_beside(path: Path, data: bytes) -> None:
    """Write a file under a temporary name in the same folder, flush it to disk, then rename it.

    Raises:
        InputError: the disk is full or the place is not writable; nothing is left under either name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial: str | None = None
    try:
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
