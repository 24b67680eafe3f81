"""A line's controller for tests."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable

from gonogo.station.messages import Answer


class FakePlc:
    """A line's controller: fires triggers, takes answers, and knows when each came.

    It is an answer port and a source of triggers in one: give `send` to the supervisor, and its ``submit`` to `fire`.
    """

    def __init__(self) -> None:
        self.answers: dict[str, list[Answer]] = defaultdict(list)
        """Every answer by its trigger, in the order in which they came."""
        self.fired_s: dict[str, float] = {}
        """When each trigger was fired first, monotonic."""
        self.answered_s: dict[str, float] = {}
        """When each got its first answer, monotonic."""
        self._came = threading.Condition()

    def fire(self, submit: Callable[..., None], trigger_id: str, **names: str) -> None:
        """Fire a trigger; ``names`` may hold ``part``, ``lot`` and ``product``."""
        self.fired_s.setdefault(trigger_id, time.monotonic())
        submit(trigger_id, **names)

    def send(self, answer: Answer) -> None:
        """Take an answer."""
        with self._came:
            self.answered_s.setdefault(answer.trigger_id, time.monotonic())
            self.answers[answer.trigger_id].append(answer)
            self._came.notify_all()

    def wait(self, trigger_id: str, *, timeout_s: float = 10.0, answers: int = 1) -> Answer:
        """The trigger's answer, the last of so many.

        Raises:
            TimeoutError: it has not come.
        """
        with self._came:
            if not self._came.wait_for(lambda: len(self.answers.get(trigger_id, ())) >= answers, timeout_s):
                raise TimeoutError(f"{trigger_id}: expected {answers} answers within {timeout_s:g} s")
            return self.answers[trigger_id][answers - 1]

    def waited_s(self, trigger_id: str) -> float:
        """How long the line waited for the trigger's first answer."""
        return self.answered_s[trigger_id] - self.fired_s[trigger_id]
