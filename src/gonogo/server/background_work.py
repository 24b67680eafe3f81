"""Background tasks, run one at a time in one thread to leave the processor to the line."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

from gonogo.errors import GonogoError
from gonogo.server.language import RefusedError

_log = logging.getLogger(__name__)


class StoppedError(GonogoError):
    """Raised inside a task at its next step when the server shuts down."""


class Task:
    """One background task and its progress."""

    def __init__(self, title: str, stop: threading.Event) -> None:
        self.title = title
        self._stop = stop
        self.done, self.total = 0, 0
        self.over = False
        self.failure: RefusedError | str = ""
        """Why it failed; empty if it did not."""

    def step(self, done: int, total: int) -> None:
        """Report progress.

        Raises:
            StoppedError: the task must stop.
        """
        self.done, self.total = done, total
        if self._stop.is_set():
            raise StoppedError("the server shuts down.")


class Worker:
    """Runs tasks in the order of submission."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gonogo-background")
        self._stop = threading.Event()
        self._tasks: dict[Hashable, Task] = {}
        self._lock = threading.Lock()

    def submit(self, key: Hashable, title: str, work: Callable[[Task], None]) -> Task:
        """Submit a task, unless one with the same key is already waiting or running.

        Args:
            key: Identifies the task.
            title: Text shown to users, marked with ``N_``.
            work: The function to run; it calls `Task.step` to report progress.
        """
        with self._lock:
            known = self._tasks.get(key)
            if known is not None and not known.over:
                return known
            task = self._tasks[key] = Task(title, self._stop)
            self._pool.submit(self._run, task, work)
            return task

    def task(self, key: Hashable) -> Task | None:
        """The latest task with this key, finished or not; ``None`` if there is none."""
        with self._lock:
            return self._tasks.get(key)

    def busy(self) -> list[Task]:
        """The tasks that are waiting or running."""
        with self._lock:
            return [task for task in self._tasks.values() if not task.over]

    def close(self) -> None:
        """Stop the running task at its next step and start no other."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, task: Task, work: Callable[[Task], None]) -> None:
        try:
            work(task)
        except StoppedError:
            task.failure = "stopped"
        except GonogoError as error:
            task.failure = error if isinstance(error, RefusedError) else str(error)
        except Exception as error:  # noqa: BLE001  thread boundary: logged and shown; the next task still runs
            _log.error("%s failed", task.title, exc_info=error)
            task.failure = "failed; see the server's log"
        finally:
            task.over = True
