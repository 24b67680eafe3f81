"""What the page of a trial shows: four cells, what people say, and the parts that flip at each position of a slider."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gonogo.evaluate import Rate
from gonogo.fleet import SeenPart
from gonogo.schema import Label, OperatingPoint, State
from gonogo.server.positions import JudgedScore, Positions, positions

SHOWN = 24
"""Most pictures in one list."""


@dataclass(frozen=True, kw_only=True)
class ComparedPart:
    """One part that both bundles judged."""

    name: str
    seq: int
    answered: State
    """What the line was told."""
    silent: State
    """The candidate's verdict at its own thresholds."""
    score: float | None
    label: Label | None
    """What people say."""

    def passes(self, point: OperatingPoint | None, go_below: float) -> bool:
        """Whether the candidate would pass it with another threshold of go."""
        return JudgedScore(state=self.silent, score=self.score).at(point, go_below, math.inf) is State.GO


@dataclass(frozen=True, kw_only=True)
class Cells:
    """Go or not, by the inspector in use and by the candidate."""

    both_go: Rate
    newly_go: Rate
    newly_stopped: Rate
    both_stop: Rate
    agreement: Rate


@dataclass(frozen=True, kw_only=True)
class ShadowSetting:
    """What one position of the slider means."""

    go_below: float
    in_force: bool
    """Whether it is the candidate's own threshold."""
    cells: Cells
    people: dict[Label, Rate]
    """Share of the parts that people call good or bad which the candidate passes."""
    newly_go: tuple[ComparedPart, ...]
    """Parts that would newly pass, those that people call bad first, then the undecided ones."""
    newly_stopped: tuple[ComparedPart, ...]


def compared_parts(parts: Sequence[SeenPart]) -> tuple[ComparedPart, ...]:
    """Return the parts that both bundles judged; parts that the candidate could not judge are left out."""
    return tuple(
        ComparedPart(
            name=each.name,
            seq=each.verdict.seq,
            answered=each.verdict.old,
            silent=each.verdict.new,
            score=each.verdict.score,
            label=each.label,
        )
        for each in parts
        if each.judged and each.verdict is not None
    )


def slider(parts: Sequence[ComparedPart], point: OperatingPoint | None) -> Positions:
    """Return the positions of the threshold of go."""
    now = -math.inf if point is None else point.go_below
    return positions((each.score for each in parts if each.score is not None), now)


def setting_of(parts: Sequence[ComparedPart], point: OperatingPoint | None, go_below: float) -> ShadowSetting:
    """Compute what a threshold of go means for the parts so far."""
    passed = [each.passes(point, go_below) for each in parts]
    before = [each.answered is State.GO for each in parts]
    newly = [part for part, old, new in zip(parts, before, passed, strict=True) if new and not old]
    stopped = [part for part, old, new in zip(parts, before, passed, strict=True) if old and not new]
    return ShadowSetting(
        go_below=go_below,
        in_force=go_below == (-math.inf if point is None else point.go_below),
        cells=_cells(before, passed),
        people={
            label: Rate.of_outcomes(new for part, new in zip(parts, passed, strict=True) if part.label is label)
            for label in Label
        },
        newly_go=tuple(sorted(newly, key=_urgency)),
        newly_stopped=tuple(sorted(stopped, key=lambda part: (part.label is not Label.GOOD, -(part.score or 0.0)))),
    )


def _urgency(part: ComparedPart) -> tuple[int, float]:
    """Bad parts first, then undecided ones, then good ones; the highest scores first."""
    return {Label.BAD: 0, None: 1, Label.GOOD: 2}[part.label], -(part.score or 0.0)


def _cells(before: Sequence[bool], passed: Sequence[bool]) -> Cells:
    pairs = list(zip(before, passed, strict=True))

    def rate(old: bool, new: bool) -> Rate:
        return Rate(count=pairs.count((old, new)), of=len(pairs))

    return Cells(
        both_go=rate(old=True, new=True),
        newly_go=rate(old=False, new=True),
        newly_stopped=rate(old=True, new=False),
        both_stop=rate(old=False, new=False),
        agreement=Rate.of_outcomes(old == new for old, new in pairs),
    )
