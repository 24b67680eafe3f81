"""Draws zones on a picture: ignore zones hatched, inspect zones outlined, each with its name."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from gonogo.array_types import Float64
from gonogo.config import IgnoreZone, Zone
from gonogo.images.zones import Place, filled, on_frame
from gonogo.schema import Frame

IGNORE_RGB, INSPECT_RGB, DECIDING_RGB = (190, 190, 190), (96, 170, 255), (255, 200, 60)
_HATCH = 0.55
"""Brightness of the dark stripes of a hatched zone."""


def draw_zones(frame: Frame, place: Place, zones: Sequence[Zone], *, deciding: str = "") -> None:
    """Draw zones on a frame, in place.

    Args:
        frame: uint8 RGB.
        place: Where the part is in this frame.
        zones: The zones.
        deciding: Name of the zone that decided; its outline has a colour of its own.
    """
    height, width = frame.shape[:2]
    thickness = max(1, round(min(height, width) / 300))
    for zone in zones:
        points = on_frame(zone.polygon, place)
        if isinstance(zone, IgnoreZone):
            _hatch(frame, points, max(4, round(min(height, width) / 60)))
        rgb = DECIDING_RGB if zone.name == deciding else IGNORE_RGB if isinstance(zone, IgnoreZone) else INSPECT_RGB
        corners = np.rint((points - 0.5) * 16).clip(-(2**24), 2**24).astype(np.int32)  # OpenCV counts in 1/16 pixels
        cv2.polylines(frame, [corners], isClosed=True, color=rgb, thickness=thickness, lineType=cv2.LINE_AA, shift=4)
    for zone in zones:
        _name(frame, zone, on_frame(zone.polygon, place))


def _hatch(frame: Frame, points: Float64[np.ndarray, "corners 2"], step_px: int) -> None:
    """Darken diagonal stripes inside a polygon."""
    height, width = frame.shape[:2]
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    x1, y1 = max(0, math.floor(left)), max(0, math.floor(top))
    x2, y2 = min(width, math.ceil(right)), min(height, math.ceil(bottom))
    if x2 <= x1 or y2 <= y1:
        return
    inside = filled(points - (x1, y1), (x2 - x1, y2 - y1))
    stripes = np.add.outer(np.arange(y2 - y1), np.arange(x2 - x1)) // step_px % 2 == 0
    window = frame[y1:y2, x1:x2]
    window[inside & stripes] = (window[inside & stripes] * _HATCH).astype(np.uint8)


def _name(frame: Frame, zone: Zone, points: Float64[np.ndarray, "corners 2"]) -> None:
    """Write a zone's name on a dark ground at its top left corner, inside the picture."""
    height, width = frame.shape[:2]
    size, bold = max(0.35, min(height, width) / 900), 1
    (wide, tall), below = cv2.getTextSize(zone.name, cv2.FONT_HERSHEY_SIMPLEX, size, bold)
    x = int(np.clip(points[:, 0].min(), 0, max(0, width - wide - 4)))
    y = int(np.clip(points[:, 1].min(), tall + below + 4, height))
    frame[max(0, y - tall - below - 4) : y, x : x + wide + 4] = (28, 30, 34)
    cv2.putText(
        frame, zone.name, (x + 2, y - below), cv2.FONT_HERSHEY_SIMPLEX, size, (255, 255, 255), bold, cv2.LINE_AA
    )
