"""Counted shares with their exact intervals, and what each defect kind and each heat map came to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.evaluate.curves import auroc
from gonogo.operating_point import clopper_pearson, upper_bound
from gonogo.schema import Label, Prediction, Scores, State


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``count`` of ``of``, and what that says about the process they were drawn from.

    A share of nothing is undefined: every figure is then ``None``, never 0.
    """

    count: int
    of: int
    confidence: float = 0.95

    @classmethod
    def of_outcomes(cls, hits: Iterable[bool], *, confidence: float = 0.95) -> Rate:
        """Count the hits among some outcomes."""
        outcomes = list(hits)
        return cls(count=sum(outcomes), of=len(outcomes), confidence=confidence)

    @property
    def value(self) -> float | None:
        """The share itself."""
        return self.count / self.of if self.of else None

    @property
    def low(self) -> float | None:
        """Lower end of the exact two-sided interval."""
        return self._interval()[0]

    @property
    def high(self) -> float | None:
        """Upper end of the exact two-sided interval."""
        return self._interval()[1]

    @property
    def at_most(self) -> float | None:
        """Exact one-sided upper bound, the kind of statement that an operating point makes."""
        return upper_bound(self.count, self.of, confidence=self.confidence) if self.of else None

    def to_json(self, name: str) -> dict[str, float | None]:
        """``name``, ``name_low`` and ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def _interval(self) -> tuple[float, float] | tuple[None, None]:
        return clopper_pearson(self.count, self.of, confidence=self.confidence) if self.of else (None, None)


@dataclass(frozen=True, kw_only=True)
class KindResult:
    """What became of the bad parts of one defect kind."""

    defect: str | None
    """``None`` for bad parts whose kind nobody named."""
    states: dict[State, int]
    """How many of them got each verdict."""
    recall: Rate
    """Stopped by a completed judgement: judged no-go or sent to a person."""
    rejected: Rate
    """Judged no-go."""
    auroc: float | None
    """How well the score tells this kind from all good parts."""


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Whether the heat lies where a person marked the defect, beside what no network at all would reach.

    Counted over pictures with a mask, since a part may show its defect in several.
    """

    pointing: Rate
    """Pointing game (Zhang et al., IJCV 126, 2018, without tolerance): the hottest point lies on the mask."""
    centre: Rate
    """The same for the middle of the judged region."""
    energy_inside: float | None
    """Mean share of the heat that lies inside the mask; a map that stays cold has none inside."""
    energy_inside_flat: float | None
    """The same for a map that is equally hot everywhere: the mean share of the region that the mask covers."""


def kind_results(parts: Sequence[Prediction], confidence: float) -> tuple[KindResult, ...]:
    """Results per defect kind, kinds in alphabetical order, unnamed ones last."""
    good = scores_of(parts, Label.GOOD)
    bad = [part for part in parts if part.label is Label.BAD]
    kinds = sorted({part.defect for part in bad}, key=lambda kind: (kind is None, kind or ""))
    return tuple(_kind_result(kind, [part for part in bad if part.defect == kind], good, confidence) for kind in kinds)


def localisation(pictures: Sequence[Prediction], confidence: float) -> Localisation:
    """Localisation over those of the pictures that have a mask and a map."""
    masked = [picture for picture in pictures if picture.pointing_hit is not None]
    return Localisation(
        pointing=Rate(count=sum(bool(p.pointing_hit) for p in masked), of=len(masked), confidence=confidence),
        centre=Rate(count=sum(bool(p.centre_hit) for p in masked), of=len(masked), confidence=confidence),
        energy_inside=mean_of([p.energy_inside for p in masked]),
        energy_inside_flat=mean_of([p.mask_share for p in masked]),
    )


def scores_of(parts: Sequence[Prediction], label: Label) -> Scores:
    """The scores of the parts with a label, faults left out."""
    return np.array([p.score for p in parts if p.label is label and p.score is not None], dtype=np.float64)


def _kind_result(kind: str | None, parts: list[Prediction], good: Scores, confidence: float) -> KindResult:
    states = {state: sum(part.state is state for part in parts) for state in State}
    stopped = states[State.NO_GO] + states[State.REVIEW]
    return KindResult(
        defect=kind,
        states=states,
        recall=Rate(count=stopped, of=len(parts), confidence=confidence),
        rejected=Rate(count=states[State.NO_GO], of=len(parts), confidence=confidence),
        auroc=auroc(good, scores_of(parts, Label.BAD)),
    )


def mean_of(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; ``None`` without any."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
