"""Watches what this process writes, connects to and starts, through Python's audit events."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {
    "os.mkdir": ((0, 2),), "os.rename": ((0, 2), (1, 3)), "os.remove": ((0, 1),), "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),), "os.symlink": ((1, 2),), "os.truncate": ((0, None),), "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),), "os.utime": ((0, 3),), "shutil.rmtree": ((0, 1),),
}  # fmt: skip
"""Events that change files; which of their arguments name one, and the open folder that a relative name is of."""
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.bind", "urllib.")
_PROCESSES = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.startfile", "ctypes.dlopen")


@dataclass(kw_only=True)
class Seen:
    """What happened while it was watched."""

    inside: Path
    """The only folder that may be written."""
    writes_outside: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    writes_inside: int = 0


@contextlib.contextmanager
def watching(inside: Path) -> Iterator[Seen]:
    """Watch until the end of the block; events of all threads count."""
    seen = Seen(inside=inside.resolve())
    if not _installed:
        sys.addaudithook(_hook)  # it cannot be taken off again
        _installed.append(True)
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


_installed: list[bool] = []
_watchers: list[Seen] = []


def _hook(event: str, arguments: tuple[object, ...]) -> None:
    if not _watchers:
        return
    if event == "open":
        path, mode, flags = arguments
        writes = any(sign in mode for sign in "wax+") if isinstance(mode, str) else int(str(flags)) & _WRITES
        if writes:
            _note_write(path)
    elif event in _CHANGES:
        for name, folder in _CHANGES[event]:
            _note_write(arguments[name], None if folder is None else arguments[folder])
    elif event.startswith(_NETWORK):
        for seen in _watchers:
            seen.requests.append(f"{event} {arguments!r}"[:200])
    elif event.startswith(_PROCESSES) and "serve_decoder" not in repr(arguments):  # those that decode pictures
        for seen in _watchers:
            seen.processes.append(f"{event} {arguments!r}"[:200])


def _note_write(path: object, folder: object = None) -> None:
    if isinstance(path, int) or path is None:  # an open file
        return
    name = os.fsdecode(path)  # type: ignore[arg-type]
    if isinstance(folder, int) and folder >= 0:
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118
    where = Path(os.path.realpath(name))
    for seen in _watchers:
        if where.is_relative_to(seen.inside):
            seen.writes_inside += 1
        elif where != Path("/dev/null"):
            seen.writes_outside.append(str(where)[:200])
