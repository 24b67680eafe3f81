"""How much margin the whole part needs: a distribution-free bound instead of a guess.

Split conformal prediction (Vovk et al., 2005; Lei et al., 2018): the ``ceil((1 - a)(n + 1))``-th smallest of n
residuals on parts that trained nothing is exceeded by the next part of the same process with a probability of at
most a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gonogo.images import within
from gonogo.images.geometry import Corners
from gonogo.schema import Located

_MOST = 8.0
"""A quad that misses the part by more than this margin has not found it."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """An outward margin and what it is worth."""

    share: float
    """Of the part's size along each axis, on every side."""
    miss_rate: float
    """The next part reaches beyond the margin with a probability of at most this."""
    parts: int
    """Calibration parts that it rests on."""


def margin_parts_needed(miss_rate: float) -> int:
    """The fewest calibration parts for a miss rate: the least n with ``n >= 1 / miss_rate - 1``."""
    return math.ceil(1 / miss_rate - 1 - 1e-9)


def conformal_margin(residuals: Sequence[float], miss_rate: float) -> Margin | None:
    """The smallest margin that contains the whole part with a probability of at least ``1 - miss_rate``.

    Args:
        residuals: One per calibration part, see `outward_residual`; infinite for a part that was not found.
        miss_rate: In (0, 1).

    Returns:
        ``None`` where there are fewer parts than `margin_parts_needed`, or so many were not found that no margin holds.
    """
    if len(residuals) < margin_parts_needed(miss_rate):
        return None
    rank = math.ceil((1 - miss_rate) * (len(residuals) + 1) - 1e-9)
    share = float(np.sort(np.asarray(residuals, np.float64))[rank - 1])
    if not math.isfinite(share):
        return None
    return Margin(share=max(0.0, share), miss_rate=miss_rate, parts=len(residuals))


def outward_residual(located: Located, truth: Corners) -> float:
    """How far the part really reaches beyond what was found: the least margin with which `Located.region` holds it.

    The largest over the four edges, as a share of what was found along that axis; negative where all of the part lies
    inside, infinite where nothing was found.

    Args:
        located: What was found; its margin does not count.
        truth: The part's true corners in frame pixels.
    """
    if located.quad is not None:
        return _least_margin(located, truth)
    if located.box is None:
        return math.inf
    inside = within(located.box, truth)
    return float(max(-inside.min(), inside.max() - 1))


def _least_margin(located: Located, truth: Corners) -> float:
    """By bisection: the sides of a network's quad are never quite parallel, so its margin is not even along them."""
    low, high = -0.5, _MOST
    if not _holds(located, truth, high):
        return math.inf
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if _holds(located, truth, middle) else (middle, high)
    return high


def _holds(located: Located, truth: Corners, margin: float) -> bool:
    region = replace(located, margin=margin).region
    assert region is not None, "only asked of a part that was found"
    inside = within(region, truth)
    return bool(inside.min() >= 0 and inside.max() <= 1)
