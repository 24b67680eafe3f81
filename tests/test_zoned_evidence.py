"""Evidence by zone: graph and reference agree, poolings add up in the zone that decides, scales are fair."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gonogo import runtime
from gonogo.evidence import (
    FeatureTable,
    Judgement,
    Weighted,
    classifier_graph,
    fit_evidence,
    judge_reference,
    out_of_fold,
    pool,
)
from gonogo.evidence.cells import SOUND, UNASKED, cell_targets
from gonogo.evidence.context import pooled_vector
from gonogo.evidence.memory import draw_patches
from gonogo.evidence.zoned import ABSENT, fit_scales, kept_cells, own_masks, zone_vector
from gonogo.zoning import ZoneScale
from test_evidence import COLUMNS, ROWS, Maps, as_frame, features_as_input, random_maps, table_of

NUMBERS = np.array([[0, 0, 2, 2, 1, 1], [0, 2, 2, 2, 1, 1], [2, 2, 2, 1, 1, 1], [2, 2, 2, 2, 2, 2]], np.uint8)
IGNORED = (NUMBERS > 0).astype(np.uint8)


def zoned_table(pictures: list[Maps], bad: list[int], numbers: np.ndarray, shares: tuple[float, ...]) -> FeatureTable:
    table = table_of(pictures, bad, defect=(2, 3))
    return replace(
        table,
        numbers=numbers,
        sensitivities=shares,
        vectors=np.stack([zone_vector(maps, numbers > 0) for maps in pictures]),
        zone_vectors=np.stack([[zone_vector(maps, numbers == zone) for zone in (1, 2)] for maps in pictures])
        if shares
        else None,
    )


@pytest.fixture(scope="module")
def pictures() -> tuple[list[Maps], list[int]]:
    rng = np.random.default_rng(3)
    bad = [int(number % 4 == 0) for number in range(52)]
    return [random_maps(rng, defect=(2, 3) if each else None) for each in bad], bad


@pytest.fixture(scope="module")
def zoned(pictures: tuple[list[Maps], list[int]]) -> Weighted:
    table = zoned_table(*pictures, NUMBERS, (0.2, 0.05))
    return fit_evidence(table, out_of_fold(table, seed=0), seed=0)


@pytest.fixture(scope="module")
def blind(pictures: tuple[list[Maps], list[int]]) -> Weighted:
    table = zoned_table(*pictures, IGNORED, ())
    return fit_evidence(table, out_of_fold(table, seed=0), seed=0)


def assert_adds_up(weighted: Weighted, evidence: np.ndarray, scores: tuple[float, ...], numbers: np.ndarray) -> None:
    """Score of every zone = its own cells of the map, pooled, plus its bias."""
    for number, (scale, score) in enumerate(zip(weighted.zone_scales, scores, strict=True), start=1):
        own = numbers == number
        if not own.any():
            assert score == pytest.approx(ABSENT)
            continue
        pooled = sum(
            pool(kind, each[own], scale.factor * weighted.cells_weight)
            for kind, each in zip(weighted.kinds, evidence, strict=True)
        )
        assert pooled + scale.factor * weighted.bias + scale.offset == pytest.approx(score, abs=1e-4)


def check(weighted: Weighted, judged: Judgement, found: dict[str, np.ndarray], numbers: np.ndarray) -> None:
    scores = judged.zone_scores or (judged.score,)
    assert max(scores) == judged.score
    assert_adds_up(weighted, judged.evidence, scores, numbers)
    assert_adds_up(weighted, found["evidence"][0], tuple(found.get("zones", found["score"][None])[0]), numbers)
    assert float(found["score"][0]) == pytest.approx(judged.score, abs=1e-3)
    np.testing.assert_allclose(found["evidence"][0], judged.evidence, atol=1e-3)
    np.testing.assert_allclose(found["heatmap"][0], judged.heatmap, atol=1e-3)
    np.testing.assert_allclose(found["feature_vector"][0], judged.feature_vector, atol=1e-5)
    left_out = numbers == 0
    if left_out.any():
        assert found["heatmap"][0][left_out].max() <= found["heatmap"][0][~left_out].min() + 1e-5


@pytest.mark.slow
def test_with_inspect_zones_the_graph_computes_what_the_reference_does_and_every_zone_adds_up(zoned: Weighted) -> None:
    assert zoned.kinds == ("context", "memory", "cells")
    graph = runtime.compile_graph(classifier_graph(features_as_input(), zoned, labels=("good", "bad")))
    rng = np.random.default_rng(5)
    for defect in (None, (2, 3), (0, 0), (3, 3)):
        frame, maps = as_frame(random_maps(rng, defect=defect))
        check(zoned, judge_reference(zoned, maps), graph(frame), NUMBERS)


@pytest.mark.slow
def test_with_ignore_zones_alone_the_score_is_pooled_over_the_other_cells(blind: Weighted) -> None:
    assert blind.zone_scales == (ZoneScale(),)
    graph = runtime.compile_graph(classifier_graph(features_as_input(), blind, labels=("good", "bad")))
    frame, maps = as_frame(random_maps(np.random.default_rng(6)))
    found = graph(frame)
    assert "zones" not in found
    check(blind, judge_reference(blind, maps), found, IGNORED)


def test_whatever_happens_in_the_cells_that_are_left_out_no_score_changes(blind: Weighted, zoned: Weighted) -> None:
    maps = random_maps(np.random.default_rng(7))
    for weighted in (blind, zoned):
        weighted = replace(weighted, memory_weight=0.0)  # its patches are 3 x 3 cells, and the pixels are blank
        other = [each.copy() for each in maps]
        other[0][:, :2, :4] += 9
        other[1][:, 0, :2] += 9
        assert judge_reference(weighted, other).score == pytest.approx(judge_reference(weighted, maps).score, abs=1e-5)


@pytest.mark.slow
def test_windows_get_the_zones_of_their_cells_with_each_picture(zoned: Weighted) -> None:
    windows = replace(zoned, numbers=None)
    graph = runtime.compile_graph(classifier_graph(features_as_input(), windows, labels=("good", "bad")))
    rng = np.random.default_rng(8)
    only_rest = np.full((ROWS, COLUMNS), 2, np.uint8)
    for numbers in (NUMBERS, only_rest, np.where(NUMBERS == 1, 1, 0).astype(np.uint8)):
        frame, maps = as_frame(random_maps(rng))
        judged = judge_reference(windows, maps, numbers)
        assert np.isfinite(judged.score)
        check(windows, judged, graph(frame, numbers), numbers)


def test_a_zone_of_all_cells_is_judged_like_a_picture_without_zones(pictures: tuple[list[Maps], list[int]]) -> None:
    all_cells = np.ones((ROWS, COLUMNS), np.uint8)
    maps = pictures[0][0]
    np.testing.assert_allclose(zone_vector(maps, all_cells > 0), pooled_vector(maps), rtol=1e-5, atol=1e-6)
    plain_table = table_of(*pictures, defect=(2, 3))
    plain = fit_evidence(plain_table, out_of_fold(plain_table, seed=0), seed=0)
    whole = replace(plain, zone_scales=(ZoneScale(),), numbers=all_cells)
    for maps in pictures[0][:4]:
        expected, found = judge_reference(plain, maps), judge_reference(whole, maps)
        assert found.score == pytest.approx(expected.score, abs=1e-4)
        np.testing.assert_allclose(found.heatmap, expected.heatmap, atol=1e-4)


def test_good_parts_exceed_zero_in_a_zone_as_often_as_its_sensitivity_says() -> None:
    rng = np.random.default_rng(9)
    scores = rng.normal((-3.0, 40.0), (0.5, 7.0), (4000, 2))
    bad = np.zeros(4000, int)
    scales = fit_scales(scores, bad, range(4000), (0.2, 0.05))
    over = np.mean([[s.factor * x + s.offset > 0 for s, x in zip(scales, row, strict=True)] for row in scores], axis=0)
    np.testing.assert_allclose(over, (0.2, 0.05), atol=0.015)


def test_the_scale_of_a_zone_uses_good_parts_and_their_worst_picture_only() -> None:
    scores = np.array([[1.0, 0.0], [3.0, 0.0], [2.0, 0.0], [99.0, 9.0]])
    scales = fit_scales(scores, np.array([0, 0, 0, 1]), [0, 0, 1, 2], (0.5 - 1e-9, 0.4))
    assert scales[0].offset == pytest.approx(-scales[0].factor * 2.5, abs=1e-6)


def test_a_zone_in_which_good_parts_do_not_differ_gets_no_boundless_factor() -> None:
    rng = np.random.default_rng(10)
    scores = np.stack([rng.normal(0, 1, 100), rng.normal(0, 1, 100), np.full(100, 1.0)], axis=1)
    scales = fit_scales(scores, np.zeros(100, int), range(100), (0.05, 0.05, 0.05))
    assert scales[2].factor < 12 * scales[0].factor


def test_the_memory_draws_no_patch_of_a_cell_that_is_left_out() -> None:
    rng = np.random.default_rng(11)
    pictures = [rng.normal(size=(5, ROWS, COLUMNS)).astype(np.float32) for _ in range(6)]
    for each in pictures:
        each[:, 0, 0] = 1e6  # its neighbours' patches see it too, but less than the cell itself
    drawn = draw_patches(pictures, 6, rng, kept=[kept_cells(NUMBERS)] * 6)
    assert len(drawn) == 6 * int((NUMBERS > 0).sum())


def test_a_cell_that_is_left_out_teaches_nothing() -> None:
    marks = np.zeros((ROWS * 16, COLUMNS * 16), np.uint8)
    marks[:16, :16] = 255
    targets = cell_targets(marks, (ROWS, COLUMNS), (0.0, 0.0), NUMBERS)
    assert (targets[NUMBERS == 0] == UNASKED).all()
    assert (targets[2:] == SOUND).all()


def test_masks_of_zones_are_disjoint_and_cover_what_is_not_left_out() -> None:
    masks = own_masks(NUMBERS, 2)
    assert all(mask is not None for mask in masks)
    assert (sum(np.asarray(mask, int) for mask in masks) == (NUMBERS > 0)).all()
