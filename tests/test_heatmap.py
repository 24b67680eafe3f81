from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gonogo.errors import ImageError
from gonogo.heatmap import HeatScale, fit_scale, hottest_point, overlay, spread
from gonogo.images import crop_resize
from gonogo.schema import Box, DefectMap, Frame, State, Verdict

SCALE = HeatScale(cold=0.0, hot=10.0)


def blob(rows: int, columns: int, row: float, column: float, width: float = 1.0) -> DefectMap:
    """A Gaussian bump, its peak at a place between the cells."""
    y, x = np.mgrid[:rows, :columns]
    return (10 * np.exp(-((y - row) ** 2 + (x - column) ** 2) / (2 * width**2))).astype(np.float32)


def judged(heatmap: DefectMap | None, box: Box | None, state: State = State.NO_GO) -> Verdict:
    return Verdict(state=state, score=1.0, reason="", box=box, region=box, heatmap=heatmap)


@pytest.mark.parametrize(("cold", "hot"), [(1.0, 1.0), (2.0, 1.0), (math.nan, 1.0), (0.0, math.inf), (-math.inf, 0.0)])
def test_a_scale_without_a_range_is_refused(cold: float, hot: float) -> None:
    with pytest.raises(ValueError, match="cold < hot"):
        HeatScale(cold=cold, hot=hot)


def test_heat_runs_from_cold_to_hot_and_stops_there() -> None:
    values = np.array([-np.inf, -1, 0, 5, 10, 99], np.float32)
    np.testing.assert_allclose(SCALE.heat(values), [0, 0, 0, 0.5, 1, 1])


def test_good_parts_look_cold_and_bad_ones_hot(rng: np.random.Generator) -> None:
    good = [rng.normal(-3, 1, (7, 7)).astype(np.float32) for _ in range(40)]
    bad = [rng.normal(-3, 1, (7, 7)).astype(np.float32) + blob(7, 7, 3, 3) for _ in range(20)]
    scale = fit_scale(good, bad, bias=0.5, go_below=None)
    assert np.mean([scale.heat(cells) > 0 for cells in good]) < 0.011
    assert np.median([scale.heat(cells).max() for cells in bad]) > 0.95


def test_cold_is_never_below_the_go_threshold(rng: np.random.Generator) -> None:
    good = [rng.normal(-3, 1, (7, 7)).astype(np.float32)]
    scale = fit_scale(good, [], bias=0.5, go_below=4.0)
    assert scale.cold == pytest.approx(3.5), "the map carries the score without its bias"
    assert scale.hot > scale.cold


def test_a_threshold_out_of_reach_says_nothing_about_the_scale(rng: np.random.Generator) -> None:
    good = [rng.normal(-3, 1, (7, 7)).astype(np.float32)]
    assert fit_scale(good, [], 0.0, -math.inf) == fit_scale(good, [], 0.0, None)


def test_a_scale_is_found_even_where_all_cells_are_equal() -> None:
    flat = np.zeros((7, 7), np.float32)
    scale = fit_scale([flat], [flat], bias=0.0, go_below=None)
    assert not scale.heat(flat).any()


def test_a_scale_needs_a_good_part() -> None:
    with pytest.raises(ValueError, match="good parts"):
        fit_scale([], [np.zeros((7, 7), np.float32)], 0.0, None)


def test_every_cell_keeps_its_value_at_the_middle_of_its_square(rng: np.random.Generator) -> None:
    heatmap = rng.normal(size=(4, 5)).astype(np.float32)
    box = Box(x1=7, y1=3, x2=7 + 5 * 9, y2=3 + 4 * 11)
    full = spread(heatmap, box, (60, 70))
    middles = full[3 + 5 : 3 + 44 : 11, 7 + 4 : 7 + 45 : 9]
    np.testing.assert_allclose(middles, heatmap, atol=1e-5)


def test_nothing_is_judged_outside_the_region() -> None:
    full = spread(np.ones((3, 3), np.float32), Box(x1=10, y1=20, x2=40, y2=50), (60, 70))
    inside = np.isfinite(full)
    assert inside[20:50, 10:40].all()
    assert inside.sum() == 30 * 30


def test_a_region_hanging_over_the_edge_is_cut_as_its_crop_is() -> None:
    full = spread(np.ones((3, 3), np.float32), Box(x1=-10.5, y1=40.2, x2=20.5, y2=80), (60, 70))
    assert np.isfinite(full).sum() == 21 * 20


def test_a_region_beside_the_frame_is_refused() -> None:
    with pytest.raises(ImageError, match="outside"):
        spread(np.ones((3, 3), np.float32), Box(x1=90, y1=0, x2=99, y2=9), (60, 70))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    shift=st.floats(-1, 1),
    seed=st.integers(0, 2**16),
)
def test_spreading_never_leaves_the_range_of_the_cells(rows: int, columns: int, shift: float, seed: int) -> None:
    heatmap = np.random.default_rng(seed).normal(size=(rows, columns)).astype(np.float32)
    full = spread(heatmap, Box(x1=0, y1=0, x2=33, y2=21), (21, 33), shift_xy=(shift, -shift))
    assert full.min() >= heatmap.min()
    assert full.max() <= heatmap.max()


def test_a_shift_moves_the_heat_by_that_many_cells() -> None:
    heatmap, box = blob(8, 8, 3, 4), Box(x1=0, y1=0, x2=80, y2=160)
    plain, shifted = spread(heatmap, box, (160, 80)), spread(heatmap, box, (160, 80), shift_xy=(-0.5, 1.0))
    np.testing.assert_allclose(shifted[40:140, 10:70], plain[20:120, 15:75], atol=1e-4)
    x, y = hottest_point(heatmap, box)
    assert hottest_point(heatmap, box, shift_xy=(-0.5, 1.0)) == pytest.approx((x - 5, y + 20))


def test_the_hottest_point_lies_between_the_cells_where_the_peak_is() -> None:
    box = Box(x1=100, y1=50, x2=180, y2=120)
    x, y = hottest_point(blob(7, 8, 2.3, 5.6, width=1.5), box)
    assert x == pytest.approx(100 + (5.6 + 0.5) * 10, abs=0.3)
    assert y == pytest.approx(50 + (2.3 + 0.5) * 10, abs=0.3)


def test_a_peak_in_the_corner_stays_in_its_cell() -> None:
    assert hottest_point(blob(4, 4, 0, 3), Box(x1=0, y1=0, x2=40, y2=40)) == pytest.approx((35, 5))


def test_a_map_without_a_peak_points_at_the_middle() -> None:
    assert hottest_point(np.zeros((7, 5), np.float32), Box(x1=0, y1=0, x2=50, y2=70)) == pytest.approx((25, 35))


def test_the_hottest_point_never_leaves_the_box() -> None:
    box = Box(x1=0, y1=0, x2=40, y2=40)
    assert hottest_point(blob(4, 4, 0, 0), box, shift_xy=(-0.7, -0.7)) == (0, 0)


def test_a_defect_is_found_again_where_the_crop_had_it(rng: np.random.Generator) -> None:
    box = Box(x1=31.4, y1=12.7, x2=431.2, y2=330.1)
    for _ in range(10):
        frame = np.zeros((400, 500, 3), np.uint8)
        x, y = int(rng.integers(60, 390)), int(rng.integers(40, 300))
        cv2.circle(frame, (x, y), 8, (255, 255, 255), -1)
        crop = crop_resize(frame, box, (224, 224))[..., 0].astype(np.float32)
        heatmap = cv2.GaussianBlur(crop, (0, 0), 12)[8::16, 8::16]
        found = hottest_point(heatmap, box)
        assert found == pytest.approx((x, y), abs=4.5), "cells are 28 x 23 pixels large"


def test_where_nothing_is_hot_the_photograph_stays(frame: Frame) -> None:
    drawn = overlay(frame, judged(np.full((7, 7), -1, np.float32), Box.whole(frame), State.GO), SCALE)
    assert np.array_equal(drawn[2:-2, 2:-2], frame[2:-2, 2:-2])
    assert not np.array_equal(drawn, frame), "the outline tells the verdict"


def test_heat_is_drawn_where_it_is_and_nowhere_else(frame: Frame) -> None:
    heatmap = np.full((6, 8), -10, np.float32)
    heatmap[1, 6] = 10
    drawn = overlay(frame, judged(heatmap, Box.whole(frame)), SCALE)
    changed = (drawn != frame).any(axis=2)[2:-2, 2:-2]
    assert changed[28, 128]
    assert not changed[:, :90].any()
    assert not changed[60:].any()


def test_the_verdict_says_where_its_cells_look(frame: Frame) -> None:
    heatmap = np.full((6, 8), -10, np.float32)
    heatmap[1, 6] = 10
    verdict = replace(judged(heatmap, Box.whole(frame)), shift_xy=(-5.0, 3.0))
    changed = (overlay(frame, verdict, SCALE) != frame).any(axis=2)[2:-2, 2:-2]
    assert changed[88, 28], "five cells of 20 pixels to the left, three down"
    assert not changed[28, 128]


def test_hotter_is_drawn_stronger(frame: Frame) -> None:
    grey = np.full_like(frame, 128)
    strength = [
        np.abs(overlay(grey, judged(np.full((3, 3), heat, np.float32), Box.whole(grey)), SCALE)[60, 80] - 128.0).sum()
        for heat in (0.0, 3.0, 6.0, 10.0)
    ]
    assert strength == sorted(strength)
    assert strength[0] == 0 < strength[1]


def test_drawing_leaves_the_frame_alone(frame: Frame) -> None:
    before = frame.copy()
    overlay(frame, judged(np.full((3, 3), 10, np.float32), Box.whole(frame)), SCALE)
    assert np.array_equal(frame, before)


def test_a_fault_has_no_heat_but_can_still_be_shown(frame: Frame) -> None:
    fault = Verdict(state=State.FAULT, score=None, reason="no region found")
    assert np.array_equal(overlay(frame, fault, SCALE), frame)


@pytest.mark.parametrize("size_hw", [(1, 1), (2, 300), (300, 2)])
def test_a_tiny_or_thin_picture_can_be_drawn_on(size_hw: tuple[int, int]) -> None:
    thin = np.zeros((*size_hw, 3), np.uint8)
    drawn = overlay(thin, judged(np.full((7, 7), 10, np.float32), Box.whole(thin)), SCALE)
    assert drawn.shape == thin.shape
