"""Presence and count: finds items such as screws or labels in a zone by their appearance.

A template is cut from one good picture. In each picture the zone is cut out upright and resized to the scale of that
picture; every position is compared with the template by normalised correlation (the coefficient of Lewis, Vision
Interface, 1995) over the template's opaque pixels, at a few angles and sizes. A position counts if its correlation is
high enough, its mean colour close enough (CIE 1976 Delta E*ab), and no better one overlaps it.
"""

from __future__ import annotations

import base64
import binascii
import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from gonogo.array_types import Float32, Float64, UInt8
from gonogo.config import PresenceZone, Then
from gonogo.errors import ImageError, InputError
from gonogo.images import in_frame, read_header, within
from gonogo.images.geometry import box_around, corners_of
from gonogo.images.zones import Place, Polygon, ZoneCut, cut_zone
from gonogo.schema import Box, FoundItem, Frame, ItemCount, Mask

_SEARCH_PX = 24
"""Short side of a template during the search; larger ones are reduced together with the zone."""
_TURN_STEP_DEG = 5.0
_ROUND_TURN_STEP_DEG = 15.0
_OVERLAP = 0.7
"""Items are at least this share of the template's short side apart."""
_WEAKEST = 0.2
_LEAST_SIDE_PX = 8
_MOST_TEMPLATE_PIXELS = 16_000_000
_PAPER = (20, 20, 24)
_RINGS = ((255, 255, 255), (122, 208, 255), (255, 214, 90), (190, 255, 170))


@dataclass(frozen=True, kw_only=True)
class Template:
    """One good item."""

    picture: Frame
    opaque: Mask

    @classmethod
    def decoded(cls, text: str) -> Template:
        """Decode the template of a zone.

        Raises:
            InputError: It is not a PNG file in base64, or has no contrast.
        """
        try:
            data = base64.b64decode(text, validate=True)
            header = read_header(data, name="template")
            if header.width * header.height > _MOST_TEMPLATE_PIXELS:
                raise _malformed(f"{header.width} x {header.height} pixels")
            pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        except (binascii.Error, cv2.error, ImageError) as error:
            raise _malformed(str(error)) from error
        if pixels is None or pixels.ndim != 3 or pixels.shape[2] != 4 or min(pixels.shape[:2]) < 2:
            raise _malformed("not a picture with transparency")
        found = cls(picture=cv2.cvtColor(pixels, cv2.COLOR_BGRA2RGB), opaque=pixels[:, :, 3] >= 128)
        grey = cv2.cvtColor(found.picture, cv2.COLOR_RGB2GRAY)
        if found.opaque.sum() < 16 or grey[found.opaque].std() < 2:
            raise _malformed("the item has no contrast")
        return found

    def encoded(self) -> str:
        """The template as a PNG file in base64."""
        alpha = np.where(self.opaque, 255, 0).astype(np.uint8)
        pixels = np.dstack([cv2.cvtColor(self.picture, cv2.COLOR_RGB2BGR), alpha])
        return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A new presence zone, and how clearly it separates its items from everything else."""

    zone: PresenceZone
    count: ItemCount
    strongest_other: float
    """Highest correlation in the zone besides the items."""


def learn_presence(
    frame: Frame,
    place: Place,
    *,
    name: str,
    polygon: Polygon,
    item: Box,
    count: int,
    round_item: bool = False,
    turn_deg: float = 10.0,
    scale: float = 0.05,
    colour: float = 25.0,
    then: Then = "review",
) -> Learned:
    """Learn the appearance of an item from one good picture, and check that all of them are found in it.

    The correlation limit is halfway between the weakest item and the strongest other position.

    Args:
        frame: A good picture at full size.
        place: Where the part is in it.
        name: Name of the zone.
        polygon: The zone, in part coordinates.
        item: One of the items, in frame pixels.
        count: Number of items in the zone.
        round_item: Compare the ellipse inside the box rather than the whole box.
        turn_deg, scale, colour, then: See `gonogo.config.PresenceZone`.

    Raises:
        InputError: The item is too small, flat or outside the zone, or ``count`` items do not stand out.
        ImageError: The zone lies outside the picture.
    """
    cut = cut_zone(frame, polygon, place)
    template, cut_wh = _template(cut.picture, _box_in_cut(item, cut), round_item=round_item)
    zone = PresenceZone(
        kind="presence",
        name=name,
        polygon=tuple((float(x), float(y)) for x, y in np.asarray(polygon, np.float64)),
        count=count,
        template=template.encoded(),
        cut_wh=cut_wh,
        colour=colour,
        turn_deg=turn_deg,
        scale=scale,
        then=then,
    )
    Template.decoded(zone.template)
    found = _positions(frame, place, zone, least=_WEAKEST)
    items, others = found[:count], [each.correlation for each in found[count:]]
    strongest = max(others, default=_WEAKEST)
    if len(items) < count or items[-1].correlation - strongest < 0.1:
        seen = ", ".join(f"{each.correlation:.2f}" for each in found[: count + 3]) or "nothing"
        raise InputError(
            f"zone {name!r}: expected {count} items that stand out, found these correlations: {seen}. Draw the box "
            "closely around one item, the zone around all of them, allow other angles with --turn, or correct --count."
        )
    limit = round((items[-1].correlation + strongest) / 2, 3)
    zone = zone.model_copy(update={"correlation": min(max(limit, 0.3), 0.95)})
    counted = ItemCount(zone=name, expected=count, items=_in_order(items))
    return Learned(zone=zone, count=counted, strongest_other=strongest)


def count_items(frame: Frame, place: Place, zone: PresenceZone) -> ItemCount:
    """Find the items of a zone.

    Args:
        frame: The frame that is judged.
        place: Where the part is, in pixels of this frame.
        zone: What to look for.

    Raises:
        ImageError: The zone lies outside the picture.
    """
    found = _positions(frame, place, zone, least=zone.correlation)
    return ItemCount(zone=zone.name, expected=zone.count, items=_in_order(found))


def draw_counts(frame: Frame, counts: Sequence[ItemCount], *, factor: float = 1.0) -> None:
    """Draw a ring around every item that was found, and how many were found, in place.

    Args:
        frame: The picture, possibly reduced.
        counts: The counts, in pixels of the full-size picture.
        factor: Size of this frame against the full-size picture.
    """
    thick = max(1, round(min(frame.shape[:2]) / 350))
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick
    for number, count in enumerate(counts):
        ring = _RINGS[number % len(_RINGS)]
        for item in count.items:
            x, y = (round((value * factor - 0.5) * 16) for value in item.centre_xy)
            for colour, width in ((_PAPER, 4 * thick), (ring, 2 * thick)):
                cv2.circle(frame, (x, y), 16 * 12 * thick, colour, width, cv2.LINE_AA, 4)
        text = f"{count.zone}: {len(count.items)} of {count.expected}".encode("ascii", "replace").decode()
        (width, height), _ = cv2.getTextSize(text, font, size, thick)
        left, bottom = 10 * thick, (number + 1) * (height + 16 * thick)
        cv2.rectangle(frame, (left - 5, bottom - height - 6), (left + width + 5, bottom + 6), _PAPER, -1)
        cv2.putText(frame, text, (left, bottom), font, size, ring, thick, cv2.LINE_AA)


def _in_order(items: list[FoundItem]) -> tuple[FoundItem, ...]:
    return tuple(sorted(items, key=lambda each: (each.centre_xy[1], each.centre_xy[0])))


def _box_in_cut(item: Box, cut: ZoneCut) -> tuple[int, int, int, int]:
    """Convert the item's box to pixels of the upright cut-out of its zone."""
    height, width = cut.picture.shape[:2]
    around = box_around(within(cut.region, corners_of(item)) * (width, height))
    box = (round(around.x1), round(around.y1), round(around.x2), round(around.y2))
    if min(box) < 0 or box[2] > width or box[3] > height:
        raise InputError("--item: expected a box inside the zone. Draw the zone larger, or choose another item.")
    if min(box[2] - box[0], box[3] - box[1]) < _LEAST_SIDE_PX:
        raise InputError(f"--item: expected at least {_LEAST_SIDE_PX} pixels on each side, found {item.xyxy}.")
    return box


def _template(picture: Frame, box: tuple[int, int, int, int], *, round_item: bool) -> tuple[Template, tuple[int, int]]:
    """Cut out the template; returns the size of the zone at its scale too."""
    left, top, right, bottom = box
    factor = min(1.0, 2.0 * _SEARCH_PX / min(right - left, bottom - top))
    height, width = picture.shape[:2]
    size_wh = (right - left, bottom - top)
    cut = picture[top:bottom, left:right]
    if factor < 1:
        size_wh = (max(2, round(size_wh[0] * factor)), max(2, round(size_wh[1] * factor)))
        cut = cv2.resize(cut, size_wh, interpolation=cv2.INTER_AREA)
    opaque = np.ones(size_wh[::-1], np.uint8)
    if round_item:
        opaque[:] = 0
        middle, axes = ((size_wh[0] - 1) / 2, (size_wh[1] - 1) / 2), (float(size_wh[0]), float(size_wh[1]))
        cv2.ellipse(opaque, (middle, axes, 0.0), 1, -1)
    made = Template(picture=np.ascontiguousarray(cut), opaque=opaque.astype(bool))
    return made, (max(8, round(width * factor)), max(8, round(height * factor)))


@dataclass(frozen=True, kw_only=True)
class _Variant:
    """The template at one angle and size."""

    grey: Float32[np.ndarray, "rows columns"]
    opaque: UInt8[np.ndarray, "rows columns"]
    lab: Float64[np.ndarray, "3"]


@functools.lru_cache(maxsize=64)
def _variants(text: str, turn_deg: float, scale: float, factor: float) -> tuple[_Variant, ...]:
    template = Template.decoded(text)
    step = _TURN_STEP_DEG if turn_deg <= 30 else _ROUND_TURN_STEP_DEG
    turns = [step * number for number in range(-int(turn_deg / step), int(turn_deg / step) + 1)]
    if turn_deg == 180:
        turns = turns[1:]
    sizes = [1.0] if scale == 0 else [1 - scale, 1.0, 1 + scale]
    return tuple(_turned(template, turn, size * factor) for turn in turns for size in sizes)


def _turned(template: Template, degrees: float, factor: float) -> _Variant:
    height, width = template.opaque.shape
    radians = math.radians(degrees)
    across = factor * (width * abs(math.cos(radians)) + height * abs(math.sin(radians)))
    down = factor * (width * abs(math.sin(radians)) + height * abs(math.cos(radians)))
    size_wh = (max(3, round(across)), max(3, round(down)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, factor)
    matrix[:, 2] += (np.array(size_wh) - 1) / 2 - ((width - 1) / 2, (height - 1) / 2)
    smooth = template.picture
    if factor < 1:
        sigma = 0.5 * math.sqrt(1 / factor**2 - 1)
        smooth = cv2.GaussianBlur(smooth, (0, 0), sigma)
    picture = cv2.warpAffine(smooth, matrix, size_wh, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    opaque = cv2.warpAffine(template.opaque.astype(np.float32), matrix, size_wh, flags=cv2.INTER_LINEAR) > 0.5
    lab = cv2.cvtColor(picture.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return _Variant(grey=grey, opaque=opaque.astype(np.uint8), lab=lab[opaque].mean(axis=0).astype(np.float64))


def _positions(frame: Frame, place: Place, zone: PresenceZone, *, least: float) -> list[FoundItem]:
    """Positions of at least a correlation, and of the right colour, that do not overlap; the best first."""
    cut = cut_zone(frame, zone.polygon, place)
    height, width = Template.decoded(zone.template).opaque.shape
    factor = min(1.0, _SEARCH_PX / min(width, height))
    size_wh = (max(8, round(zone.cut_wh[0] * factor)), max(8, round(zone.cut_wh[1] * factor)))
    small = _resized(cut.picture, size_wh)
    inside = cv2.resize(cut.mask.astype(np.uint8), size_wh, interpolation=cv2.INTER_NEAREST).astype(bool)
    kept = _peaks(small, inside, zone, factor, least)
    if not kept:
        return []
    centres = in_frame(
        cut.region, np.array([[each.x / size_wh[0], each.y / size_wh[1]] for each in kept]).reshape(-1, 2)
    )
    return [
        FoundItem(centre_xy=(float(x), float(y)), correlation=round(each.correlation, 4), colour=round(each.colour, 2))
        for (x, y), each in zip(centres.tolist(), kept, strict=True)
        if each.colour <= zone.colour
    ]


def _resized(picture: Frame, size_wh: tuple[int, int]) -> Frame:
    shrinks = size_wh[0] < picture.shape[1]
    resized: Frame = cv2.resize(picture, size_wh, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized


@dataclass(frozen=True, kw_only=True)
class _Peak:
    x: float
    y: float
    correlation: float
    colour: float


def _peaks(small: Frame, inside: Mask, zone: PresenceZone, factor: float, least: float) -> list[_Peak]:
    """Maxima of the correlation over all angles and sizes that do not overlap, the best first."""
    grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey -= grey.mean()  # smaller sums lose fewer digits
    variants = _variants(zone.template, zone.turn_deg, zone.scale, factor)
    best, which = np.full(grey.shape, -1.0, np.float32), np.zeros(grey.shape, np.int16)
    for number, variant in enumerate(variants):
        rows, columns = variant.opaque.shape
        if rows <= grey.shape[0] and columns <= grey.shape[1]:
            response = _correlation(grey, variant)
            top, left = rows // 2, columns // 2
            window = (slice(top, top + response.shape[0]), slice(left, left + response.shape[1]))
            better = response > best[window]
            best[window][better], which[window][better] = response[better], number
    best[~inside] = -1.0
    apart = _OVERLAP * min(variants[0].opaque.shape)
    around = 2 * int(apart / 2) + 1
    highest = cv2.dilate(best, np.ones((around, around), np.uint8))
    places = np.argwhere((best == highest) & (best >= least)).tolist()
    lab = cv2.cvtColor(small.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    kept: list[_Peak] = []
    for row, column in sorted(places, key=lambda at: -best[at[0], at[1]]):
        found = _peak(row, column, float(best[row, column]), variants[which[row, column]], lab)
        if all(math.hypot(found.x - other.x, found.y - other.y) >= apart for other in kept):
            kept.append(found)
    return kept


def _peak(
    row: int, column: int, correlation: float, variant: _Variant, lab: Float32[np.ndarray, "rows columns 3"]
) -> _Peak:
    rows, columns = variant.opaque.shape
    top, left = row - rows // 2, column - columns // 2
    colour = lab[top : top + rows, left : left + columns][variant.opaque > 0].mean(axis=0)
    return _Peak(
        x=left + columns / 2,
        y=top + rows / 2,
        correlation=correlation,
        colour=float(np.linalg.norm(colour - variant.lab)),
    )


def _correlation(grey: Float32[np.ndarray, "rows columns"], variant: _Variant) -> Float32[np.ndarray, "down across"]:
    """Correlation coefficient at every position over the opaque pixels; 0 where the picture is flat."""
    mask = variant.opaque.astype(np.float32)
    count = float(mask.sum())
    shape = (variant.grey - float((variant.grey * mask).sum()) / count) * mask
    energy = float((shape**2).sum())
    product = cv2.matchTemplate(grey, shape, cv2.TM_CCORR)
    total = cv2.matchTemplate(grey, mask, cv2.TM_CCORR)
    squares = cv2.matchTemplate(grey**2, mask, cv2.TM_CCORR)
    variation = squares - total**2 / count
    flat = variation < count  # a standard deviation below one grey level
    found: Float32[np.ndarray, "down across"] = product / np.sqrt(np.maximum(variation, count) * max(energy, 1e-6))
    found[flat] = 0.0
    return found


def _malformed(why: str) -> InputError:
    return InputError(f"template: expected a good item as PNG in base64, found {why}. Run gonogo presence learn again.")
