"""Geometry of zones: from part coordinates to the pixels of a frame, and to those of the picture that a network sees.

A zone is a polygon in part coordinates: (0, 0) is the top left and (1, 1) the bottom right corner of the located part
without its margin. The judged region extends the part by the margin on every side, so the point ``p`` of the part is
the point ``(p + margin) / (1 + 2 * margin)`` of the region, and the region's corners place it in the frame. All
functions go this one way, so that a zone means the same pixels wherever it is used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gonogo.array_types import Float64
from gonogo.errors import ImageError
from gonogo.images.geometry import as_quad, box_around, corners_of, side_lengths
from gonogo.images.polygons import fill_polygon
from gonogo.images.regions import Points, cut, in_frame, pixel_window, within
from gonogo.schema import Box, Frame, Located, Mask, Region

Polygon = Sequence[tuple[float, float]] | Float64[np.ndarray, "corners 2"]
"""Corners ``(x, y)`` in part coordinates."""

MOST_CUT_PIXELS = 64_000_000
"""Largest cut-out of a zone; more means that the part was located wrongly."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the part is: the judged region, and how much of it is margin."""

    region: Region
    """The part with its margin, in frame pixels (`gonogo.schema.Located.region`); may extend beyond the frame."""
    margin: float = 0.0
    """Margin on every side, as a share of the part's size along that axis."""

    @classmethod
    def of(cls, located: Located) -> Place:
        """The place of a part that was located.

        Raises:
            ImageError: The part was not found.
        """
        if not located.present or located.region is None:
            raise ImageError(located.reason or "the search for the part gave no region")
        return cls(region=located.region, margin=located.margin)

    def scaled(self, factor: float) -> Place:
        """The same place in a picture that was scaled by a factor."""
        if isinstance(self.region, Box):
            return Place(region=self.region.scaled(factor, factor), margin=self.margin)
        return Place(region=as_quad(corners_of(self.region) * factor), margin=self.margin)


@dataclass(frozen=True, kw_only=True)
class ZoneCut:
    """A zone, cut out of a frame upright and at full resolution."""

    picture: Frame
    """The smallest upright rectangle around the zone, in the part's orientation."""
    mask: Mask
    """Its pixels whose centres lie inside the zone."""
    region: Region
    """Where the picture's edges are in the frame; `gonogo.images.in_frame` converts shares of the picture's width and
    height to frame pixels."""


def in_region(polygon: Polygon, margin: float) -> Points:
    """Convert part coordinates to those of the region with its margin: shares of its width and height."""
    return (np.asarray(polygon, np.float64).reshape(-1, 2) + margin) / (1.0 + 2.0 * margin)


def on_frame(polygon: Polygon, place: Place) -> Points:
    """Convert part coordinates to frame pixels."""
    points = in_region(polygon, place.margin)
    if isinstance(box := place.region, Box):  # exact, so that edges on pixel centres do not depend on rounding
        return np.array([box.x1, box.y1]) + points * (box.x2 - box.x1, box.y2 - box.y1)
    return in_frame(place.region, points)


def on_part(points_xy: Points, place: Place) -> Points:
    """Inverse of `on_frame`: convert frame pixels to part coordinates."""
    return within(place.region, points_xy) * (1.0 + 2.0 * place.margin) - place.margin


def zone_in_frame(polygon: Polygon, place: Place, size_wh: tuple[int, int]) -> Mask:
    """Return the pixels of a frame whose centres lie inside a zone.

    Args:
        polygon: The zone, in part coordinates.
        place: Where the part is, in pixels of this frame.
        size_wh: Width and height of the frame.
    """
    return filled(on_frame(polygon, place), size_wh)


def zone_in_picture(polygon: Polygon, margin: float, size_wh: tuple[int, int]) -> Mask:
    """Return the pixels of a network's picture whose centres lie inside a zone.

    The picture shows the whole region; a region that extends beyond the frame must not be clipped, see `unclipped`.

    Args:
        polygon: The zone, in part coordinates.
        margin: The region's margin.
        size_wh: Width and height of the picture.
    """
    return filled(in_region(polygon, margin) * size_wh, size_wh)


def unclipped(frame: Frame, region: Region) -> Region:
    """Return a region from which `gonogo.images.cut` cuts everything, also what lies beyond the frame.

    A box beyond the frame's edge is clipped when it is cut, and a zone would then be somewhere else in the picture; the
    same box as a quad is rectified, and the frame's edge pixels are repeated.
    """
    if not isinstance(region, Box):
        return region
    height, width = frame.shape[:2]
    inside = region.x1 >= 0 and region.y1 >= 0 and region.x2 <= width and region.y2 <= height
    return region if inside else as_quad(corners_of(region))


def cut_zone(frame: Frame, polygon: Polygon, place: Place) -> ZoneCut:
    """Cut out the smallest rectangle around a zone, upright and at the frame's own resolution.

    If the part is located by a box, the frame's pixels are copied as they are (what lies beyond the frame is missing);
    if it is located by a quad, they are rectified (beyond the frame, the nearest edge pixel is repeated).

    Raises:
        ImageError: The zone lies outside the frame, or is too large.
    """
    if isinstance(place.region, Box):
        corners = on_frame(polygon, place)
        x1, y1, x2, y2 = pixel_window(frame, box_around(corners))
        return ZoneCut(
            picture=np.ascontiguousarray(frame[y1:y2, x1:x2]),
            mask=filled(corners - (x1, y1), (x2 - x1, y2 - y1)),
            region=Box(x1=x1, y1=y1, x2=x2, y2=y2),
        )
    points = in_region(polygon, place.margin)
    around = box_around(points)
    quad = as_quad(in_frame(place.region, corners_of(around)))
    width, height = (max(1, round(side)) for side in side_lengths(quad))
    if width * height > MOST_CUT_PIXELS:
        raise ImageError(f"the zone is {width} x {height} pixels, more than {MOST_CUT_PIXELS}: locate the part again.")
    inside = (points - (around.x1, around.y1)) / (max(around.width, 1e-12), max(around.height, 1e-12))
    return ZoneCut(
        picture=cut(frame, quad, (width, height)), mask=filled(inside * (width, height), (width, height)), region=quad
    )


def filled(points: Points, size_wh: tuple[int, int]) -> Mask:
    """Return the pixels whose centres lie inside a polygon given in pixels, by the even-odd rule."""
    mask: Mask = np.zeros(size_wh[::-1], np.bool_)
    fill_polygon(mask, points)
    return mask
