"""Find the part with a network that learned its box, without torch."""

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
"""``x, y`` as shares of a picture: two corners of the box, four of the turned rectangle."""

NETWORK = "roi.xml"
"""The network's file, beside the recipe."""
FILLED = 0.6
"""How much of a closer view a part reaches across, along its longer axis."""
SMALL = 0.3
"""Where parts that reach across less of the frame are taught, so are views closer than half the frame."""
CLOSER_BELOW = FILLED
"""What is then looked at again: whatever fills less of the whole frame than of a closer view."""
_CLOSEST = 0.1
"""Least sides of a closer view, as shares of the frame's."""


class LearnedRoi:
    """A forward pass on the reduced picture: box, corners and whether the part is there; a second one on a closer view,
    and each on the mirror image as well, where the recipe asks for it."""

    def __init__(self, recipe: LearnedConfig, graph: Graph) -> None:
        self.recipe = recipe
        self._graph = graph

    def locate(self, frame: Frame) -> Located:
        """Find the part.

        Args:
            frame: uint8 RGB, height x width x 3.

        Returns:
            Box (inside the frame), turned rectangle where the recipe asks for one, margin and confidence; or not
            present, with the reason.
        """
        if frame.size == 0:
            return Located(present=False, reason="the picture is empty")
        box, corners, presence = self._look(frame, Box.whole(frame))
        closer = closer_view(box, frame.shape, self.recipe.closer_below)
        if closer is not None:
            box, corners, presence = self._look(frame, closer)
        return judge_sighting(self.recipe, box, corners, presence, frame.shape)

    def _look(self, frame: Frame, window: Box) -> tuple[np.ndarray, np.ndarray, float]:
        """What the network says of a window: box and corners as shares of the whole frame, and the presence."""
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
    """The same places in the picture's mirror image, left for right, named anew: the left edge is the right one's."""
    (x1, y1), (x2, y2) = places[:2]
    box = np.array([[1 - x2, y1], [1 - x1, y2]])
    corners = places[[3, 2, 5, 4]] * (-1, 1) + (1, 0)
    return np.concatenate([box, corners])


def closer_scale(box: Box, frame_wh: tuple[int, int]) -> float:
    """Sides of the window, as shares of the frame's, of which a box fills `FILLED` along its longer axis."""
    return max(box.width / frame_wh[0], box.height / frame_wh[1]) / FILLED


def closer_view(box: Float[np.ndarray, "4"], frame_shape: tuple[int, ...], closer_below: float) -> Box | None:
    """Where to look again for a part that was seen small, in frame pixels; ``None`` where one look is enough.

    Args:
        box: ``(x1, y1, x2, y2)`` as shares of the frame, as the network gave them.
        frame_shape: Height and width of the frame, and whatever follows.
        closer_below: A part that reaches across less of the frame than this, along its longer axis, is small.
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
    """What the network said of one picture, held against what it was taught.

    Args:
        recipe: The taught range and the margin.
        box: ``(x1, y1, x2, y2)`` as shares of the frame.
        corners: ``x, y`` of the four corners as shares of the frame.
        presence: Logit that exactly one part is there.
        frame_shape: Height and width of the frame, and whatever follows.
    """
    height, width = frame_shape[:2]
    if not (np.isfinite(box).all() and np.isfinite(corners).all() and math.isfinite(presence)):
        return Located(present=False, reason="the network gave no finite place for the part")
    confidence = float(1 / (1 + np.exp(-np.clip(presence, -50, 50))))
    if confidence < recipe.least_presence:
        return Located(
            present=False,
            confidence=confidence,
            reason=f"no single part was found: probability {confidence:.2f}, expected {recipe.least_presence:.2f} or "
            "more",
        )
    turned = upright(corners.reshape(4, 2).astype(np.float64) * [width, height])
    tight = Box.from_xyxy(tuple(box.astype(np.float64) * [width, height, width, height]))
    quad = as_quad(turned) if recipe.turned else None
    amiss = _out_of_range(recipe, quad or tight, (width, height))
    tight = tight.intersection(Box.whole_of(width, height))
    if not amiss and tight.area <= 0:  # inverted, or beside the picture
        amiss = "the box found has no area inside the picture"
    if not amiss and recipe.turned and not _is_convex(turned):
        amiss = "the corners found do not make a rectangle"
    if amiss:
        return Located(present=False, confidence=confidence, reason=amiss)
    return Located(
        present=True,
        box=tight,
        quad=quad,
        margin=recipe.margin,
        confidence=confidence,
    )


def _out_of_range(recipe: LearnedConfig, found: Region, frame_wh: tuple[int, int]) -> str:
    """What is wrong with the size of what was found; empty where nothing is."""
    area, aspect = area_and_aspect(found, frame_wh)
    if area <= 0:
        return "the box found has no area"
    if recipe.area[0] <= area <= recipe.area[1] and recipe.aspect[0] <= aspect <= recipe.aspect[1]:
        return ""
    return (
        f"what was found is not in the taught range: expected {recipe.area[0]:.2%} to {recipe.area[1]:.2%} of the "
        f"picture at {recipe.aspect[0]:.1f} to {recipe.aspect[1]:.1f} : 1, found {area:.2%} at {aspect:.1f} : 1"
    )


def _is_convex(corners: Corners) -> bool:
    sides = np.roll(corners, -1, axis=0) - corners
    following = np.roll(sides, -1, axis=0)
    return bool((sides[:, 0] * following[:, 1] - sides[:, 1] * following[:, 0] > 0).all())
