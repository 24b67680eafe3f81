"""Find the part with a recipe: on a reduced picture, then at full size along the edges only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Float64

from gonogo import images
from gonogo.images.geometry import Shapes, as_quad, box_around, grown, side_lengths, upright_shapes
from gonogo.roi.recipe import ClassicalRecipe, FixedRecipe, RoiRecipe
from gonogo.roi.refine import refine
from gonogo.roi.steps import Picture, describe
from gonogo.schema import Box, Frame, Located

MAX_REGIONS = 24
"""Only so many regions, the largest by area, are looked at: noise leaves thousands."""
_LEAST_AREA_PX = 4.0


class Roi(Protocol):
    """Whatever finds a region of interest."""

    @property
    def recipe(self) -> RoiRecipe | None:
        """How it is found; ``None`` where the whole frame is the region."""
        ...

    def locate(self, frame: Frame) -> Located:
        """Where the part is, or why it is not there. Never raises."""
        ...


@dataclass(frozen=True, kw_only=True)
class Regions:
    """What the steps left, largest first, as rectangles in frame pixels before growing."""

    shapes: Shapes
    areas: Float64[np.ndarray, " shapes"]
    """Area of each region itself, in square frame pixels."""


class WholeRoi:
    """No search: the whole frame is the region."""

    recipe: None = None

    def locate(self, frame: Frame) -> Located:
        """The whole frame, without margin."""
        return Located(present=True, box=Box.whole(frame))


class FixedRoi:
    """The same box in every frame."""

    def __init__(self, recipe: FixedRecipe) -> None:
        self.recipe = recipe

    def locate(self, frame: Frame) -> Located:
        """The recipe's box, or not present where the frame does not hold it. Never raises."""
        box = Box.from_xyxy(self.recipe.box_xyxy)
        height, width = frame.shape[:2]
        if box.x2 > width or box.y2 > height:
            reason = f"the fixed region {box.xyxy} does not fit into the {width} x {height} picture"
            return Located(present=False, reason=reason)
        return Located(present=True, box=box, margin=self.recipe.margin)


class ClassicalRoi:
    """Steps, regions, a choice: the recipe carried out."""

    def __init__(self, recipe: ClassicalRecipe) -> None:
        self.recipe = recipe

    def locate(self, frame: Frame) -> Located:
        """Find the part.

        Args:
            frame: uint8 RGB, height x width x 3.

        Returns:
            Box (inside the frame), quad where the recipe asks for one, and margin; or not present, with the reason.
            Never raises, whatever the picture shows.
        """
        if frame.size == 0:
            return Located(present=False, reason="the picture is empty")
        try:
            return self.choose(self.find_regions(reduced(frame, self.recipe.side_px), frame.shape), frame)
        except cv2.error as error:  # a picture of a few pixels can be too small for a step
            return Located(present=False, reason=f"a step could not be carried out ({error.err})")

    def trace(self, frame: Frame) -> Iterator[tuple[str, Picture]]:
        """The reduced picture and every step's, each with its name and parameters."""
        picture: Picture = reduced(frame, self.recipe.side_px)
        yield f"reduced to {picture.shape[1]} x {picture.shape[0]}", picture
        for step in self.recipe.steps:
            picture = step.apply(picture)
            yield describe(step), picture

    def find_regions(self, picture: Picture, frame_shape: tuple[int, ...]) -> Regions:
        """The regions that the steps leave of a reduced picture, in pixels of the frame it was made of."""
        for step in self.recipe.steps:
            picture = step.apply(picture)
        found = _contours(picture) if self.recipe.regions == "contours" else _components(picture)
        kept = np.argsort(-found.areas, kind="stable")[:MAX_REGIONS]
        kept = kept[found.areas[kept] >= _LEAST_AREA_PX]
        if self.recipe.shape == "quad":
            turned = [_quad_corners(found.outline(int(one))) for one in kept]
            shapes = upright_shapes(np.reshape(turned, (-1, 4, 2)).astype(np.float64))
        else:
            shapes = found.boxes[kept][:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
        scale = np.array([frame_shape[1] / picture.shape[1], frame_shape[0] / picture.shape[0]])
        return Regions(shapes=shapes * scale, areas=found.areas[kept] * scale.prod())

    def choose(self, regions: Regions, frame: Frame) -> Located:
        """Pick a region, refine its edges, grow it to the whole part."""
        recipe = self.recipe
        shapes = grown(regions.shapes, recipe.grow_long, recipe.grow_short)
        best, reason = pick(regions, shapes, recipe, (frame.shape[1], frame.shape[0]))
        if best is None:
            return Located(present=False, reason=reason)
        corners = shapes[best]
        if recipe.refine_band:
            edges = refine(frame, regions.shapes[best], recipe.refine_band)
            corners = grown(edges[None], recipe.grow_long, recipe.grow_short)[0]
        box = box_around(corners).intersection(Box.whole(frame))
        if box.area <= 0:
            return Located(present=False, reason="the region found lies outside the picture")
        quad = as_quad(corners) if recipe.shape == "quad" else None
        return Located(present=True, box=box, quad=quad, margin=recipe.margin)


def reduced(frame: Frame, side_px: int) -> Frame:
    """The picture the steps run on: its long side ``side_px``, smaller frames as they are.

    Sampled bilinearly at twice that size and halved: sixteen pixels or more speak for each, and it costs the same
    however large the frame is.
    """
    height, width = frame.shape[:2]
    scale = min(1.0, side_px / max(width, height))
    columns, rows = max(1, round(width * scale)), max(1, round(height * scale))
    if scale < 0.5:
        frame = np.asarray(cv2.resize(frame, (2 * columns, 2 * rows), interpolation=cv2.INTER_LINEAR), np.uint8)
    return images.crop_resize(frame, Box.whole(frame), (columns, rows))


def pick(
    regions: Regions, shapes: Shapes, recipe: ClassicalRecipe, frame_wh: tuple[int, int]
) -> tuple[int | None, str]:
    """Which region the recipe takes for the part: the one it likes best of those whose grown shape is in the taught
    range of area and aspect.

    Args:
        regions: What the steps left.
        shapes: The same, grown to the whole part.
        recipe: The range, and what it likes.
        frame_wh: Width and height of the frame.

    Returns:
        Its index, or ``None`` and the reason.
    """
    if not len(regions.areas):
        return None, "nothing is left of the picture after the recipe's steps"
    lengths = side_lengths(shapes)
    areas = lengths.prod(axis=1) / (frame_wh[0] * frame_wh[1])
    aspects = lengths.max(axis=1) / np.maximum(lengths.min(axis=1), 1e-9)
    allowed = (areas >= recipe.area[0]) & (areas <= recipe.area[1])
    allowed &= (aspects >= recipe.aspect[0]) & (aspects <= recipe.aspect[1])
    if not allowed.any():
        largest = int(areas.argmax())
        return None, (
            f"no region is in the taught range: expected {recipe.area[0]:.2%} to {recipe.area[1]:.2%} of the picture "
            f"at {recipe.aspect[0]:.1f} to {recipe.aspect[1]:.1f} : 1, found {len(shapes)}, the largest "
            f"{areas[largest]:.2%} at {aspects[largest]:.1f} : 1"
        )
    return int(np.argmax(np.where(allowed, _preference(regions, shapes, recipe, frame_wh), -np.inf))), ""


def _preference(
    regions: Regions, shapes: Shapes, recipe: ClassicalRecipe, frame_wh: tuple[int, int]
) -> Float64[np.ndarray, " shapes"]:
    """How much the recipe likes each region; the highest is chosen."""
    if recipe.choose == "largest":
        return regions.areas
    liked: Float64[np.ndarray, " shapes"]
    if recipe.choose == "most-rectangular":
        liked = regions.areas / np.maximum(side_lengths(regions.shapes).prod(axis=1), 1e-9)
    else:
        away = shapes.mean(axis=1) - np.multiply(recipe.target_xy, frame_wh)
        liked = -np.hypot(away[:, 0], away[:, 1])
    return liked


@dataclass(frozen=True, kw_only=True)
class _Found:
    """What is white in a mask, in its pixels and no certain order."""

    areas: Float64[np.ndarray, " found"]
    boxes: Float64[np.ndarray, "found 4"]
    """``(x1, y1, x2, y2)``, the outermost pixels inside."""
    outline: Callable[[int], np.ndarray]
    """The points around one of them."""


def _contours(mask: Picture) -> _Found:
    """Regions by their outlines; an area is that of all the outline encloses, its own pixels included (Pick's theorem).

    All are measured at once: a call to OpenCV for each costs several times as much.
    """
    traced, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    outlines = [outline for outline in traced if len(outline) > 1]  # single pixels are the most, and never the part
    if not outlines:
        return _Found(areas=np.zeros(0), boxes=np.zeros((0, 4)), outline=outlines.__getitem__)
    x, y = np.concatenate(outlines)[:, 0].T.astype(np.float64)
    ends = np.cumsum([len(outline) for outline in outlines])
    starts = np.concatenate([[0], ends[:-1]])
    following = np.arange(1, len(x) + 1)
    following[ends - 1] = starts
    next_x, next_y = x[following], y[following]
    enclosed = np.abs(np.add.reduceat(x * next_y - next_x * y, starts)) / 2
    around = np.add.reduceat(np.hypot(next_x - x, next_y - y), starts)
    far = (np.maximum.reduceat(x, starts) + 1, np.maximum.reduceat(y, starts) + 1)
    boxes = np.stack([np.minimum.reduceat(x, starts), np.minimum.reduceat(y, starts), *far], axis=1)
    return _Found(areas=enclosed + around / 2 + 1, boxes=boxes, outline=outlines.__getitem__)


def _components(mask: Picture) -> _Found:
    """Regions by their pixels, connected over corners as well."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask)
    x, y, width, height, areas = stats[1:].T.astype(np.float64)  # the first is the background

    def outline(number: int) -> np.ndarray:
        left, top, across, down, _ = (int(value) for value in stats[1 + number])
        one = (labels[top : top + down, left : left + across] == 1 + number).astype(np.uint8)
        outlines, _ = cv2.findContours(one, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE, offset=(left, top))
        return max(outlines, key=len)

    return _Found(areas=areas, boxes=np.stack([x, y, x + width, y + height], axis=1), outline=outline)


def _quad_corners(points: np.ndarray) -> np.ndarray:
    """In no certain order yet."""
    (x, y), (width, height), angle = cv2.minAreaRect(points)
    # Points are pixel centres. Beyond them lies half a pixel where a side runs along the grid, nothing where it crosses
    # many rows: half of that in between errs by a quarter of a pixel either way.
    return cv2.boxPoints(((x + 0.5, y + 0.5), (width + 0.5, height + 0.5), angle))
