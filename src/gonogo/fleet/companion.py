"""Child processes that end with their parent: each watches its standard input, which closes when the parent ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO

_RETRY_S = 5.0
_PATIENCE_S = 3.0


def start_child(command: Sequence[str], *, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Start a child process with a pipe as its standard input, and its output on standard error."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=sys.stderr,
        text=True,
        encoding="utf-8",
        env=None if environment is None else {**os.environ, **environment},
        start_new_session=True,
    )


def end_child(child: subprocess.Popen[str]) -> None:
    """Close the child's input and wait for its end; kill it if it does not end."""
    if child.stdin is not None:
        with contextlib.suppress(OSError):
            child.stdin.close()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def end_with_parent(source: IO[str]) -> None:
    """End this process, whatever it is doing, as soon as its standard input ends."""

    def watch() -> None:
        while source.readline():
            pass
        os._exit(0)

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextlib.contextmanager
def companion(command: Sequence[str], complain: Callable[[str], None]) -> Iterator[None]:
    """Keep a process running beside the block; it is started again five seconds after it ends."""
    stop = threading.Event()

    def keep() -> None:
        while not stop.is_set():
            child = start_child(command)
            while child.poll() is None and not stop.wait(0.2):
                pass
            if stop.is_set():
                end_child(child)
                return
            complain(f"the {command[-2]} ended with exit code {child.returncode}; it is started again.")
            stop.wait(_RETRY_S)

    thread = threading.Thread(target=keep, name="companion", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(_PATIENCE_S + 2.0)
