"""Sizes in mm: calibration, shapes of known size, defects on a map."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from gonogo.config import Scale
from gonogo.errors import InputError
from gonogo.heatmap import HeatScale
from gonogo.measure import (
    calibrate_checkerboard,
    calibrate_edge,
    draw_calibration,
    draw_measurements,
    in_mm,
    measure_defects,
    measure_shape,
    pixel_mm,
)
from gonogo.schema import Box, Frame, Quad, State, Verdict

SCALE = Scale(mm_per_px=0.05, relative_error=0.0, size_wh=(320, 240))
HEAT = HeatScale(cold=0.0, hot=1.0)


def bar_mask(length: float, width: float, degrees: float, side: int = 128) -> np.ndarray:
    rows, columns = np.mgrid[0:side, 0:side] + 0.5 - side / 2 + 0.13
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    along, across = columns * cos + rows * sin, rows * cos - columns * sin
    return np.asarray((np.abs(along) <= length / 2) & (np.abs(across) <= width / 2))


def scratched(
    length: float, degrees: float = 30.0, *, contrast: float = 60.0, seed: int = 0
) -> tuple[Frame, np.ndarray]:
    """A plate of 320 x 240 pixels with a straight scratch of 3 pixels, and a perfect map with cells of 16."""
    rng = np.random.default_rng(seed)
    fine = np.zeros((960, 1280), np.float32)
    ends = np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))]) * length / 2
    across = np.array([-ends[1], ends[0]]) / (length / 2) * 1.5
    corners = np.array([-ends - across, ends - across, ends + across, -ends + across]) + np.array([160.3, 120.6])
    cv2.fillConvexPoly(fine, np.rint((corners * 4 - 0.5) * 16).astype(np.int32), 1.0, cv2.LINE_8, 4)
    covered = cv2.resize(fine, (320, 240), interpolation=cv2.INTER_AREA)
    grey = cv2.GaussianBlur(120 + contrast * covered, (0, 0), 0.8) + rng.normal(0, 3, (240, 320))
    frame = np.clip(np.repeat(grey[..., None], 3, axis=2), 0, 255).astype(np.uint8)
    cells = cv2.resize(covered, (20, 15), interpolation=cv2.INTER_AREA)
    return frame, (cells > 0.01).astype(np.float32)


def verdict_on(heatmap: np.ndarray, region: Box | Quad | None = None) -> Verdict:
    whole = Box(x1=0, y1=0, x2=320, y2=240)
    return Verdict(state=State.REVIEW, score=0.0, reason="", region=region or whole, heatmap=heatmap)


@pytest.mark.parametrize(("length", "width"), [(12, 2), (40, 3), (90, 5)])
def test_ribbons_at_all_angles_have_their_length_and_width_to_within_a_pixel(length: float, width: float) -> None:
    found = [measure_shape(bar_mask(length, width, degrees)) for degrees in range(0, 180, 15)]
    off = np.array([each.length for each in found]) - length
    assert abs(off.mean()) < 0.5
    assert np.abs(off).max() < 1.2
    assert np.abs(np.array([each.width for each in found]) - width).max() < 0.6


def test_a_disc_is_as_long_as_it_is_wide() -> None:
    rows, columns = np.mgrid[0:80, 0:80] - 39.7
    found = measure_shape(np.hypot(rows, columns) <= 30)
    assert found.length == pytest.approx(60, abs=1.5)
    assert found.width == pytest.approx(60, abs=1.5)
    assert found.area == pytest.approx(np.pi * 900, rel=0.02)


def test_a_hook_is_measured_along_its_bend_and_not_across_its_gap() -> None:
    mask = np.zeros((80, 80), np.bool_)
    mask[10:70, 10:13] = mask[10:70, 60:63] = mask[67:70, 10:63] = True
    assert measure_shape(mask).length == pytest.approx(58.5 + 50 + 58.5, rel=0.05)


@pytest.mark.parametrize("count", [1, 2])
def test_a_speck_can_be_measured(count: int) -> None:
    mask = np.zeros((5, 5), np.bool_)
    mask[2, 2 : 2 + count] = True
    assert 0.5 < measure_shape(mask).length < 3
    with pytest.raises(ValueError, match="at least one pixel"):
        measure_shape(np.zeros((5, 5), np.bool_))


def test_a_large_blot_takes_no_longer_and_keeps_its_size() -> None:
    mask = np.zeros((900, 900), np.bool_)
    mask[50:850, 100:600] = True
    found = measure_shape(mask)
    assert found.length == pytest.approx(800, rel=0.02)
    assert found.area == 400_000


@pytest.mark.parametrize("length", [20, 50, 100])
def test_scratches_are_measured_to_within_the_stated_error(length: int) -> None:
    for seed, degrees in enumerate((0, 30, 77, 140)):
        frame, heatmap = scratched(length, degrees, seed=seed)
        (found, *others) = measure_defects(frame, verdict_on(heatmap), HEAT, SCALE)
        assert not others
        assert found.refined
        assert abs(found.length_mm - length * 0.05) <= found.length_error_mm + 0.02
        assert found.length_error_mm < 0.2
        assert abs(found.width_mm - 0.15) <= found.width_error_mm


def test_a_scratch_is_measured_beyond_its_hot_cells() -> None:
    frame, heatmap = scratched(100, 0)
    heatmap[:, :9] = 0
    (found,) = measure_defects(frame, verdict_on(heatmap), HEAT, SCALE)
    assert found.length_mm == pytest.approx(5.0, abs=0.15)


def test_two_hot_spots_on_one_scratch_are_one_defect() -> None:
    frame, heatmap = scratched(100, 0)
    heatmap[:, 9:11] = 0
    assert len(measure_defects(frame, verdict_on(heatmap), HEAT, SCALE)) == 1


def test_what_does_not_stand_out_is_measured_on_the_map_with_the_error_of_its_cells() -> None:
    frame, heatmap = scratched(60, 0, contrast=0.0)
    (found,) = measure_defects(frame, verdict_on(heatmap), HEAT, SCALE)
    assert not found.refined
    assert found.length_error_mm > 0.5
    assert abs(found.length_mm - 3.0) < 2 * found.length_error_mm


def test_a_cold_map_a_missing_map_and_a_missing_region_give_nothing() -> None:
    frame, heatmap = scratched(60)
    assert measure_defects(frame, verdict_on(0.2 * heatmap), HEAT, SCALE) == ()
    nothing = Verdict(state=State.REVIEW, score=0.0, reason="")
    assert measure_defects(frame, nothing, HEAT, SCALE) == ()


def test_a_reduced_picture_gives_the_same_length() -> None:
    frame, heatmap = scratched(100, 20)
    small = cv2.resize(frame, (160, 120), interpolation=cv2.INTER_AREA)
    (found,) = measure_defects(small, verdict_on(heatmap), HEAT, SCALE, reduction=2)
    assert found.length_mm == pytest.approx(5.0, abs=0.25)
    assert all(0 <= x <= 320 and 0 <= y <= 240 for x, y in found.path_xy)


def test_a_turned_region_gives_the_same_length() -> None:
    frame, _ = scratched(80, 0)
    turned: Quad = ((20.0, 60.0), (290.0, 10.0), (305.0, 190.0), (35.0, 235.0))
    hot = np.zeros((12, 12), np.float32)
    hot[4:8, 4:8] = 1
    (found,) = measure_defects(frame, verdict_on(hot, turned), HEAT, SCALE)
    assert found.length_mm == pytest.approx(4.0, abs=0.15)
    drawn = frame.copy()
    draw_measurements(drawn, (found,))
    assert (drawn != frame).any()


# --- calibration


def board(
    *, square_px: float = 24.0, corners_wh: tuple[int, int] = (9, 6), tilt: float = 0.0, barrel: float = 0.0
) -> Frame:
    """A checkerboard of 600 x 440 pixels, drawn at four times its size; optionally tilted or seen by a poor lens."""
    across, down = corners_wh
    fine = np.full((440 * 4, 600 * 4), 235, np.uint8)
    origin = np.array([600 - (across + 1) * square_px, 440 - (down + 1) * square_px]) / 2
    for row in range(down + 1):
        for column in range(across + 1):
            if (row + column) % 2 == 0:
                square = np.array([(0, 0), (1, 0), (1, 1), (0, 1)]) + np.array([column, row])
                corners = origin + square_px * square
                cv2.fillConvexPoly(fine, np.rint(corners * 64 - 8).astype(np.int32), 25, cv2.LINE_8, 4)
    small = cv2.resize(fine, (600, 440), interpolation=cv2.INTER_AREA)
    if tilt:
        source = np.array([(0, 0), (600, 0), (600, 440), (0, 440)], np.float32)
        target = np.array([(60 * tilt, 40 * tilt), (600, 0), (600, 440), (60 * tilt, 440 - 40 * tilt)], np.float32)
        matrix = cv2.getPerspectiveTransform(source, target)
        small = cv2.warpPerspective(small, matrix, (600, 440), borderValue=235)
    if barrel:
        rows, columns = np.mgrid[0:440, 0:600].astype(np.float32)
        x, y = (columns - 300) / 300, (rows - 220) / 300
        bent = 1 + barrel * (x * x + y * y)
        small = cv2.remap(small, x * bent * 300 + 300, y * bent * 300 + 220, cv2.INTER_LINEAR, borderValue=235)
    blurred = cv2.GaussianBlur(small, (0, 0), 0.7)
    return np.ascontiguousarray(np.repeat(blurred[..., None], 3, axis=2))


def test_a_checkerboard_gives_the_size_of_a_pixel() -> None:
    found = calibrate_checkerboard(board(), (9, 6), 5.0)
    assert found.scale.mm_per_px == pytest.approx(5 / 24, rel=0.002)
    assert found.scale.homography is None
    assert found.residual_px < 0.2
    assert found.scale.relative_error < 0.005
    assert (draw_calibration(board(), found) != board()).any()


def test_a_tilted_board_is_corrected_and_lengths_on_it_are_right() -> None:
    found = calibrate_checkerboard(board(tilt=1.0), (9, 6), 5.0)
    assert found.scale.homography is not None
    assert found.similarity_residual_px > 2 * found.residual_px
    corners = found.points_xy.reshape(6, 9, 2)
    for ends, true in ((corners[0, [0, 8]], 40.0), (corners[5, [0, 8]], 40.0), (corners[[0, 5], 0], 25.0)):
        first, second = in_mm(ends, found.scale)
        assert np.linalg.norm(second - first) == pytest.approx(true, rel=0.01)
    left, right = (pixel_mm(np.array([x, 220.0]), found.scale) for x in (180, 420))
    assert left > 1.02 * right  # the left side is farther away


def test_a_lens_that_bends_lines_is_refused() -> None:
    with pytest.raises(InputError, match="less distortion"):
        calibrate_checkerboard(board(barrel=0.7), (9, 6), 5.0)


def test_a_picture_without_a_board_and_impossible_boards_are_refused() -> None:
    with pytest.raises(InputError, match="found none"):
        calibrate_checkerboard(np.full((200, 200, 3), 128, np.uint8), (9, 6), 5.0)
    for corners, square in (((2, 6), 5.0), ((9, 6), 0.0), ((9, 6), float("nan")), ((90, 6), 5.0)):
        with pytest.raises(InputError, match="inner corners"):
            calibrate_checkerboard(board(), corners, square)


def test_an_edge_gives_the_size_of_a_pixel_and_short_or_outside_ones_are_refused() -> None:
    frame = np.zeros((100, 400, 3), np.uint8)
    found = calibrate_edge(frame, (10, 50, 310, 50), 30.0)
    assert found.scale.mm_per_px == pytest.approx(0.1)
    assert found.scale.relative_error == pytest.approx(1 / 300)
    assert (draw_calibration(frame, found) != frame).any()
    for ends in ((10, 50, 30, 50), (10, 50, 500, 50), (10, 50, float("nan"), 50)):
        with pytest.raises(InputError):
            calibrate_edge(frame, ends, 30.0)
