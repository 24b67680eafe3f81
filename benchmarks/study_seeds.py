"""How well the default method judges parts that it never saw: ``python benchmarks/study_seeds.py --data FOLDER``.

Every set, split and way of training (good parts alone, labels, labels and masks) goes the whole way of ``gonogo train``
and ``gonogo evaluate``. Splits keep pictures of one part together. Rows are kept in ``OUT/seeds.jsonl`` as they finish;
delete that file to begin anew. The last line is the means and 95 % intervals, as JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gonogo.dataset import Dataset, Fractions, Split, resplit
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.schema import Label
from gonogo.workflow import TrainingOptions, train_inspector
from study_sets import Given, Row, Rows, interval, read_arguments

SEEDS = 5
FRACTIONS = Fractions(train=0.63, val=0.08, calibrate=0.04, test=0.25)
"""Train and val are what the evidence learns from; hardly anything is set aside for proofs, which are not asked for."""
GOOD_ONLY, LABELS, MASKS = "good only", "labels", "labels and masks"


@dataclass(frozen=True, kw_only=True)
class Way:
    """A backbone and its weights."""

    backbone: str
    weights: str = "imagenet"


def modes(dataset: Dataset) -> Iterator[str]:
    """The ways of training that a set allows."""
    yield GOOD_ONLY
    yield LABELS
    if any(sample.mask_file_name for sample in dataset.samples):
        yield MASKS


def measure(dataset: Dataset, way: Way, mode: str, seed: int) -> Row:
    """Split, train, evaluate on the test parts."""
    samples = resplit(dataset.samples, FRACTIONS, seed, within_lots=False)
    if mode == GOOD_ONLY:
        samples = tuple(each for each in samples if each.split is Split.TEST or each.label is Label.GOOD)
    data = replace(dataset, samples=samples)
    options = TrainingOptions(backbone=way.backbone, weights=way.weights, masks=mode == MASKS, seed=seed)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bundle = train_inspector(data, Path(folder) / "study.inspector", options).bundle
        trained_s = time.monotonic() - start
        judged = evaluate(Inspector.load(bundle.root), data, (Split.TEST,))
        size = bundle.manifest.recipe.size_wh
        weights = {each.kind: each.weight for each in bundle.manifest.classifier.evidence}
    alone = replace(judged, pictures=tuple(replace(each, part=each.file) for each in judged.pictures))
    pointing = judged.localisation.pointing
    return {
        "auroc": alone.auroc,
        "auroc_parts": judged.auroc,
        "pointing": pointing.value,
        "pointed_at": pointing.of,
        "size_wh": list(size),
        "weights": weights,
        "trained_on": len(data.split(Split.TRAIN, Split.VAL)),
        "tested_on": len(judged.pictures),
        "trained_s": round(trained_s, 1),
    }


def summary(rows: Rows) -> dict[str, dict[str, list[float]]]:
    """Mean and interval of each figure, for each set, backbone and way of training."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in rows.rows:
        name = f"{row['set']}, {row['backbone']}, {row['mode']}"
        alike = rows.where(set=row["set"], backbone=row["backbone"], mode=row["mode"])
        found[name] = {"splits": [len(alike)]}
        for figure in ("auroc", "auroc_parts", "pointing"):
            values = [each[figure] for each in alike if each[figure] is not None]
            if values:
                found[name][figure] = [round(each, 4) for each in interval(values, test_share=FRACTIONS.test)]
    return found


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", action="append", default=[], help="NAME or NAME=WEIGHTS_FILE; may be repeated.")
    parser.add_argument("--mode", action="append", default=[], choices=[GOOD_ONLY, LABELS, MASKS])


def main() -> None:
    """Run the study."""
    options = read_arguments(__doc__, extra=_options)
    given: Given = options.given
    rows = Rows.opened(given, "seeds")
    ways = [
        Way(backbone=name, weights=file or "imagenet")
        for name, _, file in (each.partition("=") for each in options.backbone or ["efficientnet_lite0"])
    ]
    for way in ways:
        for name in given.names:
            dataset = given.dataset(name)
            for seed in range(1 if given.quick else SEEDS):
                for mode in modes(dataset):
                    if not options.mode or mode in options.mode:
                        key = {"set": name, "backbone": way.backbone, "mode": mode, "seed": seed}
                        rows.once(key, lambda: measure(dataset, way, mode, seed))  # noqa: B023
    print(json.dumps(summary(rows)))  # noqa: T201


if __name__ == "__main__":
    main()
