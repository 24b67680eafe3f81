"""Margin around the part, from a distribution-free bound.

Split conformal prediction (Vovk et al., 2005; Lei et al., 2018): the ``ceil((1 - a)(n + 1))``-th smallest of n
residuals on parts that were not trained on is exceeded by the next part of the same process with a probability of at
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
"""A part counts as not found if it extends beyond the quad by more than this margin."""


@dataclass(frozen=True, kw_only=True)
class Margin:
    """An outward margin and its miss rate."""

    share: float
    """Margin on every side, as a share of the part's size along that axis."""
    miss_rate: float
    """Largest probability that the next part extends beyond the margin."""
    parts: int
    """Number of calibration parts."""


def margin_parts_needed(miss_rate: float) -> int:
    """Smallest number of calibration parts for a miss rate: the smallest n with ``n >= 1 / miss_rate - 1``."""
    return math.ceil(1 / miss_rate - 1 - 1e-9)


def conformal_margin(residuals: Sequence[float], miss_rate: float) -> Margin | None:
    """Compute the smallest margin that contains the whole part with a probability of at least ``1 - miss_rate``.

    Args:
        residuals: One per calibration part, see `outward_residual`; infinite for a part that was not found.
        miss_rate: In (0, 1).

    Returns:
        The margin; ``None`` if there are fewer parts than `margin_parts_needed`, or too many were not found.
    """
    if len(residuals) < margin_parts_needed(miss_rate):
        return None
    rank = math.ceil((1 - miss_rate) * (len(residuals) + 1) - 1e-9)
    share = float(np.sort(np.asarray(residuals, np.float64))[rank - 1])
    if not math.isfinite(share):
        return None
    return Margin(share=max(0.0, share), miss_rate=miss_rate, parts=len(residuals))


def outward_residual(located: Located, truth: Corners) -> float:
    """Compute the smallest margin with which `Located.region` contains the true part.

    The value is the maximum over the four edges, as a share of the located size along that axis. It is negative if the
    whole part lies inside, and infinite if nothing was found.

    Args:
        located: The located part; its margin is ignored.
        truth: The part's true corners in frame pixels.
    """
    if located.quad is not None:
        return _least_margin(located, truth)
    if located.box is None:
        return math.inf
    inside = within(located.box, truth)
    return float(max(-inside.min(), inside.max() - 1))


def _least_margin(located: Located, truth: Corners) -> float:
    """Bisection, because the sides of a predicted quad are not exactly parallel and its margin varies along them."""
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
