"""At what size the network looks at a region: its own shape, and as many pixels as bring something."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gonogo.array_types import Float64
from gonogo.config import Reduction
from gonogo.dataset import Sample
from gonogo.images.geometry import side_lengths
from gonogo.source import TrainingSource

CELL = 32
"""Both sides are multiples of this."""
BUDGETS = (50_000, 200_000, 460_000)
"""Pixels that may be tried."""
GOOD_ONLY_BUDGET = 200_000
"""Pixels where there is no bad part to try sizes on: a memory sees small defects better on more pixels."""
ENLARGED = 1.25
"""A region is enlarged to at most so many times its own pixels."""
LONGEST = 2048
MEASURED = 32
"""Pictures that a region's usual size is measured on."""


def usual_region_wh(source: TrainingSource, samples: Sequence[Sample], reduction: Reduction) -> tuple[float, float]:
    """The median width and height of the regions of some pictures, in pixels of the picture as it is judged."""
    sides = [side_lengths(source.region(sample, source.dataset.load(sample))) for sample in samples[:MEASURED]]
    width, height = np.median(np.array(sides), axis=0) / reduction
    return float(width), float(height)


def fitting_size(region_wh: tuple[float, float], budget: int) -> tuple[int, int]:
    """The size with the region's aspect, near a number of pixels, whose sides are multiples of `CELL`."""
    factor = math.sqrt(budget / (region_wh[0] * region_wh[1]))
    width, height = (min(LONGEST, max(2 * CELL, round(side * factor / CELL) * CELL)) for side in region_wh)
    return width, height


def sizes_to_try(region_wh: tuple[float, float], *, both_classes: bool) -> list[tuple[int, int]]:
    """Sizes from small to large: one for each budget that the region's own pixels fill."""
    own = region_wh[0] * region_wh[1] * ENLARGED
    budgets = [budget for budget in BUDGETS if budget <= own] or [BUDGETS[0]]
    if not both_classes:
        budgets = [max((budget for budget in budgets if budget <= GOOD_ONLY_BUDGET), default=budgets[0])]
    elif len(budgets) < len(BUDGETS) and own / ENLARGED > 1.5 * budgets[-1]:
        budgets.append(int(own / ENLARGED))
    return list(dict.fromkeys(fitting_size(region_wh, budget) for budget in budgets))


def brings_more(costly: Float64[np.ndarray, " pictures"], cheap: Float64[np.ndarray, " pictures"]) -> bool:
    """Whether more pixels, or fine-tuning, are worth it: the losses are smaller by more than their standard error."""
    gain = cheap - costly
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
