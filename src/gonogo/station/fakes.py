"""Stand-ins for what a line has and a desk has not: a controller, an inspector. Public, for everybody's tests."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gonogo.errors import BundleError
from gonogo.images import Photograph
from gonogo.schema import Box, Frame, State, Verdict
from gonogo.station.messages import Answer
from gonogo.station.models import Model


class FakePlc:
    """A line's controller: fires triggers, takes answers, and knows when each came.

    It is an answer port and a source of triggers in one: give `send` to the gate, and the gate's ``submit`` to `fire`.
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


def fake_model(
    path: Path, *, judge: Callable[[Frame], float] = lambda frame: float(frame[..., 0].mean()) - 128.0
) -> Model:
    """A model without a network: the score is ``judge(frame)``, go below -20, no-go above 20.

    Its bundle is any folder with a file ``SHA256SUMS``; one whose text is ``broken`` is refused.
    """
    seal = (path / "SHA256SUMS").read_bytes()
    if seal.strip() == b"broken":
        raise BundleError(f"{path}: the fake bundle is broken, as was asked for.")

    def inspect(photograph: Photograph) -> Verdict:
        start, frame = time.perf_counter(), photograph.frame
        score = judge(frame)
        state = State.GO if score < -20 else State.NO_GO if score > 20 else State.REVIEW
        timings_ms = {"total": (time.perf_counter() - start) * 1e3}
        box = Box.whole(frame)
        return Verdict(state=state, score=score, reason=f"score {score:.1f}", box=box, timings_ms=timings_ms)

    return Model(
        name="fake",
        path=path,
        sha256=hashlib.sha256(seal).hexdigest(),
        go_below=-20.0,
        no_go_above=20.0,
        device="none",
        inspect=inspect,
    )


def fake_frame(seed: int, *, bad: bool = False, size_wh: tuple[int, int] = (160, 120)) -> Frame:
    """A picture that a fake bundle and a fake model call go, or no-go where it is bad; each seed gives another."""
    rng = np.random.default_rng(seed)
    cells = rng.integers(60, 200, (size_wh[1] // 8, size_wh[0] // 8, 3))
    cells[..., 0] = rng.integers(200, 240) if bad else rng.integers(30, 70)
    return np.kron(cells, np.ones((8, 8, 1), dtype=int)).astype(np.uint8)
