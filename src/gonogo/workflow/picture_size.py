"""Chooses the input size of the network: the aspect ratio of the region, and as many pixels as improve the result."""

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
"""Both sides are multiples of this, in pixels."""
BUDGETS = (50_000, 200_000, 460_000)
"""Numbers of pixels to try."""
GOOD_ONLY_BUDGET = 200_000
"""Number of pixels if there are no bad parts to compare sizes on: the memory detects small defects better at a higher
resolution."""
ENLARGED = 1.25
"""Largest factor by which the number of pixels of a region may be enlarged."""
LONGEST = 2048
MEASURED = 32
"""Number of pictures that the median region size is measured on."""


def usual_region_wh(source: TrainingSource, samples: Sequence[Sample], reduction: Reduction) -> tuple[float, float]:
    """The median width and height of the regions of some pictures, in pixels after reduction."""
    sides = [side_lengths(source.region(sample, source.dataset.load(sample))) for sample in samples[:MEASURED]]
    width, height = np.median(np.array(sides), axis=0) / reduction
    return float(width), float(height)


def fitting_size(region_wh: tuple[float, float], budget: int) -> tuple[int, int]:
    """The size with the aspect ratio of the region and about ``budget`` pixels; sides are multiples of `CELL`."""
    factor = math.sqrt(budget / (region_wh[0] * region_wh[1]))
    width, height = (min(LONGEST, max(2 * CELL, round(side * factor / CELL) * CELL)) for side in region_wh)
    return width, height


def sizes_to_try(region_wh: tuple[float, float], *, both_classes: bool) -> list[tuple[int, int]]:
    """Sizes to try, smallest first: one for each budget up to the size of the region."""
    own = region_wh[0] * region_wh[1] * ENLARGED
    budgets = [budget for budget in BUDGETS if budget <= own] or [BUDGETS[0]]
    if not both_classes:
        budgets = [max((budget for budget in budgets if budget <= GOOD_ONLY_BUDGET), default=budgets[0])]
    elif len(budgets) < len(BUDGETS) and own / ENLARGED > 1.5 * budgets[-1]:
        budgets.append(int(own / ENLARGED))
    return list(dict.fromkeys(fitting_size(region_wh, budget) for budget in budgets))


def clearly_better(costly: Float64[np.ndarray, " pictures"], cheap: Float64[np.ndarray, " pictures"]) -> bool:
    """Whether the costlier method is worth it: its losses are smaller by more than the standard error."""
    gain = cheap - costly
    return bool(gain.mean() > gain.std() / np.sqrt(len(gain)))
