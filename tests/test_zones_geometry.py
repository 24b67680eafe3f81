"""Geometry of zones: the same pixels through boxes, rotated rectangles, margins and reductions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gonogo.errors import ImageError
from gonogo.images import cut
from gonogo.images.geometry import relocated
from gonogo.images.zones import (
    Place,
    cut_zone,
    filled,
    on_frame,
    on_part,
    unclipped,
    zone_in_frame,
    zone_in_picture,
)
from gonogo.schema import Box, Located, Quad

CORNER = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (0.0, 0.25))
"""The left half of the upper quarter of the part."""
SIZE_WH = (80, 60)


def turned(middle: tuple[float, float], width: float, height: float, degrees: float) -> Quad:
    along = np.array([math.cos(math.radians(degrees)), math.sin(math.radians(degrees))])
    down = np.array([-along[1], along[0]])
    corners = [
        np.array(middle) + x * width / 2 * along + y * height / 2 * down
        for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]
    first, second, third, fourth = ((float(x), float(y)) for x, y in corners)
    return (first, second, third, fourth)


def test_a_zone_of_a_box_is_exactly_its_share_of_the_part_without_the_margin() -> None:
    located = Located(present=True, box=Box(x1=20, y1=10, x2=60, y2=50), margin=0.1)
    mask = zone_in_frame(CORNER, Place.of(located), SIZE_WH)
    expected = np.zeros((60, 80), bool)
    expected[10:20, 20:40] = True
    assert (mask == expected).all()


def test_coordinates_beyond_the_part_reach_into_the_margin_and_are_clipped_by_the_frame() -> None:
    located = Located(present=True, box=Box(x1=20, y1=10, x2=60, y2=50), margin=0.1)
    strip = ((-0.5, -0.5), (1.5, -0.5), (1.5, 0.0), (-0.5, 0.0))
    mask = zone_in_frame(strip, Place.of(located), SIZE_WH)
    expected = np.zeros((60, 80), bool)
    expected[:10] = True
    assert (mask == expected).all()


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_a_zone_turns_with_the_part(degrees: float) -> None:
    quad = turned((40.0, 30.0), 40, 40, degrees)
    mask = zone_in_frame(CORNER, Place.of(Located(present=True, quad=quad, margin=0.1)), SIZE_WH)
    upright = np.zeros((40, 40), bool)
    upright[:10, :20] = True
    expected = np.zeros((60, 80), bool)
    expected[10:50, 20:60] = np.rot90(upright, -degrees // 90)  # clockwise on the picture
    assert (mask == expected).all()


def test_a_pixel_of_a_turned_part_belongs_to_a_zone_if_its_centre_does() -> None:
    quad = turned((40.0, 30.0), 37.0, 21.0, 33.0)
    place = Place.of(Located(present=True, quad=quad, margin=0.07))
    mask = zone_in_frame(CORNER, place, SIZE_WH)
    columns, rows = np.meshgrid(np.arange(80) + 0.5, np.arange(60) + 0.5)
    u, v = on_part(np.stack([columns.ravel(), rows.ravel()], 1), place).T
    expected = ((u > 0) & (u < 0.5) & (v > 0) & (v < 0.25)).reshape(60, 80)
    assert 60 < mask.sum() < 140
    assert (mask == expected).all()


def test_frame_and_part_coordinates_are_inverse() -> None:
    points = np.array([[-0.1, 0.2], [0.9, 0.1], [0.4, 1.1]])
    for region in (Box(x1=3, y1=-4, x2=50, y2=40), turned((30.0, 20.0), 30.0, 20.0, -41.0)):
        place = Place(region=region, margin=0.05)
        assert np.allclose(on_part(on_frame(points, place), place), points, atol=1e-6)


def test_the_picture_that_the_network_sees_shows_the_zone_where_the_frame_has_it() -> None:
    for located in (
        Located(present=True, box=Box(x1=100, y1=60, x2=500, y2=380), margin=0.05),
        Located(present=True, quad=turned((300.0, 220.0), 400, 320, 17.0), margin=0.05),
        Located(present=True, box=Box(x1=-10, y1=20, x2=390, y2=340), margin=0.05),  # beyond the frame
    ):
        place = Place.of(located)
        frame = np.repeat(zone_in_frame(CORNER, place, (640, 480))[..., None] * np.uint8(255), 3, axis=2)
        seen = cut(frame, unclipped(frame, place.region), (110, 88))[..., 0] > 127
        expected = zone_in_picture(CORNER, place.margin, (110, 88))
        assert expected.sum() == 50 * 20
        shown = 8 if located.box is not None and located.box.x1 < 0 else 0  # columns that lie beyond the frame
        assert (seen != expected)[:, shown:].sum() <= 6


def test_a_reduced_picture_has_the_zone_at_its_own_scale() -> None:
    located = Located(present=True, box=Box(x1=40, y1=24, x2=120, y2=88), margin=0.1)
    full = zone_in_frame(CORNER, Place.of(located), (160, 120))
    reduced = zone_in_frame(CORNER, Place.of(relocated(located, 1 / 2)), SIZE_WH)
    assert (full[::2, ::2] == reduced).all()
    assert Place.of(located).scaled(0.5) == Place.of(relocated(located, 1 / 2))


def test_a_self_intersecting_polygon_follows_the_even_odd_rule() -> None:
    bow = ((0.0, 0.0), (1.0, 1.0), (1.0, 0.0), (0.0, 1.0))
    mask = zone_in_picture(bow, 0.0, (20, 20))
    assert mask[10, 2]
    assert mask[10, 17]
    assert not mask[2, 10]
    assert not mask[17, 10]
    twice = np.concatenate([np.asarray(CORNER), np.asarray(CORNER)])
    assert not zone_in_picture(twice, 0.0, (20, 20)).any()


def test_a_zone_outside_the_frame_has_no_pixels() -> None:
    place = Place(region=Box(x1=0, y1=0, x2=40, y2=40))
    assert not zone_in_frame([(1.5, 1.5), (1.9, 1.5), (1.9, 1.9)], place, (40, 40)).any()
    with pytest.raises(ImageError, match="outside"):
        cut_zone(np.zeros((40, 40, 3), np.uint8), [(1.5, 1.5), (1.9, 1.5), (1.9, 1.9)], place)


def test_a_part_that_was_not_found_has_no_place() -> None:
    with pytest.raises(ImageError, match="nothing there"):
        Place.of(Located(present=False, reason="nothing there"))


def test_a_cut_zone_of_a_box_is_the_frames_own_pixels() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    found = cut_zone(frame, CORNER, Place(region=Box(x1=16, y1=6, x2=64, y2=54), margin=0.1))
    assert found.region == Box(x1=20, y1=10, x2=40, y2=20)
    assert (found.picture == frame[10:20, 20:40]).all()
    assert found.mask.all()


def test_a_cut_zone_of_a_turned_part_is_upright() -> None:
    upright = np.random.default_rng(1).integers(0, 256, (40, 40, 3), np.uint8)
    frame = np.zeros((60, 80, 3), np.uint8)
    frame[10:50, 20:60] = np.rot90(upright, -1)
    found = cut_zone(frame, CORNER, Place(region=turned((40.0, 30.0), 40, 40, 90)))
    assert found.picture.shape == (10, 20, 3)
    assert (found.picture == upright[:10, :20]).all()
    assert found.mask.all()


def test_a_cut_triangle_marks_only_its_own_pixels() -> None:
    triangle = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5))
    for region in (Box(x1=0, y1=0, x2=40, y2=40), turned((20.0, 20.0), 40, 40, 30.0)):
        found = cut_zone(np.zeros((60, 80, 3), np.uint8), triangle, Place(region=region))
        assert found.mask.shape == (20, 20)
        assert (found.mask == filled(np.array([(0, 0), (20, 0), (0, 20)], np.float64), (20, 20))).all()
