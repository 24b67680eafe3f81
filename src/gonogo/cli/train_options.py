"""Option types of ``gonogo train``, with their help texts and sections."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gonogo.model import Normalisation, Pool

PROMISE, INPUT, REGION, FINE_TUNING = "Promise", "What the network sees", "Region", "Fine-tuning"
"""Sections of the options in ``--help``; a train.toml has one table for each."""

RoiOption = Annotated[
    str,
    typer.Option(
        rich_help_panel=REGION,
        help="How the part is found: 'none' judges the whole picture, 'learned' trains a network on labelled boxes, a "
        "file is an ROI config (gonogo roi tune).",
        metavar="none|learned|FILE",
    ),
]
RoiBackboneOption = Annotated[
    str | None,
    typer.Option(help="Backbone of a learned ROI. [default: as --backbone]", rich_help_panel=REGION),
]
RoiWeightsOption = Annotated[
    str | None,
    typer.Option(help="Weights of a learned ROI. [default: as --weights]", rich_help_panel=REGION),
]


ZonesOption = Annotated[
    Path | None,
    typer.Option(
        rich_help_panel=REGION,
        help="Areas inside the part to ignore, or to inspect by a scale of their own (gonogo zones example).",
        metavar="ZONES.TOML",
    ),
]


class PoolName(StrEnum):
    """Pooling that turns the defect map into a score."""

    AUTO = "auto"
    MEAN = "mean"
    MAX = "max"
    LSE = "lse"

    def known(self) -> Pool | None:
        """Return the pooling; ``None`` lets the training choose."""
        if self is PoolName.AUTO:
            return None
        from gonogo.model import Pool

        return Pool(self.value)


PoolOption = Annotated[
    PoolName,
    typer.Option(
        help="Fine-tuning: pooling that turns the defect map into a score; auto: lse with masks, otherwise mean.",
        rich_help_panel=FINE_TUNING,
    ),
]
MasksOption = Annotated[
    bool,
    typer.Option(
        "--masks/--no-masks",
        help="Train the head on defect masks, if bad pictures have them.",
        rich_help_panel=INPUT,
    ),
]


CropsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tuning: number of crops per picture. [default: 2]", rich_help_panel=FINE_TUNING),
]
RotationsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tuning: number of rotations per crop. [default: 4]", rich_help_panel=FINE_TUNING),
]
FlipsOption = Annotated[
    bool,
    typer.Option(
        "--flips/--no-flips",
        show_default=False,
        help="Fine-tuning: mirror the training pictures at random.",
        rich_help_panel=FINE_TUNING,
    ),
]
BrightnessOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Fine-tuning: largest random change of brightness, as a share.",
        rich_help_panel=FINE_TUNING,
    ),
]
BlurOption = Annotated[
    float,
    typer.Option(
        min=0.0,
        max=20.0,
        help="Fine-tuning: largest random blur, as the standard deviation in pixels of the network's input.",
        rich_help_panel=FINE_TUNING,
    ),
]
WindowOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1.0,
        help="Fine-tuning: in every epoch, crop each picture at random to at least this share of its sides, and flip, "
        "rotate and relight it. Without masks use a value near 1, so that the crop does not lose the defect.",
        rich_help_panel=FINE_TUNING,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(help="Device for fine-tuning: cpu, cuda, cuda:1 ...", rich_help_panel=FINE_TUNING),
]


SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Input size of the network in pixels. [default: the shape of the region, at the resolution that it needs]",
        metavar="SIDE|WIDTHxHEIGHT",
        rich_help_panel=INPUT,
    ),
]


SheetOption = Annotated[
    Path | None,
    typer.Option(help="HTML page with training pictures as the network sees them. [default: next to the bundle]"),
]


AugmentationsOption = Annotated[
    Path | None,
    typer.Option(
        help="Write a sheet (PNG or JPEG) of training pictures in all the crops and rotations of fine-tuning, and exit "
        "without training; --out is then not needed.",
        metavar="SHEET.PNG",
    ),
]


TileOption = Annotated[
    bool,
    typer.Option(
        "--tile/--no-tile",
        show_default=False,
        rich_help_panel=INPUT,
        help="For small defects on large parts: judge overlapping windows of --size pixels (320 by default) at full "
        "resolution; the worst window decides. The time grows with the number of windows.",
    ),
]
HealthOption = Annotated[
    bool,
    typer.Option(
        "--health/--no-health",
        help="Let the bundle refuse pictures that are far darker, brighter, emptier or more blurred than those it was "
        "trained on.",
        rich_help_panel=INPUT,
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        help="With --tile: smallest overlap of neighbouring windows in pixels, a multiple of 16. [default: 64]",
        rich_help_panel=INPUT,
    ),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Parse ``224`` or ``640x320`` into width and height.

    Raises:
        InputError: the text has another form, or a side is not from 32 to 2048 pixels.
    """
    from gonogo.errors import InputError

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 32 <= int(side[:5]) <= 2048 for side in sides):
        raise InputError(f"--size: expected one or two sides of 32 to 2048 pixels, such as 640x320, found {text!r}.")
    return int(sides[0]), int(sides[-1])


class NormalisationName(StrEnum):
    """Input normalisation of pretrained weights."""

    AUTO = "auto"
    IMAGENET = "imagenet"
    SYMMETRIC = "symmetric"

    def known(self) -> Normalisation | None:
        """Return the normalisation; ``None`` lets the training choose."""
        if self is NormalisationName.AUTO:
            return None
        from gonogo.model import IMAGENET, SYMMETRIC

        return {"imagenet": IMAGENET, "symmetric": SYMMETRIC}.get(self.value)
