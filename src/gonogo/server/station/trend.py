"""The trend drawing: the latest verdicts from left to right, the score upwards."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from markupsafe import Markup

from gonogo.ledger import Row, VerdictRecord
from gonogo.report import svg
from gonogo.schema import State
from gonogo.server.station.feed import RECENT

WIDTH, HEIGHT = 720, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 10, 10, 34, 14
_SHAPES = {
    State.GO: Markup('<circle r="4"/>'),
    State.NO_GO: Markup('<path d="M-5-5L5 5M5-5L-5 5"/>'),
    State.REVIEW: Markup('<path d="M0-6L6 0 0 6-6 0z"/>'),
    State.FAULT: Markup('<rect x="-4.5" y="-4.5" width="9" height="9"/>'),
}


@dataclass(frozen=True, kw_only=True)
class TrendMark:
    """One verdict in drawing units."""

    x: float
    y: float
    state: State


@dataclass(frozen=True, kw_only=True)
class Trend:
    """Layout of the trend drawing."""

    marks: tuple[TrendMark, ...]
    go_y: float | None
    """Height of the go threshold; ``None`` if there is none."""
    no_go_y: float | None

    def drawing(self, title: str) -> Markup:
        """Render the drawing as SVG.

        Args:
            title: Text for screen readers.
        """
        heights = {"no_go": self.no_go_y, "go": self.go_y}
        pieces = [svg.line(0, y, WIDTH, y, f"limit {name}") for name, y in heights.items() if y is not None]
        place = Markup('<g class="mark {}" transform="translate({:.1f} {:.1f})">{}</g>')
        pieces += [place.format(mark.state.value, mark.x, mark.y, _SHAPES[mark.state]) for mark in self.marks]
        return svg.drawing(WIDTH, HEIGHT, title, pieces, "trend")


def lay_out(recent: Sequence[Row[VerdictRecord]]) -> Trend:
    """Lay out the latest verdicts, oldest first; a verdict without a score is placed on the upper edge."""
    records = [row.record for row in recent]
    if records and records[-1].selected_by is not None:  # scores of another product have limits of their own
        records = [record for record in records if record.product == records[-1].product]
    # A fault has no limits; use those of the last judged part.
    judged = [record for record in records if record.go_below is not None or record.no_go_above is not None]
    go, no_go = (judged[-1].go_below, judged[-1].no_go_above) if judged else (None, None)
    scores = [value for value in (*(record.score for record in records), go, no_go) if _finite(value)]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    pad = 0.08 * (high - low) or 1.0
    y_of = svg.scale(low - pad, high + pad, HEIGHT - _BOTTOM, _TOP)
    step = (WIDTH - _LEFT - _RIGHT) / RECENT
    first = WIDTH - _RIGHT - step * (len(records) - 0.5)
    marks = tuple(
        TrendMark(
            x=first + step * number,
            y=y_of(record.score) if _finite(record.score) else _TOP - 18.0,
            state=record.state,
        )
        for number, record in enumerate(records)
    )
    return Trend(marks=marks, go_y=y_of(go) if _finite(go) else None, no_go_y=y_of(no_go) if _finite(no_go) else None)


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)
