"""Compares two inspectors on the same parts: verdicts that differ, and the correlation of their defect maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gonogo.array_types import Float64
from gonogo.dataset import Dataset, Split
from gonogo.evaluate.judging import Judge, labelled_samples, predict, require_files
from gonogo.evaluate.rates import Rate, localisation
from gonogo.evaluate.verdicts import Verdicts
from gonogo.progress import track
from gonogo.schema import DefectMap, Prediction, State

LOW_QUANTILE = 0.05


@dataclass(frozen=True, kw_only=True)
class Change:
    """A part with different verdicts from two inspectors."""

    before: Prediction
    after: Prediction

    @property
    def flips(self) -> bool:
        """Whether go became no-go, or no-go became go."""
        return {self.before.state, self.after.state} == {State.GO, State.NO_GO}

    def __str__(self) -> str:
        scores = (
            f"{row.state} {'-' if row.score is None else f'{row.score:.4f}'}" for row in (self.before, self.after)
        )
        return f"{self.before.part} ({self.before.defect or self.before.label}): {' -> '.join(scores)}"


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Agreement between the verdicts of two inspectors on the same data set."""

    before: Verdicts
    after: Verdicts
    correlations: Float64[np.ndarray, " pictures"]
    """Pearson correlation of the two defect maps of each picture that `before` did not judge go, over the cells.

    Pictures judged go are excluded because their maps are not shown; pictures with a constant map have no correlation.
    """

    @cached_property
    def changes(self) -> tuple[Change, ...]:
        """Parts with different verdicts: flips first, then in order of appearance."""
        pairs = zip(self.before.parts, self.after.parts, strict=True)
        differing = [Change(before=first, after=second) for first, second in pairs if first.state is not second.state]
        return tuple(sorted(differing, key=lambda change: not change.flips))

    @property
    def flips(self) -> Rate:
        """Share of parts that changed from go to no-go or back."""
        return self._rate(sum(change.flips for change in self.changes))

    @property
    def moves(self) -> Rate:
        """Share of parts that moved into or out of review or fault."""
        return self._rate(sum(not change.flips for change in self.changes))

    @property
    def pointing(self) -> tuple[Rate, Rate]:
        """Pointing-game rates of both inspectors, on the pictures with a mask."""
        first, second = (localisation(each.pictures, each.confidence).pointing for each in (self.before, self.after))
        return first, second

    @property
    def correlation(self) -> float | None:
        """Median correlation of the maps; ``None`` if there is none."""
        return float(np.median(self.correlations)) if len(self.correlations) else None

    @property
    def correlation_low(self) -> float | None:
        """The `LOW_QUANTILE` quantile of the correlations; ``None`` if there is none."""
        return float(np.quantile(self.correlations, LOW_QUANTILE)) if len(self.correlations) else None

    def of(self, files: frozenset[str]) -> Agreement:
        """Return the agreement on some of the pictures; correlations are kept for all pictures."""
        first, second = (
            Verdicts(pictures=tuple(p for p in each.pictures if p.file in files), confidence=each.confidence)
            for each in (self.before, self.after)
        )
        return Agreement(before=first, after=second, correlations=self.correlations)

    def _rate(self, count: int) -> Rate:
        return Rate(count=count, of=len(self.before.parts), confidence=self.before.confidence)


def compare_inspectors(
    before: Judge, after: Judge, dataset: Dataset, splits: Sequence[Split], *, confidence: float = 0.95
) -> Agreement:
    """Judge every labelled picture of some splits with two inspectors.

    Args:
        before: The reference inspector.
        after: The inspector to compare with it.
        dataset: Labelled pictures, optionally with masks.
        splits: Splits to judge; neither inspector should have been trained on them.
        confidence: Confidence of the intervals, in (0, 1).

    Raises:
        DatasetError: the splits have no labelled pictures, or a picture file is missing.
        ImageError: a mask is unreadable, or its size differs from its picture.
    """
    samples = labelled_samples(dataset, splits)
    require_files(dataset, samples)
    rows: tuple[list[Prediction], list[Prediction]] = ([], [])
    correlations = []
    for sample in track(samples, "comparing verdicts"):
        seen = []
        for judge, kept in zip((before, after), rows, strict=True):
            photograph, verdict = judge.inspect_file(dataset.path(sample))
            kept.append(predict(dataset, sample, photograph, verdict, judge.heat_scale))
            seen.append(verdict)
        if seen[0].state is not State.GO and seen[0].heatmap is not None and seen[1].heatmap is not None:
            correlations.append(correlation(seen[0].heatmap, seen[1].heatmap))
    return Agreement(
        before=Verdicts(pictures=tuple(rows[0]), confidence=confidence),
        after=Verdicts(pictures=tuple(rows[1]), confidence=confidence),
        correlations=np.array([each for each in correlations if np.isfinite(each)], dtype=np.float64),
    )


def correlation(one: DefectMap, other: DefectMap) -> float:
    """Pearson correlation of two maps over their cells; NaN if either is constant."""
    first, second = (each.astype(np.float64).ravel() - each.mean(dtype=np.float64) for each in (one, other))
    scale = float(np.sqrt((first @ first) * (second @ second)))
    return float(first @ second) / scale if scale > 0 else float("nan")
