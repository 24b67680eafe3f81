"""Classical search for the part: on a reduced picture, then at full size along the edges only."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nlargest
from typing import Protocol

import cv2
import numpy as np

from gonogo import images
from gonogo.images.geometry import area_and_aspect, as_quad, box_of, grown, middle, scaled_region, side_lengths, upright
from gonogo.roi.config import ClassicalConfig, FixedConfig, RoiConfig
from gonogo.roi.refine import refine
from gonogo.roi.steps import Picture, describe_step
from gonogo.schema import Box, Frame, Located, Quad, Region

MAX_BLOBS = 24
"""Largest number of regions considered, by size, because noise can leave thousands."""
_LEAST_AREA_PX = 4.0


class Roi(Protocol):
    """A method that finds the region of interest."""

    @property
    def recipe(self) -> RoiConfig | None:
        """The ROI config; ``None`` if the whole frame is the region."""
        ...

    def locate(self, frame: Frame) -> Located:
        """Locate the part, or give the reason why it was not found. Never raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class Blob:
    """A candidate region found by the steps, in frame pixels."""

    shape: Region
    """Rectangle around the region, before growing."""
    area: float
    """Area of the region, in square pixels."""


class WholeRoi:
    """Uses the whole frame as the region."""

    recipe: None = None

    def locate(self, frame: Frame) -> Located:
        """Return the whole frame, without margin."""
        return Located(present=True, box=Box.whole(frame))


class FixedRoi:
    """Uses the same box in every frame."""

    def __init__(self, recipe: FixedConfig) -> None:
        self.recipe = recipe

    def locate(self, frame: Frame) -> Located:
        """Return the configured box, or not present if it does not fit into the frame. Never raises."""
        box = Box.from_xyxy(self.recipe.box_xyxy)
        height, width = frame.shape[:2]
        if box.x2 > width or box.y2 > height:
            reason = f"the fixed region {box.xyxy} does not fit into the {width} x {height} picture"
            return Located(present=False, reason=reason)
        return Located(present=True, box=box, margin=self.recipe.margin)


class ClassicalRoi:
    """Finds the part with a `ClassicalConfig`: steps, then regions, then a choice."""

    def __init__(self, recipe: ClassicalConfig) -> None:
        self.recipe = recipe

    def locate(self, frame: Frame) -> Located:
        """Find the part.

        Args:
            frame: uint8 RGB, height x width x 3.

        Returns:
            Box (inside the frame), quad if configured, and margin; or not present, with the reason. Never raises.
        """
        if frame.size == 0:
            return Located(present=False, reason="the picture is empty")
        try:
            return self.choose(self.find_blobs(reduced_frame(frame, self.recipe.side_px), frame.shape), frame)
        except cv2.error as error:  # a picture of a few pixels can be too small for a step
            return Located(present=False, reason=f"a step failed ({error.err})")

    def trace(self, frame: Frame) -> Iterator[tuple[str, Picture]]:
        """Yield the reduced picture and the result of every step, each with its name and parameters."""
        picture: Picture = reduced_frame(frame, self.recipe.side_px)
        yield f"reduced to {picture.shape[1]} x {picture.shape[0]}", picture
        for step in self.recipe.steps:
            picture = step.apply(picture)
            yield describe_step(step), picture

    def find_blobs(self, picture: Picture, frame_shape: tuple[int, ...]) -> list[Blob]:
        """Apply the steps to a reduced picture and return the regions, largest first, in frame pixels."""
        for step in self.recipe.steps:
            picture = step.apply(picture)
        across, down = frame_shape[1] / picture.shape[1], frame_shape[0] / picture.shape[0]
        found = _contours if self.recipe.regions == "contours" else _components
        return [
            Blob(shape=scaled_region(blob.shape, across, down), area=blob.area * across * down)
            for blob in sorted(found(picture, turned=self.recipe.shape == "quad"), key=lambda blob: -blob.area)
            if blob.area >= _LEAST_AREA_PX
        ]

    def choose(self, blobs: Sequence[Blob], frame: Frame) -> Located:
        """Pick a region, refine its edges and grow it to the whole part."""
        recipe, frame_wh = self.recipe, (frame.shape[1], frame.shape[0])
        best = pick(blobs, recipe, frame_wh)
        if best is None:
            return Located(present=False, reason=_none_fits(blobs, recipe, frame_wh))
        shape = best.shape
        if recipe.refine_band:
            shape = refine(frame, shape, recipe.refine_band)
        shape = grown(shape, recipe.grow_long, recipe.grow_short)
        box = box_of(shape).intersection(Box.whole(frame))
        if box.area <= 0:
            return Located(present=False, reason="the region that was found lies outside the picture")
        return Located(present=True, box=box, quad=None if isinstance(shape, Box) else shape, margin=recipe.margin)


def reduced_frame(frame: Frame, side_px: int) -> Frame:
    """Reduce a frame to a long side of ``side_px``; smaller frames are not enlarged.

    The frame is sampled bilinearly at twice that size and then halved, so at least sixteen pixels contribute to each
    result, and the cost does not depend on the size of the frame.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, side_px / max(width, height))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 0.5:
        frame = np.asarray(cv2.resize(frame, (2 * columns, 2 * rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    return images.crop_resize(frame, Box.whole(frame), (columns, rows))


def pick(blobs: Sequence[Blob], recipe: ClassicalConfig, frame_wh: tuple[int, int]) -> Blob | None:
    """Pick the part among the regions whose grown shape is in the expected range of area and aspect.

    Args:
        blobs: The candidate regions, largest first.
        recipe: The expected range and the criterion.
        frame_wh: Width and height of the frame.

    Returns:
        The chosen region, or ``None`` if none is in the range.
    """
    fitting = (blob for blob in blobs if _fits(blob, recipe, frame_wh))
    if recipe.choose == "largest":
        return next(fitting, None)
    if recipe.choose == "most-rectangular":
        return max(fitting, key=_filling, default=None)
    target_x, target_y = recipe.target_xy[0] * frame_wh[0], recipe.target_xy[1] * frame_wh[1]

    def away(blob: Blob) -> float:
        x, y = middle(grown(blob.shape, recipe.grow_long, recipe.grow_short))
        return math.hypot(x - target_x, y - target_y)

    return min(fitting, key=away, default=None)


def _fits(blob: Blob, recipe: ClassicalConfig, frame_wh: tuple[int, int]) -> bool:
    """Whether the grown shape is in the expected range."""
    area, aspect = area_and_aspect(grown(blob.shape, recipe.grow_long, recipe.grow_short), frame_wh)
    return recipe.area[0] <= area <= recipe.area[1] and recipe.aspect[0] <= aspect <= recipe.aspect[1]


def _filling(blob: Blob) -> float:
    """Share of its bounding rectangle that a region fills."""
    along, down = side_lengths(blob.shape)
    return blob.area / max(along * down, 1e-9)


def _none_fits(blobs: Sequence[Blob], recipe: ClassicalConfig, frame_wh: tuple[int, int]) -> str:
    """The reason why no region was picked."""
    if not blobs:
        return "the steps of the ROI config found no region"
    shapes = (grown(blob.shape, recipe.grow_long, recipe.grow_short) for blob in blobs)
    area, aspect = max(area_and_aspect(shape, frame_wh) for shape in shapes)
    return (
        f"no region is in the expected range: expected {recipe.area[0]:.2%} to {recipe.area[1]:.2%} of the picture "
        f"at {recipe.aspect[0]:.1f} to {recipe.aspect[1]:.1f} : 1, found {len(blobs)}, the largest "
        f"{area:.2%} at {aspect:.1f} : 1"
    )


def _contours(mask: Picture, *, turned: bool) -> Iterator[Blob]:
    """Find regions by their outlines; the area includes everything inside and the outline (Pick's theorem).

    Units are pixels of the mask, as in `_components`. The largest regions are selected by their boxes.
    """
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    # Most regions are single pixels, which are never the part.
    boxed = [(cv2.boundingRect(outline), outline) for outline in outlines if len(outline) > 1]
    for (x, y, width, height), outline in nlargest(MAX_BLOBS, boxed, key=lambda one: one[0][2] * one[0][3]):
        area = cv2.contourArea(outline) + cv2.arcLength(outline, True) / 2 + 1
        yield Blob(shape=_quad_around(outline) if turned else _box_px(x, y, width, height), area=area)


def _components(mask: Picture, *, turned: bool) -> Iterator[Blob]:
    """Find regions as connected components (8-connectivity)."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    listed = enumerate(stats.tolist()[1:], 1)  # the first is the background
    for number, (x, y, width, height, area) in nlargest(MAX_BLOBS, listed, key=lambda one: one[1][4]):
        shape: Region = _box_px(x, y, width, height)
        if turned:
            one = (labels[y : y + height, x : x + width] == number).astype(np.uint8)
            outlines, _ = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(x, y))
            shape = _quad_around(max(outlines, key=len))
        yield Blob(shape=shape, area=float(area))


def _box_px(x: int, y: int, width: int, height: int) -> Box:
    return Box(x1=float(x), y1=float(y), x2=float(x + width), y2=float(y + height))


def _quad_around(points: np.ndarray) -> Quad:
    """The rotated rectangle of smallest area."""
    (x, y), (width, height), angle = cv2.minAreaRect(points)
    # Points are pixel centres. The true edge is half a pixel beyond them where a side runs along the grid, and at them
    # where it crosses many rows. Adding a quarter of a pixel is off by at most a quarter in both cases.
    corners = cv2.boxPoints(((x + 0.5, y + 0.5), (width + 0.5, height + 0.5), angle))
    return as_quad(upright(corners.astype(np.float64)))
