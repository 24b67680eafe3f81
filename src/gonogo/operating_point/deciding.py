"""The verdict that two thresholds give, in words."""

from __future__ import annotations

import math

from gonogo.schema import OperatingPoint, State


def state_and_reason(point: OperatingPoint, score: float) -> tuple[State, str]:
    """Return the verdict for a finite score, and its reason."""
    state = point.state(score)
    if state is State.GO:
        return state, f"score {score:.3f} is below the go threshold {point.go_below:.3f}"
    if state is State.NO_GO:
        return state, f"score {score:.3f} is above the no-go threshold {point.no_go_above:.3f}"
    if not point.escape.holds and not point.go_without_promise:
        missing = point.escape.parts_missing
        return state, f"{missing} more bad parts are needed before any part may pass: sent to review"
    return state, f"score {score:.3f} is {_in_review_band(point)}: sent to review"


def _in_review_band(point: OperatingPoint) -> str:
    if math.isinf(point.no_go_above):
        return f"not below the go threshold {point.go_below:.3f}"
    return f"between the thresholds {point.go_below:.3f} and {point.no_go_above:.3f}"
