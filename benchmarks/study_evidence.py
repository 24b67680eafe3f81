"""Compute the features of a data set once, fit the default method on some pictures and judge the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold

from gonogo import runtime
from gonogo.backbone import pretrained
from gonogo.dataset import Dataset, groups_of
from gonogo.evidence import (
    FeatureTable,
    OutOfFold,
    Weighted,
    fit_evidence,
    gather_features,
    losses_out_of_fold,
    measure_shift,
    out_of_fold,
)
from gonogo.evidence.cells import SHARPNESS, pool_log_sum_exp
from gonogo.evidence.context import context_scores
from gonogo.evidence.memory import memory_scores
from gonogo.source import TrainingSource, masked
from gonogo.workflow.evidence_training import USUAL_WH, pictures_to_try
from gonogo.workflow.picture_size import clearly_better, sizes_to_try, usual_region_wh

BACKBONE = "efficientnet_lite0"
FOLDS = 4

SizeWh = tuple[int, int]
Tables = Mapping[SizeWh, FeatureTable]
Change = Callable[[FeatureTable], FeatureTable]


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """The method, fitted on some pictures."""

    size_wh: SizeWh
    tried: OutOfFold
    weighted: Weighted


@dataclass(kw_only=True)
class Features:
    """Features of one data set at several sizes, cached in a folder."""

    dataset: Dataset
    folder: Path

    def sizes(self, *, both_classes: bool = True) -> list[SizeWh]:
        """Sizes that training would try."""
        source = TrainingSource(dataset=self.dataset, size_wh=USUAL_WH)
        region_wh = usual_region_wh(source, self.dataset.samples, 1)
        return sizes_to_try(region_wh, both_classes=both_classes)

    def at(self, size_wh: SizeWh) -> FeatureTable:
        """Return the features at one size; computed on the first call."""
        file = self.folder / f"{size_wh[0]}x{size_wh[1]}.npz"
        if not file.exists():
            self._write(size_wh, file)
        held = np.load(file)
        return FeatureTable(
            vectors=held["vectors"],
            joined=np.load(file.with_suffix(".npy"), mmap_mode="r"),
            widths=tuple(int(width) for width in held["widths"]),
            bad=held["bad"],
            groups=groups_of(self.dataset.samples, by_lot=False),
            targets=held["targets"] if held["targets"].size else None,
        )

    def _write(self, size_wh: SizeWh, file: Path) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        backbone = pretrained(BACKBONE)
        usual = runtime.compile_graph(backbone.graph(USUAL_WH))
        table = gather_features(
            runtime.compile_graph(backbone.graph(size_wh), many=True),
            TrainingSource(dataset=self.dataset, size_wh=size_wh),
            self.dataset.samples,
            shift_xy=measure_shift(lambda picture: usual(picture)["stride_16"][0], USUAL_WH),
            masks=masked(self.dataset.samples),
            scratch=self.folder,
            message=f"features at {size_wh[0]} x {size_wh[1]}",
        )
        np.save(file.with_suffix(".npy"), table.joined)
        targets = np.zeros(0, np.int8) if table.targets is None else table.targets
        np.savez(file, vectors=table.vectors, widths=np.array(table.widths), bad=table.bad, targets=targets)


def folds(table: FeatureTable) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pictures to train on and to judge, `FOLDS` times; pictures of one part stay together."""
    parts = np.unique(table.groups, return_inverse=True)[1]
    yield from StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0).split(parts, table.bad, parts)


def chosen(table: FeatureTable, rows: Sequence[int] | np.ndarray) -> FeatureTable:
    """Select some pictures of a table."""
    return replace(
        table,
        vectors=table.vectors[rows],
        joined=table.joined[rows],
        bad=table.bad[rows],
        groups=tuple(table.groups[row] for row in rows),
        targets=None if table.targets is None else table.targets[rows],
    )


def fit(
    features: Features, rows: np.ndarray, sizes: Sequence[SizeWh], *, change: Change = lambda table: table
) -> tuple[Fitted, FeatureTable]:
    """Choose among the sizes, weigh and fit the evidence on some pictures, as training does.

    Args:
        features: Of the set.
        rows: The pictures to learn from.
        sizes: From small to large.
        change: What to take away from the features.

    Returns:
        What was fitted, and the (changed) features of the whole set at the chosen size.
    """
    some = _some(features.dataset, rows)
    best, tried = sizes[0], None
    if len(sizes) > 1:
        tries = {}
        for size_wh in sizes:
            table = chosen(change(features.at(size_wh)), some)
            tries[size_wh] = out_of_fold(table, seed=0)
            bad = table.bad
            if clearly_better(losses_out_of_fold(tries[size_wh], bad), losses_out_of_fold(tries[best], bad)):
                best = size_wh
        tried = tries[best] if len(some) == len(rows) else None
    whole = change(features.at(best))
    table = chosen(whole, rows)
    tried = tried or out_of_fold(table, seed=0)
    return Fitted(size_wh=best, tried=tried, weighted=fit_evidence(table, tried, seed=0)), whole


def scores(weighted: Weighted, table: FeatureTable, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Return the score of each kind alone and of the ``blend``."""
    found = {"memory": memory_scores(weighted.memory, table.maps(rows))}
    total = weighted.memory_weight * found["memory"] + weighted.bias
    if weighted.context is not None:
        found["context"] = context_scores(weighted.context, table.vectors[rows])
        total = total + weighted.context_weight * found["context"]
    if weighted.cells is not None:
        logits = [weighted.cells.logits(each) for each in table.maps(rows)]
        found["cells"] = np.array([pool_log_sum_exp(each, SHARPNESS) for each in logits])
        total = total + weighted.cells_weight * found["cells"]
    return {**found, "blend": total}


def aurocs(found: Mapping[str, np.ndarray], bad: np.ndarray) -> dict[str, float]:
    """Return the AUROC of each kind alone and of the blend, over pictures."""
    return {kind: float(roc_auc_score(bad, score)) for kind, score in found.items()}


def _some(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the pictures that training would try sizes on."""
    samples = [dataset.samples[row] for row in rows]
    row_of = {sample.file_name: row for sample, row in zip(samples, rows, strict=True)}
    return np.array([row_of[sample.file_name] for sample in pictures_to_try(samples, 0)])
