"""The state machine of one part: which step may follow which, and how long each took."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import StrEnum


class Step(StrEnum):
    """Where a part is."""

    TRIGGERED = "triggered"
    ACQUIRING = "acquiring"
    INSPECTING = "inspecting"
    COMMITTING = "committing"
    ANSWERING = "answering"
    ACKNOWLEDGED = "acknowledged"


FOLLOWS: Mapping[Step, frozenset[Step]] = {
    # A stored verdict is answered again; a part that cannot be judged goes straight to its record.
    Step.TRIGGERED: frozenset({Step.ACQUIRING, Step.COMMITTING, Step.ANSWERING}),
    Step.ACQUIRING: frozenset({Step.INSPECTING, Step.COMMITTING}),
    Step.INSPECTING: frozenset({Step.COMMITTING}),
    # Only a record leads to an answer; a record that fails leads to an answer that is a fault.
    Step.COMMITTING: frozenset({Step.ANSWERING}),
    Step.ANSWERING: frozenset({Step.ACKNOWLEDGED}),
    Step.ACKNOWLEDGED: frozenset(),
}
"""The only moves there are. No way leads from inspecting to answering but through the record."""


class Cycle:
    """One part on its way. `to` moves it on and refuses every move that `FOLLOWS` does not name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = Step.TRIGGERED
        self._clock = clock
        self._since = clock()
        self.timings_ms: dict[str, float] = {}

    def to(self, step: Step) -> None:
        """Move on.

        Raises:
            ValueError: this step cannot follow the present one: a bug, never a part.
        """
        if step not in FOLLOWS[self.step]:
            raise ValueError(f"expected one of {sorted(FOLLOWS[self.step])} after {self.step}, found {step}")
        now = self._clock()
        if self.step is not Step.TRIGGERED:
            self.timings_ms[self.step.value] = (now - self._since) * 1e3
        self.step, self._since = step, now
