"""A confidence sequence for a rate: bounds that hold at every number of parts at once."""

from __future__ import annotations

import math
from collections.abc import Callable

from gonogo.errors import InputError


def confidence_sequence(errors: int, parts: int, *, delta: float, around: float) -> tuple[float, float]:
    """Return bounds of a rate that may be read after every part, and acted on at any of these moments.

    With probability at least ``1 - delta`` the rate lies within the bounds at *all* numbers of parts. Robbins' mixture:
    the likelihood of the errors, averaged over a prior, divided by that at the true rate is a martingale that starts at
    one, so by Ville's inequality it ever reaches ``1 / delta`` with probability at most ``delta`` (Ville 1939; Robbins,
    Annals of Mathematical Statistics 41, 1970; Howard, Ramdas, McAuliffe and Sekhon, Annals of Statistics 49, 2021).
    The bounds exclude the rates at which it has. The prior is half uniform and half Beta(1, 1 / ``around``).

    The bounds depend on the two counts only, and both rise with the errors. So errors that become known late may be
    left out of the lower bound and assumed in the upper one.

    Args:
        errors: Number of errors.
        parts: Number of parts; each is an error independently with the same probability.
        delta: Probability that the bounds ever miss the rate.
        around: Rate near which the bounds are sharpest, in (0, 1); chosen before the first part.

    Returns:
        Lower and upper bound; (0, 1) without parts.
    """
    if not 0 <= errors <= parts:
        raise InputError(f"expected 0 to {parts} errors among {parts} parts, found {errors}.")
    for name, value in (("delta", delta), ("around", around)):
        if not 0.0 < value < 1.0:
            raise InputError(f"{name}: expected a number above 0 and below 1, found {value}.")
    level = _log_mixture(errors, parts, around) + math.log(delta)

    def inside(rate: float) -> bool:
        return _log_likelihood(rate, errors, parts) > level

    middle = errors / parts if parts else 0.5
    low = 0.0 if inside(0.0) else _edge(inside, middle, 0.0)
    high = 1.0 if inside(1.0) else _edge(inside, middle, 1.0)
    return low, high


def _edge(inside: Callable[[float], bool], within: float, beyond: float) -> float:
    """Bisect between a rate within the bounds and one beyond them; the result is just beyond, on the safe side."""
    for _ in range(44):
        middle = (within + beyond) / 2
        if inside(middle):
            within = middle
        else:
            beyond = middle
    return beyond


def _log_likelihood(rate: float, errors: int, parts: int) -> float:
    if (errors and rate <= 0.0) or (errors < parts and rate >= 1.0):
        return -math.inf
    sound = (parts - errors) * math.log1p(-rate) if errors < parts else 0.0
    return (errors * math.log(rate) if errors else 0.0) + sound


def _log_mixture(errors: int, parts: int, around: float) -> float:
    """Log of the mean likelihood over the prior."""
    first, second = (_log_beta(errors, parts, sharpness) for sharpness in (1.0, 1.0 / around))
    top = max(first, second)
    return top + math.log(0.5 * math.exp(first - top) + 0.5 * math.exp(second - top))


def _log_beta(errors: int, parts: int, sharpness: float) -> float:
    """``log B(1 + errors, sharpness + parts - errors) - log B(1, sharpness)``."""
    ours = math.lgamma(1 + errors) + math.lgamma(sharpness + parts - errors) - math.lgamma(1 + sharpness + parts)
    return ours + math.log(sharpness)
