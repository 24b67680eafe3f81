"""Where the marks of the trend lie: the last verdicts from left to right, the score upwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from gonogo.ledger import Row, VerdictRecord
from gonogo.schema import State
from gonogo.server.station.feed import RECENT

WIDTH, HEIGHT = 720, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 10, 10, 34, 14


@dataclass(frozen=True, kw_only=True)
class Mark:
    """One verdict, in the units of the drawing."""

    x: float
    y: float
    state: State
    seq: int


@dataclass(frozen=True, kw_only=True)
class Trend:
    """What the template draws."""

    marks: tuple[Mark, ...]
    go_y: float | None
    """Height of the go threshold; ``None`` where none applies."""
    no_go_y: float | None
    width: int = WIDTH
    height: int = HEIGHT


def draw(recent: Sequence[Row[VerdictRecord]]) -> Trend:
    """Lay out the last verdicts, oldest first; one without a score lies on the upper edge."""
    records = [row.record for row in recent]
    # A fault was judged by no limits: those of the last part that was stay in force.
    judged = [record for record in records if record.go_below is not None or record.no_go_above is not None]
    go, no_go = (judged[-1].go_below, judged[-1].no_go_above) if judged else (None, None)
    scores = [value for value in (*(record.score for record in records), go, no_go) if _finite(value)]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    pad = 0.08 * (high - low) or 1.0
    low, high = low - pad, high + pad

    def y(score: float | None) -> float:
        if not _finite(score):
            return _TOP - 18.0
        return round(_TOP + (HEIGHT - _TOP - _BOTTOM) * (high - score) / (high - low), 1)

    step = (WIDTH - _LEFT - _RIGHT) / RECENT
    first = WIDTH - _RIGHT - step * (len(records) - 0.5)
    marks = tuple(
        Mark(x=round(first + step * number, 1), y=y(row.record.score), state=row.record.state, seq=row.seq)
        for number, row in enumerate(recent)
    )
    return Trend(marks=marks, go_y=y(go) if _finite(go) else None, no_go_y=y(no_go) if _finite(no_go) else None)


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
