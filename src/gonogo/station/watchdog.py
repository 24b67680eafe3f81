"""The supervisor's handle on the worker process: start, send, receive, kill, and limit restarts."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import IO, Protocol

from gonogo.station.messages import Dying, MessageError, ToSupervisor, ToWorker, decode_for_supervisor, encode

RESTART_ME = 70
"""Exit code of a worker that must be replaced because a camera's driver hangs."""
_SIGNALS = tuple(getattr(signal, name, 0) for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"))
_FROM_OUTSIDE = (0, RESTART_ME, *(-number for number in _SIGNALS))


class RestartBudget:
    """Limits the number of restarts within a period of time."""

    def __init__(self, restarts: int, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._restarts, self._within_s, self._clock = restarts, within_s, clock
        self._spent: deque[float] = deque()

    def allows(self) -> bool:
        """Whether another restart is allowed."""
        while self._spent and self._spent[0] <= self._clock() - self._within_s:
            self._spent.popleft()
        return len(self._spent) < self._restarts

    def spend(self) -> None:
        """Count a restart."""
        self._spent.append(self._clock())


class Child(Protocol):
    """The part of `subprocess.Popen` that a supervisor uses."""

    stdin: IO[str] | None
    stdout: IO[str] | None

    @property
    def pid(self) -> int:
        """The process id."""

    def kill(self) -> None:
        """Kill the process."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the process to end and return its exit code, negative for a signal."""


Spawn = Callable[[Sequence[str]], Child]
"""Starts a worker's command, with pipes for its jobs and results."""


def spawn(command: Sequence[str]) -> Child:
    """Start the worker as a separate process; see `Spawn`."""
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )


class WorkerProcess:
    """One run of the worker: its process, and a thread that listens to it."""

    def __init__(self, child: Child, hear: Callable[[WorkerProcess, ToSupervisor | None], None]) -> None:
        """Wrap a process; its messages are read after `start`.

        Args:
            child: The process.
            hear: Called in a background thread with every message, and with ``None`` when the process ends.
        """
        self.started_s = time.monotonic()
        self._hear = hear
        self._process = child
        self._last_error = ""

    def start(self) -> None:
        """Start to read messages."""
        threading.Thread(target=self._listen, name="worker", daemon=True).start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, message: ToWorker) -> bool:
        """Send a job or a notice; return false if the process has ended."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.write(encode(message))
            self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()

    def stop(self, timeout_s: float) -> None:
        """Let the worker finish its job; kill it after the timeout."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.close()
            self._process.wait(timeout_s)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()

    def obituary(self) -> str:
        """Describe how the process ended, with its last error message if it sent one."""
        code = self._process.wait()
        ending = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{ending}: {self._last_error}" if self._last_error else ending

    @property
    def crashed(self) -> bool:
        """Whether the process ended by its own error, not by a signal from outside; waits for its end."""
        return self._process.wait() not in _FROM_OUTSIDE

    def _listen(self) -> None:
        assert self._process.stdout is not None, "opened with a pipe"
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break  # cut off in the middle of a message
            try:
                message = decode_for_supervisor(line)
            except MessageError as error:
                self._last_error = str(error)
                self.kill()  # its messages cannot be trusted any more
                break
            if isinstance(message, Dying):
                self._last_error = message.reason
            self._hear(self, message)
        self._hear(self, None)
