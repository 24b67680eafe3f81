"""Reference implementation of the judgement in numpy: evidence, poolings, score and map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float32
from gonogo.evidence.cells import SHARPNESS, CellEvidence, pool_log_sum_exp
from gonogo.evidence.context import ContextEvidence, pooled_vector
from gonogo.evidence.grid import FeatureMap, joined
from gonogo.evidence.kinds import DefectKinds
from gonogo.evidence.memory import MemoryEvidence, pool_largest
from gonogo.evidence.zoned import ABSENT, zone_contributions, zone_vector
from gonogo.zoning import LEFT_OUT, Numbers, ZoneScale


@dataclass(frozen=True, kw_only=True)
class Weighted:
    """The evidence with the weight of each kind; a kind that is not used is ``None``.

    ``score = sum over the kinds of weight * pooling(map) + bias``.
    """

    memory: MemoryEvidence
    memory_weight: float
    context: ContextEvidence | None = None
    context_weight: float = 0.0
    cells: CellEvidence | None = None
    cells_weight: float = 0.0
    bias: float
    defect_kinds: DefectKinds | None = None
    """Classifier of defect kinds; does not affect the score."""
    zone_scales: tuple[ZoneScale, ...] = ()
    """Scales of the zones by their numbers; a single one, which changes nothing, if there are only ignore zones."""
    numbers: Numbers | None = None
    """Zone of every cell; with ``zone_scales`` and without this, it is given with each picture (windows)."""

    @property
    def inspects(self) -> bool:
        """Whether there are inspect zones; there are then at least two zones with the rest."""
        return len(self.zone_scales) > 1

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of evidence, in the order of their maps."""
        names = (("context", self.context), ("memory", self.memory), ("cells", self.cells))
        return tuple(name for name, there in names if there is not None)


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Outputs for one picture."""

    score: float
    evidence: Float32[np.ndarray, "kinds rows columns"]
    """Weighted map of each kind of evidence."""
    feature_vector: Float32[np.ndarray, " channels"]
    defect_kinds: Float32[np.ndarray, " defect_kinds"] | None = None
    """Logits of the known defect kinds, if there are any."""
    zone_scores: tuple[float, ...] = ()
    """Score of every zone, if there are inspect zones; `gonogo.evidence.zoned.ABSENT` for one without cells."""

    @property
    def heatmap(self) -> Float32[np.ndarray, "rows columns"]:
        """Sum of the weighted maps."""
        total: Float32[np.ndarray, "rows columns"] = self.evidence.sum(0)
        return total


def judge_reference(weighted: Weighted, maps: Sequence[FeatureMap], numbers: Numbers | None = None) -> Judgement:
    """Judge one picture from its feature maps at strides 8, 16 and 32.

    Args:
        weighted: The evidence.
        maps: The feature maps.
        numbers: Zone of every cell of a window, if the evidence has zones but does not know them.
    """
    if weighted.zone_scales:
        numbers = weighted.numbers if numbers is None else numbers
        assert numbers is not None, "given with each window"
        return _judge_zones(weighted, maps, numbers)
    on_grid = joined(maps)
    evidence = []
    for kind in weighted.kinds:
        if kind == "context" and weighted.context is not None:
            evidence.append(weighted.context_weight * weighted.context.contributions(maps))
        elif kind == "cells" and weighted.cells is not None:
            evidence.append(weighted.cells_weight * weighted.cells.logits(on_grid))
        else:
            evidence.append(weighted.memory_weight * weighted.memory.distances(on_grid))
    stacked = np.stack(evidence).astype(np.float32)
    pooled = [pool(kind, each, weighted.cells_weight) for kind, each in zip(weighted.kinds, stacked, strict=True)]
    return Judgement(
        score=sum(pooled) + weighted.bias,
        evidence=stacked,
        feature_vector=np.concatenate([each.mean((1, 2)) for each in maps]),
        defect_kinds=None if weighted.defect_kinds is None else weighted.defect_kinds.logits(pooled_vector(maps)),
    )


def _judge_zones(weighted: Weighted, maps: Sequence[FeatureMap], numbers: Numbers) -> Judgement:
    on_grid = joined(maps)
    same = {"memory": weighted.memory_weight * weighted.memory.distances(on_grid)}
    if weighted.cells is not None:
        same["cells"] = weighted.cells_weight * weighted.cells.logits(on_grid)
    evidence = np.zeros((len(weighted.kinds), *numbers.shape), np.float32)
    scores = []
    for number, scale in enumerate(weighted.zone_scales, start=1):
        own = numbers == number
        if not own.any():
            scores.append(ABSENT)
            continue
        total = weighted.bias
        for row, kind in enumerate(weighted.kinds):
            found = same.get(kind)
            if found is None:
                assert weighted.context is not None, "the only other kind"
                weights = np.stack([weighted.context.mean_weight, weighted.context.max_weight])
                found = zone_contributions(maps, own, *(weighted.context_weight * weights).astype(np.float32))
            evidence[row][own] = scale.factor * found[own]
            total += pool(kind, found[own], weighted.cells_weight)
        scores.append(scale.factor * total + scale.offset)
    kept = numbers != LEFT_OUT
    for each in evidence:
        each[~kept] = each[kept].min()
    vector = zone_vector(maps, kept)
    return Judgement(
        score=max(scores),
        evidence=evidence,
        feature_vector=vector[: len(vector) // 2],
        defect_kinds=None if weighted.defect_kinds is None else weighted.defect_kinds.logits(vector),
        zone_scores=tuple(scores) if weighted.inspects else (),
    )


def pool(kind: str, weighted_map: Float32[np.ndarray, "..."], cells_weight: float) -> float:
    """Pool a weighted map, or its cells in one zone, to its contribution to the score.

    The sum and the mean of the largest cells are linear in the weight. For log-sum-exp, the sharpness is divided by the
    weight.
    """
    if kind == "context":
        return float(weighted_map.sum(dtype=np.float64))
    if kind == "memory":
        return pool_largest(weighted_map)
    return pool_log_sum_exp(weighted_map, SHARPNESS / cells_weight)
