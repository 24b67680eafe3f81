"""How far a stage of a roll-out is from its end, in parts."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.fleet.releases import Stage, Terms
from gonogo.fleet.rollout import Evidence
from gonogo.operating_point import confidence_sequence

_MOST = 10**9


@dataclass(frozen=True, kw_only=True)
class Remaining:
    """What is missing before a person may move the candidate on."""

    parts: int
    """Further parts that must show no bad flip; 0 if the bound is met. Undecided flips are taken as good ones."""
    undecided: int
    """Flips that people have to decide first."""
    settled: int
    """Further parts that people must decide, flips among them."""
    live: int
    """Further parts that the candidate must answer on canary stations."""

    @property
    def done(self) -> bool:
        """Whether nothing is missing, but for undecided flips."""
        return not (self.parts or self.settled or self.live)


def remaining(stage: Stage, evidence: Evidence, terms: Terms) -> Remaining:
    """Return what is missing, if no further flip turns out to be bad."""
    return Remaining(
        parts=max(0, parts_needed_in_all(terms, evidence.bad_flips) - evidence.parts),
        undecided=evidence.unsettled,
        settled=max(0, terms.min_settled - evidence.settled),
        live=max(0, terms.min_live - evidence.live) if stage is Stage.CANARY else 0,
    )


def parts_needed_in_all(terms: Terms, bad_flips: int = 0) -> int:
    """Fewest parts with this number of bad flips whose bound meets the terms; see `gonogo.fleet.decide`.

    About 6.4 / ``max_bad_flips`` without a bad flip.
    """

    def enough(parts: int) -> bool:
        limit = terms.max_bad_flips
        return confidence_sequence(bad_flips, parts, delta=terms.alpha / 2, around=limit)[1] <= limit

    high = max(1, bad_flips)
    while not enough(high) and high < _MOST:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if middle >= bad_flips and enough(middle) else (middle, high)
    return high
