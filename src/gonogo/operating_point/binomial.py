"""Exact bounds on an error rate from counted parts, computed by inverting binomial tails.

The tails come from `scipy.special`, which `scipy.stats` also uses. It is imported inside the functions: a station reads
an operating point at every start, needs only `certifies` for that, and importing SciPy would take longer than loading
the network.
"""

from __future__ import annotations

import math

from gonogo.errors import InputError


def allowed_errors(parts: int, max_rate: float, delta: float) -> int | None:
    """Largest number of errors that still certifies ``max_rate``: ``max{k : BinomCDF(k; n, rate) <= delta}``.

    Args:
        parts: Independent calibration parts of one class, n.
        max_rate: The error rate to certify, in (0, 1).
        delta: The risk that the certificate is wrong, 1 - confidence, in (0, 1).

    Returns:
        k, or ``None`` if even zero errors would not certify the rate.
    """
    _check_count("parts", parts)
    _check_share("max_rate", max_rate)
    _check_share("delta", delta)
    from scipy import special

    root = special.bdtrik(delta, parts, max_rate)  # the real number of errors at which the tail equals delta
    k = math.floor(root) if math.isfinite(root) else 0
    # The root is rounded, so correct it with the exact rule.
    while k >= 0 and special.bdtr(k, parts, max_rate) > delta:
        k -= 1
    while special.bdtr(k + 1, parts, max_rate) <= delta:
        k += 1
    return k if k >= 0 else None


def certifies(errors: int, parts: int, max_rate: float, delta: float) -> bool:
    """Whether ``errors`` among ``parts`` certify a rate: ``BinomCDF(errors; parts, max_rate) <= delta``.

    The same rule as `allowed_errors`, by direct summation, with a relative tolerance of 1e-9.
    """
    _check_counts(errors, parts)
    _check_share("max_rate", max_rate)
    _check_share("delta", delta)
    at_most, rest = math.log(max_rate), math.log1p(-max_rate)
    whole = math.lgamma(parts + 1)
    tail = math.fsum(
        math.exp(whole - math.lgamma(k + 1) - math.lgamma(parts - k + 1) + k * at_most + (parts - k) * rest)
        for k in range(errors + 1)
    )
    return tail <= delta * (1 + 1e-9)


def parts_needed(max_rate: float, delta: float) -> int:
    """Fewest parts that can certify a rate, with no errors allowed: ``ceil(ln(delta) / ln(1 - max_rate))``.

    59 for 5 % at delta 0.05, 299 for 1 %, 368 for 1 % at delta 0.025.
    """
    _check_share("max_rate", max_rate)
    _check_share("delta", delta)
    parts = max(1, math.ceil(math.log(delta) / math.log1p(-max_rate)) - 1)
    # The logarithms are rounded, so correct the count with the exact rule.
    while allowed_errors(parts, max_rate, delta) is None:
        parts += 1
    return parts


def best_rate(parts: int, delta: float, errors: int = 0) -> float:
    """Smallest rate that ``errors`` among ``parts`` certify at risk ``delta``.

    The root of ``BinomCDF(errors; parts, rate) = delta``, a beta quantile (Clopper and Pearson, Biometrika 26, 1934);
    ``1 - delta ** (1 / parts)`` without errors, and 1 without parts.
    """
    _check_counts(errors, parts)
    _check_share("delta", delta)
    if errors == parts:
        return 1.0
    from scipy import special

    # A quantile rounded down would claim too much: slightly less risk keeps the bound on the safe side.
    return float(special.betainccinv(errors + 1, parts - errors, delta * (1.0 - 1e-9)))


def upper_bound(errors: int, parts: int, *, confidence: float) -> float:
    """One-sided exact upper confidence bound of a rate: 1 if there are no parts or all of them are errors.

    Valid for a decision rule fixed before these parts were judged (Clopper and Pearson, Biometrika 26, 1934).
    """
    return best_rate(parts, 1.0 - confidence, errors)


def clopper_pearson(errors: int, parts: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided exact interval of a rate, (0, 1) without parts (Clopper and Pearson, Biometrika 26, 1934)."""
    _check_counts(errors, parts)
    _check_share("confidence", confidence)
    from scipy import special

    tail = (1.0 - confidence) / 2.0
    low = 0.0 if errors == 0 else float(special.betaincinv(errors, parts - errors + 1, tail))
    high = 1.0 if errors == parts else float(special.betainccinv(errors + 1, parts - errors, tail))
    return low, high


def _check_share(name: str, value: float) -> None:
    if not 0.0 < value < 1.0:
        raise InputError(
            f"{name}: expected a number above 0 and below 1, found {value}. Give a share, not a percentage."
        )


def _check_count(name: str, value: int) -> None:
    if value < 0:
        raise InputError(f"{name}: expected a count, found {value}.")


def _check_counts(errors: int, parts: int) -> None:
    _check_count("errors", errors)
    _check_count("parts", parts)
    if errors > parts:
        raise InputError(f"expected at most as many errors as parts, found {errors} of {parts}.")
