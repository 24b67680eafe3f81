"""Compares the drift alarm with two other methods on simulated lines.

    python -m gonogo.drift.methods

One normally distributed measurement whose mean shifts by a number of standard deviations. Every line has its own
reference parts, because false alarms come mostly from unrepresentative reference parts.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable

import numpy as np
import typer

from gonogo.array_types import Float64
from gonogo.drift.alarm import DriftTest, fit_watches
from gonogo.drift.signs import Signs

Values = Float64[np.ndarray, " parts"]
_SHIFTS = (0.6, 1.0, 2.0, 5.0)
_LINES, _QUIET, _CHANGED = 30, 2000, 400
_OTHER_SIGNS = 7
"""Number of one-sided limits watched together; each method must share its false alarms among them."""


def betting(reference: Values, line: Values) -> int | None:
    """Number of parts until the alarm of gonogo, with the other measurements constant; ``None`` without an alarm."""
    test = DriftTest.start(fit_watches([_signs(value) for value in reference], bad_share=0.0))
    for number, value in enumerate(line, start=1):
        test = test.update(_signs(value))
        if test.alarm:
            return number
    return None


def conformal(reference: Values, line: Values) -> int | None:
    """Exchangeability martingale on conformal p-values, simple jumper (Vovk et al., COPA 2021), averaged."""
    rng = np.random.default_rng(0)
    seen = sorted(reference.tolist())
    bets = np.array([-1.8, -1.0, 0.0, 1.0, 1.8])
    capital = np.full(5, 0.2)
    for number, value in enumerate(line, start=1):
        place = bisect.bisect_left(seen, value)
        p_value = (place + rng.random()) / (len(seen) + 1)
        seen.insert(place, value)
        capital = 0.99 * capital + 0.01 * capital.sum() / 5
        capital = capital * (1 + bets * (p_value - 0.5))
        if (capital.sum() + _OTHER_SIGNS - 1) / _OTHER_SIGNS >= 20:
            return number
    return None


def cusum(reference: Values, line: Values) -> int | None:
    """Page's two-sided cumulative sum with the reference's own mean and deviation, slack 1/2, limit 8."""
    up = down = 0.0
    for number, value in enumerate((line - reference.mean()) / reference.std(ddof=1), start=1):
        up, down = max(0.0, up + value - 0.5), max(0.0, down - value - 0.5)
        if max(up, down) >= 8:
            return number
    return None


def _signs(value: float) -> Signs:
    return Signs(score=value, distance=0.0, brightness=0.0, sharpness=0.0)


def main() -> None:
    """Print a table for 40 and for 240 reference parts."""
    methods: tuple[Callable[[Values, Values], int | None], ...] = (betting, conformal, cusum)
    for parts in (40, 240):
        typer.echo(f"{parts} reference parts, {_LINES} lines: lines with a false alarm within {_QUIET} parts;")
        typer.echo("median (90th percentile) parts until the alarm, by shift in standard deviations")
        for method in methods:
            rng = np.random.default_rng(parts)
            false = [method(rng.normal(size=parts), rng.normal(size=_QUIET)) for _ in range(_LINES)]
            cells = [f"{sum(each is not None for each in false)} false"]
            for shift in _SHIFTS:
                found = [method(rng.normal(size=parts), rng.normal(size=_CHANGED) + shift) for _ in range(_LINES)]
                waits = [np.inf if each is None else each for each in found]
                middle, late = np.quantile(waits, [0.5, 0.9], method="higher")
                cells.append(f"{shift}: {middle:.0f} ({late:.0f})")
            typer.echo(f"  {method.__name__:10s}" + "".join(f"{cell:>16s}" for cell in cells))


if __name__ == "__main__":
    main()
