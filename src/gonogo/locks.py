"""Locks on open files, on Linux, macOS and Windows. A lock ends with its file, so also with its process.

portalocker is imported on first use: judging locks nothing.
"""

from __future__ import annotations

from typing import IO, Any


def lock(file: IO[Any]) -> None:
    """Wait until no other process holds a lock on a file, then hold it.

    Raises:
        OSError: the file system supports no locks.
    """
    import portalocker

    try:
        portalocker.lock(file, portalocker.LockFlags.EXCLUSIVE)
    except portalocker.LockException as error:
        raise _as_os_error(error) from error


def try_lock(file: IO[Any], *, shared: bool = False) -> bool:
    """Hold a lock on a file, unless another process holds one; return whether it is held.

    Args:
        file: The file, open for as long as the lock is held.
        shared: Several processes may hold it together, as long as none holds it alone.

    Raises:
        OSError: the file system supports no locks.
    """
    import portalocker
    from portalocker import LockFlags

    try:
        portalocker.lock(file, (LockFlags.SHARED if shared else LockFlags.EXCLUSIVE) | LockFlags.NON_BLOCKING)
    except portalocker.AlreadyLocked:
        return False
    except portalocker.LockException as error:
        raise _as_os_error(error) from error
    return True


def _as_os_error(error: Exception) -> OSError:
    cause = error.__cause__ or (error.args[0] if error.args else None)
    return cause if isinstance(cause, OSError) else OSError(str(error))
