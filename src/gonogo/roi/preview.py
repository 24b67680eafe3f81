"""Preview sheet: the result of every step of an ROI config on a photograph, and the region that it finds."""

from __future__ import annotations

import math

import cv2
import numpy as np

from gonogo.images.geometry import Corners, corners_of_box
from gonogo.roi.classical import ClassicalRoi, Roi, reduced_frame
from gonogo.roi.steps import (
    Close,
    Dilate,
    Erode,
    Gradient,
    Grey,
    Open,
    Picture,
    ThresholdOtsu,
    describe_step,
)
from gonogo.schema import Frame, Located

COLUMNS = 4
_CELL_WIDTH = 360
_GAP = 14
_LABEL = 30
_PAPER = (250, 250, 248)
_INK = (38, 42, 48)
_BORDER = (205, 207, 210)
_PART_RGB = (255, 196, 0)
_MARGIN_RGB = (64, 220, 255)


def preview(roi: Roi, frame: Frame) -> Frame:
    """Draw a sheet: the reduced picture, the result of every step with its name, and the region on the photograph.

    Args:
        roi: The method.
        frame: uint8 RGB, height x width x 3.

    Returns:
        uint8 RGB; the part's outline is amber, the inspected region (with its margin) is blue.
    """
    cells = _step_cells(roi, frame)
    located = roi.locate(frame)
    cells.append((_summary(located), draw_preview(_fitted(frame), located, _CELL_WIDTH / frame.shape[1])))
    return _sheet([(f"{number}  {name}", picture) for number, (name, picture) in enumerate(cells)])


def preview_morphology(frame: Frame, *, size: int, side_px: int = 320) -> Frame:
    """Draw a sheet of the morphological operations on one photograph: on its grey levels, and on Otsu's mask of them.

    Args:
        frame: uint8 RGB, height x width x 3.
        size: Side of the rectangular kernel, in pixels of the reduced picture; odd.
        side_px: Longer side of the reduced picture, as in an ROI config.

    Returns:
        uint8 RGB: in two rows each the picture, its erosion, dilation, opening, closing and gradient.
    """
    grey = Grey().apply(reduced_frame(frame, side_px))
    mask = ThresholdOtsu().apply(grey)
    operations = (Erode(size=size), Dilate(size=size), Open(size=size), Close(size=size), Gradient(size=size))
    cells = []
    for name, picture in (("grey", grey), ("mask (Otsu)", mask)):
        cells.append((name, _fitted(picture)))
        cells += [(describe_step(each), _fitted(each.apply(picture))) for each in operations]
    return _sheet(cells, columns=3)


def draw_preview(picture: Frame, located: Located, scale: float = 1.0) -> Frame:
    """Outline the part (amber) and the inspected region (blue) on a copy of a picture.

    Args:
        picture: uint8 RGB.
        located: The located part, in frame pixels.
        scale: Picture pixels per frame pixel.
    """
    drawn = picture.copy()
    if located.box is None or located.crop_box is None:
        return drawn
    if located.quad is not None and located.crop_quad is not None:
        part, region = np.array(located.quad), np.array(located.crop_quad)
    else:
        part, region = corners_of_box(located.box), corners_of_box(located.crop_box)
    _outline(drawn, region * scale, _MARGIN_RGB, 1)
    _outline(drawn, part * scale, _PART_RGB, 2)
    return drawn


def _step_cells(roi: Roi, frame: Frame) -> list[tuple[str, Picture]]:
    if isinstance(roi, ClassicalRoi):
        return [(name, _fitted(picture)) for name, picture in roi.trace(frame)]
    return [("photograph", _fitted(reduced_frame(frame, _CELL_WIDTH)))]


def _summary(located: Located) -> str:
    if located.box is None:
        return "not found"
    return f"found: {located.box.width:.0f} x {located.box.height:.0f} pixels"


def _fitted(picture: Picture) -> Frame:
    """Convert any picture to RGB with the width of a cell."""
    colour = picture if picture.ndim == 3 else cv2.cvtColor(picture, cv2.COLOR_GRAY2RGB)
    height = max(1, round(picture.shape[0] * _CELL_WIDTH / picture.shape[1]))
    smaller = picture.shape[1] > _CELL_WIDTH
    kind = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(colour, (_CELL_WIDTH, height), interpolation=kind), np.uint8)


def _outline(picture: Frame, corners: Corners, colour: tuple[int, int, int], width: int) -> None:
    shift = 4  # OpenCV draws at sixteenths of a pixel
    points = np.round((corners - 0.5) * (1 << shift)).astype(np.int32)
    cv2.polylines(picture, [points], True, colour, width, cv2.LINE_AA, shift)


def _sheet(cells: list[tuple[str, Frame]], columns: int = COLUMNS) -> Frame:
    from PIL import Image, ImageDraw, ImageFont

    height = max(picture.shape[0] for _, picture in cells)
    columns = min(columns, len(cells))
    rows = math.ceil(len(cells) / columns)
    size = (columns * (_CELL_WIDTH + _GAP) + _GAP, rows * (height + _LABEL + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    pen = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=17)
    for number, (name, picture) in enumerate(cells):
        row, column = divmod(number, columns)
        x, y = _GAP + column * (_CELL_WIDTH + _GAP), _GAP + row * (height + _LABEL + _GAP)
        pen.text((x, y + _LABEL / 2 - 2), name, fill=_INK, font=font, anchor="lm")
        sheet.paste(Image.fromarray(picture), (x, y + _LABEL))
        frame = (x - 1, y + _LABEL - 1, x + _CELL_WIDTH, y + _LABEL + picture.shape[0])
        pen.rectangle(frame, outline=_BORDER)
    return np.asarray(sheet, np.uint8)
