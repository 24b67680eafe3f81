"""Interleaved timing: other load on the machine affects all contenders equally, so their ratios are reliable."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from gonogo.progress import track

WARM_UP = 3
"""Number of warm-up runs of each contender."""


@dataclass(frozen=True, kw_only=True)
class Times:
    """Durations of all runs of one contender."""

    ms: Float64[np.ndarray, " repeats"]

    @property
    def median_ms(self) -> float:
        """The median duration."""
        return float(np.median(self.ms))

    @property
    def p99_ms(self) -> float:
        """The 99th percentile."""
        return float(np.quantile(self.ms, 0.99))


def take_turns(
    contenders: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    description: str = "timing",
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time several contenders, with interleaved runs.

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
