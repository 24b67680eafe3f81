"""Find the part with a network that learned its box, without torch."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from gonogo import images
from gonogo.images.geometry import Corners, as_quad, side_lengths, upright
from gonogo.roi.recipe import LearnedRecipe
from gonogo.schema import Box, Frame, Located

if TYPE_CHECKING:
    from gonogo.runtime import Graph

NETWORK = "roi.xml"
"""The network's file, beside the recipe."""


class LearnedRoi:
    """One forward pass on the reduced picture: box, corners and whether the part is there."""

    def __init__(self, recipe: LearnedRecipe, graph: Graph) -> None:
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
        found = self._graph(images.crop_resize(frame, Box.whole(frame), self.recipe.size_wh))
        return judge_sighting(
            self.recipe, found["box"][0], found["corners"][0], float(found["presence"][0]), frame.shape
        )


def judge_sighting(
    recipe: LearnedRecipe,
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
    turned: Corners = upright(corners.reshape(4, 2).astype(np.float64) * [width, height])
    tight = Box.from_xyxy(tuple(box.astype(np.float64) * [width, height, width, height]))
    lengths = side_lengths(turned[None])[0] if recipe.turned else np.array([tight.width, tight.height])
    amiss = _out_of_range(recipe, lengths, (width, height))
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
        quad=as_quad(turned) if recipe.turned else None,
        margin=recipe.margin,
        confidence=confidence,
    )


def _out_of_range(recipe: LearnedRecipe, lengths: Float[np.ndarray, "2"], frame_wh: tuple[int, int]) -> str:
    """What is wrong with the size of what was found; empty where nothing is."""
    if lengths.min() <= 0:
        return "the box found has no area"
    area = float(lengths.prod()) / (frame_wh[0] * frame_wh[1])
    aspect = float(lengths.max() / lengths.min())
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
