"""Edge refinement at full size: each side of a rectangle moves to the strongest edge in a narrow band around it."""

from __future__ import annotations

import cv2
import numpy as np

from gonogo.images.geometry import Vector, as_quad, axes, box_around, corners_of
from gonogo.schema import Box, Frame, Region

SAMPLES_ALONG = 96
MAX_BAND_PX = 48
_ENDS = 0.06
"""Share of a side that is ignored at either end, near the corners."""


def refine(frame: Frame, shape: Region, band_share: float) -> Region:
    """Move each side of a rectangle, parallel to itself, to the strongest edge near it.

    The frame is sampled in a band across each side, one pixel apart; the strength of an edge at a distance is the mean
    absolute difference across it, so that a row of leads is detected by its tips. Distant candidates have less weight
    (down to half at the band's border); the peak is refined to subpixels by a parabola through its neighbours.

    Args:
        frame: uint8 RGB, height x width x 3.
        shape: The rectangle found on the reduced picture, in frame pixels.
        band_share: Width of the band on each side, as a share of the rectangle's short side; at least 2 and at most
            `MAX_BAND_PX` pixels.

    Returns:
        The rectangle after all four sides moved; unchanged if it is smaller than its band.
    """
    corners = corners_of(shape)
    to_right, to_bottom = axes(corners)
    length, depth = float(np.linalg.norm(to_right)), float(np.linalg.norm(to_bottom))
    band = int(np.clip(round(band_share * min(length, depth)), 2, MAX_BAND_PX))
    if min(length, depth) < 4 * band:
        return shape
    right, down = to_right / length, to_bottom / depth
    moved = corners.copy()
    for first, second, outwards in ((0, 1, -down), (1, 2, right), (2, 3, down), (3, 0, -right)):
        shift = _edge(frame, corners[first], corners[second], outwards, band)
        moved[[first, second]] += shift * outwards
    return box_around(moved) if isinstance(shape, Box) else as_quad(moved)


def _edge(frame: Frame, start: Vector, end: Vector, outwards: Vector, band: int) -> float:
    """Distance of the strongest edge, in pixels outwards; 0 if there is no edge."""
    rows = 2 * band + 2
    origin = start + _ENDS * (end - start) - (band + 0.5) * outwards - 0.5
    along = (end - start) * (1 - 2 * _ENDS) / (SAMPLES_ALONG - 1)
    matrix = np.column_stack([along, outwards, origin])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    strip = cv2.warpAffine(frame, matrix, (SAMPLES_ALONG, rows), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    red, green, blue = cv2.split(cv2.absdiff(strip[1:], strip[:-1]))
    strength = cv2.reduce(cv2.max(cv2.max(red, green), blue), 1, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[:, 0]
    strength = np.convolve(np.pad(strength, 1, mode="edge"), [0.25, 0.5, 0.25], mode="valid")
    weighted = strength * (1 - 0.5 * np.abs(np.arange(-band, band + 1)) / band)
    peak = int(np.argmax(weighted))
    if weighted[peak] <= 0 or peak in (0, 2 * band):
        return 0.0
    before, at, after = weighted[peak - 1 : peak + 2]
    curvature = before - 2 * at + after
    return float(peak - band + (0.5 * (before - after) / curvature if curvature < 0 else 0.0))
