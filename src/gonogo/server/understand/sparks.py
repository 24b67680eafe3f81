"""Where the dots of a small drawing of one sign lie, and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 84
_EDGE = 6


@dataclass(frozen=True, kw_only=True)
class Spark:
    """What the template draws."""

    dots: tuple[tuple[float, float, bool], ...]
    """x, y, and whether beyond a limit."""
    limits_y: tuple[float, ...]
    width: int = WIDTH
    height: int = HEIGHT


def spark(values: Sequence[float], limits: Sequence[float]) -> Spark:
    """Lay out values from left to right, the newest at the right edge.

    Args:
        values: Oldest first.
        limits: One upper limit, or an upper and a lower one.
    """
    everything = [*values, *limits]
    low, high = (min(everything), max(everything)) if everything else (0.0, 1.0)
    span = (high - low) or 1.0

    def y(value: float) -> float:
        return round(_EDGE + (HEIGHT - 2 * _EDGE) * (high - value) / span, 1)

    upper = max(limits, default=high)
    lower = min(limits) if len(limits) > 1 else low
    step = (WIDTH - 2 * _EDGE) / max(1, len(values) - 1)
    first = WIDTH - _EDGE - step * (len(values) - 1)
    return Spark(
        dots=tuple(
            (round(first + step * number, 1), y(value), not lower <= value <= upper)
            for number, value in enumerate(values)
        ),
        limits_y=tuple(y(limit) for limit in limits),
    )
