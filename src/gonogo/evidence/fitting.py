"""Fits the evidence, and its weights by cross-validation."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gonogo.array_types import Float32, Float64, Int
from gonogo.evidence.blend import Blend, balanced_losses, fit_blend, standard_blend
from gonogo.evidence.cells import CellEvidence, draw_cells, fit_cells, pool_log_sum_exp
from gonogo.evidence.context import ContextEvidence, context_scores, fit_context
from gonogo.evidence.grid import FeatureMap
from gonogo.evidence.judge import Weighted
from gonogo.evidence.memory import FULL, TRIED, MemoryEvidence, MemorySize, draw_patches, fit_memory, pool_largest
from gonogo.evidence.table import FeatureTable
from gonogo.evidence.threads import one_blas_thread
from gonogo.evidence.zoned import fit_scales, kept_cells, scaled
from gonogo.progress import track
from gonogo.zoning import ZoneScale

FOLDS = 5
LEAST_BAD_PARTS = 2
"""Smallest number of bad parts for cross-validating anything but the memory."""
STRIDE_SETS = ((8, 16, 32), (8, 16))
"""Candidate sets of strides for the memory."""


@dataclass(frozen=True, kw_only=True)
class OutOfFold:
    """Scores of every picture from evidence that was fitted without its part."""

    kinds: tuple[str, ...]
    scores: Float64[np.ndarray, "samples kinds"]
    memory_strides: tuple[int, ...]
    blend: Blend
    zone_scores: Float64[np.ndarray, "samples zones kinds"] | None = None
    """The same by zone, ``-inf`` for a zone without cells; ``None`` without inspect zones."""
    zone_scales: tuple[ZoneScale, ...] = ()
    """Scales of the zones, fitted to these scores; empty without inspect zones."""

    @property
    def blended(self) -> Float64[np.ndarray, " samples"]:
        """Blended scores, as the inspector computes them: with inspect zones, that of the worst zone."""
        if self.zone_scores is not None:
            by_zone: Float64[np.ndarray, " samples"] = scaled(_raw(self.zone_scores, self.blend), self.zone_scales).max(
                1
            )
            return by_zone
        blended: Float64[np.ndarray, " samples"] = self.scores @ self.blend.weights + self.blend.bias
        return blended

    def aurocs(self, bad: Int[np.ndarray, " samples"]) -> dict[str, float]:
        """AUROC of each kind alone and of all together; empty if a class is missing."""
        from sklearn.metrics import roc_auc_score

        if len(np.unique(bad)) < 2:
            return {}
        columns = {kind: self.scores[:, number] for number, kind in enumerate(self.kinds)}
        return {name: float(roc_auc_score(bad, score)) for name, score in {**columns, "all": self.blended}.items()}


@one_blas_thread()
def out_of_fold(table: FeatureTable, *, seed: int) -> OutOfFold:
    """Score every picture with evidence fitted on the other parts, and fit the weights to these scores."""
    bad_parts = len({group for group, bad in zip(table.groups, table.bad, strict=True) if bad})
    columns = _scores_left_out(table, list(_folds(table, bad_parts, seed)), seed, both=bad_parts >= LEAST_BAD_PARTS)
    best = min(STRIDE_SETS, key=lambda strides: _memory_loss(columns[_memory_name(strides)][:, 0], table.bad))
    chosen = {"memory" if name == _memory_name(best) else name: column for name, column in columns.items()}
    kinds = tuple(kind for kind in ("context", "memory", "cells") if kind in chosen)
    pooled = np.stack([chosen[kind] for kind in kinds], axis=2)
    scores = pooled[:, 0]
    blend = fit_blend(scores, table.bad) if bad_parts >= LEAST_BAD_PARTS else standard_blend(scores)
    tried = OutOfFold(kinds=kinds, scores=scores, memory_strides=best, blend=blend)
    if not table.sensitivities:
        return tried
    by_zone = pooled[:, 1:]
    scales = fit_scales(_raw(by_zone, blend), table.bad, table.groups, table.sensitivities)
    return replace(tried, zone_scores=by_zone, zone_scales=scales)


def _raw(by_zone: Float64[np.ndarray, "samples zones kinds"], blend: Blend) -> Float64[np.ndarray, "samples zones"]:
    """Weighted evidence of every zone plus the bias; ``-inf`` for a zone without cells."""
    absent = np.asarray(np.isneginf(by_zone).any(2))
    found: Float64[np.ndarray, "samples zones"] = np.where(absent[..., None], 0.0, by_zone) @ blend.weights + blend.bias
    found[absent] = -np.inf
    return found


@one_blas_thread()
def fit_evidence(table: FeatureTable, tried: OutOfFold, *, seed: int) -> Weighted:
    """Fit every kind with a positive weight on all pictures, with the out-of-fold weights."""
    everything = np.arange(len(table.bad))
    weight = dict(zip(tried.kinds, tried.blend.weights, strict=True))
    context = _fit_context(table, everything) if weight.get("context", 0.0) > 0 else None
    cells = _fit_cells(table, everything, seed) if weight.get("cells", 0.0) > 0 else None
    return Weighted(
        memory=_fit_memory(table, everything, tried.memory_strides, seed),
        memory_weight=float(weight["memory"]),
        context=context,
        context_weight=float(weight.get("context", 0.0)),
        cells=cells,
        cells_weight=float(weight.get("cells", 0.0)),
        bias=tried.blend.bias,
        zone_scales=() if table.numbers is None else tried.zone_scales or (ZoneScale(),),
        numbers=table.numbers if table.numbers is not None and table.numbers.ndim == 2 else None,
    )


def losses_out_of_fold(tried: OutOfFold, bad: Int[np.ndarray, " samples"]) -> Float64[np.ndarray, " samples"]:
    """Out-of-fold, class-balanced loss of each picture in nats; all 0 if there is only one class."""
    if len(np.unique(bad)) < 2:
        return np.zeros(len(bad))
    return balanced_losses(tried.blended, bad)


def _scores_left_out(
    table: FeatureTable, folds: Sequence[tuple[np.ndarray, np.ndarray]], seed: int, *, both: bool
) -> Mapping[str, Float64[np.ndarray, "samples pools"]]:
    """Out-of-fold scores: a memory per set of strides, plus the kinds that labels and masks allow.

    The first column of each is pooled over all cells that are not left out, the others over those of each zone.
    """
    masked_parts = {group for group, there in zip(table.groups, table.has_defective_cells, strict=True) if there}
    names = [_memory_name(strides) for strides in STRIDE_SETS]
    names += ["context"] * both + ["cells"] * (len(masked_parts) >= LEAST_BAD_PARTS)
    columns = {name: np.zeros((len(table.bad), 1 + len(table.sensitivities))) for name in names}
    for seen, unseen in track(folds, "cross-validating the evidence"):
        for strides in STRIDE_SETS:
            memory = _fit_memory(table, seen, strides, seed, TRIED)
            columns[_memory_name(strides)][unseen] = _pooled(table, unseen, memory.distances, pool_largest)
        if both:
            columns["context"][unseen] = _context_scores(_fit_context(table, seen), table, unseen)
        if "cells" in columns:
            cells = _fit_cells(table, seen, seed)
            columns["cells"][unseen] = _pooled(table, unseen, cells.logits, pool_log_sum_exp)
    return columns


def _pooled(
    table: FeatureTable,
    rows: np.ndarray,
    evidence: Callable[[FeatureMap], Float32[np.ndarray, "rows columns"]],
    pooling: Callable[[Float32[np.ndarray, "..."]], float],
) -> list[list[float]]:
    """Pool the evidence of some pictures over the cells of `FeatureTable.pooled_cells`."""
    found = []
    for row, features in zip(rows, table.maps(rows), strict=True):
        values = evidence(features)
        masks = table.pooled_cells(int(row))
        found.append(
            [pooling(values) if mask is None else pooling(values[mask]) if mask.any() else -np.inf for mask in masks]
        )
    return found


def _context_scores(
    context: ContextEvidence, table: FeatureTable, rows: np.ndarray
) -> Float64[np.ndarray, "samples pools"]:
    whole = context_scores(context, table.vectors[rows])[:, None]
    if table.zone_vectors is None:
        return whole
    by_zone = [context_scores(context, table.zone_vectors[rows, zone]) for zone in range(table.zone_vectors.shape[1])]
    found = np.concatenate([whole, np.stack(by_zone, axis=1)], axis=1)
    return np.where(np.isnan(found), -np.inf, found)


def _folds(table: FeatureTable, bad_parts: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield training and held-out rows, grouped by part, stratified by class and by bad parts with masks."""
    from sklearn.model_selection import GroupKFold, StratifiedGroupKFold

    parts = np.unique(table.groups, return_inverse=True)[1]
    if bad_parts < LEAST_BAD_PARTS:
        yield from GroupKFold(min(FOLDS, len(np.unique(parts[table.bad == 0])))).split(parts, groups=parts)
        return
    splitter = StratifiedGroupKFold(min(FOLDS, bad_parts), shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class")  # expected with few masked parts
        folds: list[tuple[np.ndarray, np.ndarray]] = list(
            splitter.split(parts, table.bad + table.has_defective_cells, parts)
        )
    yield from folds


def _memory_loss(scores: Float64[np.ndarray, " samples"], bad: Int[np.ndarray, " samples"]) -> float:
    """Loss of a memory alone; 0 if there is only one class, so that the first set of strides is chosen."""
    if len(np.unique(bad)) < 2:
        return 0.0
    blend = fit_blend(scores[:, None], bad)
    return float(balanced_losses(scores * blend.weights[0] + blend.bias, bad).mean())


def _memory_name(strides: tuple[int, ...]) -> str:
    return f"memory {strides}"


def _fit_memory(
    table: FeatureTable, rows: np.ndarray, strides: tuple[int, ...], seed: int, size: MemorySize = FULL
) -> MemoryEvidence:
    good = rows[table.bad[rows] == 0]
    rng = np.random.default_rng(seed)
    width = {stride: width for stride, width in zip((8, 16, 32), table.widths, strict=True) if stride in strides}
    kept = None if table.numbers is None else (kept_cells(table.zones_of(int(row))) for row in good)
    drawn = draw_patches(table.maps(good), len(good), rng, size, kept=kept)
    return fit_memory(drawn, slice(0, sum(width.values())), rng, size, coarse=width.get(32, 0))


def _fit_context(table: FeatureTable, rows: np.ndarray) -> ContextEvidence:
    return fit_context(table.vectors[rows], table.bad[rows])


def _fit_cells(table: FeatureTable, rows: np.ndarray, seed: int) -> CellEvidence:
    assert table.targets is not None, "asked for where masks are"
    chosen = rows[(table.bad[rows] == 0) | table.has_defective_cells[rows]]
    targets = [table.targets[row] for row in chosen]
    return fit_cells(draw_cells(list(table.maps(chosen)), targets, np.random.default_rng(seed)))
