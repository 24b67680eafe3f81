"""Draws what a network sees as one sheet: the picture, feature maps stage by stage, and where it looks."""

from __future__ import annotations

import cv2
import numpy as np

from gonogo.heatmap import HeatScale, legend_rgb, spread
from gonogo.look.seen import PlaceMap, Seen, Stage
from gonogo.schema import Box, Frame
from gonogo.sheet import GAP, Panel, PanelRow, draw_sheet

CHANNELS = 8
"""Channels shown of each stage, beside the root mean square over all of them."""
_CELL_PIXELS = 15_500
"""Area of a picture of one channel on the sheet, in pixels."""
_PLACE_PIXELS = 62_000
_STRONGEST_TINT = 0.75
_WIDEST = 1500


def draw_seen(seen: Seen) -> Frame:
    """Draw the sheet: a heading, the input, a row for each stage, the maps of where it looks, and the notes."""
    shown = _scaled(seen.picture, _PLACE_PIXELS)
    size_wh = (seen.picture.shape[1], seen.picture.shape[0])
    rows = [PanelRow(title=heading(seen)), PanelRow(panels=(Panel(title=_input_title(size_wh), picture=shown),))]
    rows += [PanelRow(title=stage.title(), panels=_stage_panels(stage, seen.picture)) for stage in seen.stages]
    panels = [Panel(title=place.title, picture=tinted(shown, place)) for place in seen.places]
    columns = max(1, _WIDEST // (shown.shape[1] + GAP))
    title = "Where it looks: purple is little, yellow is much" if panels else ""
    for first in range(0, len(panels), columns):
        rows.append(PanelRow(title=title if first == 0 else "", panels=tuple(panels[first : first + columns])))
    rows += [PanelRow(title=note) for note in seen.notes]
    return draw_sheet(rows, least_width=640)


def heading(seen: Seen) -> str:
    """First line of the sheet: network, weights and answer."""
    answer = "" if seen.answer is None else f": {seen.answer}"
    return f"{seen.network}, {seen.weights}{answer}"


def tinted(picture: Frame, place: PlaceMap) -> Frame:
    """Draw a map on the picture; without a scale of its own, from the median cell (clear) to the highest (yellow)."""
    low, high = float(np.median(place.cells)), float(place.cells.max())
    scale = place.scale or HeatScale(cold=low, hot=max(high, low + 1e-9 + 1e-6 * abs(low)))
    values = spread(place.cells, Box.whole(picture), (picture.shape[0], picture.shape[1]), shift_xy=place.shift_xy)
    heat = scale.heat(values)
    colour = legend_rgb()[np.rint(heat * 255).astype(np.uint8)]
    strength = _STRONGEST_TINT * heat[..., None] ** 0.5
    return np.asarray(np.rint(picture * (1 - strength) + colour * strength), np.uint8)


def _stage_panels(stage: Stage, picture: Frame) -> tuple[Panel, ...]:
    size_wh = _size(picture, _CELL_PIXELS)
    together = np.sqrt(np.square(stage.maps).mean(0))
    panels = [Panel(title="all (RMS)", picture=_grey_levels(together, size_wh))]
    for channel in stage.channels(CHANNELS):
        panels.append(Panel(title=f"channel {channel}", picture=_grey_levels(stage.maps[channel], size_wh)))
    return tuple(panels)


def _grey_levels(values: np.ndarray, size_wh: tuple[int, int]) -> Frame:
    """One channel from its lowest (dark) to its highest value (bright), each cell a rectangle."""
    low, high = float(values.min()), float(values.max())
    level = np.rint(255 * (values - low) / max(high - low, 1e-9)).astype(np.uint8)
    colours = cv2.applyColorMap(level, cv2.COLORMAP_VIRIDIS)[..., ::-1]
    shrinks = values.shape[1] > size_wh[0]
    return np.ascontiguousarray(
        cv2.resize(colours, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
    )


def _size(picture: Frame, pixels: int) -> tuple[int, int]:
    """Width and height with the shape of a picture and about a number of pixels."""
    factor = (pixels / (picture.shape[0] * picture.shape[1])) ** 0.5
    return max(24, round(picture.shape[1] * factor)), max(24, round(picture.shape[0] * factor))


def _scaled(picture: Frame, pixels: int) -> Frame:
    size_wh = _size(picture, pixels)
    smaller = size_wh[0] < picture.shape[1]
    return np.asarray(
        cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC), np.uint8
    )


def _input_title(size_wh: tuple[int, int]) -> str:
    return f"The input: {size_wh[0]} x {size_wh[1]} pixels"
