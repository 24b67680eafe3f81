"""Paired differences between cells that differ in one option, over seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from gonogo.experiment.cell import Approach, Cell, Initialisation, Row

FIGURES = ("accuracy", "auroc")
LEAST_SEEDS = 3
"""Fewest seeds for an interval: two may agree by chance, as a small test split gives few different values."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One option against another, everything else equal, paired by seed."""

    option: str
    """``initialisation``, ``augmentation`` or ``approach``."""
    value: str
    baseline: str
    among: Cell
    """The cells' other options; its seed and the compared option mean nothing."""
    figure: str
    seeds: int
    mean: float
    baseline_mean: float
    low: float | None
    """The 95 % interval of the difference of the means; ``None`` with fewer than `LEAST_SEEDS` seeds."""
    high: float | None

    @property
    def where(self) -> str:
        """The options that both sides share: ``squeezenet1_1, none, 2x2``."""
        shared = {"approach": str(self.among.approach), "initialisation": str(self.among.initialisation)}
        shared |= {"augmentation": self.among.views}
        return ", ".join([self.among.topology, *(each for name, each in shared.items() if name != self.option)])

    @property
    def difference(self) -> float:
        """The mean difference."""
        return self.mean - self.baseline_mean


def differences(rows: Sequence[Row]) -> list[Difference]:
    """Compare pretrained with random weights, each augmentation with the smallest, each approach with none."""
    first = min((row.cell.augmentation for row in rows), key=lambda each: (each.views, repr(each)), default=None)
    found = _paired(
        rows,
        "initialisation",
        lambda cell: str(cell.initialisation),
        Initialisation.RANDOM,
        lambda cell: replace(cell, initialisation=Initialisation.RANDOM),
    )
    if first is not None:
        smallest = first
        found += _paired(
            rows,
            "augmentation",
            lambda cell: cell.views,
            next(row.cell.views for row in rows if row.cell.augmentation == smallest),
            lambda cell: replace(cell, augmentation=smallest),
        )
    return found + _paired(
        rows,
        "approach",
        lambda cell: str(cell.approach),
        Approach.NONE,
        lambda cell: replace(cell, approach=Approach.NONE),
    )


def _paired(
    rows: Sequence[Row], option: str, value_of: Callable[[Cell], str], baseline: str, alike: Callable[[Cell], Cell]
) -> list[Difference]:
    """Pair each value of an option with its baseline by seed, among cells that are alike otherwise."""
    groups: dict[Cell, dict[str, dict[int, Row]]] = {}
    for row in rows:
        if row.measured is not None:
            among = alike(replace(row.cell.slot(), seed=0, latency_runs=0))
            groups.setdefault(among, {}).setdefault(value_of(row.cell), {})[row.cell.seed] = row
    found = []
    for among, values in groups.items():
        others = [value for value in values if value != baseline]
        for value in others if baseline in values else []:
            seeds = sorted(values[value].keys() & values[baseline].keys())
            pairs = [(values[value][seed], values[baseline][seed]) for seed in seeds]
            found += [
                each
                for figure in FIGURES
                if (each := _difference(pairs, option, value, baseline, among, figure)) is not None
            ]
    return found


def _difference(
    pairs: Sequence[tuple[Row, Row]], option: str, value: str, baseline: str, among: Cell, figure: str
) -> Difference | None:
    read = [(figure_of(ours, figure), figure_of(theirs, figure)) for ours, theirs in pairs]
    known = [(ours, theirs) for ours, theirs in read if ours is not None and theirs is not None]
    if not known:
        return None
    ours, theirs = np.array(known).T
    half = half_width(ours - theirs, test_share=among.protocol.test, train_share=among.protocol.train)
    gain = float((ours - theirs).mean())
    return Difference(
        option=option,
        value=value,
        baseline=baseline,
        among=among,
        figure=figure,
        seeds=len(known),
        mean=float(ours.mean()),
        baseline_mean=float(theirs.mean()),
        low=None if half is None else gain - half,
        high=None if half is None else gain + half,
    )


def half_width(values: np.ndarray, *, test_share: float, train_share: float) -> float | None:
    """Half the 95 % interval of a mean over random splits of the same parts; ``None`` for fewer than `LEAST_SEEDS`.

    The splits share parts, so the variance counts ``1 / n + test / train`` times (Nadeau and Bengio, Machine Learning
    52, 2003, equation 9).
    """
    if len(values) < LEAST_SEEDS:
        return None
    factor = math.sqrt(1 / len(values) + test_share / train_share)
    return float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) * factor)


def figure_of(row: Row, figure: str) -> float | None:
    """A figure of a row: a rate by its name, or ``auroc``."""
    if row.measured is None:
        return None
    return row.measured.auroc if figure == "auroc" else row.measured.counts.rates()[figure].value
