"""The worker as its supervisor sees it: a process that is started, fed, listened to, killed and started again."""

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
"""Exit code of a worker that wants to be replaced, as a camera's driver hangs."""
_FROM_OUTSIDE = (0, RESTART_ME, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class RestartBudget:
    """At most so many restarts within so many seconds."""

    def __init__(self, restarts: int, within_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._restarts, self._within_s, self._clock = restarts, within_s, clock
        self._spent: deque[float] = deque()

    def allows(self) -> bool:
        """Whether one more restart is within the budget."""
        while self._spent and self._spent[0] <= self._clock() - self._within_s:
            self._spent.popleft()
        return len(self._spent) < self._restarts

    def spend(self) -> None:
        """One restart is made."""
        self._spent.append(self._clock())


class Child(Protocol):
    """As much of `subprocess.Popen` as is needed of a worker."""

    stdin: IO[str] | None
    stdout: IO[str] | None

    @property
    def pid(self) -> int:
        """Its process id."""

    def kill(self) -> None:
        """End it at once."""

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal."""


Spawn = Callable[[Sequence[str]], Child]
"""Starts a worker's command, with pipes for its jobs and results."""


def spawn(command: Sequence[str]) -> Child:
    """A process of its own; see `Spawn`."""
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )


class WorkerProcess:
    """One run of the worker: its process, and a thread that listens to it."""

    def __init__(self, child: Child, hear: Callable[[WorkerProcess, ToSupervisor | None], None]) -> None:
        """Take over a process; nothing is heard of it before `start`.

        Args:
            child: The process.
            hear: Called from a thread with every message, and with ``None`` at its end.
        """
        self.started_s = time.monotonic()
        self._hear = hear
        self._process = child
        self._last_words = ""

    def start(self) -> None:
        """Listen from now on."""
        threading.Thread(target=self._listen, name="worker", daemon=True).start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, message: ToWorker) -> bool:
        """Send a job or a notice; false where nobody takes it any more."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.write(encode(message))
            self._process.stdin.flush()
        except (OSError, ValueError):
            return False
        return True

    def kill(self) -> None:
        """End it at once, as a crash would."""
        self._process.kill()

    def stop(self, timeout_s: float) -> None:
        """Let it finish what it has in hand; kill it when it does not."""
        assert self._process.stdin is not None, "opened with a pipe"
        try:
            self._process.stdin.close()
            self._process.wait(timeout_s)
        except (subprocess.TimeoutExpired, OSError):
            self._process.kill()
            self._process.wait()

    def obituary(self) -> str:
        """How it ended, and why, where it could say so."""
        code = self._process.wait()
        told = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"{told}: {self._last_words}" if self._last_words else told

    @property
    def crashed(self) -> bool:
        """Whether it ended by an error of its own, not by a signal from outside; waits for its end."""
        return self._process.wait() not in _FROM_OUTSIDE

    def _listen(self) -> None:
        assert self._process.stdout is not None, "opened with a pipe"
        for line in self._process.stdout:
            if not line.endswith("\n"):
                break  # cut off in the middle of a message
            try:
                message = decode_for_supervisor(line)
            except MessageError as error:
                self._last_words = str(error)
                self.kill()  # nothing it says can be relied upon
                break
            if isinstance(message, Dying):
                self._last_words = message.reason
            self._hear(self, message)
        self._hear(self, None)
