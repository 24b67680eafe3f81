"""Photographs with three outlines: the part as drawn by a person, the box found, and the region cropped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.dataset import Dataset
from gonogo.evaluate import Judge, Placement, labelled_place
from gonogo.images import crop_resize, pixel_window
from gonogo.images.geometry import box_around, corners_of
from gonogo.progress import track
from gonogo.report.pictures import data_uri
from gonogo.schema import Box, Frame, Region

DRAWN_RGB, FOUND_RGB, CUT_RGB = (0, 214, 230), (255, 138, 0), (255, 255, 255)
_EDGE_RGB = (20, 24, 28)
_LONGEST_SIDE = 480
_SHOWN, _NOT_FOUND_SHOWN = 6, 2


@dataclass(frozen=True, kw_only=True)
class RegionCard:
    """One picture with its regions outlined."""

    placement: Placement
    photograph: str
    """``data:`` URI."""
    reason: str
    """Why the part was not found; empty if it was found."""


def region_cards(placements: Sequence[Placement], inspector: Judge, dataset: Dataset) -> tuple[RegionCard, ...]:
    """The pictures with the worst located parts: first a few without any, then those with the lowest overlap.

    They are judged again by the same inspector, so that the evaluation need not keep frames in memory.
    """
    samples = {sample.file_name: sample for sample in dataset.samples}
    recipe = inspector.roi.recipe
    cards = []
    for placement in track(worst_regions(placements), "Drawing regions"):
        sample = samples[placement.judged.file]
        photograph, verdict = inspector.inspect_file(dataset.path(sample))
        truth = None if recipe is None else labelled_place(recipe, sample)
        if photograph is None or truth is None or truth.box is None:
            continue
        turned = verdict.region is not None and not isinstance(verdict.region, Box)
        outlines = [(truth.box, DRAWN_RGB), (truth.quad if turned else None, DRAWN_RGB)]
        outlines += [(verdict.region, CUT_RGB), (verdict.box, FOUND_RGB)]
        picture = sketch(photograph.frame, [(shape, rgb) for shape, rgb in outlines if shape is not None])
        reason = verdict.reason if verdict.region is None else ""
        cards.append(RegionCard(placement=placement, photograph=data_uri(picture), reason=reason))
    return tuple(cards)


def worst_regions(placements: Sequence[Placement]) -> list[Placement]:
    """A few placements that were not found, then those with the lowest IoU."""
    lost = [each for each in placements if not each.found][:_NOT_FOUND_SHOWN]
    ranked = sorted((each for each in placements if each.found), key=lambda each: (each.iou, each.judged.file))
    return [*lost, *ranked][:_SHOWN]


def sketch(frame: Frame, shapes: Sequence[tuple[Region, tuple[int, int, int]]]) -> Frame:
    """Thumbnail of the surroundings of some regions, each outlined in its colour with a dark edge for contrast.

    Args:
        frame: uint8, height x width x 3.
        shapes: Regions in frame pixels, which may extend beyond the frame; later ones are drawn on top.
    """
    window = _surroundings(frame, [shape for shape, _ in shapes])
    x1, y1, x2, y2 = pixel_window(frame, window)
    factor = _LONGEST_SIDE / max(x2 - x1, y2 - y1)
    small = crop_resize(frame, window, (max(1, round((x2 - x1) * factor)), max(1, round((y2 - y1) * factor))))
    for shape, rgb in shapes:
        corners = (corners_of(shape) - [x1, y1]) * factor - 0.5  # OpenCV counts from pixel centres, in 1/16
        points = np.rint(corners * 16).astype(np.int32)
        for colour, width in ((_EDGE_RGB, 4), (rgb, 2)):
            cv2.polylines(small, [points], isClosed=True, color=colour, thickness=width, lineType=cv2.LINE_AA, shift=4)
    return small


def _surroundings(frame: Frame, shapes: Sequence[Region]) -> Box:
    """Box around all shapes with a margin of a fifth, in the aspect ratio of the frame."""
    around = box_around(np.concatenate([corners_of(shape) for shape in shapes]))
    height, width = frame.shape[:2]
    share = min(1.0, 1.4 * max(around.width / width, around.height / height))
    x = float(np.clip(around.centre_xy[0] - share * width / 2, 0, (1 - share) * width))
    y = float(np.clip(around.centre_xy[1] - share * height / 2, 0, (1 - share) * height))
    return Box(x1=x, y1=y, x2=x + share * width, y2=y + share * height)
