"""Types of the options of ``gonogo train``, with their help texts and sections."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from gonogo.model import Normalisation, Pool

PROMISE, INPUT, REGION, FINE_TUNING = "Promise", "What the network sees", "Region", "Fine-tuning"
"""Sections of the options in ``--help``; those of the same name, in short, are the tables of a train.toml."""

RoiOption = Annotated[
    str,
    typer.Option(
        rich_help_panel=REGION,
        help="Where the part is: 'none' judges the whole picture, 'learned' trains a search on the labelled boxes, a "
        "file is a recipe for it (gonogo roi tune).",
        metavar="none|learned|FILE",
    ),
]
RoiBackboneOption = Annotated[
    str | None,
    typer.Option(help="Backbone of a learned region. [default: that of --backbone]", rich_help_panel=REGION),
]
RoiWeightsOption = Annotated[
    str | None,
    typer.Option(help="Weights of a learned region. [default: those of --weights]", rich_help_panel=REGION),
]


class PoolName(StrEnum):
    """How the defect map becomes one score."""

    AUTO = "auto"
    MEAN = "mean"
    MAX = "max"
    LSE = "lse"

    def known(self) -> Pool | None:
        """The pooling itself; ``None`` leaves the choice to the training."""
        if self is PoolName.AUTO:
            return None
        from gonogo.model import Pool

        return Pool(self.value)


PoolOption = Annotated[
    PoolName,
    typer.Option(
        help="Fine-tuning: how the map becomes a score; auto: lse where masks teach the head, else mean.",
        rich_help_panel=FINE_TUNING,
    ),
]
MasksOption = Annotated[
    bool,
    typer.Option(
        "--masks/--no-masks",
        help="Teach the head where parts are bad, if bad pictures carry masks.",
        rich_help_panel=INPUT,
    ),
]


CropsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tuning: crops per picture (2 where omitted).", rich_help_panel=FINE_TUNING),
]
RotationsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tuning: rotations per crop (4 where omitted).", rich_help_panel=FINE_TUNING),
]
WindowOption = Annotated[
    float | None,
    typer.Option(
        min=0.1,
        max=1.0,
        help="Fine-tuning: see another window of every picture in every epoch, its sides at least this share of the "
        "region's, mirrored, turned and lit at random. Without masks stay near 1, lest it cut the defect off.",
        rich_help_panel=FINE_TUNING,
    ),
]
DeviceOption = Annotated[
    str,
    typer.Option(help="What fine-tuning computes on: cpu, cuda, cuda:1 ...", rich_help_panel=FINE_TUNING),
]


SizeOption = Annotated[
    str | None,
    typer.Option(
        help="Pixels that the network looks at; the region's own shape, and as many as bring something, where omitted.",
        metavar="SIDE|WIDTHxHEIGHT",
        rich_help_panel=INPUT,
    ),
]


SheetOption = Annotated[
    Path | None,
    typer.Option(help="Where training pictures as the network sees them are shown; beside the bundle where omitted."),
]


TileOption = Annotated[
    bool,
    typer.Option(
        "--tile/--no-tile",
        show_default=False,
        rich_help_panel=INPUT,
        help="Large parts, small defects: judge the part in overlapping windows at full resolution, of --size pixels "
        "(320 where omitted); the worst window counts. Takes as many times longer as there are windows.",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        help="With --tile: pixels that neighbouring windows share at least, a multiple of 16 (64 where omitted).",
        rich_help_panel=INPUT,
    ),
]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """Width and height from ``224`` or ``640x320``.

    Raises:
        InputError: anything else, or a side beyond 32 to 2048 pixels.
    """
    from gonogo.errors import InputError

    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and 32 <= int(side[:5]) <= 2048 for side in sides):
        raise InputError(f"--size: expected one or two sides of 32 to 2048 pixels, such as 640x320, found {text!r}.")
    return int(sides[0]), int(sides[-1])


class NormalisationName(StrEnum):
    """What the pretrained weights expect of their input."""

    AUTO = "auto"
    IMAGENET = "imagenet"
    SYMMETRIC = "symmetric"

    def known(self) -> Normalisation | None:
        """The normalisation itself; ``None`` leaves the choice to the training."""
        if self is NormalisationName.AUTO:
            return None
        from gonogo.model import IMAGENET, SYMMETRIC

        return {"imagenet": IMAGENET, "symmetric": SYMMETRIC}.get(self.value)
