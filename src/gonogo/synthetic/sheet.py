"""A contact sheet: good parts above, the same boards with each kind of defect below."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from gonogo import images
from gonogo.files import write_beside
from gonogo.progress import track
from gonogo.schema import Frame
from gonogo.synthetic.canvas import letters
from gonogo.synthetic.catalogue import Defect
from gonogo.synthetic.scene import Mix, Rendering, render_with

_CELL_WH = (400, 300)
_GAP = 6
_TITLE = 26
_PAPER = 250
_QUALITY = 84
_OUTLINE_RGB = (255, 64, 200)


def contact_sheet(
    path: str | Path, *, seed: int = 1, difficulty: float = 0.5, first_part: int = 0, mix: Mix | None = None
) -> None:
    """Write a JPEG of six boards, each good above and with one outlined defect below.

    Args:
        path: The output file.
        seed: Random seed of the series.
        difficulty: 0 to 1.
        first_part: Index of the first of the six consecutive parts.
        mix: The boards and chips to choose from.

    Raises:
        InputError: The folder is not writable.
    """
    columns = []
    for number, defect in enumerate(track(list(Defect), "rendering")):
        pair = [
            render_with(first_part + number, defect=kind, seed=seed, difficulty=difficulty, mix=mix)
            for kind in (None, defect)
        ]
        columns.append(np.vstack([_cell(rendering) for rendering in pair]))
    rows = np.vstack([np.hstack(columns[start : start + 3]) for start in (0, 3)])
    sheet = np.pad(rows, ((0, _GAP), (2 * _GAP, _GAP), (0, 0)), constant_values=_PAPER)
    write_beside(Path(path), images.encode_jpeg(sheet, quality=_QUALITY))


def _cell(rendering: Rendering) -> Frame:
    """A close-up with its title."""
    picture = _close_up(rendering)
    width, height = _CELL_WH
    cell = np.full((height + _TITLE + _GAP, width + _GAP, 3), _PAPER, np.uint8)
    cell[_TITLE : _TITLE + height, :width] = picture
    name = "good" if rendering.defect is None else rendering.defect.replace("_", " ")
    title = letters(f"{rendering.board} / {rendering.chip}: {name}", 11)
    cell[8 : 8 + title.shape[0], 2 : 2 + title.shape[1]] -= (title[..., None] * np.float32(0.82)).astype(np.uint8)
    return cell


def _close_up(rendering: Rendering) -> Frame:
    """The frame around the chip, with the defect's outline at the sheet's resolution."""
    width, height = _CELL_WH
    rows, columns = rendering.frame.shape[:2]
    box = rendering.box
    assert box is not None, "a contact sheet shows boards with one chip"
    side = max(box.width * 1.55, box.height * 1.55 * width / height)
    side = min(side, columns, rows * width / height)
    left = int(np.clip(box.centre_xy[0] - side / 2, 0, columns - side))
    top = int(np.clip(box.centre_xy[1] - side * height / width / 2, 0, rows - side * height / width))
    window = slice(top, top + int(side * height / width)), slice(left, left + int(side))
    picture = cv2.resize(
        rendering.frame[window], _CELL_WH, interpolation=cv2.INTER_AREA if side > width else cv2.INTER_CUBIC
    )
    if rendering.mask is not None:
        grown = cv2.dilate(rendering.mask[window].astype(np.uint8), np.ones((7, 7), np.uint8))
        mask = cv2.resize(grown, _CELL_WH, interpolation=cv2.INTER_LINEAR)
        contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, _OUTLINE_RGB, 1, cv2.LINE_AA)
    return np.asarray(picture, np.uint8)
