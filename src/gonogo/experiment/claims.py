"""Claims on a file, so that two processes never do the same work; a claim ends with its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gonogo import locks


@contextmanager
def claimed(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file; yields whether it is held.

    Args:
        path: The lock file; created if missing, and left behind, because removing it would race.
        wait: Wait for another process to release it, instead of yielding ``False``.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        if wait:
            locks.lock(file)
        yield wait or locks.try_lock(file)
