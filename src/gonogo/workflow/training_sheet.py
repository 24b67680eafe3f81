"""Draws a sheet of training pictures as the network sees them: cropped and resized to its input size."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gonogo import images
from gonogo.bundle import SUFFIX
from gonogo.dataset import Sample, Split
from gonogo.files import write_beside
from gonogo.schema import Frame, Label
from gonogo.source import TrainingSource

SHOWN = 8
"""Number of pictures, half of them bad if there are enough."""
_MOST_COLUMNS = 4
_WIDEST = 2400
_GAP = 12
_TITLE = 26
_PAPER = (250, 250, 248)
_INK = (38, 42, 48)


def sheet_of(bundle: Path) -> Path:
    """Path of the sheet of a bundle: ``tile.training.png`` next to ``tile.inspector``."""
    return bundle.with_name(f"{bundle.name.removesuffix(SUFFIX)}.training.png")


def write_training_sheet(source: TrainingSource, path: Path) -> None:
    """Write a PNG of some training pictures, exactly as the network sees them, each under its label.

    Args:
        source: Source of the training pictures.
        path: Output file; overwritten if it exists.

    Raises:
        InputError: the file cannot be written.
    """
    chosen = _chosen(source.dataset.split(Split.TRAIN))
    pictures = list(source.plain(chosen))
    write_beside(path, images.encode_png(_sheet(source, [_title(sample) for sample in chosen], pictures)))


def _chosen(samples: Sequence[Sample]) -> list[Sample]:
    """Pictures spread evenly over the split: bad ones first, then good ones."""
    bad = [sample for sample in samples if sample.label is Label.BAD]
    good = [sample for sample in samples if sample.label is Label.GOOD]
    some_bad = list(_evenly(bad, min(len(bad), max(SHOWN // 2, SHOWN - len(good)))))
    return [*some_bad, *_evenly(good, min(len(good), SHOWN - len(some_bad)))]


def _evenly(samples: Sequence[Sample], count: int) -> Iterator[Sample]:
    yield from (samples[index * len(samples) // count] for index in range(count))


def _title(sample: Sample) -> str:
    kind = f", {sample.defect}" if sample.label is Label.BAD and sample.defect else ""
    return f"{sample.label}{kind}: {Path(sample.file_name).name}"


def _sheet(source: TrainingSource, titles: Sequence[str], pictures: Sequence[Frame]) -> Frame:
    width, height = source.size_wh
    columns = max(1, min(_MOST_COLUMNS, len(pictures), _WIDEST // (width + _GAP)))
    rows = math.ceil(len(pictures) / columns)
    size = (columns * (width + _GAP) + _GAP, rows * (height + _TITLE + _GAP) + _TITLE + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=15)
    _write(pen, font, (_GAP, _TITLE // 2 + 4), f"What the network sees: {width} x {height} pixels", size[0] - 2 * _GAP)
    for number, (title, picture) in enumerate(zip(titles, pictures, strict=True)):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (width + _GAP), _TITLE + row * (height + _TITLE + _GAP)
        _write(pen, font, (x, y + _TITLE // 2 + 2), title, width)
        sheet.paste(Image.fromarray(picture), (x, y + _TITLE))
    return np.asarray(sheet, np.uint8)


def _write(
    pen: ImageDraw.ImageDraw,
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    place_xy: tuple[int, int],
    text: str,
    width: int,
) -> None:
    """One line of text, cut to a width; what cannot be drawn is a question mark."""
    line = "".join(each if each.isprintable() else "?" for each in text)
    while len(line) > 1 and pen.textlength(line, font=font) > width:
        line = line[:-1]
    pen.text(place_xy, line, fill=_INK, font=font, anchor="lm")
