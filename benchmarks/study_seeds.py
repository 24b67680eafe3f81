"""Measure how well inspectors judge unseen parts: ``python benchmarks/study_seeds.py --data FOLDER``.

Every set, split and way of training (good parts alone, labels, labels and masks) goes the whole way of ``gonogo train``
and ``gonogo evaluate``. Splits keep pictures of one part together. The default method is studied unless options ask for
another one; ``--finetune`` compares fine-tuning with the head alone, split by split. Rows are kept in
``OUT/seeds.jsonl`` as they finish; delete that file to start again. The last line is the means and 95 % intervals, as
JSON.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from command import print_figures, run
from gonogo.augment import Augmentation
from gonogo.dataset import Dataset, Fractions, Sample, Split, assign_splits, resplit
from gonogo.evaluate import evaluate
from gonogo.inspector import Inspector
from gonogo.schema import Label
from gonogo.workflow import TrainingOptions, train_inspector
from study_sets import Given, Row, Rows, interval, read_arguments

if TYPE_CHECKING:  # torch, which only fine-tuning needs
    from gonogo.model import Normalisation

SEEDS = 5
FRACTIONS = Fractions(train=0.63, val=0.08, calibrate=0.04, test=0.25)
"""Shares of the splits. Hardly any parts go to calibrate, as nothing is certified."""
GOOD_ONLY, LABELS, MASKS = "good only", "labels", "labels and masks"
TUNED = "fine-tuned"
FIGURES = ("auroc", "auroc_parts", "pointing", "pointing_centre", "pointing_rejected")


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to train an inspector."""

    options: TrainingOptions
    variant: str = ""
    """Command-line options that differ from the defaults."""
    fractions: Fractions = FRACTIONS
    leaky: bool = False
    """Split by picture, so that exposures of one part are in several splits. This overstates the results and is only
    for comparison with published figures that were obtained in this way."""

    def key(self, name: str, mode: str, seed: int) -> Row:
        """Values that identify a row."""
        variant = self.variant or None
        return {"set": name, "backbone": self.options.backbone, "variant": variant, "mode": mode, "seed": seed}


def modes(dataset: Dataset) -> Iterator[str]:
    """Return the ways of training that a data set allows."""
    yield GOOD_ONLY
    yield LABELS
    if any(sample.mask_file_name for sample in dataset.samples):
        yield MASKS


def deal(samples: Sequence[Sample], way: Way, seed: int) -> tuple[Sample, ...]:
    """Return the samples with the splits of a seed."""
    if not way.leaky:
        return resplit(samples, way.fractions, seed, within_lots=False)
    alone = [sample.model_copy(update={"group": None, "part": None}) for sample in samples]
    return assign_splits(alone, range(len(alone)), way.fractions, seed)


def measure(dataset: Dataset, way: Way, mode: str, seed: int) -> Row:
    """Split, train, evaluate on the test parts."""
    samples = deal(dataset.samples, way, seed)
    if mode == GOOD_ONLY:
        samples = tuple(each for each in samples if each.split is Split.TEST or each.label is Label.GOOD)
    data = replace(dataset, samples=samples, study=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        options = replace(way.options, masks=mode == MASKS, seed=seed)
        made = train_inspector(data, Path(folder) / "study.inspector", options)
        trained_s = time.monotonic() - start
        judged = evaluate(Inspector.load(made.bundle.root), data, (Split.TEST,))
    manifest, point = made.bundle.manifest, made.bundle.manifest.operating_point
    alone = replace(judged, pictures=tuple(replace(each, part=each.file) for each in judged.pictures))
    pointing, losses = judged.localisation.pointing, [row["val_loss"] for row in made.history]
    return {
        "auroc": alone.auroc,
        "auroc_parts": judged.auroc,
        "pointing": pointing.value,
        "pointed_at": pointing.of,
        "pointing_centre": judged.localisation.centre.value,
        "pointing_rejected": judged.localisation_rejected.pointing.value,
        "escape_rate": judged.escape.value,
        "review_rate": judged.review.value,
        "certified": point is not None and point.escape.holds,
        "bad_parts_calibrate": None if point is None else point.escape.parts,
        "size_wh": list(manifest.recipe.size_wh),
        "weights": {each.kind: each.weight for each in manifest.classifier.evidence},
        "trained_on": len(data.split(Split.TRAIN, Split.VAL)),
        "tested_on": len(judged.pictures),
        "test_share": way.fractions.test,
        "trained_s": round(trained_s, 1),
        "start_val_loss": losses[0] if losses else None,
        "val_loss": min(losses, default=None),
    }


def summary(rows: Rows) -> dict[str, dict[str, Any]]:
    """Return mean and interval of each figure, by data set, backbone, variant and way of training."""
    found: dict[str, dict[str, Any]] = {}
    for row in rows.rows:
        key = {name: row.get(name) for name in ("set", "backbone", "variant", "mode")}
        alike = rows.where(**key)
        figures: dict[str, Any] = {"splits": len(alike)}
        for figure in FIGURES:
            _add(figures, figure, [each.get(figure) for each in alike], row)
        if TUNED in (row.get("variant") or ""):
            figures |= _gain(rows, key, alike)
        found[", ".join(value for value in key.values() if value)] = figures
    return found


def _gain(rows: Rows, key: Row, tuned: list[Row]) -> dict[str, Any]:
    """Return the difference between fine-tuning and the head alone, paired by split."""
    plain = key["variant"].replace(TUNED, "").strip(", ") or None
    heads = {row["seed"]: row for row in rows.where(**{**key, "variant": plain})}
    pairs = [(heads[row["seed"]], row) for row in tuned if row["seed"] in heads]
    figures: dict[str, Any] = {"never_worse_on_val": all(row["val_loss"] <= row["start_val_loss"] for row in tuned)}
    _add(figures, "gain", [row["auroc"] - head["auroc"] for head, row in pairs], tuned[0])
    return figures


def _add(figures: dict[str, Any], name: str, values: Sequence[float | None], row: Row) -> None:
    known = [value for value in values if value is not None]
    if known:
        figures[name] = [round(each, 4) for each in interval(known, test_share=row.get("test_share", FRACTIONS.test))]


def ways(options: argparse.Namespace) -> list[Way]:
    """Return the ways on the command line: one per backbone, two with ``--finetune``."""
    from gonogo.train import FineTuning

    augmentation = Augmentation(crops=options.crops or 2, rotations=options.rotations or 4, window=options.window)
    plain = TrainingOptions(
        cuts=tuple(options.cut),
        size_wh=_size(options.size),
        augmentation=augmentation,
        normalisation=_normalisation(options.normalisation),
    )
    words = [f"{name} {value}" for name, value in vars(options).items() if name in _VARYING and value]
    variant = ", ".join([*words, *(["leaky"] if options.leaky else [])])
    fractions = Fractions.parse(options.splits) if options.splits else FRACTIONS
    found = []
    for backbone in options.backbone or ["efficientnet_lite0"]:
        name, _, file = backbone.partition("=")
        way = Way(
            options=replace(plain, backbone=name, weights=file or "imagenet"),
            variant=variant,
            fractions=fractions,
            leaky=options.leaky,
        )
        found.append(way)
        if options.finetune:
            tuning = FineTuning(epochs=options.epochs, learning_rate=options.learning_rate)
            tuned = ", ".join(filter(None, (variant, TUNED)))
            found.append(replace(way, options=replace(way.options, fine_tuning=tuning), variant=tuned))
    return found


_VARYING = ("splits", "cut", "size", "crops", "rotations", "window", "normalisation")


def _normalisation(name: str | None) -> Normalisation | None:
    if name is None:
        return None
    from gonogo.model import IMAGENET, SYMMETRIC

    return {"imagenet": IMAGENET, "symmetric": SYMMETRIC}[name]


def _size(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    width, _, height = text.partition("x")
    return int(width), int(height or width)


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", action="append", default=[], help="NAME or NAME=WEIGHTS_FILE; may be repeated.")
    parser.add_argument("--mode", action="append", default=[], choices=[GOOD_ONLY, LABELS, MASKS])
    parser.add_argument("--splits", help="Percentages of train/val/calibrate/test. Default: 63/8/4/25.")
    parser.add_argument(
        "--leaky", action="store_true", help="Split by picture instead of by part, which overstates the results."
    )
    parser.add_argument(
        "--normalisation", choices=["imagenet", "symmetric"], help="Input normalisation that the weights expect."
    )
    parser.add_argument(
        "--cut", action="append", default=[], help="Feature map to cut the backbone at; may be repeated."
    )
    parser.add_argument("--size", help="Input size, SIDE or WIDTHxHEIGHT.")
    parser.add_argument("--crops", type=int, help="Number of crops per training picture.")
    parser.add_argument("--rotations", type=int, help="Number of rotations per training picture.")
    parser.add_argument(
        "--window",
        type=float,
        help="Smallest side of the random crops in fine-tuning, as a share of the picture's side.",
    )
    parser.add_argument("--finetune", action="store_true", help="Compare fine-tuning with the head alone.")
    parser.add_argument("--epochs", type=int, default=24, help="Number of fine-tuning epochs.")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="Peak learning rate of fine-tuning.")


def main() -> None:
    """Run the study."""
    options = read_arguments(__doc__, extra=_options)
    given: Given = options.given
    rows = Rows.opened(given, "seeds")
    for way in ways(options):
        for name in given.names:
            dataset = given.dataset(name)
            for seed in range(1 if given.quick else SEEDS):
                for mode in modes(dataset):
                    if not options.mode or mode in options.mode:
                        rows.once(way.key(name, mode, seed), lambda: measure(dataset, way, mode, seed))  # noqa: B023
    print_figures(summary(rows))


if __name__ == "__main__":
    run(main)
