"""Timing by turns: whatever else the machine does hits all contenders alike, so their ratio can be trusted."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from gonogo.progress import track

WARM_UP = 3
"""Runs of each contender that do not count."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """How long one thing took, each time it was done."""

    ms: Float64[np.ndarray, " repeats"]

    @property
    def median_ms(self) -> float:
        """Half of the runs took no longer."""
        return float(np.median(self.ms))

    @property
    def p99_ms(self) -> float:
        """99 of 100 runs took no longer."""
        return float(np.quantile(self.ms, 0.99))


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    description: str = "timing",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time some things, one run of each after the other, again and again.

    Args:
        contenders: What to time, by name.
        repeats: Runs of each that count; `WARM_UP` more come before.
        description: For the progress bar.
        clock: In seconds; `time.process_time` for things of one thread on a machine that is busy with others.
    """
    found: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.disable()  # or one contender pays for the rubbish of another
    try:
        for turn in track(range(WARM_UP + repeats), description):
            for name, run in contenders.items():
                start = clock()
                run()
                took_ms = (clock() - start) * 1e3
                if turn >= WARM_UP:
                    found[name].append(took_ms)
    finally:
        gc.enable()
    return {name: Times(ms=np.array(durations)) for name, durations in found.items()}
