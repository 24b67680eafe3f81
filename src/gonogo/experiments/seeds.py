"""How much depends on the split: training and testing on several of them."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from scipy import stats

from gonogo.dataset import Dataset, Fractions, Sample, Split, assign_splits, resplit, with_groups
from gonogo.errors import InputError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.inspector import Inspector
from gonogo.progress import console
from gonogo.workflow import TrainingOptions, train_inspector


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One training on one split of a data set."""

    seed: int
    gear: str
    """``head`` (frozen features) or ``finetune``."""
    auroc_pictures: float
    """Over test pictures."""
    auroc_parts: float
    """Over test parts, each by its worst picture."""
    start_val_loss: float | None
    """Of fine-tuning: before its first epoch, and of the network that was kept; ``None`` without."""
    val_loss: float | None
    pointing_game: float | None
    pointing_game_centre: float | None
    pointing_game_rejected: float | None
    escape_rate: float | None
    review_rate: float | None
    bad_parts_calibrate: int
    """Independent bad parts that the operating point rests on."""
    certified: bool
    """Whether they sufficed for the escape rate asked for."""


FIGURES = (
    "auroc_pictures",
    "auroc_parts",
    "val_loss",
    "pointing_game",
    "pointing_game_centre",
    "pointing_game_rejected",
)
"""What is averaged over the seeds."""


def seed_study(
    dataset: Dataset,
    options: TrainingOptions,
    seeds: Sequence[int],
    *,
    fractions: Fractions | None = None,
    leaky: bool = False,
) -> list[SeedResult]:
    """Split, train and test a data set anew for every seed; with and without fine-tuning where that is asked for.

    Args:
        dataset: Labelled pictures; its own splits are ignored.
        options: How to train; the seed is replaced.
        seeds: Of the splits and of the training.
        fractions: Shares of the splits.
        leaky: Split picture by picture, so that exposures of one part stand on both sides. This overstates what an
            inspector can do and exists only to compare with figures that were obtained so.

    Raises:
        InputError: no seed, or data that cannot be trained on.
    """
    if not seeds:
        raise InputError("--seeds: expected at least one.")
    grouped = with_groups(dataset)
    rows = []
    for seed in seeds:
        split = _split(grouped, fractions or Fractions(), seed, leaky=leaky)
        data = Dataset(root=dataset.root, samples=split, study=True)
        gears = {"head": None} if options.fine_tuning is None else {"head": None, "finetune": options.fine_tuning}
        for gear, tuning in gears.items():
            row = _run(data, replace(options, seed=seed, fine_tuning=tuning), gear)
            rows.append(row)
            console.print(
                f"seed {seed}, {gear}: AUROC {row.auroc_pictures:.4f} (parts {row.auroc_parts:.4f}), pointing game "
                f"{_told(row.pointing_game)} (centre {_told(row.pointing_game_centre)}, "
                f"rejected {_told(row.pointing_game_rejected)})"
            )
    return rows


def summary(rows: Sequence[SeedResult]) -> dict[str, object]:
    """Means and spreads per gear, and the paired difference of fine-tuning with its 95 % t interval."""
    found: dict[str, object] = {"rows": [asdict(row) for row in rows]}
    by_gear = {gear: [row for row in rows if row.gear == gear] for gear in dict.fromkeys(row.gear for row in rows)}
    for gear, members in by_gear.items():
        for name in FIGURES:
            values = [value for value in (getattr(row, name) for row in members) if value is not None]
            if values:
                found[f"{gear}_{name}"] = float(np.mean(values))
                found[f"{gear}_{name}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    if len(by_gear) == 2:
        first, second = by_gear["head"], by_gear["finetune"]
        gains = np.array([b.auroc_pictures - a.auroc_pictures for a, b in zip(first, second, strict=True)])
        found["finetune_gain"] = float(gains.mean())
        if len(gains) > 1:
            half = float(stats.t.ppf(0.975, len(gains) - 1) * gains.std(ddof=1) / np.sqrt(len(gains)))
            found |= {"finetune_gain_low": float(gains.mean()) - half, "finetune_gain_high": float(gains.mean()) + half}
        losses = [(row.start_val_loss, row.val_loss) for row in second]
        found["finetune_never_worse_on_val"] = all(
            start is not None and kept is not None and kept <= start for start, kept in losses
        )
    return found


def _split(samples: Sequence[Sample], fractions: Fractions, seed: int, *, leaky: bool) -> tuple[Sample, ...]:
    if not leaky:
        return resplit(samples, fractions, seed, within_lots=False)
    alone = [sample.model_copy(update={"group": None, "part": None}) for sample in samples]
    return assign_splits(alone, range(len(alone)), fractions, seed)


def _run(data: Dataset, options: TrainingOptions, gear: str) -> SeedResult:
    with tempfile.TemporaryDirectory() as folder:
        made = train_inspector(data, Path(folder) / "seed.inspector", options)
        judged = evaluate(Inspector.load(made.bundle.root), data, (Split.TEST,))
    pictures, parts = _by_picture(judged).auroc, judged.auroc
    point = made.bundle.manifest.operating_point
    losses = [row["val_loss"] for row in made.history]
    if pictures is None or parts is None or point is None:
        raise InputError(f"seed {options.seed}: the test split lacks good or bad parts. Use more data or other shares.")
    return SeedResult(
        seed=options.seed,
        gear=gear,
        auroc_pictures=pictures,
        auroc_parts=parts,
        start_val_loss=losses[0] if losses else None,
        val_loss=min(losses, default=None),
        pointing_game=judged.localisation.pointing.value,
        pointing_game_centre=judged.localisation.centre.value,
        pointing_game_rejected=judged.localisation_rejected.pointing.value,
        escape_rate=judged.escape.value,
        review_rate=judged.review.value,
        bad_parts_calibrate=point.escape.parts,
        certified=point.escape.holds,
    )


def _told(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _by_picture(judged: Evaluation) -> Evaluation:
    """The same judgements with every picture as a part of its own, as figures elsewhere are counted."""
    return replace(judged, pictures=tuple(replace(each, part=each.file) for each in judged.pictures))
