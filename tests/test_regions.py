"""Turned regions: what is cut out, jittered, spread over the photograph and drawn on it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonogo.augment import JITTER, jittered
from gonogo.errors import ImageError
from gonogo.heatmap import HeatScale, hottest_point, overlay, spread
from gonogo.images import cut, in_frame, seen_region, within
from gonogo.images.geometry import Corners, as_quad, corners_of, upright
from gonogo.schema import Box, Frame, Quad, State, Verdict

SHAPE_HW = (120, 160)
SCALE = HeatScale(cold=0.0, hot=10.0)


def turned(
    degrees: float, *, centre_xy: tuple[float, float] = (80.0, 60.0), sides: tuple[float, float] = (70, 44)
) -> Quad:
    return as_quad(upright(cv2.boxPoints((centre_xy, sides, degrees)).astype(np.float64)))


def signed_distances(quad: Quad, points_xy: np.ndarray) -> np.ndarray:
    """How far points lie inside a convex shape, in pixels; negative outside."""
    corners: Corners = corners_of(quad)
    sides = np.roll(corners, -1, axis=0) - corners
    away = points_xy[:, None] - corners
    across = (sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0]) / np.linalg.norm(sides, axis=1)
    nearest: np.ndarray = across.min(axis=1)
    return nearest


def pixel_middles() -> np.ndarray:
    y, x = np.mgrid[: SHAPE_HW[0], : SHAPE_HW[1]] + 0.5
    return np.stack([x.ravel(), y.ravel()], axis=1)


def judged(heatmap: np.ndarray, quad: Quad) -> Verdict:
    return Verdict(state=State.NO_GO, score=1.0, reason="", region=quad, heatmap=heatmap.astype(np.float32))


@settings(max_examples=40)
@given(degrees=st.floats(-44, 44), keystone=st.floats(-4, 4), seed=st.integers(0, 999))
def test_region_and_frame_coordinates_are_each_others_reverse(degrees: float, keystone: float, seed: int) -> None:
    corners = corners_of(turned(degrees)) + np.array([[keystone, 0], [-keystone, 0], [0, 0], [0, 0]])
    region = as_quad(corners)
    np.testing.assert_allclose(in_frame(region, np.array([[0.0, 0], [1, 0], [1, 1], [0, 1]])), corners, atol=1e-3)
    points = np.random.default_rng(seed).uniform(0, 1, (5, 2))
    np.testing.assert_allclose(within(region, in_frame(region, points)), points, atol=1e-4)


def test_what_is_seen_of_a_box_is_whole_pixels_and_of_a_quad_the_quad(frame: Frame) -> None:
    assert seen_region(frame, Box(x1=-3.0, y1=2.4, x2=50.2, y2=70.0)) == Box(x1=0, y1=2, x2=51, y2=70)
    assert seen_region(frame, turned(20)) == turned(20)


@pytest.mark.parametrize("degrees", [-40.0, -15.0, 0.0, 30.0])
def test_nothing_is_judged_outside_the_quad(degrees: float) -> None:
    values = spread(np.ones((4, 5), np.float32), turned(degrees), SHAPE_HW).ravel()
    depth = signed_distances(turned(degrees), pixel_middles())
    assert np.isneginf(values[depth < -0.8]).all()
    assert (values[depth > 0.8] == 1.0).all()


def test_a_quad_that_hangs_over_the_edge_is_judged_up_to_the_edge() -> None:
    quad = turned(25, centre_xy=(8.0, 60.0))
    values = spread(np.ones((4, 4), np.float32), quad, SHAPE_HW).ravel()
    depth = signed_distances(quad, pixel_middles())
    assert np.isfinite(values[depth > 0.8]).all()
    assert np.isneginf(values[depth < -0.8]).all()


def test_a_quad_beside_the_frame_is_refused() -> None:
    with pytest.raises(ImageError, match="outside"):
        spread(np.ones((4, 4), np.float32), turned(10, centre_xy=(400.0, 60.0)), SHAPE_HW)


def test_an_upright_quad_is_spread_as_the_box_it_is(rng: np.random.Generator) -> None:
    heatmap = rng.normal(size=(5, 6)).astype(np.float32)
    as_box = spread(heatmap, Box(x1=20, y1=30, x2=110, y2=90), SHAPE_HW)
    as_turned = spread(heatmap, ((20, 30), (110, 30), (110, 90), (20, 90)), SHAPE_HW)
    np.testing.assert_allclose(as_turned[31:89, 21:109], as_box[31:89, 21:109], atol=1e-4)


@pytest.mark.parametrize("degrees", [-35.0, 0.0, 20.0])
def test_a_spot_cut_out_of_a_quad_is_found_again_on_the_photograph(degrees: float) -> None:
    quad = turned(degrees, sides=(100, 60))
    for along, down in ((0.3, 0.4), (0.75, 0.6)):
        x, y = in_frame(quad, np.array([[along, down]]))[0]
        photograph = np.zeros((*SHAPE_HW, 3), np.uint8)
        cv2.circle(photograph, (round(16 * (x - 0.5)), round(16 * (y - 0.5))), 5 * 16, (255, 255, 255), -1, shift=4)
        crop = cut(photograph, quad, (80, 80))[..., 0].astype(np.float32)
        heatmap = cv2.GaussianBlur(crop, (0, 0), 5)[4::8, 4::8]
        assert hottest_point(heatmap, quad) == pytest.approx((x, y), abs=2.5), "cells are 10 x 6 pixels large"
        values = spread(heatmap, quad, SHAPE_HW)
        row, column = np.unravel_index(int(values.argmax()), values.shape)
        assert (column + 0.5, row + 0.5) == pytest.approx((x, y), abs=4.5)


def test_the_hottest_point_never_leaves_the_quad() -> None:
    heatmap = np.zeros((4, 4), np.float32)
    heatmap[0, 3] = 1
    point = hottest_point(heatmap, turned(30), shift_xy=(0.9, -0.9))
    np.testing.assert_allclose(point, turned(30)[1], atol=1e-3)


def test_heat_is_drawn_inside_the_quad_and_the_photograph_stays_outside(frame: Frame) -> None:
    quad = turned(25)
    drawn = overlay(frame, judged(np.full((4, 4), 10.0), quad), SCALE)
    changed = (drawn != frame).any(axis=2).ravel()
    depth = signed_distances(quad, pixel_middles())
    assert not changed[depth < -2].any(), "the outline is a pixel or two wide"
    assert changed[depth > 2].mean() > 0.99
    assert changed[np.abs(depth) < 0.4].mean() > 0.9


def test_a_cold_quad_is_only_outlined(frame: Frame) -> None:
    drawn = overlay(frame, judged(np.full((4, 4), -1.0), turned(25)), SCALE)
    changed = (drawn != frame).any(axis=2).ravel()
    assert changed.any()
    assert not changed[np.abs(signed_distances(turned(25), pixel_middles())) > 2].any()


@settings(max_examples=40)
@given(degrees=st.floats(-44, 44), seed=st.integers(0, 2**16))
def test_a_jittered_quad_has_each_edge_moved_by_up_to_the_jitter(degrees: float, seed: int) -> None:
    blank = np.zeros((*SHAPE_HW, 3), np.uint8)
    moved = within(turned(degrees), corners_of(jittered(turned(degrees), blank, np.random.default_rng(seed))))
    off = moved - [[0, 0], [1, 0], [1, 1], [0, 1]]
    assert np.abs(off).max() <= JITTER + 1e-4
    assert np.abs(off).max() > 0
    # corners that share an edge move it evenly: a rectangle stays a rectangle
    assert off[[0, 3], 0].std() < 1e-4 > off[[0, 1], 1].std()


def test_a_jittered_box_stays_in_the_frame(frame: Frame, rng: np.random.Generator) -> None:
    whole = Box.whole(frame)
    for _ in range(50):
        moved = jittered(whole, frame, rng)
        assert isinstance(moved, Box)
        assert moved.intersection(whole) == moved
        assert moved.width >= (1 - 2 * JITTER) * whole.width
