"""Verdicts with labels, per picture and per part, and the rates computed from them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from gonogo.evaluate.curves import auroc, auroc_interval, average_precision
from gonogo.evaluate.rates import Rate, scores_of
from gonogo.schema import Label, Prediction, Scores, State

_SEVERITY = (State.GO, State.REVIEW, State.FAULT, State.NO_GO)


@dataclass(frozen=True, kw_only=True)
class Verdicts:
    """Judged pictures. Rates count *parts*."""

    pictures: tuple[Prediction, ...]
    confidence: float = 0.95

    @cached_property
    def parts(self) -> tuple[Prediction, ...]:
        """One prediction per part: its worst verdict and highest score over its pictures, see `worst_of_part`."""
        groups: defaultdict[str, list[Prediction]] = defaultdict(list)
        for picture in self.pictures:
            groups[picture.part].append(picture)
        return tuple(worst_of_part(group) for group in groups.values())

    def scores(self, label: Label) -> Scores:
        """The scores of the parts with this label, without faults."""
        return scores_of(self.parts, label)

    def calibration_scores(self, label: Label) -> Scores:
        """One score for each part with this label, including parts that could not be judged.

        A part with a faulty picture is never go, so a bad one scores above every threshold (``+inf``). A good one gets
        the highest score of its judged pictures, or ``-inf`` if none was judged. A part that a rule rejects scores
        above every threshold, whatever its label, see `gonogo.rules`. So the number of calibration parts equals the
        size of the split. The result does not depend on the current thresholds.
        """
        wanted = self._calibration_groups(label).values()
        return np.array([_calibration_score(group, label) for group in wanted], dtype=np.float64)

    def calibration_parts(self, label: Label) -> tuple[str, ...]:
        """The parts with this label, in the order of `calibration_scores`."""
        return tuple(self._calibration_groups(label))

    def _calibration_groups(self, label: Label) -> dict[str, list[Prediction]]:
        groups: defaultdict[str, list[Prediction]] = defaultdict(list)
        for picture in self.pictures:
            groups[picture.part].append(picture)
        bad = {part.part for part in self.parts if part.label is Label.BAD}
        return {part: group for part, group in groups.items() if (part in bad) is (label is Label.BAD)}

    @cached_property
    def auroc(self) -> float | None:
        """See `gonogo.evaluate.auroc`."""
        return auroc(self.scores(Label.GOOD), self.scores(Label.BAD))

    @property
    def auroc_range(self) -> tuple[float, float]:
        """See `gonogo.evaluate.auroc_interval`; (0, 1) if the area is undefined."""
        good, bad = len(self.scores(Label.GOOD)), len(self.scores(Label.BAD))
        return (0.0, 1.0) if self.auroc is None else auroc_interval(self.auroc, good, bad)

    @cached_property
    def average_precision(self) -> float | None:
        """See `gonogo.evaluate.average_precision`."""
        return average_precision(self.scores(Label.GOOD), self.scores(Label.BAD))

    @property
    def escape(self) -> Rate:
        """Share of bad parts judged go."""
        return self.confusion(Label.BAD, State.GO)

    @property
    def overkill(self) -> Rate:
        """Share of good parts judged no-go."""
        return self.confusion(Label.GOOD, State.NO_GO)

    @property
    def review(self) -> Rate:
        """Share of parts sent to review."""
        return self._rate(part.state is State.REVIEW for part in self.parts)

    @property
    def out_of_distribution(self) -> Rate:
        """Share of the good parts that only the out-of-distribution check sent to review."""
        return self._rate(part.out_of_distribution for part in self.parts if part.label is Label.GOOD)

    @property
    def fault(self) -> Rate:
        """Share of parts that could not be judged."""
        return self._rate(part.state is State.FAULT for part in self.parts)

    def confusion(self, label: Label, state: State) -> Rate:
        """Share of the parts with this label that got this verdict."""
        return self._rate(part.state is state for part in self.parts if part.label is label)

    def count(self, label: Label) -> int:
        """Number of parts with this label."""
        return sum(part.label is label for part in self.parts)

    def _rate(self, hits: Iterable[bool]) -> Rate:
        return Rate.of_outcomes(hits, confidence=self.confidence)


def _calibration_score(pictures: list[Prediction], label: Label) -> float:
    scores = [picture.score for picture in pictures if picture.score is not None]
    if any(picture.rejected_by_rule for picture in pictures) or (label is Label.BAD and len(scores) < len(pictures)):
        return math.inf
    return max(scores, default=-math.inf)


def worst_of_part(pictures: list[Prediction]) -> Prediction:
    """Combine the predictions for the pictures of one part.

    The part is no-go if any picture is, otherwise a fault if any picture is: a part is never go if one of its pictures
    could not be judged. It is bad if any picture is labelled bad, and its score is the highest of its pictures.
    """
    scores = [picture.score for picture in pictures if picture.score is not None]
    worst = max(pictures, key=lambda picture: -math.inf if picture.score is None else picture.score)
    state = max((picture.state for picture in pictures), key=_SEVERITY.index)
    defects = [p.defect for p in (worst, *pictures) if p.defect is not None]
    kinds = [p.kind for p in (worst, *pictures) if p.kind is not None]
    return replace(
        worst,
        label=Label.BAD if any(picture.label is Label.BAD for picture in pictures) else Label.GOOD,
        defect=defects[0] if defects else None,
        state=state,
        out_of_distribution=any(p.out_of_distribution for p in pictures) and state is State.REVIEW,
        rejected_by_rule=any(picture.rejected_by_rule for picture in pictures),
        kind=kinds[0] if kinds and state is not State.FAULT else None,
        score=max(scores) if scores and state is not State.FAULT else None,
    )
