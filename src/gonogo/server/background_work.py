"""Work that takes longer than a page may: one thing at a time in one thread, so that the line keeps its processor."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor

from gonogo.errors import GonogoError
from gonogo.server.language import RefusedError

_log = logging.getLogger(__name__)


class StoppedError(GonogoError):
    """The server shuts down; raised inside a task at its next step."""


class Task:
    """One piece of work and how far it is."""

    def __init__(self, title: str, stop: threading.Event) -> None:
        self.title = title
        self._stop = stop
        self.done, self.total = 0, 0
        self.over = False
        self.failure: RefusedError | str = ""
        """Why it failed; empty where it did not."""

    def step(self, done: int, total: int) -> None:
        """Say how far it is.

        Raises:
            StoppedError: it must end now.
        """
        self.done, self.total = done, total
        if self._stop.is_set():
            raise StoppedError("the server shuts down.")


class Worker:
    """Runs tasks in the order in which they came."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="gonogo-background")
        self._stop = threading.Event()
        self._tasks: dict[Hashable, Task] = {}
        self._lock = threading.Lock()

    def submit(self, key: Hashable, title: str, work: Callable[[Task], None]) -> Task:
        """Do some work, unless the same is waiting or running already.

        Args:
            key: Names the work.
            title: What people read, marked with ``N_``.
            work: Calls `Task.step` as it goes.
        """
        with self._lock:
            known = self._tasks.get(key)
            if known is not None and not known.over:
                return known
            task = self._tasks[key] = Task(title, self._stop)
            self._pool.submit(self._run, task, work)
            return task

    def task(self, key: Hashable) -> Task | None:
        """The latest task of that name, be it over or not."""
        with self._lock:
            return self._tasks.get(key)

    def busy(self) -> list[Task]:
        """What waits or runs."""
        with self._lock:
            return [task for task in self._tasks.values() if not task.over]

    def close(self) -> None:
        """Let the running task end at its next step, and start no other."""
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, task: Task, work: Callable[[Task], None]) -> None:
        try:
            work(task)
        except StoppedError:
            task.failure = "stopped"
        except GonogoError as error:
            task.failure = error if isinstance(error, RefusedError) else str(error)
        except Exception as error:  # noqa: BLE001  the edge of a thread: logged, shown, and the next task still runs
            _log.error("%s failed", task.title, exc_info=error)
            task.failure = "failed; see the server's log"
        finally:
            task.over = True
