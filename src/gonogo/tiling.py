"""Tiling for small defects on large parts: a region is judged in overlapping windows at full resolution.

The region is rectified at its original size, rounded to whole cells of 16 pixels, and cut into equal windows whose
edges lie on the grid of cells. Each window is judged separately; the worst one gives the score, and the maps of all
windows are stitched into one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite

import numpy as np

from gonogo import images
from gonogo.array_types import Float32, UInt8
from gonogo.config import CELL_PX, Recipe
from gonogo.errors import ImageError
from gonogo.images.geometry import side_lengths
from gonogo.schema import Frame, Region

MOST_WINDOWS = 10_000
"""Largest number of windows in one region; more than that means that the region was found wrongly."""

Upright = UInt8[np.ndarray, "_height _width 3"]
Numbers = UInt8[np.ndarray, "_rows _columns"]
"""Zone of every cell, see `gonogo.zoning`."""


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Positions of the windows of one region."""

    size_wh: tuple[int, int]
    """Size of the upright region, in pixels."""
    window_wh: tuple[int, int]
    lefts: tuple[int, ...]
    """Left edge of every column of windows, in pixels. All fields are multiples of `CELL_PX`."""
    tops: tuple[int, ...]

    @property
    def corners(self) -> list[tuple[int, int]]:
        """Left and top edges of all windows, row by row."""
        return [(left, top) for top in self.tops for left in self.lefts]

    def cells(self, number: int) -> tuple[slice, slice]:
        """The rows and columns that a window covers in the map of the whole region."""
        left, top = (edge // CELL_PX for edge in self.corners[number])
        columns, rows = (side // CELL_PX for side in self.window_wh)
        return slice(top, top + rows), slice(left, left + columns)


@dataclass(frozen=True, kw_only=True)
class Stitched:
    """Combined result of all windows."""

    outputs: dict[str, np.ndarray]
    """Outputs of the worst window, except ``heatmap``, which covers the whole region."""
    worst: int
    """Number of the worst window."""
    windows: int


def grid_of(region_wh: tuple[float, float], window_wh: tuple[int, int], overlap_px: int) -> Grid:
    """Cover a region with the smallest number of equal, evenly spaced windows that overlap enough.

    Args:
        region_wh: Side lengths of the region, in pixels of the (reduced) picture. A side shorter than the window
            is enlarged to it.
        window_wh: Width and height of a window.
        overlap_px: Smallest overlap of neighbouring windows.

    Raises:
        ImageError: More than `MOST_WINDOWS` windows would be needed.
    """
    width, height = (
        max(window, round(side / CELL_PX) * CELL_PX) for side, window in zip(region_wh, window_wh, strict=True)
    )
    lefts, tops = _starts(width, window_wh[0], overlap_px), _starts(height, window_wh[1], overlap_px)
    if len(lefts) * len(tops) > MOST_WINDOWS:
        raise ImageError(
            f"a region of {width} x {height} pixels needs {len(lefts) * len(tops)} windows, more than the "
            f"{MOST_WINDOWS} allowed. Check how the region is found, or train with a larger --size."
        )
    return Grid(size_wh=(width, height), window_wh=window_wh, lefts=lefts, tops=tops)


def grid_in(frame: Frame, region: Region, recipe: Recipe) -> Grid:
    """Return the windows of a region of a frame, for a recipe with tiling.

    Raises:
        ImageError: The region does not overlap the frame, or needs too many windows.
    """
    assert recipe.tiling is not None, "asked for where there is tiling"
    return grid_of(side_lengths(images.seen_region(frame, region)), recipe.size_wh, recipe.tiling.overlap_px)


def seen_size(frame: Frame, region: Region, recipe: Recipe) -> tuple[int, int]:
    """Return the width and height at which the network sees a region, all windows together.

    Without tiling that is the recipe's ``size_wh``.
    """
    return recipe.size_wh if recipe.tiling is None else grid_in(frame, region, recipe).size_wh


def cut_windows(picture: Upright, grid: Grid) -> Iterator[Upright]:
    """Yield the windows of an upright region, row by row; views, not copies."""
    width, height = grid.window_wh
    for left, top in grid.corners:
        yield picture[top : top + height, left : left + width]


Judge = Callable[..., dict[str, np.ndarray]]
"""Maps a picture, with zones also the zones of its cells, to ``score``, ``heatmap`` and further outputs."""


def judge_windows(graph: Judge, picture: Upright, grid: Grid, numbers: Numbers | None = None) -> Stitched:
    """Judge every window of an upright region.

    The score and the feature vector are those of the worst window. Each cell of the map is taken from the window whose
    centre is nearest, except that the worst window keeps all its cells, so that they explain the score exactly.

    Args:
        graph: The outputs have a leading axis of 1.
        picture: The region at ``grid.size_wh``.
        grid: Its windows.
        numbers: Zone of every cell of the region, if the part has zones. A window without a cell to judge is skipped;
            the score of a zone is that of its worst window.

    Raises:
        ValueError: A score is not finite, or no window has a cell to judge.
    """
    answers: dict[int, dict[str, np.ndarray]] = {}
    for number, window in enumerate(cut_windows(picture, grid)):
        if numbers is None:
            answers[number] = graph(np.ascontiguousarray(window))
        elif (cells := np.ascontiguousarray(numbers[grid.cells(number)])).any():
            answers[number] = graph(np.ascontiguousarray(window), cells)
    if not answers:
        raise ValueError("ignore zones cover every window of the part")
    scores = {number: float(answer["score"][0]) for number, answer in answers.items()}
    if not np.isfinite([*scores.values()]).all():
        raise ValueError(f"the network gave a score of {next(each for each in scores.values() if not isfinite(each))}")
    worst = max(scores, key=lambda number: scores[number])
    maps = {number: answer["heatmap"][0] for number, answer in answers.items()}
    cold = np.full_like(maps[worst], min(float(each.min()) for each in maps.values()))
    heatmap = stitch([maps.get(number, cold) for number in range(len(grid.corners))], grid, on_top=worst)
    outputs = {**answers[worst], "heatmap": heatmap[None]}
    if "zones" in outputs:
        outputs["zones"] = np.max([answer["zones"] for answer in answers.values()], axis=0)
    return Stitched(outputs=outputs, worst=worst, windows=len(answers))


def stitch(
    maps: Sequence[Float32[np.ndarray, "rows columns"]], grid: Grid, *, on_top: int
) -> Float32[np.ndarray, "all_rows all_columns"]:
    """Combine the maps of all windows into one, see `judge_windows`."""
    columns, rows = (side // CELL_PX for side in grid.size_wh)
    whole = np.empty((rows, columns), np.float32)
    across, down = (
        _owned(starts, window, side)
        for starts, window, side in zip((grid.lefts, grid.tops), grid.window_wh, grid.size_wh, strict=True)
    )
    for number, each in enumerate(maps):
        row, column = divmod(number, len(grid.lefts))
        (first_row, last_row), (first_column, last_column) = down[row], across[column]
        top, left = grid.tops[row] // CELL_PX, grid.lefts[column] // CELL_PX
        own = each[first_row - top : last_row - top, first_column - left : last_column - left]
        whole[first_row:last_row, first_column:last_column] = own
    whole[grid.cells(on_top)] = maps[on_top]
    return whole


def _starts(length: int, window: int, overlap: int) -> tuple[int, ...]:
    """Start positions, evenly spaced on whole cells; the first is 0 and the last window ends at the region's end."""
    count = 1 if length == window else math.ceil((length - overlap) / (window - overlap))
    spare = (length - window) // CELL_PX
    return tuple(number * spare // max(1, count - 1) * CELL_PX for number in range(count))


def _owned(starts: Sequence[int], window: int, length: int) -> list[tuple[int, int]]:
    """For each window, the range of cells along one axis that are nearest to its centre (end exclusive)."""
    edges = [0]
    edges += [(before + window + after) // 2 // CELL_PX for before, after in pairwise(starts)]
    edges.append(length // CELL_PX)
    return list(pairwise(edges))
