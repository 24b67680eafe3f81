"""Learned search for the part: a network, run with OpenVINO, predicts box, corners and presence."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from gonogo import images
from gonogo.array_types import Float, Float64
from gonogo.images.geometry import Corners, area_and_aspect, as_quad, upright
from gonogo.roi.config import LearnedConfig
from gonogo.schema import Box, Frame, Located, Region

if TYPE_CHECKING:
    from gonogo.runtime import Graph

Places: TypeAlias = Float64[np.ndarray, "6 2"]
"""``x, y`` as shares of a picture: two corners of the box, four of the rotated rectangle."""

NETWORK = "roi.xml"
"""File of the network, beside the ROI config."""
FILLED = 0.6
"""Share of a closer view that the part covers along its longer axis."""
SMALL = 0.3
"""If training includes parts that cover less of the frame than this, it includes views closer than half the frame."""
CLOSER_BELOW = FILLED
"""Value of ``closer_below`` in that case: parts that cover less of the frame than of a closer view."""
_CLOSEST = 0.1
"""Smallest sides of a closer view, as shares of the frame's sides."""


class LearnedRoi:
    """Locates the part with one forward pass on the reduced picture, which gives box, corners and presence. If
    configured, a second pass runs on a closer view, and each pass also on the mirror image."""

    def __init__(self, recipe: LearnedConfig, graph: Graph) -> None:
        self.recipe = recipe
        self._graph = graph

    def locate(self, frame: Frame) -> Located:
        """Find the part.

        Args:
            frame: uint8 RGB, height x width x 3.

        Returns:
            Box (inside the frame), rotated rectangle if configured, margin and confidence; or not present, with the
            reason.
        """
        if frame.size == 0:
            return Located(present=False, reason="the picture is empty")
        box, corners, presence = self._look(frame, Box.whole(frame))
        closer = closer_view(box, frame.shape, self.recipe.closer_below)
        if closer is not None:
            box, corners, presence = self._look(frame, closer)
        return judge_sighting(self.recipe, box, corners, presence, frame.shape)

    def _look(self, frame: Frame, window: Box) -> tuple[np.ndarray, np.ndarray, float]:
        """Run the network on a window; return box and corners as shares of the whole frame, and the presence logit."""
        picture = images.crop_resize(frame, window, self.recipe.size_wh)
        places, presence = self._see(picture)
        if self.recipe.closer_below:
            again, presence_again = self._see(np.asarray(cv2.flip(picture, 1), np.uint8))
            places, presence = (places + mirrored(again)) / 2, (presence + presence_again) / 2
        size_wh = (frame.shape[1], frame.shape[0])
        places = (places * (window.width, window.height) + (window.x1, window.y1)) / size_wh
        return places[:2].ravel(), places[2:].ravel(), presence

    def _see(self, picture: Frame) -> tuple[Places, float]:
        found = self._graph(picture)
        places = np.concatenate([found["box"][0], found["corners"][0]]).reshape(6, 2).astype(np.float64)
        return places, float(found["presence"][0])


def mirrored(places: Places) -> Places:
    """Mirror the points left to right; left and right corners swap names."""
    (x1, y1), (x2, y2) = places[:2]
    box = np.array([[1 - x2, y1], [1 - x1, y2]])
    corners = places[[3, 2, 5, 4]] * (-1, 1) + (1, 0)
    return np.concatenate([box, corners])


def closer_scale(box: Box, frame_wh: tuple[int, int]) -> float:
    """Sides of a window, as shares of the frame's, such that a box fills `FILLED` of it along its longer axis."""
    return max(box.width / frame_wh[0], box.height / frame_wh[1]) / FILLED


def closer_view(box: Float[np.ndarray, "4"], frame_shape: tuple[int, ...], closer_below: float) -> Box | None:
    """Return the window for a second pass on a small part, in frame pixels; ``None`` if one pass is enough.

    Args:
        box: ``(x1, y1, x2, y2)`` as shares of the frame, from the first pass.
        frame_shape: Shape of the frame; height and width come first.
        closer_below: A part is small if it covers less of the frame than this along its longer axis.
    """
    height, width = frame_shape[:2]
    if not np.isfinite(box).all():
        return None
    x1, y1, x2, y2 = np.clip(box.astype(np.float64), 0, 1) * [width, height, width, height]
    seen = Box(x1=min(x1, x2), y1=min(y1, y2), x2=max(x1, x2), y2=max(y1, y2))
    scale = max(closer_scale(seen, (width, height)), _CLOSEST)
    if scale >= min(1.0, closer_below / FILLED):
        return None
    across, down = scale * width, scale * height
    x = float(np.clip(seen.centre_xy[0] - across / 2, 0, width - across))
    y = float(np.clip(seen.centre_xy[1] - down / 2, 0, height - down))
    return Box(x1=x, y1=y, x2=x + across, y2=y + down)


def judge_sighting(
    recipe: LearnedConfig,
    box: Float[np.ndarray, "4"],
    corners: Float[np.ndarray, "8"],
    presence: float,
    frame_shape: tuple[int, ...],
) -> Located:
    """Check the network's output for one picture against the expected range and the margin.

    Args:
        recipe: The expected range and the margin.
        box: ``(x1, y1, x2, y2)`` as shares of the frame.
        corners: ``x, y`` of the four corners as shares of the frame.
        presence: Logit that the picture shows exactly one part.
        frame_shape: Shape of the frame; height and width come first.
    """
    height, width = frame_shape[:2]
    if not (np.isfinite(box).all() and np.isfinite(corners).all() and math.isfinite(presence)):
        return Located(present=False, reason="the network gave a position that is not finite")
    confidence = float(1 / (1 + np.exp(-np.clip(presence, -50, 50))))
    if confidence < recipe.least_presence:
        return Located(
            present=False,
            confidence=confidence,
            reason=f"expected exactly one part: probability {confidence:.2f}, required {recipe.least_presence:.2f}",
        )
    turned = upright(corners.reshape(4, 2).astype(np.float64) * [width, height])
    tight = Box.from_xyxy(tuple(box.astype(np.float64) * [width, height, width, height]))
    quad = as_quad(turned) if recipe.turned else None
    problem = _out_of_range(recipe, quad or tight, (width, height))
    tight = tight.intersection(Box.whole_of(width, height))
    if not problem and tight.area <= 0:  # inverted, or outside the picture
        problem = "the box that was found has no area inside the picture"
    if not problem and recipe.turned and not _is_convex(turned):
        problem = "the corners that were found do not form a convex quadrilateral"
    if problem:
        return Located(present=False, confidence=confidence, reason=problem)
    return Located(present=True, box=tight, quad=quad, margin=recipe.margin, confidence=confidence)


def _out_of_range(recipe: LearnedConfig, found: Region, frame_wh: tuple[int, int]) -> str:
    """Describe the problem with the size of the region; empty if there is none."""
    area, aspect = area_and_aspect(found, frame_wh)
    if area <= 0:
        return "the box that was found has no area"
    if recipe.area[0] <= area <= recipe.area[1] and recipe.aspect[0] <= aspect <= recipe.aspect[1]:
        return ""
    return (
        f"the part is not in the expected range: expected {recipe.area[0]:.2%} to {recipe.area[1]:.2%} of the "
        f"picture at {recipe.aspect[0]:.1f} to {recipe.aspect[1]:.1f} : 1, found {area:.2%} at {aspect:.1f} : 1"
    )


def _is_convex(corners: Corners) -> bool:
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    return bool((sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0] > 0).all())
