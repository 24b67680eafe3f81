"""Workers that are forked from a process with all imports done, in a tenth of the time of starting Python.

The forked process runs `gonogo.testing.worker` on pipes and can be killed like any other.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["gonogo.testing.worker"])


class ForkedWorker:
    """The part of `subprocess.Popen` that a supervisor uses, for a forked worker."""

    def __init__(self, command: Sequence[str]) -> None:
        """Fork a worker.

        Args:
            command: The worker's command; its last two words are the settings and ``fake``, ``real`` or ``cameras``.
        """
        theirs_in, ours_in = _FORKS.Pipe(duplex=False)
        ours_out, theirs_out = _FORKS.Pipe(duplex=False)
        self._process = _FORKS.Process(target=_work, args=(*command[-2:], theirs_in, theirs_out), daemon=True)
        self._process.start()
        theirs_in.close()
        theirs_out.close()
        self.stdin: IO[str] | None = _stream(ours_in, "w")
        self.stdout: IO[str] | None = _stream(ours_out, "r")

    @property
    def pid(self) -> int:
        """The process id."""
        pid = self._process.pid
        assert pid is not None, "the process was started"
        return pid

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end and return its exit code; see `subprocess.Popen.wait`."""
        self._process.join(timeout)
        code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("a forked worker", timeout or 0.0)
        return code


def _stream(end: Connection, mode: str) -> IO[str]:
    handle = os.dup(end.fileno())
    end.close()
    return os.fdopen(handle, mode, encoding="utf-8")


def _work(toml: str, kind: str, jobs: Connection, results: Connection) -> None:
    from gonogo.station.settings import read_settings
    from gonogo.station.worker import worker_main
    from gonogo.testing.worker import build_fake_station

    os.setsid()
    sys.stdin, sys.stdout = _stream(jobs, "r"), _stream(results, "w")
    worker_main(lambda: build_fake_station(read_settings(Path(toml)), kind))
