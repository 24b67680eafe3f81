"""Large parts, small defects: windows that cover the part, one score, one map, and training on windows."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images, tiling
from gonogo.cli import app
from gonogo.config import CELL_PX, Checks, Recipe, Tiling
from gonogo.dataset import Dataset, Split
from gonogo.errors import ImageError, InputError
from gonogo.evidence import pool
from gonogo.heatmap import hottest_point
from gonogo.inspector import Inspector
from gonogo.operating_point import Promise
from gonogo.schema import Box, Label, Located, State
from gonogo.source import TrainingSource
from gonogo.tiling import grid_of, judge_windows
from gonogo.workflow import CascadeOptions, TrainingOptions, join_cascade, train_inspector
from gonogo.workflow.learning import options_of
from gonogo.workflow.made_with import read_made_with, sha256_of
from gonogo.workflow.sealing import plain
from gonogo.workflow.tiled_training import Cut, WindowSource, bad_windows
from large_plates import large_plate, make_large_plates

SMALL_WH = (640, 440)
WINDOW_WH = (256, 256)
TILED = TrainingOptions(tiling=Tiling(overlap_px=64), size_wh=WINDOW_WH)


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    parts = {Split.TRAIN: (8, 4), Split.VAL: (2, 1), Split.CALIBRATE: (4, 2)}
    return make_large_plates(tmp_path_factory.mktemp("plates") / "data", parts, size_wh=SMALL_WH)


@pytest.fixture(scope="module")
def tiled(plates: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tiled") / "plate.inspector"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gonogo.certification.golden.GOLDEN_PIXELS", 1000)  # golden frames would be made smaller
        train_inspector(plates, out, TILED)
    return out


def test_windows_cover_every_region_overlap_enough_and_lie_on_the_grid_of_cells(rng: np.random.Generator) -> None:
    for _ in range(500):
        window_wh = tuple(32 * int(each) for each in rng.integers(2, 20, 2))
        overlap = CELL_PX * int(rng.integers(0, min(window_wh) // CELL_PX // 2 + 1))
        side_wh = rng.uniform(20, 3000, 2)
        grid = grid_of((float(side_wh[0]), float(side_wh[1])), (window_wh[0], window_wh[1]), overlap)
        for starts, window, whole, side in zip((grid.lefts, grid.tops), window_wh, grid.size_wh, side_wh, strict=True):
            assert starts[0] == 0
            assert starts[-1] + window == whole
            assert all(start % CELL_PX == 0 for start in starts)
            assert all(after - before <= window - overlap for before, after in pairwise(starts))
            assert whole >= window
            assert abs(whole - max(side, window)) <= CELL_PX / 2


def test_a_region_of_absurd_size_is_refused_rather_than_judged_for_minutes() -> None:
    with pytest.raises(ImageError, match="windows"):
        grid_of((1e6, 1e6), (64, 64), 0)


def test_the_worst_window_gives_the_score_and_its_cells_lie_on_top(rng: np.random.Generator) -> None:
    grid = grid_of((160, 96), (96, 96), 32)
    assert grid.corners == [(0, 0), (64, 0)]
    picture = np.zeros((96, 160, 3), np.uint8)
    picture[:, 64:] = 1

    def graph(window: np.ndarray) -> dict[str, np.ndarray]:
        number = float(window[0, 0, 0])
        shape = (1, 6, 6)
        return {"score": np.array([number]), "heatmap": np.full(shape, number), "feature_vector": np.array([[number]])}

    found = judge_windows(graph, picture, grid)
    assert (found.worst, found.windows) == (1, 2)
    assert found.outputs["score"][0] == 1.0
    assert found.outputs["feature_vector"][0, 0] == 1.0
    assert found.outputs["heatmap"][0, 0].tolist() == [0.0] * 4 + [1.0] * 6
    shared = tiling.stitch([np.zeros((6, 6)), np.ones((6, 6))], grid, on_top=0)
    assert shared[0].tolist() == [0.0] * 6 + [1.0] * 4


def test_cells_that_two_windows_see_are_shown_as_the_nearer_one_sees_them() -> None:
    grid = grid_of((288, 96), (96, 96), 32)
    assert grid.lefts == (0, 64, 128, 192)
    maps = [np.full((6, 6), float(number)) for number in range(4)]
    assert tiling.stitch(maps, grid, on_top=0)[0].tolist() == [0] * 6 + [1] * 3 + [2] * 4 + [3] * 5


@pytest.mark.slow
def test_a_window_whose_score_is_no_number_is_a_fault_and_never_hidden_by_the_others(tiled: Path) -> None:
    inspector = Inspector.load(tiled)
    inside, asked = inspector._graph, []

    def graph(picture: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(picture)
        answer = inside(picture)
        return {**answer, "score": np.array([np.nan])} if len(asked) == 2 else answer

    inspector._graph = graph  # type: ignore[assignment]
    verdict = inspector.inspect(large_plate(np.random.default_rng(0), bad=False, size_wh=SMALL_WH)[0])
    assert verdict.state is State.FAULT
    assert "nan" in verdict.reason


@pytest.mark.slow
def test_a_small_defect_is_found_wherever_it_lies_and_the_map_shows_it(tiled: Path, rng: np.random.Generator) -> None:
    inspector = Inspector.load(tiled)
    good = [inspector.inspect(large_plate(rng, bad=False, size_wh=SMALL_WH)[0]).score for _ in range(4)]
    places = [(20, 20), (320, 220), (620, 420), (256, 128), (630, 10)]
    for place in places:
        frame, _ = large_plate(rng, bad=True, size_wh=SMALL_WH, pit_xy=place)
        verdict = inspector.inspect(frame)
        assert verdict.windows == 6
        assert verdict.score is not None
        assert verdict.score > max(score for score in good if score is not None), place
        assert verdict.heatmap is not None
        assert verdict.heatmap.shape == (28, 40)
        assert verdict.region is not None
        x, y = hottest_point(verdict.heatmap, verdict.region, shift_xy=verdict.shift_xy)
        assert abs(x - place[0]) < 32
        assert abs(y - place[1]) < 32


@pytest.mark.slow
def test_the_pooled_maps_of_the_worst_window_add_up_to_the_score_of_the_part(
    tiled: Path, rng: np.random.Generator
) -> None:
    inspector = Inspector.load(tiled)
    classifier = inspector.bundle.manifest.classifier
    frame, _ = large_plate(rng, bad=True, size_wh=SMALL_WH)
    grid = tiling.grid_in(frame, Box.whole(frame), inspector.recipe)
    found = judge_windows(inspector._graph, images.cut(frame, Box.whole(frame), grid.size_wh), grid)
    evidence = found.outputs["evidence"][0]
    verdict = inspector.inspect(frame)
    assert verdict.heatmap is not None
    np.testing.assert_allclose(verdict.heatmap[grid.cells(found.worst)], evidence.sum(0), atol=1e-5)
    cells_weight = next((each.weight for each in classifier.evidence if each.kind == "cells"), 0.0)
    pooled = [pool(each.kind, part, cells_weight) for each, part in zip(classifier.evidence, evidence, strict=True)]
    assert sum(pooled) + classifier.bias == pytest.approx(verdict.score, abs=1e-4)


@pytest.mark.slow
def test_training_sees_the_very_windows_that_the_inspector_judges(plates: Dataset, tiled: Path) -> None:
    inspector = Inspector.load(tiled)
    inside, judged = inspector._graph, []

    def graph(picture: np.ndarray) -> dict[str, np.ndarray]:
        judged.append(picture.copy())
        return inside(picture)

    inspector._graph = graph  # type: ignore[assignment]
    sample = plates.samples[0]
    windows = WindowSource(
        source=TrainingSource(dataset=plates, size_wh=WINDOW_WH), window_wh=WINDOW_WH, tiling=Tiling(), reduction=1
    )
    grid = windows.upright(sample)[1]
    inspector.inspect(plates.load(sample))
    taught = list(windows.pictures([Cut(sample=sample, grid=grid, chosen=tuple(range(len(grid.corners))))]))
    assert len(taught) == len(judged)
    assert all(np.array_equal(one, other) for one, other in zip(taught, judged, strict=True))


def test_windows_are_bad_where_they_see_enough_of_a_mark_and_the_rim_of_one_is_left_out() -> None:
    grid = grid_of((160, 96), (96, 96), 32)
    marks = np.zeros((96, 160, 3), np.uint8)
    assert bad_windows(marks, grid) == ()
    marks[10:30, 70:97] = 255
    assert bad_windows(marks, grid) == (0, 1), "both see most of it"
    marks[:] = 0
    marks[10:30, 95:120] = 255
    assert bad_windows(marks, grid) == (1,), "the first sees a rim of 20 pixels"
    marks[:] = 0
    marks[10:12, 10:12] = 255
    assert bad_windows(marks, grid) == (0,), "small as it is, it is all there is"


@pytest.mark.slow
def test_golden_frames_stay_whole_and_recipe_and_model_card_say_that_windows_are_judged(tiled: Path) -> None:
    opened = Inspector.load(tiled).bundle
    assert opened.manifest.recipe == Recipe(
        size_wh=WINDOW_WH, tiling=Tiling(overlap_px=64), health=opened.manifest.recipe.health
    )
    assert [each.frame.shape for _, each, _ in opened.golden()] == [(440, 640, 3)] * len(opened.manifest.golden)
    assert opened.manifest.training["options"]["tiling"] == {"overlap_px": 64}  # type: ignore[index,call-overload]
    assert "windows" in (tiled / "MODEL_CARD.md").read_text()
    assert opened.manifest.training["windows_of_a_picture"] == 6
    assert plain(TILED.tiling) == {"overlap_px": 64}


@pytest.mark.slow
def test_a_part_found_elsewhere_turned_or_of_another_size_is_judged_in_its_own_windows(tiled: Path) -> None:
    inspector = Inspector.load(tiled)
    frame, _ = large_plate(np.random.default_rng(4), bad=True, size_wh=SMALL_WH, pit_xy=(300, 200))
    quad = ((40.0, 80.0), (560.0, 20.0), (590.0, 320.0), (70.0, 380.0))
    turned = inspector.inspect(frame, located=Located(present=True, quad=quad))
    assert turned.windows == 6
    assert turned.heatmap is not None
    x, y = hottest_point(turned.heatmap, quad, shift_xy=turned.shift_xy)
    assert np.hypot(x - 300, y - 200) < 32
    small = inspector.inspect(frame, located=Located(present=True, box=Box(x1=200, y1=100, x2=400, y2=300)))
    assert small.windows == 1, "a region smaller than a window is enlarged to one"


@pytest.mark.slow
def test_a_reduced_picture_is_judged_in_fewer_windows(plates: Dataset, tmp_path: Path) -> None:
    options = replace(TILED, reduction=2, size_wh=(160, 128), masks=False)
    made = train_inspector(plates, tmp_path / "a.inspector", options)
    inspector = Inspector.load(made.bundle.root)
    photograph, verdict = inspector.inspect_file(plates.path(plates.samples[0]))
    assert verdict.windows == 3 * 3
    assert verdict.region == Box(x1=0, y1=0, x2=640, y2=440)
    assert photograph is not None
    frame = photograph.judged(inspector.recipe)
    assert tiling.seen_size(frame, Box.whole(frame), inspector.recipe) == (320, 224)


@pytest.mark.slow
def test_the_command_learns_from_good_parts_where_no_mask_says_which_windows_are_bad_and_says_how_long_it_takes(
    plates: Dataset, tmp_path: Path
) -> None:
    data, out = tmp_path / "data", tmp_path / "plate.inspector"
    data.mkdir()
    (data / "images").symlink_to(plates.root / "images")
    unmarked = tuple(sample.model_copy(update={"mask_file_name": None}) for sample in plates.samples)
    Dataset(root=data, samples=unmarked).write()
    run = CliRunner().invoke(app, ["train", str(data), "--out", str(out), "--tile", "--size", "256", "--overlap", "32"])
    assert run.exit_code == 0, run.output
    said = " ".join(run.output.split())
    assert "5 bad pictures have no mask" in said
    assert "A picture of 640 x 440 pixels is judged in 6 windows of 256 x 256, in" in said
    manifest = Inspector.load(out).bundle.manifest
    assert [each.kind for each in manifest.classifier.evidence] == ["memory"]
    assert manifest.training["auroc_on_parts_left_out"] == {}
    found = CliRunner().invoke(app, ["inspect", str(out), str(plates.path(plates.samples[0])), "--json"])
    row = json.loads(found.stdout.splitlines()[0])
    assert row["windows"] == 6
    assert row["timings_ms"]["network"] > 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (replace(TILED, size_wh=(672, 448)), "too small for windows"),
        (replace(TILED, size_wh=(640, 448)), "too small for windows"),
        (replace(TILED, size_wh=(250, 250)), "multiples of 32"),
        (replace(TILED, size_wh=(64, 64)), "twice their overlap"),
    ],
)
def test_windows_that_do_not_fit_are_refused(
    plates: Dataset, tmp_path: Path, options: TrainingOptions, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        train_inspector(plates, tmp_path / "a.inspector", options)
    assert not (tmp_path / "a.inspector").exists()


@pytest.mark.slow
def test_what_looks_at_whole_regions_refuses_windows_by_name(plates: Dataset, tiled: Path, tmp_path: Path) -> None:
    from gonogo.train import FineTuning

    with pytest.raises(InputError, match=r"--tile: .*--finetune"):
        train_inspector(plates, tmp_path / "a.inspector", replace(TILED, fine_tuning=FineTuning()))
    inspector = Inspector.load(tiled)
    with pytest.raises(InputError, match="windows"):
        join_cascade(inspector, inspector, plates, tmp_path / "a.inspector", CascadeOptions())
    run = CliRunner().invoke(app, ["train", str(plates.root), "--out", str(tmp_path / "b"), "--overlap", "32"])
    assert isinstance(run.exception, InputError)
    assert "--tile" in str(run.exception)
    with pytest.raises(ValueError, match="tiling"):
        Recipe(size_wh=(64, 64), tiling=Tiling(overlap_px=48))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_pit_of_twelve_pixels_on_a_large_plate_is_found_in_windows_where_the_default_misses_it(
    tmp_path: Path,
) -> None:
    parts = {Split.TRAIN: (8, 0), Split.VAL: (2, 0), Split.CALIBRATE: (6, 6)}
    plates = make_large_plates(tmp_path / "data", parts)
    above: dict[str, int] = {}
    for name, options in (("whole", TrainingOptions()), ("windows", TrainingOptions(tiling=Tiling()))):
        out = tmp_path / f"{name}.inspector"
        train_inspector(plates, out, options)
        inspector = Inspector.load(out, replay=False)
        scores: dict[Label, list[float]] = {label: [] for label in Label}
        for sample in plates.split(Split.CALIBRATE):
            verdict = inspector.inspect(plates.load(sample))
            assert verdict.score is not None
            assert sample.label is not None
            scores[sample.label].append(verdict.score)
        assert verdict.windows == (48 if name == "windows" else 1)
        above[name] = sum(score > max(scores[Label.GOOD]) for score in scores[Label.BAD])
    assert above["windows"] == 6
    assert above["whole"] <= 5


@pytest.mark.slow
def test_the_same_frame_gives_the_same_score_to_the_last_bit(tiled: Path, plates: Dataset) -> None:
    inspector = Inspector.load(tiled)
    frame = plates.load(plates.samples[0])
    first, again = inspector.inspect(frame), inspector.inspect(frame)
    assert first.score == again.score
    assert np.array_equal(first.heatmap, again.heatmap)


def test_of_many_windows_quantizing_keeps_the_worst_and_one_other() -> None:
    from gonogo.workflow.quantizing import _Tap

    tap = _Tap(lambda picture, *_: {"score": np.array([float(picture[0, 0, 0])])})  # type: ignore[arg-type]
    for grey in (3, 9, 5, 1):
        tap(np.full((4, 4, 3), grey, np.uint8))
    worst, other = tap.taken(np.random.default_rng(0))
    assert worst[0, 0, 0] == 9
    assert other[0, 0, 0] in (1, 3, 5)
    tap(np.full((4, 4, 3), 7, np.uint8))
    assert [picture[0, 0, 0] for picture in tap.taken(np.random.default_rng(0))] == [7]
    assert tap.taken(np.random.default_rng(0)) == []


@pytest.mark.slow
def test_what_it_was_trained_with_comes_back_with_its_windows_and_the_score_of_each_picture(
    tiled: Path, plates: Dataset
) -> None:
    inspector = Inspector.load(tiled)
    assert options_of(inspector) == replace(TILED, promise=Promise(), checks=Checks.of(inspector.recipe))
    known = read_made_with(inspector.bundle).by_digest
    learned = plates.split(Split.TRAIN, Split.VAL)
    assert all(known[sha256_of(plates.path(sample))].score is not None for sample in learned)
