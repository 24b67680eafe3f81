"""Notices of the supervisor to the worker: a trigger has come, or a part was answered ``fault``.

Pictures that come by themselves are matched to triggers by the worker, which must know of the triggers that wait in
the supervisor. A notice may still be on its way when a picture comes; the supervisor, which knows every trigger first,
has the last word.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable

from gonogo.station.messages import Answer, ExpectPicture, Notice, PartFaulted, Trigger
from gonogo.station.watchdog import WorkerProcess

_REMEMBERED = 1_000
_UNHEARD = 200  # notices that a silent worker is sent: its pipe must not fill up, as that would block the supervisor


class Notices:
    """The notices of one supervisor; used by its thread alone."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._came: deque[tuple[str, float]] = deque(maxlen=_REMEMBERED)
        self._unheard = 0
        self._held_back = False

    def came(self, trigger: Trigger, worker: WorkerProcess | None) -> None:
        """A trigger has come that was not there before."""
        came_s = trigger.due_s - self._window_s
        self._came.append((trigger.id, came_s))
        self._send(worker, ExpectPicture(trigger_id=trigger.id, came_s=came_s))

    def faulted(self, worker: WorkerProcess | None) -> None:
        """A part was answered ``fault``."""
        self._send(worker, PartFaulted(at_s=time.monotonic()))

    def heard(self, worker: WorkerProcess | None) -> None:
        """The worker has answered, so that it reads on."""
        self._unheard = 0
        if self._held_back:
            self._held_back = False
            self.faulted(worker)

    def started(self, worker: WorkerProcess | None, waiting: Iterable[Trigger]) -> None:
        """A new worker is ready; it knows of no trigger yet."""
        self._unheard, self._held_back = 0, False
        for trigger in waiting:
            came_s = trigger.due_s - self._window_s
            self._send(worker, ExpectPicture(trigger_id=trigger.id, came_s=came_s))

    def contested(self, trigger: Trigger, answer: Answer) -> bool:
        """Whether the picture that was judged may be that of a trigger of which the worker had not heard yet."""
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
