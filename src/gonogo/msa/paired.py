"""People beside an inspector on the same parts: paired differences of their misses and false alarms.

On a line a person decides the parts that the inspector sends to review. So each person is compared with the inspector
*together with this person*: on a reviewed part the person's own decision counts. An inspector that reviews every part
is then exactly as good as the person, and no better.

The interval of a difference is Newcombe's for paired proportions (Statistics in Medicine 17, 1998, 2635-2650, method
10): the Wilson interval of each rate, combined with their correlation. Repeated decisions on one part, by trials or by
several people, are averaged first; their Wilson interval then counts as many independent decisions as the variance
between parts shows (Korn and Graubard, Survey Methodology 24, 1998, 193-201), at least one and at most all of a part's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Bool, Float64, Int64
from gonogo.errors import InputError
from gonogo.msa.study import Study, StudyDecision

CONFIDENCE = 0.95
_Z = 1.959963984540054
"""The 97.5 % point of the normal distribution."""
EVERYONE = "everyone"
"""Name of the comparison with all people together."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Error rate of the inspector minus that of people on the same parts, below 0 if the inspector errs less often."""

    parts: int
    person: float | None
    """Error rate of the people; ``None`` without parts."""
    inspector: float | None
    """Error rate of the inspector, with the people deciding its reviews."""
    only_person: int
    """Decisions on which only the person was wrong."""
    only_inspector: int
    """Decisions on which only the inspector was wrong."""
    low: float
    """Lower end of the 95 % interval of the difference."""
    high: float
    p_value: float | None
    """Exact McNemar test, two-sided; ``None`` if decisions are repeated, because they are not independent then."""

    @property
    def value(self) -> float | None:
        """The difference; ``None`` without parts."""
        return None if self.person is None or self.inspector is None else self.inspector - self.person

    @property
    def finding(self) -> str:
        """``fewer`` or ``more`` errors of the inspector if interval and test both say so, else ``unproven``."""
        if self.p_value is not None and self.p_value > 1.0 - CONFIDENCE:
            return "unproven"
        return "fewer" if self.high < 0.0 else "more" if self.low > 0.0 else "unproven"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One person, or everyone, beside the inspector."""

    person: str
    misses: Difference
    """On bad parts."""
    false_alarms: Difference
    """On good parts."""


@dataclass(frozen=True, kw_only=True)
class Paired:
    """Every person beside the inspector, and everyone together if there are several."""

    inspector: str
    reviewed: float
    """Share of the inspector's decisions that were a review: what a person still sees."""
    comparisons: tuple[Comparison, ...]


def compare(study: Study, inspector: str) -> Paired:
    """Compare every person of a study with its inspector, decision by decision.

    Args:
        study: People and one inspector, all on the same parts.
        inspector: Name of the appraiser that is the inspector; all others are people.

    Raises:
        InputError: no appraiser has this name, or there is nobody else.
    """
    if inspector not in study.appraisers:
        raise InputError(
            f"--inspector {inspector}: expected an appraiser of the study, found {', '.join(study.appraisers)}. "
            "Name one of them."
        )
    if len(study.appraisers) < 2:
        raise InputError(f"--inspector {inspector}: expected people beside it, found none. Add their decisions.")
    own = study.appraisers.index(inspector)
    people = [name for index, name in enumerate(study.appraisers) if index != own]
    decisions = np.delete(study.decisions, own, axis=0)
    reviewed = study.decisions[own] == StudyDecision.REVIEW
    together = np.where(reviewed, decisions, study.decisions[own])
    comparisons = [
        _comparison(name, study.reference, decisions[[index]], together[[index]]) for index, name in enumerate(people)
    ]
    if len(people) > 1:
        comparisons.append(_comparison(EVERYONE, study.reference, decisions, together))
    return Paired(inspector=inspector, reviewed=float(reviewed.mean()), comparisons=tuple(comparisons))


def _comparison(
    name: str,
    reference: Int64[np.ndarray, " parts"],
    people: Int64[np.ndarray, "people trials parts"],
    inspector: Int64[np.ndarray, "people trials parts"],
) -> Comparison:
    def difference(of: StudyDecision, wrong: StudyDecision) -> Difference:
        chosen = reference == of
        return paired_difference(people[..., chosen] == wrong, inspector[..., chosen] == wrong)

    return Comparison(
        person=name,
        misses=difference(StudyDecision.BAD, StudyDecision.GOOD),
        false_alarms=difference(StudyDecision.GOOD, StudyDecision.BAD),
    )


def paired_difference(
    person: Bool[np.ndarray, "*repeats parts"], inspector: Bool[np.ndarray, "*repeats parts"]
) -> Difference:
    """Compare two error rates on the same parts.

    Args:
        person: Whether each decision was wrong; leading axes are repeated decisions on the same parts.
        inspector: The same for the inspector, in the same order.
    """
    parts = person.shape[-1]
    only_person, only_inspector = int(np.sum(person & ~inspector)), int(np.sum(inspector & ~person))
    if not parts:
        return Difference(
            parts=0, person=None, inspector=None, only_person=0, only_inspector=0, low=-1.0, high=1.0, p_value=None
        )
    repeats = person.size // parts
    rates = [wrong.reshape(repeats, parts).mean(axis=0) for wrong in (person, inspector)]
    low, high = newcombe(rates[1], rates[0], repeats=repeats)
    return Difference(
        parts=parts,
        person=float(rates[0].mean()),
        inspector=float(rates[1].mean()),
        only_person=only_person,
        only_inspector=only_inspector,
        low=low,
        high=high,
        p_value=mcnemar(only_person, only_inspector) if repeats == 1 else None,
    )


def mcnemar(first: int, second: int) -> float:
    """Exact two-sided McNemar test of the discordant pairs (McNemar, Psychometrika 12, 1947, 153-157)."""
    pairs, fewer = first + second, min(first, second)
    tail = sum(math.comb(pairs, count) for count in range(fewer + 1))
    return min(1.0, tail / (1 << max(0, pairs - 1)))


def newcombe(
    first: Float64[np.ndarray, " parts"], second: Float64[np.ndarray, " parts"], *, repeats: int = 1
) -> tuple[float, float]:
    """95 % interval of the difference of two paired rates, see the module.

    Args:
        first: Error rate of each part, in [0, 1]; 0 or 1 for single decisions.
        second: The same of the other, on the same parts.
        repeats: Number of decisions on each part.
    """
    (p1, low1, high1), (p2, low2, high2) = (_wilson(rates, repeats) for rates in (first, second))
    spread = float(np.std(first) * np.std(second))
    covariance = float(np.mean((first - p1) * (second - p2)))
    if covariance > 0.0:  # Newcombe's continuity correction
        covariance = max(0.0, covariance - 1 / (2 * len(first)))
    phi = covariance / spread if spread > 0.0 else 0.0
    below = (p1 - low1) ** 2 - 2 * phi * (p1 - low1) * (high2 - p2) + (high2 - p2) ** 2
    above = (high1 - p1) ** 2 - 2 * phi * (high1 - p1) * (p2 - low2) + (p2 - low2) ** 2
    difference = p1 - p2
    return max(-1.0, difference - math.sqrt(max(0.0, below))), min(1.0, difference + math.sqrt(max(0.0, above)))


def _wilson(rates: Float64[np.ndarray, " parts"], repeats: int) -> tuple[float, float, float]:
    """Mean and Wilson interval of the error rates of parts (Wilson, J. Amer. Statist. Assoc. 22, 1927, 209-212)."""
    mean, parts = float(np.mean(rates)), len(rates)
    variance = float(np.var(rates))
    independent = min(mean * (1 - mean) / variance, repeats) if variance > 0.0 else 1.0
    decisions = parts * max(1.0, independent)
    centre = (mean + _Z**2 / (2 * decisions)) / (1 + _Z**2 / decisions)
    half = _Z * math.sqrt(mean * (1 - mean) / decisions + _Z**2 / (4 * decisions**2)) / (1 + _Z**2 / decisions)
    return mean, min(mean, max(0.0, centre - half)), max(mean, min(1.0, centre + half))
