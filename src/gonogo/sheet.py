"""Draws a sheet: rows of small pictures on paper, each under its title, pixel for pixel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gonogo.errors import InputError
from gonogo.files import write_beside
from gonogo.images import encode_jpeg, encode_png
from gonogo.schema import Frame

SUFFIXES = (".png", ".jpg", ".jpeg")
"""Endings of the names of sheets that a user chooses."""

GAP = 12
"""Space around every picture, in pixels."""
TITLE = 26
"""Height of a line of text, in pixels."""
_FONT_SIZE = 15
_PAPER = (250, 250, 248)
_INK = (38, 42, 48)


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A picture under its title."""

    title: str
    picture: Frame


@dataclass(frozen=True, kw_only=True)
class PanelRow:
    """Panels side by side; without panels, the title alone, on as many lines as it needs."""

    title: str = ""
    """Above the row; no line if empty."""
    panels: tuple[Panel, ...] = ()

    @property
    def width(self) -> int:
        """Width of the row without the gaps at its ends, in pixels."""
        return sum(int(each.picture.shape[1]) for each in self.panels) + GAP * max(0, len(self.panels) - 1)

    @property
    def height(self) -> int:
        """Height of the row with its panels' titles and the gap below, in pixels; 0 without panels."""
        return max((TITLE + int(each.picture.shape[0]) + GAP for each in self.panels), default=0)


def draw_sheet(rows: Sequence[PanelRow], *, least_width: int = 0) -> Frame:
    """Draw rows of panels from top to bottom.

    Args:
        rows: The rows. Panel titles are cut to the width of their picture, row titles are wrapped.
        least_width: Smallest width of the sheet, in pixels; a sheet is as wide as its widest row.
    """
    width = max([least_width, *(row.width + 2 * GAP for row in rows)])
    font = ImageFont.load_default(size=_FONT_SIZE)
    lines = [_wrapped(font, row.title, width - 2 * GAP) for row in rows]
    height = GAP + sum(TITLE * len(each) + row.height for each, row in zip(lines, rows, strict=True))
    sheet = Image.new("RGB", (width, height), _PAPER)
    pen, y = ImageDraw.Draw(sheet), 0
    for row, titles in zip(rows, lines, strict=True):
        for line in titles:
            pen.text((GAP, y + TITLE // 2 + 4), line, fill=_INK, font=font, anchor="lm")
            y += TITLE
        x = GAP
        for panel in row.panels:
            line = _cut(font, _printable(panel.title), panel.picture.shape[1])
            pen.text((x, y + TITLE // 2 + 2), line, fill=_INK, font=font, anchor="lm")
            sheet.paste(Image.fromarray(panel.picture), (x, y + TITLE))
            x += panel.picture.shape[1] + GAP
        y += row.height
    return np.asarray(sheet, np.uint8)


def _printable(text: str) -> str:
    """Replace what cannot be drawn by a question mark."""
    return "".join(each if each.isprintable() else "?" for each in text)


def _cut(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int) -> str:
    """Cut a line to a width in pixels."""
    while len(text) > 1 and font.getlength(text) > width:
        text = text[:-1]
    return text


def _wrapped(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str, width: int) -> list[str]:
    """Break a text into lines of at most a width in pixels; a longer word is cut."""
    lines: list[str] = []
    for word in _printable(text).split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(_cut(font, word, width))
    return lines


def require_writable(path: Path, *, overwrite: bool) -> None:
    """Check the name of a sheet before it is drawn.

    Raises:
        InputError: The name ends in none of `SUFFIXES`, or exists and ``overwrite`` is not given.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path}: expected a picture to write, with a name that ends in {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise InputError(f"{path}: expected a picture to write, found a folder. Choose another name.")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: already exists. Choose another name, or pass --overwrite.")


def write_sheet(path: Path, sheet: Frame) -> None:
    """Write a sheet as PNG, or as JPEG of quality 85 if its name says so.

    Raises:
        InputError: The file cannot be written.
    """
    png = path.suffix.lower() == ".png"
    write_beside(path, encode_png(sheet) if png else encode_jpeg(sheet, quality=85))
