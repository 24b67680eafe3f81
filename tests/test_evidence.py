"""Three kinds of evidence: each fitted, weighed on parts left out, and added up exactly in one graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino as ov
import pytest
from openvino import opset13 as ops

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
from gonogo.evidence.blend import fit_blend
from gonogo.evidence.cells import DEFECTIVE, SOUND
from gonogo.evidence.context import context_scores, fit_context, pooled_vector
from gonogo.evidence.grid import joined, neighbourhood_means
from gonogo.evidence.memory import FULL, draw_patches, fit_memory, greedy_coreset

WIDTHS = (3, 4, 5)
ROWS, COLUMNS = 4, 6
Maps = list[np.ndarray]


def random_maps(rng: np.random.Generator, *, defect: tuple[int, int] | None = None) -> Maps:
    """Features of one picture at strides 8, 16 and 32; a defect raises one cell of the middle map."""
    maps = [rng.normal(size=shape).astype(np.float32) for shape in shapes()]
    if defect is not None:
        maps[1][:, defect[0], defect[1]] += 6
    return maps


def table_of(pictures: Sequence[Maps], bad: Sequence[int], *, defect: tuple[int, int] | None = None) -> FeatureTable:
    targets = None
    if defect is not None:
        targets = np.full((len(bad), ROWS, COLUMNS), SOUND, np.int8)
        targets[np.array(bad) == 1, defect[0], defect[1]] = DEFECTIVE
    return FeatureTable(
        vectors=np.stack([pooled_vector(maps) for maps in pictures]),
        joined=np.stack([joined(maps) for maps in pictures]).astype(np.float16),
        widths=WIDTHS,
        bad=np.array(bad),
        groups=tuple(range(len(bad))),
        targets=targets,
    )


def shapes() -> list[tuple[int, int, int]]:
    return [(width, ROWS * 4 // stride, COLUMNS * 4 // stride) for width, stride in zip(WIDTHS, (2, 4, 8), strict=True)]


def features_as_input() -> ov.Model:
    """A stand-in for a backbone: a picture whose bytes are the features, as fixed-point numbers of three digits."""
    total = sum(int(np.prod(shape)) for shape in shapes())
    frame = ops.parameter([1, 1, total, 3], np.uint8, name="frame")
    frame.output(0).get_tensor().set_names({"frame"})
    weights = ops.constant(np.array([256.0, 1.0, 1 / 256.0], np.float32))
    digits = ops.multiply(ops.convert(frame, np.float32), weights)
    numbers = ops.reduce_sum(digits, ops.constant(np.array([3])), False)
    values = ops.divide(ops.subtract(numbers, ops.constant(np.float32(32768))), ops.constant(np.float32(1024)))
    results, start = [], 0
    for shape, stride in zip(shapes(), (8, 16, 32), strict=True):
        count = int(np.prod(shape))
        piece = ops.slice(values, *(ops.constant(np.array([each])) for each in (start, start + count, 1, 2)))
        node = ops.reshape(piece, ops.constant(np.array([1, *shape])), False)
        node.output(0).get_tensor().set_names({f"stride_{stride}"})
        results.append(ops.result(node))
        start += count
    return ov.Model(results, [frame], "features")


def as_frame(maps: Maps) -> tuple[np.ndarray, Maps]:
    """The picture that `features_as_input` reads, and the maps as it reads them."""
    flat = np.concatenate([each.ravel() for each in maps])
    numbers = np.clip(np.rint((flat * 1024 + 32768) * 256), 0, 2**24 - 1).astype(np.int64)
    frame = np.stack([numbers >> 16, (numbers >> 8) & 255, numbers & 255], axis=1).astype(np.uint8)[None]
    read = (numbers / 256 - 32768) / 1024
    back, start = [], 0
    for each in maps:
        back.append(read[start : start + each.size].reshape(each.shape).astype(np.float32))
        start += each.size
    return frame, back


@pytest.fixture
def pictures(rng: np.random.Generator) -> tuple[list[Maps], list[int]]:
    """40 good pictures and 12 bad ones with a defect at row 2, column 3."""
    bad = [int(number % 4 == 0) for number in range(52)]
    return [random_maps(rng, defect=(2, 3) if each else None) for each in bad], bad


@pytest.fixture
def weighted(pictures: tuple[list[Maps], list[int]]) -> Weighted:
    """All three kinds, each with some weight."""
    table = table_of(*pictures, defect=(2, 3))
    tried = out_of_fold(table, seed=0)
    return fit_evidence(table, tried, seed=0)


def assert_adds_up(weighted: Weighted, judgement: Judgement) -> None:
    pooled = [
        pool(kind, each, weighted.cells_weight) for kind, each in zip(weighted.kinds, judgement.evidence, strict=True)
    ]
    assert sum(pooled) + weighted.bias == pytest.approx(judgement.score, abs=1e-5)


@pytest.mark.slow
def test_the_graph_computes_what_the_plain_reference_computes_and_both_add_up(
    weighted: Weighted, rng: np.random.Generator
) -> None:
    graph = runtime.compile_graph(classifier_graph(features_as_input(), weighted, labels=("good", "bad")))
    for defect in (None, (2, 3), (0, 0)):
        frame, maps = as_frame(random_maps(rng, defect=defect))
        expected, found = judge_reference(weighted, maps), graph(frame)
        assert_adds_up(weighted, expected)
        assert found["score"][0] == pytest.approx(expected.score, abs=1e-4)
        np.testing.assert_allclose(found["evidence"][0], expected.evidence, atol=1e-4)
        np.testing.assert_allclose(found["evidence"][0].sum(0), found["heatmap"][0], atol=1e-5)
        np.testing.assert_allclose(found["feature_vector"][0], expected.feature_vector, atol=1e-5)
        pooled = sum(
            pool(kind, each, weighted.cells_weight)
            for kind, each in zip(weighted.kinds, found["evidence"][0], strict=True)
        )
        assert pooled + weighted.bias == pytest.approx(float(found["score"][0]), abs=1e-5)


def test_all_three_kinds_see_a_planted_defect_where_it_is(weighted: Weighted, rng: np.random.Generator) -> None:
    assert weighted.kinds == ("context", "memory", "cells")
    good, bad = judge_reference(weighted, random_maps(rng)), judge_reference(weighted, random_maps(rng, defect=(2, 3)))
    assert bad.score > good.score
    assert np.unravel_index(bad.evidence[2].argmax(), (ROWS, COLUMNS)) == (2, 3)
    row, column = np.unravel_index(bad.evidence[1].argmax(), (ROWS, COLUMNS))
    assert max(abs(row - 2), abs(column - 3)) <= 1, "a patch is the mean over its neighbourhood"


def test_the_contributions_of_the_context_add_up_to_its_logit_and_ties_share(rng: np.random.Generator) -> None:
    vectors = rng.normal(size=(60, 2 * sum(WIDTHS))).astype(np.float32)
    context = fit_context(vectors, (vectors[:, 0] > 0).astype(int))
    maps = random_maps(rng)
    maps[0][:] = 1.5  # every cell of the finest map is the highest
    total = context.contributions(maps).sum()
    assert total == pytest.approx(context_scores(context, pooled_vector(maps)[None])[0], abs=1e-5)


def test_a_neighbourhood_mean_counts_the_cells_inside_the_map() -> None:
    ones = np.ones((1, 4, 5), np.float32)
    assert (neighbourhood_means(ones) == 1).all()


def test_a_coreset_covers_every_cluster(rng: np.random.Generator) -> None:
    centres = rng.normal(size=(20, 8)) * 50
    points = (centres[:, None] + rng.normal(size=(20, 30, 8))).reshape(-1, 8).astype(np.float32)
    chosen = greedy_coreset(points, 20)
    assert len(set(chosen // 30)) == 20


def test_a_memory_is_bounded_whatever_the_number_of_pictures(rng: np.random.Generator) -> None:
    maps = [rng.normal(size=(6, 12, 12)).astype(np.float32) for _ in range(40)]
    memory = fit_memory(draw_patches(maps, len(maps), rng), slice(0, 6), rng)
    assert len(memory.patches) == FULL.kept
    assert memory.distances(maps[0]).mean() < memory.distances(maps[0] + 5).mean()


def test_stride_32_counts_a_third_in_a_memory_however_many_channels_it_has(rng: np.random.Generator) -> None:
    patches = rng.normal(size=(500, 30)).astype(np.float32) * np.linspace(1, 9, 30, dtype=np.float32)
    memory = fit_memory(patches, slice(0, 30), rng, coarse=20)
    squares = np.square((patches - memory.centre) / memory.scale).mean(0)
    assert squares[:10].sum() == pytest.approx(10, rel=1e-3)
    assert squares[10:].sum() == pytest.approx(5, rel=1e-3)


def test_good_parts_alone_give_a_memory_and_a_score_in_standard_deviations(rng: np.random.Generator) -> None:
    table = table_of([random_maps(rng) for _ in range(30)], [0] * 30)
    tried = out_of_fold(table, seed=0)
    assert tried.kinds == ("memory",)
    assert tried.aurocs(table.bad) == {}
    assert tried.blended.mean() == pytest.approx(0, abs=1e-6)
    assert tried.blended.std() == pytest.approx(1, abs=1e-6)
    weighted = fit_evidence(table, tried, seed=0)
    assert weighted.kinds == ("memory",)
    scores = [judge_reference(weighted, random_maps(rng, defect=(1, 1))).score for _ in range(10)]
    assert np.mean(scores) > 2


def test_one_bad_part_is_judged_by_the_memory_alone(rng: np.random.Generator) -> None:
    table = table_of([random_maps(rng, defect=(1, 1) if number == 0 else None) for number in range(30)], [1] + [0] * 29)
    assert out_of_fold(table, seed=0).kinds == ("memory",)


@pytest.mark.slow
def test_pictures_of_one_part_are_left_out_together(rng: np.random.Generator) -> None:
    """Twins of one part, whose noise is the same: a memory that held one would know the other."""
    pictures, groups = [], []
    for number in range(24):
        maps = random_maps(rng)
        pictures += [maps, [each.copy() for each in maps]]
        groups += [number] * 2
    twins = table_of(pictures, [0] * 48)
    grouped = FeatureTable(**{**twins.__dict__, "groups": tuple(groups)})
    assert out_of_fold(grouped, seed=0).scores.mean() > out_of_fold(twins, seed=0).scores.mean() + 0.5


def test_evidence_with_nothing_to_say_gets_no_weight_and_is_left_out(rng: np.random.Generator) -> None:
    bad = np.repeat([0, 1], 50)
    told, noise = bad + rng.normal(size=100) * 0.3, rng.normal(size=100)
    blend = fit_blend(np.stack([told, -told, noise * 0], axis=1), bad)
    assert blend.weights[0] > 0
    assert (blend.weights[1:] == 0).all()


def test_a_context_that_only_misleads_leaves_the_memory_alone(rng: np.random.Generator) -> None:
    bad = np.repeat([0, 1], [60, 4])
    memory = bad * 4 + rng.normal(size=64)
    blend = fit_blend(np.stack([rng.normal(size=64), memory], axis=1), bad)
    assert blend.weights[1] * memory.std() > 3 * blend.weights[0]


@pytest.mark.parametrize(
    ("expected", "found", "difference"),
    [
        (0.5, 0.502, 0.002),
        (-2000.0, -2000.2, 0.0001),
        ([0.0, 2000.0], [0.01, 2000.2], 0.01),
        ([2000.0, 0.0], [2000.2, 0.0], 0.0001),
        ([], [], 0.0),
    ],
)
def test_results_differ_absolutely_and_relatively_beyond_one(
    expected: float | list[float], found: float | list[float], difference: float
) -> None:
    assert runtime.difference(expected, found) == pytest.approx(difference)


def test_a_result_that_is_no_number_never_equals_anything() -> None:
    assert np.isnan(runtime.difference([1.0, 2.0], [1.0, np.nan]))
    assert np.isnan(runtime.difference([np.nan, 1.0], [1.0, 1.0]))
