"""The state machine of one part: the allowed transitions, and the duration of each step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum


class Step(StrEnum):
    """Step that a part is in."""

    TRIGGERED = "triggered"
    ACQUIRING = "acquiring"
    INSPECTING = "inspecting"
    COMMITTING = "committing"
    ANSWERING = "answering"
    ACKNOWLEDGED = "acknowledged"


FOLLOWS: Mapping[Step, frozenset[Step]] = {
    # A repeated trigger gets its stored verdict; a part that cannot be judged is recorded without inspection.
    Step.TRIGGERED: frozenset({Step.ACQUIRING, Step.COMMITTING, Step.ANSWERING}),
    Step.ACQUIRING: frozenset({Step.INSPECTING, Step.COMMITTING}),
    Step.INSPECTING: frozenset({Step.COMMITTING}),
    # Every answer comes after an attempt to record; if recording fails, the answer is a fault.
    Step.COMMITTING: frozenset({Step.ANSWERING}),
    Step.ANSWERING: frozenset({Step.ACKNOWLEDGED}),
    Step.ACKNOWLEDGED: frozenset(),
}
"""The allowed transitions. Inspecting leads to answering only through committing."""


class Cycle:
    """Progress of one part. `to` allows only the transitions in `FOLLOWS`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = Step.TRIGGERED
        self._clock = clock
        self._since = clock()
        self.timings_ms: dict[str, float] = {}

    def to(self, step: Step) -> None:
        """Move to the next step.

        Raises:
            ValueError: the transition is not allowed, which is a bug in gonogo.
        """
        if step not in FOLLOWS[self.step]:
            raise ValueError(f"expected one of {sorted(FOLLOWS[self.step])} after {self.step}, found {step}")
        now = self._clock()
        if self.step is not Step.TRIGGERED:
            self.timings_ms[self.step.value] = (now - self._since) * 1e3
        self.step, self._since = step, now
