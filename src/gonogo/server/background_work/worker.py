"""Background tasks, run one at a time in one thread to leave the processor to the line.

What a person asked for is kept in the journal, so that it is still known after the server was killed; see
`gonogo.server.work`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from typing import Protocol, TypeAlias

from gonogo.errors import GonogoError
from gonogo.server.background_work.asked import Asked, WorkState
from gonogo.server.language import N_, RefusedError

CANCELLED, STOPPED = N_("Cancelled."), N_("Interrupted, because the server was stopped.")
_log = logging.getLogger(__name__)


class StoppedError(GonogoError):
    """Raised inside a task at its next step when a person cancels it or the server shuts down."""


class Keeper(Protocol):
    """Where a worker keeps what people asked for; `gonogo.server.background_work.journal.Journal` is one."""

    def add(self, asked: Asked) -> int:
        """Keep a task that waits; returns its number."""

    def set_state(self, number: int, state: WorkState, failure: RefusedError | str = "") -> None:
        """Keep what has become of it."""


class Task:
    """One background task and its progress."""

    def __init__(self, title: str, stop: threading.Event, *, asked: Asked | None = None, number: int = 0) -> None:
        self.title = title
        self.asked = asked
        """Who asked for it; ``None`` for what the server does by itself."""
        self.number = number
        """Number in the journal; 0 if it is not kept there."""
        self._stop, self._cancelled = stop, threading.Event()
        self._since: tuple[float, int] | None = None
        self.done, self.total = 0, 0
        self.asked_at = time.time()
        """When it was submitted, in seconds since 1970."""
        self.running = False
        self.over = False
        self.failure: RefusedError | str = ""
        """Why it failed; empty if it did not."""

    def step(self, done: int, total: int) -> None:
        """Report progress: the items done, and how many there are; 0 if that is unknown.

        Raises:
            StoppedError: the task must stop.
        """
        if self._since is None or done < self.done or total != self.total:
            self._since = (time.monotonic(), done)  # another part of the work, with a pace of its own
        self.done, self.total = done, total
        if self._stop.is_set() or self._cancelled.is_set():
            raise StoppedError("cancelled, or the server shuts down.")

    def seconds_left(self) -> float | None:
        """Time until the total is reached, at the pace so far; ``None`` if it cannot be known yet."""
        if not self.running or self._since is None or self.total <= 0:
            return None
        at, first = self._since
        gone, made = time.monotonic() - at, self.done - first
        return gone * (self.total - self.done) / made if made > 0 else None

    @property
    def cancelled(self) -> bool:
        """Whether a person has cancelled it."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """Stop it at its next step; `Worker.cancel` also takes it from the queue."""
        self._cancelled.set()


Work: TypeAlias = Callable[[Task], object]
"""The function of a task. If it returns ``True``, it is called again after everything else that waits."""


class Worker:
    """Runs tasks in the order of submission.

    Args:
        keeper: Keeps what people asked for.
    """

    def __init__(self, keeper: Keeper | None = None) -> None:
        self._keeper = keeper
        self._stop = threading.Event()
        self._tasks: dict[Hashable, Task] = {}
        self._waiting: deque[tuple[Task, Work]] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None

    def submit(self, key: Hashable, title: str, work: Work, *, asked: Asked | None = None) -> Task:
        """Submit a task, unless one with the same key is already waiting or running.

        Args:
            key: Identifies the task.
            title: Text shown to users, marked with ``N_``.
            work: The function to run; it calls `Task.step` to report progress.
            asked: Who asked for it, and how to ask for it again.
        """
        with self._changed:
            known = self._tasks.get(key)
            if known is not None and not known.over:
                return known
            number = self._keeper.add(asked) if asked is not None and self._keeper is not None else 0
            task = self._tasks[key] = Task(title, self._stop, asked=asked, number=number)
            self._waiting.append((task, work))
            if self._stop.is_set():
                self._end_waiting()
            elif self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="gonogo-background", daemon=True)
                self._thread.start()
            self._changed.notify()
            return task

    def task(self, key: Hashable) -> Task | None:
        """The latest task with this key, finished or not; ``None`` if there is none."""
        with self._changed:
            return self._tasks.get(key)

    def busy(self) -> list[Task]:
        """The tasks that are running or waiting, in the order in which they will be done."""
        with self._changed:
            running = [task for task in self._tasks.values() if task.running and not task.over]
            return running + [task for task, _ in self._waiting if task not in running]

    def cancel(self, number: int) -> bool:
        """Cancel the task with this number; returns whether it was waiting or running.

        A waiting task ends at once, a running one at its next step.
        """
        with self._changed:
            task = next((each for each in self.busy() if each.number == number and number), None)
            if task is None:
                return False
            task.cancel()
            if not task.running:
                self._waiting = deque(each for each in self._waiting if each[0] is not task)
                self._end(task, CANCELLED)
            return True

    def move_first(self, number: int) -> bool:
        """Do the waiting task with this number next; returns whether there is one."""
        with self._changed:
            found = next((each for each in self._waiting if each[0].number == number and number), None)
            if found is None:
                return False
            self._waiting.remove(found)
            self._waiting.appendleft(found)
            return True

    def close(self) -> None:
        """Stop the running task at its next step and start no other."""
        with self._changed:
            self._stop.set()
            self._end_waiting()
            self._changed.notify()
            thread = self._thread
        if thread is not None:
            thread.join()

    def _loop(self) -> None:
        while True:
            with self._changed:
                while not self._waiting:
                    if self._stop.is_set():
                        return
                    self._changed.wait()
                task, work = self._waiting.popleft()
                task.running = True
            again = self._run(task, work)
            with self._changed:
                task.running = False
                if again and not self._stop.is_set() and not task.cancelled:
                    self._waiting.append((task, work))
                else:
                    self._end(task, task.failure)
                    if self._stop.is_set():
                        self._end_waiting()

    def _run(self, task: Task, work: Work) -> bool:
        """Run it once; returns whether it wants another turn."""
        try:
            if task.number and self._keeper is not None:
                self._keeper.set_state(task.number, WorkState.RUNNING)
            again = work(task) is True
        except StoppedError:
            task.failure = CANCELLED if task.cancelled else STOPPED
        except GonogoError as error:
            task.failure = error if isinstance(error, RefusedError) else str(error)
        except Exception as error:  # noqa: BLE001  thread boundary: logged and shown; the next task still runs
            _log.error("%s failed", task.title, exc_info=error)
            task.failure = N_("It failed; the server's log says why.")
        else:
            if again and (self._stop.is_set() or task.cancelled):
                task.failure = CANCELLED if task.cancelled else STOPPED
            return again
        return False

    def _end_waiting(self) -> None:
        while self._waiting:
            self._end(self._waiting.popleft()[0], STOPPED)

    def _end(self, task: Task, failure: RefusedError | str) -> None:
        task.failure, task.over = failure, True
        if not task.number or self._keeper is None:
            return
        state = {"": WorkState.DONE, CANCELLED: WorkState.CANCELLED, STOPPED: WorkState.INTERRUPTED}.get(
            failure if isinstance(failure, str) else "?", WorkState.FAILED
        )
        try:
            self._keeper.set_state(task.number, state, failure)
        except Exception as error:  # noqa: BLE001  thread boundary: the next task still runs
            _log.error("cannot keep that %s has ended", task.title, exc_info=error)
