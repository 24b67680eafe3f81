"""Heat maps: the fixed colour scale, interpolation from cells to pixels, and the overlay on the photograph.

A defect map has few cells (for example 7 x 7), a photograph has millions of pixels. All functions use one geometry: the
map's grid covers the judged region evenly, so cell ``i`` of ``n`` has its centre at ``(i + 0.5) / n`` of the region.
If a network's cells respond to a point away from the centre of their square, ``shift_xy`` of the verdict is the offset.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, UInt8
from gonogo.config import Zone
from gonogo.images import in_frame, pixel_window, seen_region
from gonogo.images.geometry import box_around, corners_of
from gonogo.images.zone_drawing import draw_zones
from gonogo.images.zones import Place
from gonogo.schema import Box, DefectMap, Frame, Region, State, Verdict

STATE_RGB = {
    State.GO: (38, 140, 96),
    State.REVIEW: (222, 156, 22),
    State.NO_GO: (208, 46, 40),
    State.FAULT: (120, 120, 130),
}
"""Outline colour of each verdict; the verdict is always shown as text, too."""

_GOOD_CELLS_COLD = 0.99
_STRONGEST_TINT = 0.7
_DARKEST_INFERNO = 96  # below this the colour map is nearly black and looks like a shadow on the part


@dataclass(frozen=True, kw_only=True)
class HeatScale:
    """The fixed colour scale of one inspector, in units of its defect map (score units without the bias).

    The scale is fixed so that two pictures can be compared: a map stretched to its own range would make every good part
    look defective.
    """

    cold: float
    """Cells at or below this value are transparent."""
    hot: float
    """Cells at or above this value have the strongest colour."""
    shift_xy: tuple[float, float] = (0.0, 0.0)
    """Offset of the cells, see `gonogo.schema.Verdict`; in a cascade, of the teacher's map."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cold) and math.isfinite(self.hot) and self.cold < self.hot):
            raise ValueError(f"expected finite cold < hot, found {self.cold} and {self.hot}")

    def heat(self, values: Float32[np.ndarray, "*cells"]) -> Float32[np.ndarray, "*cells"]:
        """Convert map values to heat, from 0 (cold) to 1 (hot)."""
        return np.clip((values - self.cold) / (self.hot - self.cold), 0.0, 1.0).astype(np.float32)


def fit_scale(
    maps_good: Sequence[DefectMap],
    maps_bad: Sequence[DefectMap],
    bias: float,
    go_below: float | None,
    *,
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> HeatScale:
    """Choose a scale on which good parts look cold and the hottest spot of a typical bad part looks hot.

    Cold is the go threshold or, if higher, the 99 % quantile of the cells of good parts (a mean-pooled map has single
    cells above the threshold even on clearly good parts). Hot is the median of the hottest cells of bad parts, but at
    least as far above cold as cold is above the median cell of good parts.

    Args:
        maps_good: Defect maps of good parts that were not trained on, each rows x columns.
        maps_bad: Defect maps of bad parts; may be empty.
        bias: The inspector's bias, added to the pooled map.
        go_below: The go threshold on the score, if there is one; ``-inf`` counts as none.
        shift_xy: Offset of the cells, stored in the scale.

    Raises:
        ValueError: ``maps_good`` is empty.
    """
    if not maps_good:
        raise ValueError("expected defect maps of good parts, found none")
    cells = np.concatenate([np.ravel(cell_map) for cell_map in maps_good]).astype(np.float64)
    cold = float(np.quantile(cells, _GOOD_CELLS_COLD))
    if go_below is not None and math.isfinite(go_below):
        cold = max(cold, go_below - bias)
    least = max(cold - float(np.median(cells)), 1e-3)
    hottest = float(np.median([cell_map.max() for cell_map in maps_bad])) if maps_bad else cold
    return HeatScale(cold=cold, hot=max(hottest, cold + least), shift_xy=shift_xy)


def spread(
    heatmap: DefectMap,
    region: Region,
    shape_hw: tuple[int, int],
    *,
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> Float32[np.ndarray, "height width"]:
    """Interpolate a defect map smoothly to the pixels of its frame, within the range of its cells.

    Args:
        heatmap: rows x columns, evenly over the crop that `gonogo.images.cut` takes for ``region``.
        region: The judged region in frame pixels.
        shape_hw: Height and width of the frame.
        shift_xy: Offset of the cells, see `gonogo.schema.Verdict`.

    Returns:
        height x width; ``-inf`` outside the judged region.

    Raises:
        ImageError: The region does not overlap the frame.
    """
    (x1, y1, x2, y2), values = _over_window(heatmap, region, shape_hw, shift_xy)
    full = np.full(shape_hw, -np.inf, np.float32)
    full[y1:y2, x1:x2] = values
    return full


def hottest_point(
    heatmap: DefectMap, region: Region, *, shift_xy: tuple[float, float] = (0.0, 0.0)
) -> tuple[float, float]:
    """Return the hottest point of a map: ``(x, y)`` in frame pixels, inside the region.

    Along each axis, the peak is refined by a parabola through the hottest cell and its two neighbours; at the border it
    is the cell's centre. Among equal cells, the one nearest to the centre of the grid is used.

    Args:
        heatmap: rows x columns, evenly over ``region``.
        region: The judged region in frame pixels.
        shift_xy: Offset of the cells, see `gonogo.schema.Verdict`.
    """
    rows, columns = heatmap.shape
    row, column = _peak_cell(heatmap)
    x = (column + _parabola_offset(heatmap[row], column) + 0.5 + shift_xy[0]) / columns
    y = (row + _parabola_offset(heatmap[:, column], row) + 0.5 + shift_xy[1]) / rows
    found = in_frame(region, np.clip([[x, y]], 0.0, 1.0))[0]
    return float(found[0]), float(found[1])


def overlay(frame: Frame, verdict: Verdict, scale: HeatScale, zones: Sequence[Zone] = ()) -> Frame:
    """Draw the heat map and the zones on the photograph, and outline the judged region in the colour of the verdict.

    Cold regions stay unchanged; the hotter, the stronger the colour (purple, orange, yellow). Drawing takes time: call
    this after the verdict was sent.

    Args:
        frame: uint8, height x width x 3; not modified.
        verdict: The verdict on this frame. Without a map only the outline is drawn; without a region the photograph is
            returned as it is.
        scale: The inspector's colour scale.
        zones: The recipe's zones; ignore zones are hatched.

    Returns:
        A new frame of the same size.
    """
    drawn = frame.copy()
    if verdict.region is None:
        return drawn
    if verdict.heatmap is not None:
        (x1, y1, x2, y2), values = _over_window(verdict.heatmap, verdict.region, frame.shape[:2], verdict.shift_xy)
        window = drawn[y1:y2, x1:x2]
        level = np.rint(scale.heat(values) * 255).astype(np.uint8)
        strength = cv2.LUT(level, _tint_strength())
        colour = cv2.applyColorMap(level, legend_rgb()[:, None])
        window[:] = cv2.blendLinear(np.ascontiguousarray(window), colour, 1 - strength, strength)
    draw_zones(drawn, Place(region=verdict.region, margin=verdict.margin), zones, deciding=verdict.zone)
    _outline(drawn, seen_region(frame, verdict.region), STATE_RGB[verdict.state])
    return drawn


def legend_rgb() -> UInt8[np.ndarray, "256 3"]:
    """Return the colours from cold to hot, for a legend: the upper part of the Inferno colour map."""
    steps = np.linspace(_DARKEST_INFERNO, 245, 256).round().astype(np.uint8)
    return np.ascontiguousarray(cv2.applyColorMap(steps, cv2.COLORMAP_INFERNO).reshape(256, 3)[:, ::-1])


def _over_window(
    heatmap: DefectMap, region: Region, shape_hw: tuple[int, ...], shift_xy: tuple[float, float]
) -> tuple[tuple[int, int, int, int], Float32[np.ndarray, "height width"]]:
    """Return the pixel window ``(x1, y1, x2, y2)`` around a region and the map in it, ``-inf`` outside the region."""
    corners = corners_of(region)
    x1, y1, x2, y2 = window = pixel_window(_blank(shape_hw), box_around(corners))
    if isinstance(region, Box):
        return window, _interpolate(heatmap, (y2 - y1, x2 - x1), shift_xy)
    sides = np.linalg.norm(np.roll(corners, -1, axis=0) - corners, axis=1)
    width, height = (max(1, round(float(max(pair)))) for pair in (sides[::2], sides[1::2]))
    upright = _interpolate(heatmap, (height, width), shift_xy)
    source = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32) - 0.5
    matrix = cv2.getPerspectiveTransform(source, (corners - [x1, y1] - 0.5).astype(np.float32))
    turned = cv2.warpPerspective(
        upright, matrix, (x2 - x1, y2 - y1), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    inside = np.zeros(turned.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint((corners - [x1, y1] - 0.5) * 16).astype(np.int32), 1, shift=4)
    return window, np.where(inside == 1, turned, np.float32(-np.inf)).astype(np.float32)


def _blank(shape_hw: tuple[int, ...]) -> Frame:
    return np.broadcast_to(np.uint8(0), (*shape_hw, 3))


def _interpolate(
    heatmap: DefectMap, size_hw: tuple[int, ...], shift_xy: tuple[float, float]
) -> Float32[np.ndarray, "height width"]:
    # Two small matrix products instead of cv2.resize: any shift, no rounded positions, and just as fast.
    down = _cubic_weights(heatmap.shape[0], size_hw[0], shift_xy[1])
    across = _cubic_weights(heatmap.shape[1], size_hw[1], shift_xy[0])
    full: Float32[np.ndarray, "height width"] = down @ heatmap.astype(np.float32) @ across.T
    return np.clip(full, heatmap.min(), heatmap.max(), out=full)


def _cubic_weights(cells: int, pixels: int, shift: float) -> Float32[np.ndarray, "pixels cells"]:
    """Cubic convolution (Keys, IEEE TASSP 29, 1981) with a = -1/2; the border cell is repeated beyond the border."""
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


def _outline(frame: Frame, region: Region, rgb: tuple[int, int, int]) -> None:
    width = max(1, round(min(frame.shape[:2]) / 120))
    if isinstance(region, Box):
        x1, y1, x2, y2 = pixel_window(frame, region)
        inside = frame[y1:y2, x1:x2]
        for edge in (inside[:width], inside[-width:], inside[:, :width], inside[:, -width:]):
            edge[:] = rgb
        return
    corners = np.rint((corners_of(region) - 0.5) * 16).astype(np.int32)  # OpenCV counts from pixel centres, in 1/16
    cv2.polylines(frame, [corners], isClosed=True, color=rgb, thickness=width, lineType=cv2.LINE_AA, shift=4)
