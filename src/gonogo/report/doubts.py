"""HTML page of the labels that are probably wrong, with their pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from gonogo.dataset import Dataset
from gonogo.dataset.doubts import Doubt, LabelDoubts
from gonogo.files import write_beside
from gonogo.report.page import render_page
from gonogo.report.pictures import data_uri
from gonogo.schema import Frame

_LONGEST_SIDE = 360


@dataclass(frozen=True, kw_only=True)
class DoubtCard:
    """One doubtful label as the page shows it."""

    doubt: Doubt
    photograph: str
    """``data:`` URI."""


def write_doubts(doubts: LabelDoubts, dataset: Dataset, path: Path, *, most: int) -> None:
    """Write the most doubtful labels with their pictures as one self-contained HTML page.

    Args:
        doubts: Doubtful labels, the most doubtful first.
        dataset: The data set that was checked.
        path: Output file; overwritten if it exists.
        most: Maximum number of pictures shown.

    Raises:
        InputError: the file cannot be written.
        ImageError: a picture can no longer be read.
    """
    cards = [
        DoubtCard(doubt=doubt, photograph=data_uri(_small(dataset.load(doubt.sample)))) for doubt in doubts.found[:most]
    ]
    page = render_page("doubts.html", doubts=doubts, cards=cards, dataset_name=dataset.root.resolve().name)
    write_beside(path, page.encode())


def _small(frame: Frame) -> Frame:
    height, width = frame.shape[:2]
    factor = _LONGEST_SIDE / max(height, width)
    size_wh = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(
        cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR), np.uint8
    )
