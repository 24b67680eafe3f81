"""Defect maps as pictures: a fixed colour scale, the way from cells to pixels, the overlay on the photograph.

A defect map has few cells (7 x 7, say), the photograph millions of pixels. Everything here agrees on one geometry: the
map's grid covers the judged region evenly, so cell ``i`` of ``n`` has its middle at ``(i + 0.5) / n`` of the region.
Where a network's cells look elsewhere than at the middle of their square, the scale says by how much (``shift_xy``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

from gonogo.images import pixel_window
from gonogo.schema import Box, DefectMap, Frame, State, Verdict

STATE_RGB = {
    State.GO: (38, 140, 96),
    State.REVIEW: (222, 156, 22),
    State.NO_GO: (208, 46, 40),
    State.FAULT: (120, 120, 130),
}
"""Outline colour of each verdict; never the only carrier of the meaning."""

_GOOD_CELLS_COLD = 0.99
_STRONGEST_TINT = 0.7
_DARKEST_INFERNO = 96  # below this the colour map is nearly black and would read as shadow on the part


@dataclass(frozen=True, kw_only=True)
class HeatScale:
    """The fixed colour scale of one inspector, in units of its defect map (score units with the bias left out).

    Fixed, so that two pictures can be compared: a map stretched to its own range makes every good part look defective.
    """

    cold: float
    """Cells at or below this show the photograph itself."""
    hot: float
    """Cells at or above this have the strongest colour."""
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Where a cell looks, in cells right of and below the middle of its square.

    Strided convolutions with symmetric padding look up and left of it, by nearly half a cell.
    """

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cold) and math.isfinite(self.hot) and self.cold < self.hot):
            raise ValueError(f"expected finite cold < hot, found {self.cold} and {self.hot}")

    def heat(self, values: Float32[np.ndarray, "*cells"]) -> Float32[np.ndarray, "*cells"]:
        """Map values as heat, 0 (cold) to 1 (hot)."""
        return np.clip((values - self.cold) / (self.hot - self.cold), 0.0, 1.0).astype(np.float32)


def fit_scale(
    maps_good: Sequence[DefectMap],
    maps_bad: Sequence[DefectMap],
    bias: float,
    go_below: float | None,
    *,
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> HeatScale:
    """Choose the scale on which good parts look cold and the hottest spot of a typical bad part looks hot.

    Cold is the go threshold, or the 99 % quantile of the cells of good parts where that is higher (a mean-pooled map
    has single cells above the threshold on parts that are clearly good). Hot is the median over bad parts of their
    hottest cell, kept at least as far above cold as cold lies above the middle good cell.

    Args:
        maps_good: Defect maps of good parts (not those trained on), each rows x columns.
        maps_bad: Defect maps of bad parts; may be empty.
        bias: What the inspector adds to the pooled map.
        go_below: The go threshold on the score, where there is one; ``-inf`` counts as none.
        shift_xy: Handed on to the scale.

    Raises:
        ValueError: no map of a good part.
    """
    if not maps_good:
        raise ValueError("expected the defect maps of some good parts, found none")
    cells = np.concatenate([np.ravel(cell_map) for cell_map in maps_good]).astype(np.float64)
    cold = float(np.quantile(cells, _GOOD_CELLS_COLD))
    if go_below is not None and math.isfinite(go_below):
        cold = max(cold, go_below - bias)
    least = max(cold - float(np.median(cells)), 1e-3)
    hottest = float(np.median([cell_map.max() for cell_map in maps_bad])) if maps_bad else cold
    return HeatScale(cold=cold, hot=max(hottest, cold + least), shift_xy=shift_xy)


def spread(
    heatmap: DefectMap,
    box: Box,
    shape_hw: tuple[int, int],
    *,
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> Float32[np.ndarray, "height width"]:
    """Interpolate a defect map to the pixels of its frame, smoothly and never beyond the range of its cells.

    Args:
        heatmap: rows x columns, over the region that `gonogo.images.pixel_window` cuts out for ``box``.
        box: The judged region in frame pixels.
        shape_hw: Height and width of the frame.
        shift_xy: See `HeatScale`.

    Returns:
        height x width; ``-inf`` outside the region, where nothing was judged.

    Raises:
        ImageError: the box does not overlap the frame.
    """
    x1, y1, x2, y2 = pixel_window(_blank(shape_hw), box)
    full = np.full(shape_hw, -np.inf, np.float32)
    full[y1:y2, x1:x2] = _interpolate(heatmap, (y2 - y1, x2 - x1), shift_xy)
    return full


def hottest_point(heatmap: DefectMap, box: Box, *, shift_xy: tuple[float, float] = (0.0, 0.0)) -> tuple[float, float]:
    """Where the map is hottest: ``(x, y)`` in frame pixels, inside the box.

    The peak is placed between cells by the parabola through the hottest cell and its two neighbours along each axis;
    a cell at the border keeps its own middle. Of equal cells the one nearest to the middle of the grid counts.

    Args:
        heatmap: rows x columns, evenly over ``box``.
        box: The judged region in frame pixels.
        shift_xy: See `HeatScale`.
    """
    rows, columns = heatmap.shape
    row, column = _peak_cell(heatmap)
    x = (column + _parabola_offset(heatmap[row], column) + 0.5 + shift_xy[0]) / columns
    y = (row + _parabola_offset(heatmap[:, column], row) + 0.5 + shift_xy[1]) / rows
    return box.x1 + min(max(x, 0.0), 1.0) * box.width, box.y1 + min(max(y, 0.0), 1.0) * box.height


def overlay(frame: Frame, verdict: Verdict, scale: HeatScale) -> Frame:
    """The photograph with its heat drawn on and the judged region outlined in the colour of the verdict.

    Cold regions stay the photograph; the hotter, the more colour (purple, orange, yellow). Draw it off the verdict
    path.

    Args:
        frame: uint8, height x width x 3; left as it is.
        verdict: The inspector's judgement of this frame; one without a map is only outlined, one without a region
            comes back as the photograph.
        scale: The inspector's colour scale.

    Returns:
        A new frame of the same size.
    """
    drawn = frame.copy()
    if verdict.box is None:
        return drawn
    x1, y1, x2, y2 = pixel_window(frame, verdict.box)
    if verdict.heatmap is not None:
        window = drawn[y1:y2, x1:x2]
        values = _interpolate(verdict.heatmap, window.shape[:2], scale.shift_xy)
        level = np.rint(scale.heat(values) * 255).astype(np.uint8)
        strength = cv2.LUT(level, _tint_strength())
        colour = cv2.applyColorMap(level, legend_rgb()[:, None])
        window[:] = cv2.blendLinear(np.ascontiguousarray(window), colour, 1 - strength, strength)
    width = max(1, round(min(frame.shape[:2]) / 120))
    _outline(drawn[y1:y2, x1:x2], width, STATE_RGB[verdict.state])
    return drawn


def legend_rgb() -> UInt8[np.ndarray, "256 3"]:
    """The colours from cold to hot, for drawing a key beside the picture: the upper part of Inferno."""
    steps = np.linspace(_DARKEST_INFERNO, 245, 256).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO).reshape(256, 3)[:, ::-1])


def _blank(shape_hw: tuple[int, int]) -> Frame:
    return np.broadcast_to(np.uint8(0), (*shape_hw, 3))


def _interpolate(
    heatmap: DefectMap, size_hw: tuple[int, ...], shift_xy: tuple[float, float]
) -> Float32[np.ndarray, "height width"]:
    # Two small matrix products instead of cv2.resize: any shift, no rounding of positions, no slower.
    down = _cubic_weights(heatmap.shape[0], size_hw[0], shift_xy[1])
    across = _cubic_weights(heatmap.shape[1], size_hw[1], shift_xy[0])
    full: Float32[np.ndarray, "height width"] = down @ heatmap.astype(np.float32) @ across.T
    return np.clip(full, heatmap.min(), heatmap.max(), out=full)


def _cubic_weights(cells: int, pixels: int, shift: float) -> Float32[np.ndarray, "pixels cells"]:
    """Cubic convolution after Keys (IEEE TASSP 29, 1981) with a = -1/2; cells beyond the border repeat the last."""
    position = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5 - shift
    first = np.floor(position).astype(int)
    weights = np.zeros((pixels, cells), np.float32)
    for tap in (-1, 0, 1, 2):
        t = np.abs(position - (first + tap))
        near = (1.5 * t - 2.5) * t * t + 1
        far = ((-0.5 * t + 2.5) * t - 4) * t + 2
        np.add.at(weights, (np.arange(pixels), np.clip(first + tap, 0, cells - 1)), np.where(t <= 1, near, far))
    return weights


def _peak_cell(heatmap: DefectMap) -> tuple[int, int]:
    rows, columns = heatmap.shape
    candidates = np.argwhere(heatmap == heatmap.max())
    middle = np.array([(rows - 1) / 2, (columns - 1) / 2])
    row, column = candidates[np.argmin(((candidates - middle) ** 2).sum(axis=1))]
    return int(row), int(column)


def _parabola_offset(line: Float32[np.ndarray, " cells"], peak: int) -> float:
    if peak == 0 or peak == len(line) - 1:
        return 0.0
    before, at, after = (float(value) for value in line[peak - 1 : peak + 2])
    bend = before - 2 * at + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0


def _tint_strength() -> Float32[np.ndarray, "256"]:
    return (_STRONGEST_TINT * np.linspace(0, 1, 256) ** 0.75).astype(np.float32)


def _outline(region: Frame, width: int, rgb: tuple[int, int, int]) -> None:
    for edge in (region[:width], region[-width:], region[:, :width], region[:, -width:]):
        edge[:] = rgb
