"""New products: what becomes of a region when the part was never shown, and photographs of real boards in folds."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.splits import merge_groups
from gonogo.progress import console
from gonogo.roi import ClassicalRoi, Roi, open_roi
from gonogo.roi.scoring import RoiScore, read_examples, score
from gonogo.roi.tuning import cross_validate, tune
from gonogo.workflow import LocatorOptions, learn_roi

SIDE_PX = 320


@dataclass(frozen=True, kw_only=True)
class UnseenRow:
    """Mean IoU on one board type that was left out of training."""

    board: str
    labels: int
    """Labelled boxes of the other types."""
    pictures: int
    """Of the type left out."""
    old_recipe: float
    """Tuned on the other types."""
    retuned_recipe: float
    """Tuned on half of the pictures of the new type, scored on the other half: the reprogramming."""
    learned: float
    """Learned from the other types alone."""
    learned_seen: float
    """The same locator on unseen pictures of the types it knows."""


@dataclass(frozen=True, kw_only=True)
class PhotoRow:
    """Real photographs by cross-validation."""

    pictures: int
    folds: int
    most_training: int
    """Training pictures of the largest fold."""
    learned_iou: float
    learned_found: int
    classical_iou: float
    classical_found: int


def leave_one_out(
    dataset: Dataset, options: LocatorOptions, boards: Sequence[str], *, labels: int, trials: int
) -> list[UnseenRow]:
    """Leave each board type out in turn: the article's argument for a region that is learned.

    Args:
        dataset: Rendered boards with the extra column ``board``, split.
        options: How to train the locator.
        boards: Types to leave out.
        labels: How many training boxes of the other types.
        trials: Random recipes to start a search from.
    """
    rows = []
    for board in boards:
        known = [_kept(sample, board) for sample in dataset.samples]
        others = Dataset(root=dataset.root, samples=_at_most(known, labels, options.seed))
        new = [sample for sample in _boxed(dataset, Split.TEST, Split.CALIBRATE) if _board(sample) == board]
        fresh = read_examples(dataset, new, side_px=SIDE_PX)
        teaching = read_examples(dataset, _boxed(others, Split.TRAIN), side_px=SIDE_PX)
        old = ClassicalRoi(tune(teaching, trials=trials, seed=options.seed).recipe)
        half = len(fresh) // 2
        again = ClassicalRoi(tune(fresh[:half], trials=trials, seed=options.seed).recipe)
        learned = _learned(others, options)
        seen = read_examples(dataset, _boxed(others, Split.TEST)[: len(new)], side_px=SIDE_PX)
        row = UnseenRow(
            board=board,
            labels=len(teaching),
            pictures=len(fresh),
            old_recipe=score(old, fresh).mean_iou,
            retuned_recipe=score(again, fresh[half:]).mean_iou,
            learned=score(learned, fresh).mean_iou,
            learned_seen=score(learned, seen).mean_iou,
        )
        console.print(f"without {board}: old {row.old_recipe:.3f}, new {row.retuned_recipe:.3f}, {row.learned:.3f}")
        rows.append(row)
    return rows


def photographs(dataset: Dataset, options: LocatorOptions, *, folds: int, trials: int) -> PhotoRow:
    """Learned and tuned regions on real photographs with one box each; pictures of one part share a fold."""
    boxed = [sample for sample in dataset.samples if sample.box is not None]
    near = [-1 - row if sample.group is None else sample.group for row, sample in enumerate(boxed)]
    groups = np.array(merge_groups(boxed, near))
    names = np.random.default_rng(options.seed).permutation(np.unique(groups))
    fold = np.array([int(np.flatnonzero(names == group)[0]) % folds for group in groups])
    examples = read_examples(dataset, boxed, side_px=SIDE_PX)
    scores, most = [], 0
    for number in range(folds):
        taught = [
            sample.model_copy(update={"split": Split.TEST if own == number else Split.TRAIN})
            for sample, own in zip(boxed, fold, strict=True)
        ]
        most = max(most, int((fold != number).sum()))
        learned = _learned(Dataset(root=dataset.root, samples=tuple(taught)), options)
        held_out = [example for example, own in zip(examples, fold, strict=True) if own == number]
        scores.append(score(learned, held_out))
        console.print(f"fold {number + 1} of {folds}: {scores[-1]}")
    found = RoiScore.pooled(scores)
    tuned = cross_validate(examples, folds, lambda seen: tune(seen, trials=trials, seed=options.seed).recipe)
    return PhotoRow(
        pictures=len(boxed),
        folds=folds,
        most_training=most,
        learned_iou=found.mean_iou,
        learned_found=found.found,
        classical_iou=tuned.mean_iou,
        classical_found=tuned.found,
    )


def _learned(dataset: Dataset, options: LocatorOptions) -> Roi:
    with tempfile.TemporaryDirectory() as folder:
        learn_roi(dataset, Path(folder), replace(options, seed=options.seed))
        return open_roi(Path(folder) / "roi.toml")


def _kept(sample: Sample, board: str) -> Sample:
    """The sample, out of training where it shows the board type left out."""
    return sample.model_copy(update={"split": None}) if _board(sample) == board else sample


def _at_most(samples: Sequence[Sample], labels: int, seed: int) -> tuple[Sample, ...]:
    """Only so many training samples keep their split."""
    training = [row for row, sample in enumerate(samples) if sample.split is Split.TRAIN and sample.box is not None]
    spared = set(np.random.default_rng(seed).permutation(training)[labels:].tolist())
    return tuple(
        sample.model_copy(update={"split": None}) if row in spared else sample for row, sample in enumerate(samples)
    )


def _boxed(dataset: Dataset, *splits: Split) -> list[Sample]:
    return [sample for sample in dataset.split(*splits) if sample.box is not None]


def _board(sample: Sample) -> str:
    return str((sample.model_extra or {}).get("board", ""))
