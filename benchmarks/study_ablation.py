"""Measure what each piece of the default method contributes: ``python benchmarks/study_ablation.py --data FOLDER``.

Four-fold cross-validation by part, with one piece taken away at a time. Rows are kept in ``OUT/ablation.jsonl`` as they
finish, features in ``OUT/features``; delete them to start again. The last line is the mean AUROC of each set with and
without each piece, and the mean paired difference with its 95 % t interval, as JSON.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np

from gonogo.evidence import FeatureTable, OutOfFold, fit_evidence
from gonogo.evidence.blend import fit_blend
from gonogo.workflow.picture_size import CELL
from study_evidence import FOLDS, Change, Features, SizeWh, aurocs, chosen, fit, folds, scores
from study_sets import Given, Row, Rows, interval, read_arguments

ALL, KINDS_OUT = "all pieces", "each kind left out"


def without_stride(stride: int) -> Change:
    """Removes the channels of one stride."""

    def change(table: FeatureTable) -> FeatureTable:
        place = (8, 16, 32).index(stride)
        ends = np.cumsum((0, *table.widths))
        kept = np.delete(np.arange(ends[-1]), slice(ends[place], ends[place + 1]))
        return replace(
            table,
            vectors=table.vectors[:, np.concatenate([kept, kept + ends[-1]])],
            joined=np.asarray(table.joined)[:, kept],
            widths=tuple(0 if number == place else width for number, width in enumerate(table.widths)),
        )

    return change


def without_maxima(table: FeatureTable) -> FeatureTable:
    """Removes the maxima from the context."""
    means = table.vectors.shape[1] // 2
    return replace(table, vectors=np.concatenate([table.vectors[:, :means], 0 * table.vectors[:, means:]], axis=1))


def squares(sizes: list[SizeWh]) -> list[SizeWh]:
    """Returns square sizes with about the same number of pixels."""
    sides = [max(2 * CELL, round(math.sqrt(width * height) / CELL) * CELL) for width, height in sizes]
    return [(side, side) for side in dict.fromkeys(sides)]


def without_kind(tried: OutOfFold, bad: np.ndarray, kind: str) -> OutOfFold:
    """Weigh the same scores without one kind of evidence."""
    there = [number for number, each in enumerate(tried.kinds) if each != kind]
    blend = fit_blend(tried.scores[:, there], bad)
    weights = np.zeros(len(tried.kinds))
    weights[there] = blend.weights
    return replace(tried, blend=replace(blend, weights=weights))


def variants(features: Features) -> dict[str, tuple[list[SizeWh], Change]]:
    """Return, for each variant, the candidate sizes and the change of the features."""
    sizes = features.sizes()

    def same(table: FeatureTable) -> FeatureTable:
        return table

    return {
        ALL: (sizes, same),
        "without stride 8": (sizes, without_stride(8)),
        "without stride 32": (sizes, without_stride(32)),
        "without maxima": (sizes, without_maxima),
        "square pictures": (squares(sizes), same),
        "smallest budget": (sizes[:1], same),
        "largest budget": (sizes[-1:], same),
    }


def measure(features: Features, seen: np.ndarray, unseen: np.ndarray, sizes: list[SizeWh], change: Change) -> Row:
    """Return the AUROC on the held-out pictures."""
    fitted, table = fit(features, seen, sizes, change=change)
    found = aurocs(scores(fitted.weighted, table, unseen), table.bad[unseen])
    return {
        "auroc": found["blend"],
        "size_wh": list(fitted.size_wh),
        "weights": dict(zip(fitted.tried.kinds, map(float, fitted.tried.blend.weights), strict=True)),
    }


def measure_kinds(features: Features, seen: np.ndarray, unseen: np.ndarray) -> Row:
    """Return the AUROC on the held-out pictures without each kind of evidence."""
    fitted, table = fit(features, seen, features.sizes())
    own = chosen(table, seen)
    found = {}
    for kind in fitted.tried.kinds:
        weighted = fit_evidence(own, without_kind(fitted.tried, own.bad, kind), seed=0)
        found[kind] = aurocs(scores(weighted, table, unseen), table.bad[unseen])["blend"]
    return {"without": found}


def summary(rows: Rows) -> dict[str, dict[str, list[float]]]:
    """Return, for each set and piece, the mean AUROC without it and the difference with its interval."""
    found: dict[str, dict[str, list[float]]] = {}
    for name in dict.fromkeys(row["set"] for row in rows.rows):
        full = {row["fold"]: row["auroc"] for row in rows.where(set=name, piece=ALL)}
        lines: dict[str, dict[int, float]] = {}
        for row in rows.where(set=name):
            if row["piece"] == KINDS_OUT:
                for kind, value in row["without"].items():
                    lines.setdefault(f"without {kind}", {})[row["fold"]] = value
            else:
                lines.setdefault(row["piece"], {})[row["fold"]] = row["auroc"]
        found[name] = {}
        for piece, values in lines.items():
            losses = [full[fold] - value for fold, value in values.items() if fold in full]
            if losses:
                mean = float(np.mean(list(values.values())))
                found[name][piece] = [round(each, 4) for each in (mean, *interval(losses, test_share=1 / FOLDS))]
    return found


def main() -> None:
    """Run the study."""
    given: Given = read_arguments(__doc__).given
    rows = Rows.opened(given, "ablation")
    for name in given.names:
        features = Features(dataset=given.dataset(name), folder=given.features(name))
        sides = list(folds(features.at(features.sizes()[0])))[: 2 if given.quick else FOLDS]
        for fold, (seen, unseen) in enumerate(sides):
            for piece, (sizes, change) in variants(features).items():
                key = {"set": name, "fold": fold, "piece": piece}
                rows.once(key, lambda: measure(features, seen, unseen, sizes, change))  # noqa: B023
            key = {"set": name, "fold": fold, "piece": KINDS_OUT}
            rows.once(key, lambda: measure_kinds(features, seen, unseen))  # noqa: B023
    print(json.dumps(summary(rows)))  # noqa: T201


if __name__ == "__main__":
    main()
