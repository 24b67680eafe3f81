"""Counts and durations of a running station."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from gonogo.line.messages import Answer
from gonogo.schema import State

_REMEMBERED = 2_000
_SHOWN = 20
_FAULTING_AFTER = 3  # consecutive faults after which a station is unhealthy until a part is judged


class Metrics:
    """Counts of the supervisor. Written only by the supervisor's thread; every method returns a new object."""

    def __init__(self, station: str) -> None:
        self.station = station
        self.started = datetime.now(UTC)
        self.answers: Counter[State] = Counter()
        self.faults: Counter[str] = Counter()
        self.products: Counter[tuple[str, State]] = Counter()
        """Answers by product, at a station for several."""
        self.events: Counter[str] = Counter()
        """triggers, repeats, overruns, restarts, stalls, acknowledged, undelivered."""
        self.faults_in_a_row = 0
        """Number of faults since the last part that was judged."""
        self.status_trouble = ""
        """Why the last write of status and metrics failed; empty if it succeeded."""
        self._durations_ms: dict[str, deque[float]] = {}
        self.sums: dict[str, tuple[int, float]] = {}
        """Number of measurements and total milliseconds of each stage."""
        self._latest: deque[dict[str, Any]] = deque(maxlen=_SHOWN)

    def answered(self, answer: Answer, total_ms: float) -> None:
        """Count an answer."""
        self.answers[answer.state] += 1
        if answer.product is not None and answer.selected_by is not None:
            self.products[answer.product, answer.state] += 1
        if answer.cause is not None:
            self.faults[answer.cause.value] += 1
        if not answer.repeated:
            self.faults_in_a_row = self.faults_in_a_row + 1 if answer.state is State.FAULT else 0
        self._latest.appendleft(
            {
                "trigger_id": answer.trigger_id,
                "part": answer.part,
                "state": answer.state.value,
                "cause": None if answer.cause is None else answer.cause.value,
                "reason": answer.reason,
                "score": answer.score,
                "row": answer.row,
                "repeated": answer.repeated,
                "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "total_ms": round(total_ms, 2),
            }
        )
        if not answer.repeated:
            self.took({**answer.timings_ms, "total": total_ms})

    def took(self, durations_ms: Mapping[str, float]) -> None:
        """Add the durations of the stages of one part."""
        for stage, duration_ms in durations_ms.items():
            self._durations_ms.setdefault(stage, deque(maxlen=_REMEMBERED)).append(duration_ms)
            count, total = self.sums.get(stage, (0, 0.0))
            self.sums[stage] = count + 1, total + duration_ms

    def stages(self) -> dict[str, dict[str, float]]:
        """Return median and 99th percentile of each stage over the last 2,000 parts, in milliseconds."""
        found = {}
        for stage, durations in self._durations_ms.items():
            median, p99 = np.quantile(np.fromiter(durations, float), [0.5, 0.99]).tolist()
            found[stage] = {"p50_ms": round(median, 3), "p99_ms": round(p99, 3)}
        return found

    def latest(self) -> list[dict[str, Any]]:
        """Return the last answers, newest first."""
        return list(self._latest)

    @property
    def faulting(self) -> str:
        """Message that all recent parts were faults; empty if parts are judged."""
        count = self.faults_in_a_row
        if count < _FAULTING_AFTER:
            return ""
        causes = list(dict.fromkeys(each["cause"] for each in self.latest()[:count] if each["cause"]))
        return f"the last {count} parts were all faults ({', '.join(causes)})"
