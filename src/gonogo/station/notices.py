"""Notices from the supervisor to the worker: a trigger came, or a part was answered ``fault``.

The worker matches pictures that arrive without a request to triggers, so it must also know the triggers that wait in
the supervisor. A picture can arrive before its notice; the supervisor, which knows every trigger first, then decides.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from gonogo.line.messages import Answer, Trigger
from gonogo.station.messages import ExpectPicture, Notice, PartFaulted
from gonogo.station.watchdog import WorkerProcess

_REMEMBERED = 1_000
_UNHEARD = 200  # most notices to a silent worker: a full pipe would block the supervisor


class Notices:
    """The notices of one supervisor; used only by its thread."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._came: deque[tuple[str, float]] = deque(maxlen=_REMEMBERED)
        self._unheard = 0
        self._held_back = False

    def came(self, trigger: Trigger, worker: WorkerProcess | None) -> None:
        """Announce a new trigger."""
        came_s = trigger.due_s - self._window_s
        self._came.append((trigger.id, came_s))
        self._send(worker, ExpectPicture(trigger_id=trigger.id, came_s=came_s))

    def faulted(self, worker: WorkerProcess | None) -> None:
        """Announce that a part was answered ``fault``."""
        self._send(worker, PartFaulted(at_s=time.monotonic()))

    def heard(self, worker: WorkerProcess | None) -> None:
        """Note that the worker has answered, so it is reading its pipe."""
        self._unheard = 0
        if self._held_back:
            self._held_back = False
            self.faulted(worker)

    def started(self, worker: WorkerProcess | None, waiting: Iterable[Trigger]) -> None:
        """Announce all waiting triggers to a new worker."""
        self._unheard, self._held_back = 0, False
        for trigger in waiting:
            came_s = trigger.due_s - self._window_s
            self._send(worker, ExpectPicture(trigger_id=trigger.id, came_s=came_s))

    def contested(self, trigger: Trigger, answer: Answer) -> bool:
        """Whether the judged picture may belong to a trigger that the worker did not know yet."""
        if answer.sole_until_s is None:
            return False
        came_s = trigger.due_s - self._window_s
        return any(name != trigger.id and came_s <= at_s <= answer.sole_until_s for name, at_s in self._came)

    def _send(self, worker: WorkerProcess | None, notice: Notice) -> None:
        if worker is None:
            return
        if self._unheard >= _UNHEARD:
            self._held_back = True
            return
        self._unheard += 1
        worker.send(notice)
