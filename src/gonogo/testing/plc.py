"""A fake PLC for tests."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from gonogo.line.messages import Answer


class FakePlc:
    """A fake PLC: fires triggers, receives answers, and records the time of each.

    It is an answer port and a trigger source: pass `send` to the supervisor, and the supervisor's ``submit`` to `fire`.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        """All answers of each trigger, in the order of arrival."""
        self.fired_s: dict[str, float] = {}
        """Monotonic time at which each trigger was first fired."""
        self.answered_s: dict[str, float] = {}
        """Monotonic time of each trigger's first answer."""
        self._came = threading.Condition()

    def fire(self, submit: Callable[..., None], trigger_id: str, **names: str) -> None:
        """Fire a trigger; ``names`` may hold ``part``, ``lot`` and ``product``."""
        self.fired_s.setdefault(trigger_id, time.monotonic())
        submit(trigger_id, **names)

    def send(self, answer: Answer) -> None:
        """Receive an answer."""
        with self._came:
            self.answered_s.setdefault(answer.trigger_id, time.monotonic())
            self.answers[answer.trigger_id].append(answer)
            self._came.notify_all()

    def wait(self, trigger_id: str, *, timeout_s: float = 10.0, answers: int = 1) -> Answer:
        """Wait until a trigger has this number of answers, and return the last of them.

        Raises:
            TimeoutError: fewer answers came in time.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.answers.get(trigger_id, ())) >= answers, timeout_s):
                raise TimeoutError(f"{trigger_id}: expected {answers} answers within {timeout_s:g} s")
            return self.answers[trigger_id][answers - 1]

    def waited_s(self, trigger_id: str) -> float:
        """Return the seconds from the trigger to its first answer."""
        return self.answered_s[trigger_id] - self.fired_s[trigger_id]
