"""How far a certified limit would move if the parts of a lot fail together: a sensitivity check, never the certificate.

The certificate counts parts as independent. Parts of one lot share a cause, so they say less. Two answers:

*Worst case, exact.* Let k of n calibration parts be allowed on the wrong side, from m lots. The promise is broken only
if at most k parts lie beyond the true limit, and then at most k of m parts do if one is picked at random from each lot.
These m parts are independent, because lots are. So the rate that k of m parts certify is an upper bound whatever the
parts of a lot have in common. It concerns a random part of a random lot.

*By the correlation found.* The scores of a class, as ranks on a normal scale, have an intra-lot correlation ``icc``
(one-way analysis of variance; Donner and Koval, Biometrics 36, 1980). It gives the design effect
``1 + (size - 1) icc`` with the size-weighted mean lot size (Kish, Survey Sampling, 1965), and n parts are worth
``n / effect`` independent ones, less what the few lots leave uncertain about the variance. The bound is that of Clopper
and Pearson for this effective number (Korn and Graubard, Survey Methodology 24, 1998). It is an approximation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gonogo.array_types import Float64
from gonogo.errors import InputError
from gonogo.operating_point.binomial import best_rate
from gonogo.operating_point.claims import as_percent
from gonogo.schema import Claim

FEW_LOTS = 10
"""With fewer lots, the correlation within a lot is hardly known."""


@dataclass(frozen=True, kw_only=True)
class LotCheck:
    """What the certified limit of one class would be, taking the lots into account."""

    error: str
    """``escape`` or ``overkill``."""
    max_rate: float
    """The certified limit, which counts parts as independent."""
    parts: int
    lots: int
    """Parts without a lot count as one further lot."""
    without_lot: int
    """Number of parts without a lot."""
    correlation: float
    """Correlation of the scores within a lot, from 0 to 1."""
    worth: float
    """Number of independent parts that these parts are worth."""
    by_correlation: float
    """Upper bound at this correlation, at the confidence of the claim."""
    worst_case: float
    """Exact upper bound if the parts of a lot always fail together."""

    @property
    def few(self) -> bool:
        """Whether there are too few lots to say much."""
        return self.lots < FEW_LOTS

    def sentence(self) -> str:
        """Describe the check in plain words."""
        of, wrong = ("bad", "escape") if self.error == "escape" else ("good", "are rejected")
        unknown = f" ({self.without_lot} parts name no lot and count as one)" if self.without_lot else ""
        return (
            f"Sensitivity to lots, {of} parts: {self.parts} parts from {self.lots} lot{'' if self.lots == 1 else 's'}"
            f"{unknown}. Their scores correlate by {self.correlation:.2f} within a lot, so they are worth about "
            f"{self.worth:.0f} independent parts, and at most {as_percent(self.by_correlation)} {wrong} instead of "
            f"{as_percent(self.max_rate)}. If the parts of a lot always fail together: at most "
            f"{as_percent(self.worst_case)}."
        )

    def warning(self) -> str:
        """Say that there are few lots; empty if there are enough."""
        if not self.few:
            return ""
        of = "bad" if self.error == "escape" else "good"
        return (
            f"The {self.parts} {of} calibration parts come from {self.lots} lot{'' if self.lots == 1 else 's'}. With "
            f"fewer than {FEW_LOTS}, the promise says little about other lots: calibrate on parts of more lots."
        )


def check_lots(claim: Claim, scores: ArrayLike, lots: Sequence[str | None], *, delta: float) -> LotCheck | None:
    """Compute the sensitivity of a certified claim to its lots; ``None`` if it is not certified or no part has a lot.

    Args:
        claim: The claim.
        scores: One score per calibration part of its class.
        lots: The lot of each part.
        delta: The risk of the claim, see `gonogo.operating_point.rule.risk`.

    Raises:
        InputError: The numbers of scores and lots differ from the claim's number of parts.
    """
    values = np.asarray(scores, dtype=np.float64)
    if values.shape != (len(lots),) or len(lots) != claim.parts:
        raise InputError(
            f"expected a score and a lot for each of {claim.parts} parts, found {values.size} and {len(lots)}."
        )
    if claim.allowed is None or not any(lot is not None for lot in lots):
        return None
    names, rows = np.unique(["" if lot is None else f"lot {lot}" for lot in lots], return_inverse=True)
    sizes = np.bincount(rows)
    icc = lot_correlation(values, rows)
    worth = effective_parts(sizes, icc)
    return LotCheck(
        error=claim.error,
        max_rate=claim.max_rate,
        parts=claim.parts,
        lots=len(names),
        without_lot=sum(lot is None for lot in lots),
        correlation=icc,
        worth=worth,
        by_correlation=max(claim.max_rate, clustered_bound(claim.allowed, claim.parts, worth, delta)),
        worst_case=max(claim.max_rate, worst_case_bound(claim.allowed, len(names), delta)),
    )


def lot_correlation(scores: Float64[np.ndarray, " parts"], lots: Sequence[int] | np.ndarray) -> float:
    """Intra-lot correlation of scores on a normal scale, by one-way analysis of variance; at least 0.

    0 if every part has a lot of its own, or all parts have one.
    """
    from scipy import special, stats

    rows = np.asarray(lots)
    sizes = np.bincount(rows)
    sizes = sizes[sizes > 0]
    parts, groups = len(rows), len(sizes)
    if groups < 2 or groups == parts:
        return 0.0
    normal = special.ndtri((stats.rankdata(scores) - 0.5) / parts)
    means = np.bincount(rows, normal) / np.maximum(np.bincount(rows), 1)
    between = float(((means[rows] - normal.mean()) ** 2).sum() / (groups - 1))
    within = float(((normal - means[rows]) ** 2).sum() / (parts - groups))
    size = (parts - (sizes**2).sum() / parts) / (groups - 1)
    total = between + (size - 1.0) * within
    return float(max((between - within) / total, 0.0)) if total > 0 else 0.0


def effective_parts(sizes: Sequence[int] | np.ndarray, correlation: float) -> float:
    """Number of independent parts that lots of these sizes are worth, see the module; at most the number of parts.

    The number is reduced by the squared ratio of the quantiles of Student's t for parts and for lots, because the
    variance between few lots is uncertain (Korn and Graubard, 1998); at a correlation of 0 nothing is reduced.
    """
    from scipy import stats

    counts = np.asarray(sizes, dtype=np.float64)
    parts, lots = counts.sum(), len(counts)
    effect = 1.0 + ((counts**2).sum() / parts - 1.0) * correlation
    if effect <= 1.0:
        return float(parts)
    if lots < 2:
        return float(parts / effect)
    ratio = float(stats.t.ppf(0.95, parts - 1) / stats.t.ppf(0.95, lots - 1))
    return float(min(parts, max(parts / effect * ratio**2, 1.0)))


def clustered_bound(allowed: int, parts: int, worth: float, delta: float) -> float:
    """Clopper-Pearson bound with ``worth`` effective parts and the same share of errors; 1 if all are errors."""
    errors = allowed * worth / parts
    if worth - errors <= 0:
        return 1.0
    from scipy import special

    return float(special.betainccinv(errors + 1.0, worth - errors, delta * (1.0 - 1e-9)))


def worst_case_bound(allowed: int, lots: int, delta: float) -> float:
    """Exact bound if parts of a lot always fail together: ``allowed`` errors among one part of each lot."""
    return best_rate(lots, delta, min(allowed, lots))


def to_record(check: LotCheck) -> dict[str, float | int | str]:
    """Return the check as a JSON object, with its sentence."""
    numbers = {name: getattr(check, name) for name in check.__dataclass_fields__}
    rounded = {key: round(value, 6) if isinstance(value, float) else value for key, value in numbers.items()}
    return rounded | {"sentence": check.sentence()}
