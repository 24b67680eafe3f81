"""Solar cells by five-fold cross-validation, on random folds and with near-duplicates kept together.

    python benchmarks/solar_cells.py DATASET [--size 224]

DATASET is what ``gonogo demo --photos`` leaves in ``demo-photos/dataset``; its own splits are not used. Every cell is
judged by evidence that was fitted without its fold; the cut of a fold is the best one on the others. The weights of
the kinds of evidence, three numbers, are fitted on all folds. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from gonogo import runtime
from gonogo.backbone import pretrained
from gonogo.config import settings
from gonogo.dataset import Dataset, groups_of
from gonogo.demo.photos import best_threshold
from gonogo.evaluate import Rate, auroc
from gonogo.evidence import FeatureTable, gather_features, measure_shift, out_of_fold
from gonogo.source import TrainingSource

FOLDS = 5


def main() -> None:
    """Run both ways to split and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--size", type=int, default=224)
    given = parser.parse_args()
    dataset = Dataset.read(given.dataset)
    table = features(dataset, (given.size, given.size))
    sure = np.array([getattr(sample, "probability", None) in (0.0, 1.0) for sample in dataset.samples])
    groups = groups_of(dataset.samples, by_lot=False)
    found = {
        "random_folds": measured(table, sure),
        "look_alikes_together": measured(replace(table, groups=groups), sure),
    }
    print(json.dumps({"size": given.size, **found}))  # noqa: T201


def features(dataset: Dataset, size_wh: tuple[int, int]) -> FeatureTable:
    """Compute the features of every cell."""
    graph = runtime.compile_graph(pretrained("efficientnet_lite0").graph(size_wh), many=True)
    shift_xy = measure_shift(lambda picture: graph(picture)["stride_16"][0], size_wh)
    source = TrainingSource(dataset=dataset, size_wh=size_wh)
    scratch = settings().cache_dir / "scratch"
    return gather_features(graph, source, dataset.samples, shift_xy=shift_xy, masks=False, scratch=scratch)


def measured(table: FeatureTable, sure: np.ndarray) -> dict[str, Any]:
    """Return AUROC and accuracy over all cells, and over those with a certain label."""
    tried = out_of_fold(table, seed=0)
    score, bad = tried.blended, table.bad == 1
    parts = np.unique(table.groups, return_inverse=True)[1]
    fold = np.random.default_rng(0).integers(0, FOLDS, parts.max() + 1)[parts]
    right = np.zeros(len(bad), bool)
    for number in range(FOLDS):
        seen, held = fold != number, fold == number
        cut = best_threshold(score[seen & ~bad], score[seen & bad])
        right[held] = (score[held] > cut) == bad[held]
    figures: dict[str, Any] = {"weights": tried.blend.weights.tolist(), "alone": tried.aurocs(table.bad)}
    for name, chosen in (("all_cells", np.ones(len(bad), bool)), ("sure_cells", sure)):
        figures[name] = {
            "cells": int(chosen.sum()),
            "auroc": auroc(score[chosen & ~bad], score[chosen & bad]),
            **Rate.of_outcomes(right[chosen].tolist()).to_json("accuracy"),
        }
    return figures


if __name__ == "__main__":
    main()
