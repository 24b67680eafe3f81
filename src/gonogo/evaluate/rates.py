"""Rates with exact intervals, per-kind results and localisation metrics."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.evaluate.curves import auroc
from gonogo.operating_point import clopper_pearson, upper_bound
from gonogo.schema import Label, Prediction, Scores, State


@dataclass(frozen=True, kw_only=True)
class Rate:
    """``count`` of ``of``, with exact confidence bounds of the underlying rate.

    With ``of == 0`` every figure is ``None``, never 0.
    """

    count: int
    of: int
    confidence: float = 0.95

    @classmethod
    def of_outcomes(cls, hits: Iterable[bool], *, confidence: float = 0.95) -> Rate:
        """Count the true outcomes."""
        outcomes = list(hits)
        return cls(count=sum(outcomes), of=len(outcomes), confidence=confidence)

    @property
    def value(self) -> float | None:
        """The observed share."""
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
        """Exact one-sided upper bound, as used by operating points."""
        return upper_bound(self.count, self.of, confidence=self.confidence) if self.of else None

    def to_json(self, name: str) -> dict[str, float | None]:
        """Return the entries ``name``, ``name_low`` and ``name_high``."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def _interval(self) -> tuple[float, float] | tuple[None, None]:
        return clopper_pearson(self.count, self.of, confidence=self.confidence) if self.of else (None, None)


@dataclass(frozen=True, kw_only=True)
class KindResult:
    """Results for the bad parts of one defect kind."""

    defect: str | None
    """``None`` for bad parts without a named kind."""
    states: dict[State, int]
    """Number of parts with each verdict."""
    recall: Rate
    """Share of parts stopped: judged no-go or sent to review."""
    rejected: Rate
    """Share of parts judged no-go."""
    auroc: float | None
    """AUROC of this kind against all good parts."""


@dataclass(frozen=True, kw_only=True)
class Localisation:
    """Whether the heat lies on the marked defect, compared with baselines that need no network.

    Counted over pictures with a mask, since a part may show its defect in several.
    """

    pointing: Rate
    """Pointing game (Zhang et al., IJCV 126, 2018, without tolerance): the hottest point lies on the mask."""
    centre: Rate
    """Baseline: the middle of the judged region lies on the mask."""
    energy_inside: float | None
    """Mean share of the heat inside the mask; 0 for a cold map."""
    energy_inside_flat: float | None
    """Baseline: a uniform map, that is, the mean share of the region covered by the mask."""


def kind_results(parts: Sequence[Prediction], confidence: float) -> tuple[KindResult, ...]:
    """Results per defect kind, in alphabetical order, unnamed kinds last."""
    good = scores_of(parts, Label.GOOD)
    bad = [part for part in parts if part.label is Label.BAD]
    kinds = sorted({part.defect for part in bad}, key=lambda kind: (kind is None, kind or ""))
    return tuple(_kind_result(kind, [part for part in bad if part.defect == kind], good, confidence) for kind in kinds)


def localisation(pictures: Sequence[Prediction], confidence: float) -> Localisation:
    """Localisation over the pictures that have a mask and a map."""
    masked = [picture for picture in pictures if picture.pointing_hit is not None]
    return Localisation(
        pointing=Rate(count=sum(bool(p.pointing_hit) for p in masked), of=len(masked), confidence=confidence),
        centre=Rate(count=sum(bool(p.centre_hit) for p in masked), of=len(masked), confidence=confidence),
        energy_inside=mean_of([p.energy_inside for p in masked]),
        energy_inside_flat=mean_of([p.mask_share for p in masked]),
    )


def scores_of(parts: Sequence[Prediction], label: Label) -> Scores:
    """The scores of the parts with a label, without faults."""
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
    """The mean of the defined values; ``None`` if there are none."""
    defined = [value for value in values if value is not None]
    return float(np.mean(defined)) if defined else None
