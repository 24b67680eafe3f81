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

    @property
    def heatmap(self) -> Float32[np.ndarray, "rows columns"]:
        """Sum of the weighted maps."""
        total: Float32[np.ndarray, "rows columns"] = self.evidence.sum(0)
        return total


def judge_reference(weighted: Weighted, maps: Sequence[FeatureMap]) -> Judgement:
    """Judge one picture from its feature maps at strides 8, 16 and 32."""
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


def pool(kind: str, weighted_map: Float32[np.ndarray, "rows columns"], cells_weight: float) -> float:
    """Pool a weighted map to its contribution to the score.

    The sum and the mean of the largest cells are linear in the weight. For log-sum-exp, the sharpness is divided by the
    weight.
    """
    if kind == "context":
        return float(weighted_map.sum(dtype=np.float64))
    if kind == "memory":
        return pool_largest(weighted_map)
    return pool_log_sum_exp(weighted_map, SHARPNESS / cells_weight)
