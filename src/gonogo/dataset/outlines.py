"""Outlines of defects: polygons and run lengths to masks, and masks to polygons along the pixels' edges.

A pixel belongs to a polygon when its centre lies inside, by the even-odd rule; the polygons of `traced` follow the
edges of pixels, so that they give back exactly the mask they were made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import cv2
import numpy as np

from gonogo.dataset.run_lengths import Flat, from_run_lengths
from gonogo.errors import DatasetError
from gonogo.images.polygons import fill_polygon
from gonogo.schema import Mask

Points: TypeAlias = tuple[tuple[float, float], ...]
Corner: TypeAlias = tuple[int, int]


class Outline(Protocol):
    """The pixels of an annotated object, decoded when they are needed."""

    def mask(self, size_wh: tuple[int, int], where: str) -> Mask:
        """Return the pixels in a picture of this size.

        Args:
            size_wh: Width and height of the picture in pixels.
            where: The picture, for messages.

        Raises:
            DatasetError: The outline is malformed, or belongs to a picture of another size.
        """


@dataclass(frozen=True, kw_only=True)
class Polygons:
    """The union of polygons, in pixels or in shares of width and height."""

    rings: tuple[Points, ...]
    relative: bool = False

    def mask(self, size_wh: tuple[int, int], where: str) -> Mask:
        """Return the pixels whose centres lie inside; see `Outline.mask`."""
        found = np.zeros(size_wh[::-1], np.bool_)
        for ring in self.rings:
            points = np.asarray(ring, np.float64).reshape(-1, 2)
            if len(points) < 3 or not np.isfinite(points).all():
                raise DatasetError(
                    f"{where}: expected a polygon of at least three corners with finite coordinates, found "
                    f"{str(ring)[:60]}. Correct the annotation."
                )
            try:
                fill_polygon(found, points * size_wh if self.relative else points)
            except ValueError as error:
                raise DatasetError(f"{where}: {error}. Correct the annotation.") from error
        return found


@dataclass(frozen=True, kw_only=True)
class Runs:
    """Run-length coded pixels of a window of the picture."""

    lengths: Callable[[int], Flat] | tuple[int, ...]
    """Lengths of alternating runs, unmarked first; or a function from a number of pixels to the decoded pixels."""
    window_xywh: tuple[int, int, int, int]
    by_column: bool = False
    """Whether the pixels are counted down the columns (COCO) instead of along the rows."""
    whole_wh: tuple[int, int] | None = None
    """Size of the annotated picture, where it is known."""

    def mask(self, size_wh: tuple[int, int], where: str) -> Mask:
        """Return the pixels; see `Outline.mask`."""
        x, y, width, height = self.window_xywh
        inside = x >= 0 and y >= 0 and min(width, height) > 0 and x + width <= size_wh[0] and y + height <= size_wh[1]
        if not inside or self.whole_wh not in (None, size_wh):
            whole = self.whole_wh or (x + width, y + height)
            raise DatasetError(
                f"{where}: expected a mask of {size_wh[0]} x {size_wh[1]} pixels like the picture, found one for "
                f"{whole[0]} x {whole[1]}. Annotate the picture at its own size."
            )
        try:
            pixels = width * height
            flat = self.lengths(pixels) if callable(self.lengths) else from_run_lengths(self.lengths, pixels)
        except ValueError as error:
            raise DatasetError(f"{where}: the mask cannot be decoded: {error}. Export it again.") from error
        found = np.zeros(size_wh[::-1], np.bool_)
        found[y : y + height, x : x + width] = (
            flat.reshape(width, height).T if self.by_column else flat.reshape(height, width)
        )
        return found


def bounds_of(mask: Mask) -> tuple[int, int, int, int]:
    """Return the smallest box around a mask that marks something: edges x1, y1, x2, y2 in whole pixels."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def traced(mask: Mask) -> list[tuple[Corner, ...]]:
    """Return one polygon for each connected area of a mask, along the edges of its pixels.

    Pixels that touch only at a corner belong to two areas. A hole is joined to the outer border by a cut of no width.
    """
    _, labels, windows, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    found = []
    for number, (x, y, width, height, _) in enumerate(windows.tolist()):
        if number:
            area = labels[y : y + height, x : x + width] == number
            outer, *holes = sorted(_borders(area), key=_is_hole)
            ring = [*outer]
            for hole in holes:
                ring += [outer[0], *hole, hole[0]]
            ring += [outer[0]] if holes else []
            found.append(tuple((column + x, row + y) for column, row in ring))
    return found


def _borders(area: Mask) -> list[list[Corner]]:
    """Follow the borders of one connected area: the outer one clockwise, holes the other way round."""
    leads = _edges(area)
    borders = []
    while leads:
        start = at = next(iter(leads))
        step: Corner = (0, 0)
        border: list[Corner] = []
        while True:
            options, right = leads.get(at, []), (-step[1], step[0])
            if border and at == start and right not in options:
                break
            before, step = step, right if right in options else options[0]
            options.remove(step)
            if not options:
                del leads[at]
            if step != before:
                border.append(at)
            at = (at[0] + step[0], at[1] + step[1])
        borders.append(border)
    return borders


def _edges(area: Mask) -> dict[Corner, list[Corner]]:
    """Return the steps that lead along the pixels' edges from each corner, with the area on the right."""
    padded = np.pad(area, 1)
    leads: dict[Corner, list[Corner]] = {}
    tops = padded[1:, 1:-1] & ~padded[:-1, 1:-1]
    bottoms = padded[:-1, 1:-1] & ~padded[1:, 1:-1]
    lefts = padded[1:-1, 1:] & ~padded[1:-1, :-1]
    rights = padded[1:-1, :-1] & ~padded[1:-1, 1:]
    steps = ((tops, (1, 0), (0, 0)), (bottoms, (-1, 0), (1, 0)), (lefts, (0, -1), (0, 1)), (rights, (0, 1), (0, 0)))
    for edges, step, (shift_x, shift_y) in steps:
        for row, column in np.argwhere(edges).tolist():
            leads.setdefault((column + shift_x, row + shift_y), []).append(step)
    return leads


def _is_hole(border: Sequence[Corner]) -> bool:
    following = [*border[1:], border[0]]
    return math.fsum(x0 * y1 - x1 * y0 for (x0, y0), (x1, y1) in zip(border, following, strict=True)) < 0
