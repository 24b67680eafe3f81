"""Regions on new products: board types left out of training, and cross-validation on real photographs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from gonogo.dataset import Dataset, Sample, Split
from gonogo.dataset.splits import deal_folds
from gonogo.progress import console
from gonogo.roi import ClassicalRoi, Roi, open_roi
from gonogo.roi.scoring import RoiScore, read_examples, score
from gonogo.roi.tuning import tune
from gonogo.workflow import LocatorOptions
from gonogo.workflow.learned_region import learn_roi
from study_roi.shots import Shot, shot

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
    """Learned from the other types alone; a picture in which nothing was found counts as 0."""
    learned_found: int
    """Share of pictures in which a box was found."""
    learned_seen: float
    """The same locator on unseen pictures of the types it knows."""
    shots: tuple[Shot, ...] = ()

    def to_json(self) -> dict[str, object]:
        """The figures."""
        return {name: value for name, value in asdict(self).items() if name != "shots"}


@dataclass(frozen=True, kw_only=True)
class Fold:
    """Results for the photographs of one held-out fold."""

    training: int
    """Photographs of the other folds."""
    learned: tuple[float, ...]
    """IoU of each photograph, 0 where nothing was found."""
    learned_found: int
    classical: tuple[float, ...]
    classical_found: int
    shots: tuple[Shot, ...] = ()


@dataclass(frozen=True, kw_only=True)
class PhotoRow:
    """Real photographs by cross-validation."""

    folds: tuple[Fold, ...]

    @property
    def most_training(self) -> int:
        """Training pictures of the largest fold."""
        return max(fold.training for fold in self.folds)

    @property
    def learned(self) -> RoiScore:
        """Over all photographs."""
        return RoiScore.pooled(RoiScore(ious=fold.learned, found=fold.learned_found) for fold in self.folds)

    @property
    def classical(self) -> RoiScore:
        """The same for the recipe tuned on the same photographs."""
        return RoiScore.pooled(RoiScore(ious=fold.classical, found=fold.classical_found) for fold in self.folds)

    def to_json(self) -> dict[str, object]:
        """Flat, with the mean IoU of each fold."""
        return {
            "pictures": len(self.learned.ious),
            "folds": len(self.folds),
            "most_training": self.most_training,
            "learned_iou": self.learned.mean_iou,
            "learned_iou_of_folds": [float(np.mean(fold.learned)) for fold in self.folds],
            "learned_share_above_09": self.learned.share_above(0.9),
            "learned_found": self.learned.found,
            "classical_iou": self.classical.mean_iou,
            "classical_iou_of_folds": [float(np.mean(fold.classical)) for fold in self.folds],
            "classical_share_above_09": self.classical.share_above(0.9),
            "classical_found": self.classical.found,
        }


def leave_out(dataset: Dataset, options: LocatorOptions, board: str, *, labels: int, trials: int) -> UnseenRow:
    """Leave one board type out, the article's argument for a learned region.

    Args:
        dataset: Rendered boards with the extra column ``board``, split.
        options: How to train the locator.
        board: The type to leave out.
        labels: How many training boxes of the other types.
        trials: Random recipes to start a search from.
    """
    others = of_other_types(dataset, board, labels=labels, seed=options.seed)
    new = [sample for sample in _boxed(dataset, Split.TEST, Split.CALIBRATE) if _board(sample) == board]
    fresh = read_examples(dataset, new, side_px=SIDE_PX)
    teaching = read_examples(dataset, _boxed(others, Split.TRAIN), side_px=SIDE_PX)
    old = ClassicalRoi(tune(teaching, trials=trials, seed=options.seed).recipe)
    half = len(fresh) // 2
    again = ClassicalRoi(tune(fresh[:half], trials=trials, seed=options.seed).recipe)
    learned = _learned(others, options)
    seen = read_examples(dataset, _boxed(others, Split.TEST)[: len(new)], side_px=SIDE_PX)
    on_fresh = score(learned, fresh)
    row = UnseenRow(
        board=board,
        labels=len(teaching),
        pictures=len(fresh),
        old_recipe=score(old, fresh).mean_iou,
        retuned_recipe=score(again, fresh[half:]).mean_iou,
        learned=on_fresh.mean_iou,
        learned_found=on_fresh.found,
        learned_seen=score(learned, seen).mean_iou,
        shots=(
            shot(old, fresh[-1], f"{board}: recipe of the other types"),
            shot(again, fresh[-1], f"{board}: ROI config tuned again"),
            shot(learned, fresh[-1], f"{board}: learned from the other types"),
        ),
    )
    console.print(f"without {board}: old {row.old_recipe:.3f}, new {row.retuned_recipe:.3f}, {row.learned:.3f}")
    return row


def of_other_types(dataset: Dataset, board: str, *, labels: int, seed: int) -> Dataset:
    """Return the training data without one board type: a number of boxes of the others.

    The type's pictures without a chip are left out as well: they would teach that on such a board there is none.
    """
    others = [sample for sample in dataset.samples if _board(sample) != board]
    return Dataset(root=dataset.root, samples=_at_most(others, labels, seed))


class Photographs:
    """Real photographs with one box each, in folds; pictures of one part share a fold."""

    def __init__(self, dataset: Dataset, folds: int, seed: int) -> None:
        self._dataset, self._seed = dataset, seed
        boxed = [sample for sample in dataset.samples if sample.box is not None]
        self._fold = deal_folds(boxed, folds, seed=seed)
        self._examples = read_examples(dataset, boxed, side_px=SIDE_PX)

    def try_fold(self, number: int, options: LocatorOptions, *, trials: int) -> Fold:
        """Learn, and tune, on all folds but one, and find the parts in that one."""
        taught = tuple(
            example.sample.model_copy(update={"split": Split.TEST if own == number else Split.TRAIN})
            for example, own in zip(self._examples, self._fold, strict=True)
        )
        learned = _learned(Dataset(root=self._dataset.root, samples=taught), options)
        seen = [example for example, own in zip(self._examples, self._fold, strict=True) if own != number]
        held_out = [example for example, own in zip(self._examples, self._fold, strict=True) if own == number]
        recipe = ClassicalRoi(tune(seen, trials=trials, seed=self._seed).recipe)
        found, by_recipe = score(learned, held_out), score(recipe, held_out)
        console.print(f"fold {number + 1}: learned {found}; classical {by_recipe}")
        ranked = np.argsort(found.ious)
        return Fold(
            training=len(seen),
            learned=found.ious,
            learned_found=found.found,
            classical=by_recipe.ious,
            classical_found=by_recipe.found,
            shots=tuple(
                shot(learned, held_out[row], f"{name} of fold {number + 1}, IoU {found.ious[row]:.2f}")
                for name, row in (("worst", ranked[0]), ("median", ranked[len(ranked) // 2]), ("best", ranked[-1]))
            ),
        )


def _learned(dataset: Dataset, options: LocatorOptions) -> Roi:
    with tempfile.TemporaryDirectory() as folder:
        learn_roi(dataset, Path(folder), options)
        return open_roi(Path(folder) / "roi.toml")


def _at_most(samples: Sequence[Sample], labels: int, seed: int) -> tuple[Sample, ...]:
    """Keep only this number of training samples."""
    training = [row for row, sample in enumerate(samples) if sample.split is Split.TRAIN and sample.box is not None]
    spared = set(np.random.default_rng(seed).permutation(training)[labels:].tolist())
    return tuple(
        sample.model_copy(update={"split": None}) if row in spared else sample for row, sample in enumerate(samples)
    )


def _boxed(dataset: Dataset, *splits: Split) -> list[Sample]:
    return [sample for sample in dataset.split(*splits) if sample.box is not None]


def _board(sample: Sample) -> str:
    return str((sample.model_extra or {}).get("board", ""))
