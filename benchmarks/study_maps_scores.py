"""Score maps on masks: pointing game, energy inside and AUPRO, with intervals from a bootstrap over parts.

Pointing game: the hottest point lies on the mask (Zhang et al., IJCV 2018). Energy: share of the heat inside the mask,
on a colour scale that is fitted as for a bundle. AUPRO: the mean share of each connected area of a mask that is above
a threshold, integrated over the thresholds up to a false-positive rate of 0.3 and divided by 0.3 (Bergmann et al.,
CVPR 2020); the rate counts the pixels off the mask of good and bad pictures alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from gonogo.dataset import Dataset, Sample
from gonogo.heatmap import fit_scale, hottest_point, spread
from gonogo.schema import Box, Label, Mask

MOST_FPR = 0.3
THRESHOLDS = 240
DRAWS = 1000
"""Bootstrap samples."""
FIGURES = ("pointing", "energy", "aupro")


@dataclass(frozen=True, kw_only=True)
class TestPictures:
    """The test pictures of a fold: samples, their part numbers and masks (``None`` for a good picture)."""

    samples: Sequence[Sample]
    parts: np.ndarray
    masks: Sequence[Mask]

    @classmethod
    def read(cls, dataset: Dataset, samples: Sequence[Sample], parts: np.ndarray) -> TestPictures:
        """Read the masks; bad pictures without one are left out."""
        kept, masks = [], []
        for index, sample in enumerate(samples):
            height, width = dataset.load(sample).shape[:2]
            mask = np.zeros((height, width), bool)
            if sample.label is Label.BAD:
                marked = dataset.load_mask(sample, (height, width)) if sample.mask_file_name else None
                if marked is None or not marked.any():
                    continue
                mask = marked.astype(bool)
            kept.append(index)
            masks.append(mask)
        chosen = np.array(kept)
        return cls(samples=[samples[index] for index in kept], parts=parts[chosen], masks=masks)


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """Sums for each part of a fold; a row for each part, in the order of `parts`."""

    parts: np.ndarray
    pictures: np.ndarray
    """Pictures with a mask."""
    pointing: np.ndarray
    energy: np.ndarray
    areas: np.ndarray
    """Connected areas of the masks."""
    overlap: np.ndarray
    """Parts x thresholds: sum over the areas of the share above the threshold."""
    normal: np.ndarray
    """Pixels off the masks."""
    false: np.ndarray
    """Parts x thresholds: pixels off the masks above the threshold."""

    def figures(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """The figures of the fold for each row of weights (draws x parts)."""
        pictures = np.maximum(weights @ self.pictures, 1e-9)
        pro = (weights @ self.overlap) / np.maximum(weights @ self.areas, 1e-9)[:, None]
        rate = (weights @ self.false) / np.maximum(weights @ self.normal, 1e-9)[:, None]
        return {
            "pointing": (weights @ self.pointing) / pictures,
            "energy": (weights @ self.energy) / pictures,
            "aupro": np.array([area_up_to(*pair, MOST_FPR) for pair in zip(rate, pro, strict=True)]),
        }


def area_up_to(rate: np.ndarray, share: np.ndarray, most: float) -> float:
    """Area under a curve of shares over false-positive rates from 0 to ``most``, divided by ``most``.

    Args:
        rate: False-positive rates, falling.
        share: Share found at each of them.
        most: The largest rate.
    """
    x, y = np.append(rate[::-1], 1.0), np.append(share[::-1], 1.0)
    inside = x < most
    x, y = np.concatenate([[0.0], x[inside], [most]]), np.concatenate([[0.0], y[inside], [np.interp(most, x, y)]])
    return float(np.trapezoid(y, x) / most)


def score_fold(test: TestPictures, maps: np.ndarray, shift_xy: tuple[float, float]) -> FoldScores:
    """Score the maps (pictures x rows x columns) of one method on the test pictures of a fold."""
    good = np.array([not mask.any() for mask in test.masks])
    scale = fit_scale(list(maps[good]), list(maps[~good]), 0.0, None)
    edges = _thresholds(maps)
    parts, part = np.unique(test.parts, return_inverse=True)
    sums = {name: np.zeros(len(parts)) for name in ("pictures", "pointing", "energy", "areas", "normal")}
    overlap, false = (np.zeros((len(parts), len(edges))) for _ in range(2))
    for row, each, mask in zip(part, maps, test.masks, strict=True):
        region = Box(x1=0, y1=0, x2=mask.shape[1], y2=mask.shape[0])
        values = spread(each, region, (mask.shape[0], mask.shape[1]), shift_xy=shift_xy)
        sums["normal"][row] += np.count_nonzero(~mask)
        false[row] += _above(values[~mask], edges)
        if not mask.any():
            continue
        heat = scale.heat(values)
        x, y = hottest_point(each, region, shift_xy=shift_xy)
        sums["pictures"][row] += 1
        sums["pointing"][row] += mask[min(int(y), mask.shape[0] - 1), min(int(x), mask.shape[1] - 1)]
        sums["energy"][row] += heat[mask].sum() / max(float(heat.sum()), 1e-9)
        count, areas = cv2.connectedComponents(mask.astype(np.uint8))
        for number in range(1, count):
            inside = values[areas == number]
            overlap[row] += _above(inside, edges) / len(inside)
            sums["areas"][row] += 1
    return FoldScores(parts=parts, overlap=overlap, false=false, **sums)


def _thresholds(maps: np.ndarray) -> np.ndarray:
    """Rising thresholds, dense where the false-positive rate is small."""
    levels = 1 - np.linspace(0, 1, THRESHOLDS) ** 2 * 0.6
    return np.unique(np.quantile(maps.astype(np.float64), levels))


def _above(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Number of values at or above each threshold."""
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    found: np.ndarray = counts[::-1].cumsum()[::-1][1:]
    return found


@dataclass(kw_only=True)
class ScoredMaps:
    """The scores of every map of a data set, fold by fold."""

    folds: dict[str, list[FoldScores]] = field(default_factory=dict)

    def add(self, name: str, scores: FoldScores) -> None:
        """Add a fold of a map."""
        self.folds.setdefault(name, []).append(scores)

    def table(self, reference: str) -> dict[str, Any]:
        """Each figure of each map as ``[value, low, high]``, and its difference to a reference map, paired."""
        drawn = {name: self._figures(folds) for name, folds in self.folds.items()}
        rows: dict[str, Any] = {}
        for name, figures in drawn.items():
            row: dict[str, Any] = {figure: _interval(figures[figure]) for figure in FIGURES}
            if name != reference:
                row |= {
                    f"{figure}_less_reference": _interval(figures[figure] - drawn[reference][figure])
                    for figure in FIGURES
                }
            rows[name] = row
        some = next(iter(self.folds.values()))
        counts = {name: int(sum(getattr(fold, name).sum() for fold in some)) for name in ("pictures", "areas")}
        return {**counts, "parts": sum(int((fold.pictures > 0).sum()) for fold in some), "maps": rows}

    @staticmethod
    def _figures(folds: Sequence[FoldScores]) -> Mapping[str, np.ndarray]:
        """Means over the folds: first of all parts as they are, then of `DRAWS` samples of the parts."""
        rng = np.random.default_rng(0)
        found: list[dict[str, np.ndarray]] = []
        for fold in folds:
            count = len(fold.parts)
            draws = rng.multinomial(count, np.full(count, 1 / count), size=DRAWS).astype(np.float64)
            found.append(fold.figures(np.vstack([np.ones(count), draws])))
        return {name: np.mean([each[name] for each in found], axis=0) for name in FIGURES}


def _interval(values: np.ndarray) -> list[float]:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return [round(float(each), 4) for each in (values[0], low, high)]
