"""Child processes that end with their parent: each watches its standard input, which closes when the parent ends."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Self

_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_PATIENCE_S = 3.0


def start_child(
    command: Sequence[str], *, environment: Mapping[str, str] | None = None, log: IO[bytes] | None = None
) -> subprocess.Popen[str]:
    """Start a child process with a pipe as its standard input, and its output on standard error or in a log."""
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=sys.stderr if log is None else log,
        stderr=log,
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


def end_with_parent(source: IO[str], end: Callable[[], None] = lambda: os._exit(0)) -> None:
    """End this process as soon as its standard input ends; by default at once, whatever it is doing."""

    def watch() -> None:
        while source.readline():
            pass
        end()

    threading.Thread(target=watch, name="parent", daemon=True).start()


class Companion:
    """Keeps a process running beside this one: it is started again, after growing pauses, whenever it ends."""

    def __init__(
        self,
        command: Sequence[str],
        ended: Callable[[int], None],
        *,
        log: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Store the arguments; nothing is started yet.

        Args:
            command: The command. The process ends with its standard input; see `end_with_parent`.
            ended: Called with the exit code when it has ended by itself.
            log: File for its output, begun anew at each start; by default standard error.
            environment: Variables beside those of this process.
        """
        self.command, self._ended, self._log, self._environment = command, ended, log, environment
        self.process: subprocess.Popen[str] | None = None
        """The latest process."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="companion", daemon=True)

    def start(self) -> None:
        """Start the process."""
        self._thread.start()

    def stop(self) -> None:
        """End the process."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_PATIENCE_S + 2.0)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self) -> None:
        pause_s = _SHORTEST_PAUSE_S
        while not self._stopping.is_set():
            began_s = time.monotonic()
            with contextlib.suppress(OSError):  # no process, memory or disk at the moment
                self._run_once()
            pause_s = _SHORTEST_PAUSE_S if time.monotonic() - began_s > _LONGEST_PAUSE_S else pause_s
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _run_once(self) -> None:
        with contextlib.ExitStack() as files:
            log = None if self._log is None else files.enter_context(self._log.open("wb"))
            child = self.process = start_child(self.command, log=log, environment=self._environment)
        while child.poll() is None and not self._stopping.wait(0.2):
            pass
        code = child.poll()
        end_child(child)
        if code is not None and not self._stopping.is_set():
            self._ended(code)
