"""The bundles to measure: given, or made from a few rendered boards (speed does not depend on the training)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gonogo.config import Reduction
from gonogo.dataset import Dataset, Fractions, Split
from gonogo.errors import GonogoError, InputError
from gonogo.inspector import Inspector
from gonogo.progress import console
from gonogo.roi import write_roi_config
from gonogo.roi.scoring import read_examples
from gonogo.roi.tuning import tune
from gonogo.synthetic import BoardType, ChipType, Mix, write_dataset
from gonogo.workflow import (
    CascadeOptions,
    Promise,
    TrainingOptions,
    join_cascade,
    train_inspector,
)
from gonogo.workflow.quantizing import Allowed, QuantizingOptions, quantize_bundle

MIX = Mix(without_chip=0.0, with_two_chips=0.0, boards=(BoardType.CONTROLLER,), chips=(ChipType.QFP32,))
SEED = 5
FRAME_WH = (1280, 960)
"""1.2 megapixels."""
REDUCTION: Reduction = 2
"""At half of this size, the chip is still larger than the input of the networks."""
SPLITS = Fractions.parse("30/10/40/20")
REFERENCE, FULL_PRECISION, SMALL, CASCADE = "resnet50-int8", "resnet50", "small", "cascade"
SMALL_FULL_PRECISION = "small-f32"
ANYTHING = Allowed(flips=1.0, moves=1.0, pointing_loss=1.0, correlation=-1.0)
"""A few hundred parts cannot bound flips, so everything is allowed; the bundle records the counts."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """How much is made."""

    parts: int
    max_rate: float
    """Promised escapes and overkill; a fifth of the parts, the bad ones of calibrate, must be able to prove them."""
    tuning_s: float
    """Seconds to look for a region's recipe."""
    masks: bool
    """Whether cells are learned from masks, which takes minutes on the 3,584 channels of ResNet-50."""
    cascade: bool
    """Whether the two INT8 bundles are also joined to a cascade."""


@dataclass(frozen=True, kw_only=True)
class Contenders:
    """The bundles of one benchmark by name, and their boards."""

    bundles: dict[str, Path]
    dataset: Dataset
    missing: dict[str, str] = field(default_factory=dict)
    """Why a bundle could not be made."""


def given(folder: Path, dataset: Path) -> Contenders:
    """Open existing bundles: every ``NAME.inspector`` in a folder.

    Raises:
        InputError: `REFERENCE` is not among them.
    """
    found = {path.stem: path for path in sorted(folder.glob("*.inspector"))}
    if REFERENCE not in found:
        raise InputError(
            f"{folder}: expected at least {REFERENCE}.inspector, found {', '.join(found) or 'no bundle'}. "
            "docs/speed.md says how the bundles are made."
        )
    return Contenders(bundles=found, dataset=Dataset.read(dataset))


def make(folder: Path, making: Making, *, workers: int) -> Contenders:
    """Render boards, fit evidence on random features of a ResNet-50 and of a small network, quantize both, join them.

    Whatever is in the folder from an earlier call is taken as it is.

    Raises:
        GonogoError: `REFERENCE` could not be made, without which there is nothing to compare.
    """
    boards = folder / "boards"
    if not boards.is_dir():
        write_dataset(
            boards,
            making.parts,
            seed=SEED,
            difficulty=0.0,
            size_wh=FRAME_WH,
            mix=MIX,
            workers=workers,
            fractions=SPLITS,
        )
    dataset = Dataset.read(boards)
    recipe = folder / "chip.toml"
    if not recipe.is_file():
        taught = [sample for sample in dataset.split(Split.TRAIN) if sample.box is not None][:60]
        write_roi_config(
            recipe,
            tune(read_examples(dataset, taught, side_px=320), trials=40, side_px=320, limit_s=making.tuning_s).recipe,
        )
    steps: dict[str, Callable[[Path], object]] = {
        FULL_PRECISION: lambda out: train_inspector(dataset, out, _training(making, recipe, "resnet50", 224)),
        REFERENCE: lambda out: quantize_bundle(
            Inspector.load(folder / f"{FULL_PRECISION}.inspector"), dataset, out, _quantizing()
        ),
        SMALL_FULL_PRECISION: lambda out: train_inspector(dataset, out, _training(making, recipe, "resnet18", 160)),
        SMALL: lambda out: quantize_bundle(
            Inspector.load(folder / f"{SMALL_FULL_PRECISION}.inspector"), dataset, out, _quantizing()
        ),
        CASCADE: lambda out: join_cascade(
            Inspector.load(folder / f"{SMALL}.inspector"),
            Inspector.load(folder / f"{REFERENCE}.inspector"),
            dataset,
            out,
            CascadeOptions(strange=0.1),
        ),
    }
    if not making.cascade:
        del steps[CASCADE]
    bundles, missing = {}, {}
    for name, step in steps.items():
        out = folder / f"{name}.inspector"
        try:
            if not out.is_dir():
                console.print(f"making {name}")
                step(out)
            bundles[name] = out
        except GonogoError as error:
            missing[name] = str(error)
    if REFERENCE not in bundles:
        why = missing.get(FULL_PRECISION, missing[REFERENCE])
        raise GonogoError(f"{folder}: {REFERENCE} could not be made: {why} Or give bundles of your own with --bundles.")
    return Contenders(bundles=bundles, dataset=dataset, missing=missing)


def _training(making: Making, recipe: Path, backbone: str, side: int) -> TrainingOptions:
    return TrainingOptions(
        backbone=backbone,
        weights="none",
        size_wh=(side, side),
        roi=str(recipe),
        reduction=REDUCTION,
        masks=making.masks,
        promise=Promise(max_escape=making.max_rate, max_overkill=making.max_rate),
    )


def _quantizing() -> QuantizingOptions:
    return QuantizingOptions(pictures=60, control=False, allowed=ANYTHING)
