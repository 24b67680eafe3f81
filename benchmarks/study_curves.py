"""Learning curves: AUROC over the number of bad training parts: ``python benchmarks/study_curves.py --data FOLDER``.

Four-fold cross-validation by part. All good training parts are learned from, of the bad ones 0, 1, 2, 5, 10, 20 and
50, each draw holding the smaller ones. Size, strides and weights are chosen on the training parts each time. Rows are
kept in ``OUT/curves.jsonl`` as they finish, features in ``OUT/features``; delete them to start again. Writes the plot
``OUT/curves.svg``. The last line is the figures, as JSON.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

import numpy as np

from gonogo.evidence import FeatureTable
from gonogo.evidence.context import context_scores, fit_context
from study_evidence import Features, aurocs, chosen, fit, folds, scores
from study_plot import plot
from study_sets import Given, Row, Rows, read_arguments

COUNTS = (0, 1, 2, 5, 10, 20, 50)
QUICK_COUNTS = (0, 2, 10)
ALLOWED = 0.01
"""Largest allowed distance of the blend below the best single kind."""


def drawn(table: FeatureTable, seen: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the good pictures and those of some bad parts."""
    bad_parts = sorted({table.groups[row] for row in seen if table.bad[row]})
    taken = set(np.random.default_rng(seed).permutation(bad_parts)[:count])
    return np.array([row for row in seen if not table.bad[row] or table.groups[row] in taken])


def measure(features: Features, seen: np.ndarray, unseen: np.ndarray, count: int, seed: int) -> Row:
    """Return the AUROC of the blend and of each kind on the held-out pictures."""
    sizes = features.sizes(both_classes=count > 0)
    rows = drawn(features.at(sizes[0]), seen, count, seed)
    fitted, table = fit(features, rows, sizes)
    found = scores(fitted.weighted, table, unseen)
    if count and "context" not in found:
        part = chosen(table, rows)
        found["context"] = context_scores(fit_context(part.vectors, part.bad), table.vectors[unseen])
    return {
        "auroc": aurocs(found, table.bad[unseen]),
        "size_wh": list(fitted.size_wh),
        "memory_strides": list(fitted.tried.memory_strides),
        "bad_pictures": int(table.bad[rows].sum()),
    }


def runs(
    features: Features, counts: tuple[int, ...], draws: int
) -> Iterator[tuple[int, int, int, np.ndarray, np.ndarray]]:
    """Yield count, fold, draw, and the pictures to train on and to judge; impossible counts are skipped."""
    table = features.at(features.sizes()[0])
    sides = list(folds(table))
    fewest = min(len({table.groups[row] for row in seen if table.bad[row]}) for seen, _ in sides)
    for count in counts:
        if count <= fewest:
            for draw in range(draws if count else 1):
                for fold, (seen, unseen) in enumerate(sides):
                    yield count, fold, draw, seen, unseen


def curves(rows: Rows, name: str) -> dict[str, dict[int, float]]:
    """Return the mean AUROC by kind and count."""
    found: dict[str, dict[int, float]] = {}
    for count in sorted({row["count"] for row in rows.where(set=name)}):
        alike = [row["auroc"] for row in rows.where(set=name, count=count)]
        for kind in sorted(set().union(*alike)):
            values = [each[kind] for each in alike if kind in each]
            if len(values) == len(alike):
                found.setdefault(kind, {})[count] = round(float(np.mean(values)), 4)
    return found


def shortfalls(found: dict[str, dict[int, float]]) -> dict[int, float]:
    """Return by how much the blend is worse than the best single kind, if by more than `ALLOWED`."""
    short = {}
    for count, blend in found["blend"].items():
        best = max(line[count] for kind, line in found.items() if kind != "blend" and count in line)
        if best - blend > ALLOWED:
            short[count] = round(best - blend, 4)
    return short


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--draws", type=int, default=1, help="Number of draws of bad parts per fold.")


def main() -> None:
    """Run the study."""
    options = read_arguments(__doc__, extra=_options)
    given: Given = options.given
    rows = Rows.opened(given, "curves")
    for name in given.names:
        features = Features(dataset=given.dataset(name), folder=given.features(name))
        counts = QUICK_COUNTS if given.quick else COUNTS
        for count, fold, draw, seen, unseen in runs(features, counts, options.draws):
            key = {"set": name, "count": count, "fold": fold, "draw": draw}
            rows.once(key, lambda: measure(features, seen, unseen, count, 10 * fold + draw))  # noqa: B023
    names = list(dict.fromkeys(row["set"] for row in rows.rows))
    found = {name: curves(rows, name) for name in names}
    (given.out / "curves.svg").write_text(plot(found), "utf-8")
    print(json.dumps({"auroc": found, "short_by": {name: shortfalls(each) for name, each in found.items()}}))  # noqa: T201


if __name__ == "__main__":
    main()
