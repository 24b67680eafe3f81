"""The positions of a slider that moves a threshold over scores."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass

from gonogo.schema import OperatingPoint, State

MOST = 101
"""Most positions of one slider."""


@dataclass(frozen=True, kw_only=True)
class Positions:
    """Thresholds in ascending order."""

    thresholds: tuple[float, ...]
    now: int
    """Index of the threshold in force."""

    def at(self, position: int | None) -> float:
        """The threshold at a position, or the nearest one; the one in force without a position."""
        chosen = self.now if position is None else position
        return self.thresholds[min(max(chosen, 0), len(self.thresholds) - 1)]


def positions(scores: Iterable[float], now: float, *, most: int = MOST) -> Positions:
    """Return thresholds between neighbouring scores, below and above all of them, and the one in force.

    Args:
        scores: Finite scores; may be empty.
        now: The threshold in force; may be infinite.
        most: Largest number of positions; of more scores, evenly spaced ones by rank are kept.
    """
    found = sorted(set(scores))
    if not found:
        return Positions(thresholds=(now,), now=0)
    # Half a step beyond the outermost scores: there a threshold passes nothing, or everything.
    step = (found[-1] - found[0]) / 2 / len(found) or 1.0
    edges = [
        found[0] - step,
        *((low + high) / 2 for low, high in itertools.pairwise(found)),
        found[-1] + step,
    ]
    if len(edges) > most - 1:
        last = len(edges) - 1
        edges = [edges[round(rank * last / (most - 2))] for rank in range(most - 1)]
    thresholds = sorted({*edges, now})
    return Positions(thresholds=tuple(thresholds), now=bisect_left(thresholds, now))


@dataclass(frozen=True, kw_only=True)
class JudgedScore:
    """A verdict with the score that it came from."""

    state: State
    score: float | None

    def at(self, point: OperatingPoint | None, go_below: float, no_go_above: float) -> State:
        """Return the verdict with other thresholds.

        Args:
            point: The operating point that gave the verdict.
            go_below: Threshold of go.
            no_go_above: Threshold of no-go; at least ``go_below``.

        A part that was stopped by more than its score (out of distribution, a rule, a code, a fault) stays stopped.
        """
        if self.score is None or self.state is State.FAULT:
            return self.state
        moved = State.GO if self.score < go_below else State.NO_GO if self.score > no_go_above else State.REVIEW
        held = point is not None and self.state is not point.state(self.score)
        return self.state if held and moved is State.GO else moved
