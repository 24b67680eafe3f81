"""Two bundles on the same reviewed frames: whose verdicts agree better with what people decided."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from gonogo.evaluate import Rate
from gonogo.inspector import Inspector
from gonogo.replay import Rejudged, replay
from gonogo.schema import Label, State
from gonogo.server.book import Book
from gonogo.server.insight.gauges import Gauge
from gonogo.server.insight.tasks import Task, Worker
from gonogo.server.language import N_
from gonogo.server.review import Decision

MOST = 500
"""Frames compared at once, the latest decided."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One reviewed part, judged by both."""

    decision: Decision
    first: State
    second: State

    @property
    def changed(self) -> bool:
        """Whether the two verdicts differ."""
        return self.first is not self.second


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What came of it."""

    first: Gauge
    second: Gauge
    pairs: tuple[Pair, ...]
    skipped: int
    """Parts whose frames are gone."""

    def rates(self, second: bool) -> dict[str, Rate]:
        """Escapes, rejected good parts and parts sent to a person, of one of the two bundles."""
        judged = [(pair.decision.label, pair.second if second else pair.first) for pair in self.pairs]
        bad = [state for label, state in judged if label is Label.BAD]
        good = [state for label, state in judged if label is Label.GOOD]
        return {
            "escape": Rate(count=bad.count(State.GO), of=len(bad)),
            "overkill": Rate(count=good.count(State.NO_GO), of=len(good)),
            "review": Rate(count=[state for _, state in judged].count(State.REVIEW), of=len(judged)),
        }

    @property
    def changes(self) -> list[Pair]:
        """Where the verdicts differ: bad parts first."""
        return sorted((pair for pair in self.pairs if pair.changed), key=lambda pair: pair.decision.label is Label.GOOD)


class Comparer:
    """Compares in the background and remembers the last outcome."""

    def __init__(self, book: Book, worker: Worker) -> None:
        self._book, self._worker = book, worker
        self._lock = threading.Lock()
        self._last: Comparison | None = None

    def last(self) -> Comparison | None:
        """The last outcome."""
        with self._lock:
            return self._last

    def start(self, first: Gauge, second: Gauge, decisions: Sequence[Decision]) -> Task:
        """Judge the reviewed parts with both."""
        return self._worker.submit(
            "compare",
            N_("Comparing two inspectors"),
            lambda task: self._compare(first, second, decisions[-MOST:], task),
        )

    def _compare(self, first: Gauge, second: Gauge, decisions: Sequence[Decision], task: Task) -> None:
        inspectors = Inspector.load(first.path), Inspector.load(second.path)
        pairs, skipped = [], 0
        for done, decision in enumerate(decisions):
            task.step(done, len(decisions))
            states = [self._state(inspector, decision.seq) for inspector in inspectors]
            if states[0] is None or states[1] is None:
                skipped += 1
            else:
                pairs.append(Pair(decision=decision, first=states[0], second=states[1]))
        with self._lock:
            self._last = Comparison(first=first, second=second, pairs=tuple(pairs), skipped=skipped)

    def _state(self, inspector: Inspector, seq: int) -> State | None:
        with self._book.reading() as ledger:
            found = next(replay(ledger, inspector, after=seq - 1, before=seq + 1), None)
        return found.state_after if isinstance(found, Rejudged) else None
