"""Zones of a part in use: what is blanked before the network, and which cells of a map belong to which zone.

Ignore zones are blanked in the frame, before anything is cut or resized, so that no pixel of theirs reaches a network
on any path. They are filled with the median colour around them. A cell of the heat map is left out of every pooling if
ignore zones cover at least half of it. Every other cell belongs to exactly one zone: an inspect zone, or the rest.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, UInt8
from gonogo.config import CELL_PX, REST, USUAL_SENSITIVITY, CodeZone, IgnoreZone, InspectZone, Zone
from gonogo.errors import InputError
from gonogo.images.geometry import box_around, side_lengths
from gonogo.images.regions import pixel_window
from gonogo.images.zones import Place, filled, on_frame, unclipped, zone_in_frame, zone_in_picture
from gonogo.schema import Box, Frame, Mask, OperatingPoint, Region, State, ZoneVerdict

Numbers = UInt8[np.ndarray, "_rows _columns"]
"""Number of the zone of every cell, from 1; `LEFT_OUT` for a cell that no pooling counts."""

LEAST_ZONE_SCORE = -1e29
"""A zone's score at or below this means that it has no cell in a picture."""
LEFT_OUT = 0
LEFT_OUT_COVERED = 0.5
"""Share of a cell's square that ignore zones must cover for it to be left out."""
OF_MOST_COVERED = 0.5
"""A cell belongs to the inspect zone that covers most of it, if that is at least this share of what the zone covers of
its most covered cell. Zones thinner than a cell thus have cells too."""
_TRIED_WH = (1024, 1024)
RIM_SHARE = 0.02
"""Width of the rim around an ignore zone whose median colour fills it, as a share of the region's shorter side."""


@dataclass(frozen=True, kw_only=True)
class ZoneScale:
    """Scale of one zone: its score is ``factor * (pooled evidence + bias) + offset``."""

    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A frame as a network may see it."""

    frame: Frame
    """The frame with its ignore zones blanked."""
    region: Region
    """The region to cut out; with zones never clipped by the frame's edge, see `gonogo.images.zones.unclipped`."""


def prepared(frame: Frame, place: Place, zones: Sequence[Zone]) -> Prepared:
    """Blank the ignore zones of a frame; without zones, frame and region are returned as they are.

    Args:
        frame: Not modified.
        place: Where the part is in this frame.
        zones: The recipe's zones.
    """
    if not zones:
        return Prepared(frame=frame, region=place.region)
    return Prepared(frame=_blanked(frame, place, zones), region=unclipped(frame, place.region))


def hidden(place: Place, zones: Sequence[Zone], size_wh: tuple[int, int]) -> Mask:
    """Return the pixels of a frame that the ignore zones hide."""
    mask: Mask = np.zeros(size_wh[::-1], np.bool_)
    for zone in ignored(zones):
        mask |= zone_in_frame(zone.polygon, place, size_wh)
    return mask


def ignored(zones: Sequence[Zone]) -> list[IgnoreZone | CodeZone]:
    """The zones that are blanked: ignore zones, and codes, which change from part to part."""
    return [zone for zone in zones if isinstance(zone, (IgnoreZone, CodeZone))]


def inspected(zones: Sequence[Zone]) -> list[InspectZone]:
    """The inspect zones among some zones."""
    return [zone for zone in zones if isinstance(zone, InspectZone)]


def zone_names(zones: Sequence[Zone]) -> tuple[str, ...]:
    """Names of the judged zones by their numbers from 1: inspect zones, then the rest; empty without inspect zones."""
    names = tuple(zone.name for zone in inspected(zones))
    return (*names, REST) if names else ()


def sensitivities(zones: Sequence[Zone]) -> tuple[float, ...]:
    """The sensitivity of each of `zone_names`."""
    found = tuple(zone.sensitivity for zone in inspected(zones))
    return (*found, USUAL_SENSITIVITY) if found else ()


def zone_verdicts(
    zones: Sequence[Zone], outputs: Mapping[str, np.ndarray], point: OperatingPoint | None
) -> tuple[ZoneVerdict, ...]:
    """The judgement of each inspect zone and of the rest; empty without inspect zones.

    Args:
        zones: The recipe's zones.
        outputs: What the graph computed; ``zones`` is 1 x zones.
        point: The thresholds; without them every zone is a review.

    Raises:
        ValueError: A zone has no cell in the picture, or its score is not finite.
    """
    names = zone_names(zones)
    scores = [float(score) for score in outputs["zones"][0]] if names else []
    for name, score in zip(names, scores, strict=True):
        if not LEAST_ZONE_SCORE < score < math.inf:
            raise ValueError(f"the network gave zone {name!r} a score of {score}, or it has no cell in this picture")
    return tuple(
        ZoneVerdict(name=name, score=score, state=State.REVIEW if point is None else point.state(score))
        for name, score in zip(names, scores, strict=True)
    )


def worst_zone(zones: Sequence[ZoneVerdict]) -> str:
    """Name of the zone with the highest score; empty without zones."""
    return max(zones, key=lambda zone: zone.score).name if zones else ""


def zones_digest(zones: Sequence[Zone]) -> str:
    """SHA-256 of the zones that change scores; empty without any."""
    judged = [*ignored(zones), *inspected(zones)]
    if not judged:
        return ""
    return hashlib.sha256(json.dumps([zone.model_dump(mode="json") for zone in judged]).encode()).hexdigest()


@functools.lru_cache(maxsize=64)
def zone_numbers(
    zones: tuple[Zone, ...],
    margin: float,
    size_wh: tuple[int, int],
    shape: tuple[int, int],
    shift_xy: tuple[float, float] = (0.0, 0.0),
) -> Numbers | None:
    """Return the zone of every cell of a map.

    Args:
        zones: The recipe's zones.
        margin: The region's margin.
        size_wh: Width and height of the picture of the whole region, in pixels.
        shape: Rows and columns of the map.
        shift_xy: Offset of the cells, see `gonogo.schema.Verdict`.

    Returns:
        ``None`` if no zone changes a score.
    """
    outside, inside = ignored(zones), inspected(zones)
    if not outside and not inside:
        return None
    numbers: Numbers = np.full(shape, len(inside) + 1 if inside else 1, np.uint8)
    hides = np.zeros(size_wh[::-1], np.bool_)
    for ignore in outside:
        hides |= zone_in_picture(ignore.polygon, margin, size_wh)
    best = np.zeros(shape, np.float32)
    for number, zone in enumerate(inside, start=1):
        share = coverage(zone_in_picture(zone.polygon, margin, size_wh) & ~hides, shape, shift_xy)
        own = (share > best) & (share >= OF_MOST_COVERED * share.max())
        numbers[own], best[own] = number, share[own]
    numbers[coverage(hides, shape, shift_xy) >= LEFT_OUT_COVERED] = LEFT_OUT
    numbers.setflags(write=False)  # cached
    return numbers


def require_cells(numbers: Numbers, zones: Sequence[Zone], margin: float, size_wh: tuple[int, int]) -> None:
    """Raise if a zone has no use: it lies outside the inspected region, or nothing is left to inspect.

    Raises:
        InputError: names the zone and what to do.
    """
    for zone in zones:
        if not zone_in_picture(zone.polygon, margin, size_wh).any():
            raise InputError(
                f"zone {zone.name!r}: expected corners inside the inspected region, which reaches from {-margin:g} to "
                f"{1 + margin:g} along both axes of the part, found {_extent(zone)}, where no pixel of the network's "
                f"{size_wh[0]} x {size_wh[1]} lies. See it with: gonogo zones show"
            )
    if not (numbers != LEFT_OUT).any():
        raise InputError(
            "zones: the ignore zones cover the whole inspected region, so nothing is left to judge. Draw them smaller."
        )
    for number, name in enumerate(zone_names(zones), start=1):
        if name != REST and not (numbers == number).any():
            raise InputError(
                f"zone {name!r}: other zones cover all of it, so nothing is left to judge in it. Remove it, or move it."
            )


def require_useful(zones: tuple[Zone, ...], margin: float) -> None:
    """Like `require_cells`, before the size of the network's picture is known.

    Raises:
        InputError: see `require_cells`.
    """
    numbers = zone_numbers(zones, margin, _TRIED_WH, (_TRIED_WH[1] // CELL_PX, _TRIED_WH[0] // CELL_PX))
    if numbers is not None:
        require_cells(numbers, zones, margin, _TRIED_WH)


def coverage(
    mask: Mask | Float32[np.ndarray, "height width"], shape: tuple[int, int], shift_xy: tuple[float, float] = (0.0, 0.0)
) -> Float32[np.ndarray, "rows columns"]:
    """Share of each cell's square, shifted by the cells' offset, that a mask covers.

    Args:
        mask: Boolean, or shares from 0 to 1, over the picture that the map belongs to.
        shape: Rows and columns of the map.
        shift_xy: Offset of the cells, in cells right of and below the centre of their square.
    """
    height, width = mask.shape
    rows, columns = shape
    right, down = shift_xy[0] * width / columns, shift_xy[1] * height / rows
    moved = cv2.warpAffine(
        mask.astype(np.float32),
        np.array([[1, 0, -right], [0, 1, -down]]),
        (width, height),
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cv2.resize(moved, (columns, rows), interpolation=cv2.INTER_AREA), np.float32)


def _blanked(frame: Frame, place: Place, zones: Sequence[Zone]) -> Frame:
    """Fill every ignore zone with the median colour of the rim around it that no ignore zone covers."""
    polygons = [on_frame(zone.polygon, place) for zone in ignored(zones)]
    if not polygons:
        return frame
    rim_px = max(2, round(RIM_SHARE * min(side_lengths(place.region))))
    blank = frame.copy()
    for points in polygons:
        around = box_around(points).expanded(rim_px, rim_px, rim_px, rim_px)
        if around.intersection(Box.whole(frame)).area <= 0:
            continue
        x1, y1, x2, y2 = pixel_window(frame, around)
        own, *others = (filled(each - (x1, y1), (x2 - x1, y2 - y1)) for each in (points, *polygons))
        hides = np.logical_or.reduce(others)
        blank[y1:y2, x1:x2][own] = _colour_around(frame[y1:y2, x1:x2], own, hides, rim_px)
    return blank


def _colour_around(window: Frame, own: Mask, hides: Mask, rim_px: int) -> UInt8[np.ndarray, "3"]:
    """Median colour of the rim around a zone; mid-grey if there is none, because the zone fills the frame."""
    kernel = np.ones((2 * rim_px + 1, 2 * rim_px + 1), np.uint8)
    rim = (cv2.dilate(own.astype(np.uint8), kernel) > 0) & ~hides
    rim = rim if rim.any() else ~hides
    colour = np.median(window[rim], axis=0) if rim.any() else np.full(3, 127.5)
    return np.asarray(np.rint(colour), np.uint8)


def _extent(zone: Zone) -> str:
    across, down = zip(*zone.polygon, strict=True)
    return f"x from {min(across):g} to {max(across):g} and y from {min(down):g} to {max(down):g}"
