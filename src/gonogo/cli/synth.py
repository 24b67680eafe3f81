"""``gonogo dataset synth``: render a data set of circuit boards, or a contact sheet."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from gonogo.errors import InputError

Type = TypeVar("Type", bound=StrEnum)


def synth_command(
    out: Annotated[Path | None, typer.Option(help="Data set folder to create.", show_default=False)] = None,
    parts: Annotated[int, typer.Option(min=1, help="Number of parts, one picture each.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed: the same seed renders the same pictures.")] = 1,
    difficulty: Annotated[
        float,
        typer.Option(min=0, max=1, help="From 0 (easy) to 1 (hard): contrast, width, clutter, pose, light, noise."),
    ] = 0.5,
    size: Annotated[str, typer.Option(metavar="WxH", help="Size of the pictures in pixels.")] = "640x480",
    bad_share: Annotated[float, typer.Option(min=0, max=1, help="Share of bad parts.")] = 0.5,
    no_chip_share: Annotated[float, typer.Option(min=0, max=1, help="Share of boards without a chip.")] = 0.02,
    two_chips_share: Annotated[float, typer.Option(min=0, max=1, help="Share of boards with two chips.")] = 0.02,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Number of processes; the pictures are the same for any number. [default: one per core]",
        ),
    ] = None,
    splits: Annotated[
        str | None,
        typer.Option(help="Percentages of train/val/calibrate/test, 50/10/25/15 by default; a lot is never divided."),
    ] = None,
    board: Annotated[list[str] | None, typer.Option(help="Only this board type; may be repeated.")] = None,
    chip: Annotated[list[str] | None, typer.Option(help="Only this chip type; may be repeated.")] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Write only a contact sheet (JPEG) of this series.", show_default=False)
    ] = None,
    sheet_first: Annotated[int, typer.Option(min=0, help="Number of the first part on the contact sheet.")] = 0,
) -> None:
    """Render a data set of circuit boards with good and bad chips: pictures, boxes, exact defect masks, splits."""
    from gonogo import synthetic
    from gonogo.dataset.splits import Fractions

    if (out is None) == (sheet is None):
        raise InputError(
            "expected either --out DATASET or --sheet FILE, found " + ("neither." if out is None else "both.")
        )
    mix = synthetic.Mix(
        bad=bad_share,
        without_chip=no_chip_share,
        with_two_chips=two_chips_share,
        boards=_named(board, synthetic.BoardType, "--board"),
        chips=_named(chip, synthetic.ChipType, "--chip"),
    )
    if sheet is not None:
        synthetic.contact_sheet(sheet, seed=seed, difficulty=difficulty, first_part=sheet_first, mix=mix)
        typer.echo(f"{sheet}: six boards, good and bad")
        return
    assert out is not None
    dataset = synthetic.write_dataset(
        out,
        parts,
        seed=seed,
        difficulty=difficulty,
        size_wh=_size(size),
        mix=mix,
        workers=workers or os.cpu_count() or 1,
        fractions=None if splits is None else Fractions.parse(splits),
    )
    good, bad = (sum(sample.label == label for sample in dataset.samples) for label in ("good", "bad"))
    typer.echo(f"{out}: {good} good, {bad} bad, {len(dataset.samples) - good - bad} without exactly one chip")


def _named(names: list[str] | None, types: type[Type], option: str) -> tuple[Type, ...]:
    unknown = [name for name in names or () if name not in list(types)]
    if unknown:
        raise InputError(f"{option}: expected one of {', '.join(types)}, found {unknown[0]!r}.")
    return tuple(types(name) for name in names or types)


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.lower().partition("x")
    if not (width.isascii() and width.isdigit() and height.isascii() and height.isdigit()):
        raise InputError(f"--size: expected WIDTHxHEIGHT in pixels such as 640x480, found {text!r}.")
    return int(width), int(height)
