"""Length and width of a defect from its pixels.

The length of an elongated shape is its geodesic length, the longest of the shortest paths inside it (Lantuejoul and
Maisonneuve, Pattern Recognition 17, 1984), and its width is its area divided by that length, as ISO 9276-6 defines
both for fibres. The longest path of a ribbon runs from corner to corner; its length along the ribbon follows from
Pythagoras. A compact shape has the sides of its smallest enclosing rectangle instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from gonogo.array_types import Float64, UInt8
from gonogo.schema import Mask

if TYPE_CHECKING:  # scipy takes as long to import as all of a judgement's other modules
    from scipy.sparse import csr_array

Path: TypeAlias = Float64[np.ndarray, "points 2"]

ELONGATED = 2.0
"""Ratio of length to width above which a shape is measured as a ribbon."""
_MOST_PIXELS = 20_000
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1), (1, 2), (2, 1), (1, -2), (2, -1))
"""Half of the 16 directions of a step; with all of them, a path is at most 3 % longer than the straight line."""
_SMOOTHED = 7
_WAYPOINTS = 9


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Size of a shape in pixels."""

    length: float
    width: float
    area: float
    path: Path
    """Points ``(x, y)`` along its length; (0.5, 0.5) is the centre of the first pixel."""


def measure_shape(mask: Mask) -> Shape:
    """Measure one connected shape.

    A shape of more than 20,000 pixels is reduced first, which costs a pixel of its own size in accuracy.

    Raises:
        ValueError: The mask is empty.
    """
    area = int(mask.sum())
    if area == 0:
        raise ValueError("expected a shape of at least one pixel, found none")
    step = max(1, math.ceil(math.sqrt(area / _MOST_PIXELS)))
    small = mask if step == 1 else _reduced(mask, step)
    rows, columns = np.nonzero(small)
    centres = np.stack([columns, rows], axis=1).astype(np.float64)
    path = _smooth(_longest_path(small, centres))
    along = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
    length, width = _ribbon(along, len(centres))
    if length < ELONGATED * width:
        length, width, path = _rectangle(centres)
    chosen = np.unique(np.linspace(0, len(path) - 1, _WAYPOINTS).round().astype(int))
    return Shape(length=length * step, width=width * step, area=float(area), path=(path[chosen] + 0.5) * step)


def _reduced(mask: Mask, step: int) -> Mask:
    height, width = (math.ceil(side / step) * step for side in mask.shape)
    padded = np.zeros((height, width), np.bool_)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    return np.asarray(padded.reshape(height // step, step, width // step, step).any(axis=(1, 3)), np.bool_)


def _ribbon(along: float, area: int) -> tuple[float, float]:
    """Length and width of a ribbon of so many pixels, whose longest path between pixel centres is ``along``.

    At each end, the last pixel centre is 1 / (2 w) before the edge on average: there is one pixel per unit of area, so
    a strip of that width contains none over a length that is uniform between 0 and 1 / w, at angles that do not
    coincide with the grid.
    """
    length, width = along + 1.0, 1.0
    for _ in range(10):
        width = max(1.0, area / length)
        length = math.sqrt(max(along**2 - (width - 1.0) ** 2, 0.0)) + 1.0 / width
    return length, area / length


def _rectangle(centres: Path) -> tuple[float, float, Path]:
    # The rectangle around the pixel centres misses up to half a pixel on each side, and little at a corner.
    (x, y), (across, down), degrees = cv2.minAreaRect(centres.astype(np.float32))
    length, width = max(across, down), min(across, down)
    angle = math.radians(degrees if across >= down else degrees + 90)
    half = np.array([math.cos(angle), math.sin(angle)]) * length / 2
    return max(1.0, length + 0.25), max(1.0, width + 0.25), np.array([-half, np.zeros(2), half]) + np.array([x, y])


def _longest_path(mask: Mask, centres: Path) -> Path:
    """The longest shortest path inside a shape, from a double sweep: farthest from anywhere, then from there."""
    from scipy.sparse.csgraph import dijkstra

    graph = _neighbours(mask, centres)
    first = dijkstra(graph, directed=False, indices=[int(np.argmin(centres @ (1.0, 1e-3)))])[0]
    start = int(np.argmax(np.where(np.isfinite(first), first, -1.0)))
    found, predecessors = dijkstra(graph, directed=False, indices=[start], return_predecessors=True)
    distances, before = found[0], predecessors[0]
    at = int(np.argmax(np.where(np.isfinite(distances), distances, -1.0)))
    order = [at]
    while at != start:
        at = int(before[at])
        order.append(at)
    return np.asarray(centres[order], np.float64)


def _neighbours(mask: Mask, centres: Path) -> csr_array:
    """Distances between neighbouring pixels of a shape; a step of two pixels must not leave it."""
    from scipy.sparse import coo_array, csr_array

    number = np.full((mask.shape[0] + 4, mask.shape[1] + 4), -1, np.int64)
    rows, columns = centres[:, 1].astype(int) + 2, centres[:, 0].astype(int) + 2
    number[rows, columns] = np.arange(len(centres))
    starts, ends, lengths = [], [], []
    for down, right in _STEPS:
        to = number[rows + down, columns + right]
        inside = to >= 0
        if abs(down) + abs(right) == 3:  # over the two pixels between
            between = ((0, right // 2), (down, right // 2)) if abs(right) == 2 else ((1, 0), (1, right))
            for row, column in between:
                inside &= number[rows + row, columns + column] >= 0
        starts.append(np.flatnonzero(inside))
        ends.append(to[inside])
        lengths.append(np.full(int(inside.sum()), math.hypot(down, right)))
    joined = np.concatenate(starts), np.concatenate(ends)
    return csr_array(coo_array((np.concatenate(lengths), joined), shape=(len(centres), len(centres))))


def _smooth(path: Path) -> Path:
    """Average over neighbouring points with the ends kept in place, which removes the steps of the grid."""
    reach = min(_SMOOTHED, len(path) - 1) // 2
    if reach < 1:
        return path
    before = 2 * path[0] - path[reach:0:-1]
    after = 2 * path[-1] - path[-2 : -2 - reach : -1]
    extended = np.concatenate([before, path, after])
    kernel = np.ones(2 * reach + 1) / (2 * reach + 1)
    smoothed = [np.convolve(extended[:, axis], kernel, mode="valid") for axis in (0, 1)]
    return np.stack(smoothed, axis=1)


def largest_touching(candidates: Mask, core: Mask, weight: Float64[np.ndarray, "rows columns"]) -> Mask | None:
    """The connected part of ``candidates`` that overlaps ``core`` and weighs most; ``None`` if none overlaps."""
    plain: UInt8[np.ndarray, "rows columns"] = candidates.astype(np.uint8)
    count, labels = cv2.connectedComponents(plain, connectivity=8)
    touching = np.bincount(labels[core & candidates], minlength=count)[1:] > 0
    if not touching.any():
        return None
    weights = np.bincount(labels.ravel(), weights=weight.ravel(), minlength=count)[1:]
    best: Mask = labels == int(np.argmax(np.where(touching, weights, -1.0))) + 1
    return best
