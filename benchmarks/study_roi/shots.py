"""Pictures for the report, small and inside the page."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.report.pictures import data_uri
from gonogo.roi import Roi, draw_preview
from gonogo.roi.scoring import Example
from gonogo.schema import Frame, Located

WIDTH_PX = 360


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture of the report."""

    picture: str
    """As a data URI."""
    caption: str


def shot(roi: Roi, example: Example, caption: str) -> Shot:
    """Find a region of interest in a picture and return it for drawing."""
    frame = example.load()
    return Shot(picture=data_uri(placed(frame, roi.locate(frame))), caption=caption)


def placed(frame: Frame, located: Located) -> Frame:
    """Draw a small frame with the part in amber and the judged region in blue."""
    scale = WIDTH_PX / frame.shape[1]
    size_wh = (WIDTH_PX, round(frame.shape[0] * scale))
    return draw_preview(np.asarray(cv2.resize(frame, size_wh, interpolation=cv2.INTER_AREA), np.uint8), located, scale)
