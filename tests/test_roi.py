"""The classical region of interest: recipes, steps, choice, refinement, rectification, tuning, commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from gonogo import images
from gonogo.cli.roi import app
from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.errors import DatasetError, ImageError, InputError, RecipeError
from gonogo.images.geometry import as_quad, box_around, corners_of_box, upright
from gonogo.roi import (
    ClassicalConfig,
    ClassicalRoi,
    FixedConfig,
    make_roi,
    parse_roi_config,
    preview,
    read_roi_config,
    roi_config_as_toml,
    time_roi,
    tuning,
    write_roi_config,
)
from gonogo.roi.refine import refine
from gonogo.roi.scoring import read_examples, score
from gonogo.roi.steps import describe_step
from gonogo.roi.templates import halved
from gonogo.schema import Box, Frame, Located

DARK = """
method = "classical"
area = [0.01, 0.5]
aspect = [1.0, 4.0]
steps = [
  {step = "grey"},
  {step = "median", size = 5},
  {step = "threshold-otsu", keep = "dark"},
  {step = "open", size = 9},
]
"""


def scene(
    *,
    angle: float = 0.0,
    centre_xy: tuple[float, float] = (300.0, 200.0),
    size_wh: tuple[int, int] = (640, 480),
    seed: int = 3,
) -> tuple[Frame, np.ndarray]:
    """A dark plate of 160 x 100 pixels on a bright noisy ground, and its corners in continuous pixels."""
    rng = np.random.default_rng(seed)
    width, height = size_wh
    frame = rng.normal(190, 6, (height, width, 3))
    corners = upright(cv2.boxPoints((centre_xy, (160, 100), angle)).astype(np.float64))
    plate = np.zeros((height, width), np.uint8)
    cv2.fillConvexPoly(plate, np.round((corners - 0.5) * 256).astype(np.int32), 255, cv2.LINE_AA, 8)
    frame += (rng.normal(50, 6, frame.shape) - frame) * (plate / 255.0)[..., None]
    return np.clip(frame, 0, 255).astype(np.uint8), corners


def classical(text: str = DARK) -> ClassicalRoi:
    recipe = parse_roi_config(text)
    assert isinstance(recipe, ClassicalConfig)
    return ClassicalRoi(recipe)


@pytest.fixture
def plates(tmp_path: Path) -> Dataset:
    """Sixteen pictures of a turned plate with box and quad, twelve to tune on and four to test on."""
    rng, samples = np.random.default_rng(8), []
    for number in range(16):
        centre = (float(rng.uniform(120, 200)), float(rng.uniform(100, 140)))
        frame, corners = scene(angle=float(rng.uniform(-20, 20)), centre_xy=centre, size_wh=(320, 240), seed=number)
        name = f"{number}.png"
        (tmp_path / name).write_bytes(images.encode_png(frame))
        split = Split.TRAIN if number < 12 else Split.TEST
        samples.append(
            Sample(file_name=name, box_xyxy=box_around(corners).xyxy, quad=as_quad(corners), split=split, part=name)
        )
    write_metadata(tmp_path, samples)
    return Dataset.read(tmp_path)


def test_a_recipe_written_and_read_again_is_equal(tmp_path: Path) -> None:
    recipe = classical().recipe.model_copy(update={"grow_long": 1e-5, "target_xy": (0.25, 0.75)})
    write_roi_config(tmp_path / "plate.toml", recipe, comment="two\nlines")
    assert read_roi_config(tmp_path / "plate.toml") == recipe
    assert (tmp_path / "plate.toml").read_text().startswith("# two\n# lines\n")


def test_a_fixed_recipe_written_and_read_again_is_equal(tmp_path: Path) -> None:
    recipe = FixedConfig(box_xyxy=(10, 20.5, 200, 150), margin=0.0)
    write_roi_config(tmp_path / "fixed.toml", recipe)
    assert read_roi_config(tmp_path / "fixed.toml") == recipe


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('method = "magic"', "method"),
        ('method = "classical"', "steps"),
        (DARK.replace("area", "arae"), "arae"),
        (DARK.replace('"grey"', '"gray"'), "gray"),
        (DARK.replace("size = 5", "size = 4"), "size"),
        (DARK.replace("size = 5", 'size = "5"'), "size"),
        (DARK.replace("[0.01, 0.5]", "[0.5, 0.01]"), "area"),
        (DARK.replace('{step = "grey"},', ""), "threshold-otsu"),
        (DARK.replace('{step = "threshold-otsu", keep = "dark"},', ""), "mask"),
        (DARK.replace('{step = "grey"}', '{step = "canny", low = 90, high = 20}'), "low"),
        (DARK + "margin = nan", "margin"),
        ('method = "fixed"\nbox_xyxy = [50, 0, 10, 10]', "box_xyxy"),
        ("steps = [", "TOML"),
    ],
)
def test_a_malformed_recipe_is_refused_and_the_key_named(text: str, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        parse_roi_config(text, name="plate.toml")


def test_a_recipe_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"absent\.toml"):
        read_roi_config(tmp_path / "absent.toml")


def test_every_step_runs_on_what_it_takes() -> None:
    frame, _ = scene(size_wh=(160, 120), centre_xy=(80, 60))
    pixels = ["blur", "median", "clahe", "erode", "dilate", "open", "close", "gradient", "top-hat", "black-hat"]
    masks = ["threshold-otsu", "threshold-adaptive", "threshold-fixed", "canny"]
    for step in pixels:
        for mask in masks:
            steps = f'[{{step="channel", channel="red"}}, {{step="{step}"}}, {{step="{mask}"}}, {{step="fill"}}]'
            recipe = classical(f'method = "classical"\nsteps = {steps}').recipe
            picture: np.ndarray = frame
            for one in recipe.steps:
                picture = one.apply(picture)
                assert describe_step(one).startswith(one.step)
            assert picture.shape == (120, 160)
            assert set(np.unique(picture)) <= {0, 255}


def test_channels_are_what_they_are_called() -> None:
    frame = np.array([[[200, 50, 120]]], np.uint8)
    found = {}
    for channel in ("red", "green", "blue", "brightest", "darkest", "chroma"):
        steps = f'[{{step="channel", channel="{channel}"}}, {{step="threshold-fixed"}}]'
        found[channel] = int(classical(f'method="classical"\nsteps={steps}').recipe.steps[0].apply(frame)[0, 0])
    assert found == {"red": 200, "green": 50, "blue": 120, "brightest": 200, "darkest": 50, "chroma": 150}


def test_fill_closes_holes_and_nothing_else() -> None:
    ring = np.zeros((20, 20), np.uint8)
    ring[4:16, 4:16] = 255
    ring[8:12, 8:12] = 0
    steps = '[{step="grey"}, {step="threshold-fixed"}, {step="fill"}]'
    filled = classical(f'method="classical"\nsteps={steps}').recipe.steps[2].apply(ring)
    assert (filled == 255).sum() == 144


@pytest.mark.parametrize("angle", [-30.0, 0.0, 12.0, 40.0])
def test_a_turned_plate_is_found_by_its_quad_within_two_pixels(angle: float) -> None:
    frame, corners = scene(angle=angle)
    located = classical().locate(frame)
    assert located.present
    assert located.quad is not None
    assert np.abs(np.array(located.quad) - corners).max() < 2.0


def test_contours_and_components_agree_on_a_solid_plate() -> None:
    frame, corners = scene()
    for regions in ("contours", "components"):
        located = classical(f'regions = "{regions}"\nshape = "box"\n' + DARK).locate(frame)
        assert located.box is not None
        assert located.quad is None
        assert located.box.iou(box_around(corners)) > 0.97


@pytest.mark.slow
def test_refinement_at_full_size_brings_the_edges_closer() -> None:
    frame, corners = scene(angle=11.0, size_wh=(1920, 1440), centre_xy=(903.3, 706.7))
    coarse = corners + np.array([[-5.0, 4.0], [4.0, 5.0], [6.0, -4.0], [-3.0, -5.0]])
    refined = np.array(refine(frame, as_quad(coarse), 0.1))
    assert np.abs(refined - corners).mean() < 0.25 * np.abs(coarse - corners).mean()


def test_refinement_leaves_a_picture_without_edges_alone() -> None:
    box = Box(x1=20, y1=20, x2=80, y2=60)
    flat = np.full((100, 100, 3), 90, np.uint8)
    assert refine(flat, box, 0.1) == box


def test_growth_reaches_beyond_the_region_along_its_own_axes() -> None:
    frame, _ = scene(angle=20.0)
    located = classical("grow_long = 0.25\n" + DARK).locate(frame)
    assert located.quad is not None
    first, second, third, _ = np.array(located.quad)
    assert np.linalg.norm(second - first) == pytest.approx(240, abs=4)
    assert np.linalg.norm(third - second) == pytest.approx(100, abs=3)


def test_the_choice_decides_between_two_plates() -> None:
    frame, _ = scene(centre_xy=(150.0, 120.0))
    frame[330:470, 420:620] = 50
    cv2.circle(frame, (520, 400), 60, (190, 190, 190), -1)  # the larger one is far from rectangular
    frame[400:470, 440:500] = 190
    centres = {}
    for choose in ("largest", "most-rectangular", "nearest"):
        located = classical(f'choose = "{choose}"\ntarget_xy = [0.2, 0.2]\n' + DARK).locate(frame)
        assert located.box is not None
        centres[choose] = located.box.centre_xy
    assert centres["most-rectangular"] == pytest.approx((150, 120), abs=3)
    assert centres["nearest"] == pytest.approx((150, 120), abs=3)


def test_the_largest_region_is_chosen_when_asked_for() -> None:
    frame, _ = scene(centre_xy=(150.0, 120.0))
    frame[300:460, 380:620] = 50
    located = classical().locate(frame)
    assert located.box is not None
    assert located.box.centre_xy == pytest.approx((500, 380), abs=3)


def test_a_part_outside_the_taught_range_is_not_present() -> None:
    frame, _ = scene()
    small = classical(DARK.replace("[0.01, 0.5]", "[0.2, 0.5]")).locate(frame)
    square = classical(DARK.replace("[1.0, 4.0]", "[1.0, 1.2]")).locate(frame)
    for located in (small, square):
        assert not located.present
        assert located.box is None
        assert "expected range" in located.reason


@pytest.mark.parametrize("shape", [(1, 1), (1, 400), (400, 1), (2, 3), (7, 5), (0, 0), (3, 4000)])
@pytest.mark.parametrize("level", [0, 255])
def test_odd_frames_never_raise_and_never_show_a_part(shape: tuple[int, int], level: int) -> None:
    frame = np.full((*shape, 3), level, np.uint8)
    clahe = DARK.replace('{step = "grey"},', '{step = "grey"}, {step = "clahe"}, {step = "blur", size = 31},')
    for text in (DARK, clahe, "refine_band = 0.1\n" + DARK.replace("otsu", "adaptive")):
        located = classical(text).locate(frame)
        assert not located.present
        assert located.reason


def test_a_wholly_dark_frame_fills_the_picture_and_stays_inside() -> None:
    text = DARK.replace("[0.01, 0.5]", "[0.01, 1.0]").replace("threshold-otsu", "threshold-fixed")
    located = classical("refine_band = 0.1\n" + text).locate(np.zeros((240, 320, 3), np.uint8))
    assert located.box is not None
    assert located.box.xyxy == pytest.approx((0, 0, 320, 240), abs=0.5)
    assert located.box.intersection(Box(x1=0, y1=0, x2=320, y2=240)) == located.box


def test_a_fixed_region_is_the_same_in_every_frame_that_holds_it() -> None:
    roi = make_roi(FixedConfig(box_xyxy=(10, 20, 110, 80)))
    assert roi.locate(np.zeros((100, 200, 3), np.uint8)).box == Box(x1=10, y1=20, x2=110, y2=80)
    small = roi.locate(np.zeros((50, 50, 3), np.uint8))
    assert not small.present
    assert "50 x 50" in small.reason


def test_the_margin_widens_box_and_quad_by_a_share_of_their_size() -> None:
    box = Box(x1=100, y1=100, x2=200, y2=140)
    located = Located(present=True, box=box, quad=as_quad(corners_of_box(box)), margin=0.05)
    assert located.crop_box == Box(x1=95, y1=98, x2=205, y2=142)
    assert located.crop_quad is not None
    assert np.allclose(located.crop_quad, corners_of_box(located.crop_box))


def test_corners_start_top_left_and_run_clockwise_whatever_their_order() -> None:
    corners = np.array([[10.0, 12.0], [50.0, 10.0], [51.0, 30.0], [11.0, 32.0]])
    for turned in (np.roll(corners, 1, axis=0), np.roll(corners, 2, axis=0), corners[::-1], corners):
        assert (upright(turned) == corners).all()


def test_rectifying_an_upright_quad_is_the_same_as_cropping(frame: Frame) -> None:
    box = Box(x1=20, y1=30, x2=120, y2=90)
    quad = as_quad(corners_of_box(box))
    for size_wh in ((100, 60), (50, 30), (25, 15)):
        difference = images.rectify(frame, quad, size_wh).astype(int) - images.crop_resize(frame, box, size_wh)
        assert np.abs(difference).max() <= 1, size_wh


def test_rectifying_a_turned_plate_sets_it_upright() -> None:
    frame, corners = scene(angle=27.0)
    crop = images.rectify(frame, as_quad(corners), (80, 50))
    assert crop.shape == (50, 80, 3)
    assert crop[2:-2, 2:-2].max() < 110


@pytest.mark.parametrize(
    "quad",
    [
        ((900.0, 900.0), (950.0, 900.0), (950.0, 950.0), (900.0, 950.0)),
        ((10.0, 10.0), (10.0, 10.0), (10.0, 10.0), (10.0, 10.0)),
        ((10.0, 10.0), (10.0, 50.0), (50.0, 50.0), (50.0, 10.0)),
        ((10.0, 10.0), (float("nan"), 10.0), (50.0, 50.0), (10.0, 50.0)),
    ],
)
def test_a_quad_that_has_no_upright_view_is_refused(frame: Frame, quad: tuple[tuple[float, float], ...]) -> None:
    with pytest.raises(ImageError, match="region"):
        images.rectify(frame, quad, (32, 32))  # type: ignore[arg-type]


def test_the_preview_shows_the_photograph_every_step_and_the_result() -> None:
    frame, _ = scene(angle=10.0)
    roi = classical()
    assert [name for name, _ in roi.trace(frame)] == [
        "reduced to 320 x 240",
        "grey",
        "median 5",
        "threshold-otsu dark +0",
        "open 9",
    ]
    sheet = preview(roi, frame)
    assert sheet.dtype == np.uint8
    assert sheet.shape[1] > 4 * 320
    assert ((sheet == (255, 196, 0)).all(axis=2)).sum() > 100, "the part is outlined in amber"


@pytest.mark.slow
def test_tuning_finds_plates_it_has_not_seen(plates: Dataset) -> None:
    tuned = tuning.tune(read_examples(plates, plates.split(Split.TRAIN), side_px=320), trials=60, seed=1)
    unseen = score(ClassicalRoi(tuned.recipe), read_examples(plates, plates.split(Split.TEST), side_px=320))
    assert unseen.mean_iou > 0.9
    assert parse_roi_config(roi_config_as_toml(tuned.recipe)) == tuned.recipe


@pytest.mark.slow
def test_tuning_works_on_fewer_pixels_where_that_costs_little(plates: Dataset) -> None:
    examples = read_examples(plates, plates.split(Split.TRAIN), side_px=320)
    fine = tuning.tune(examples, trials=60, seed=1, least_side_px=320)
    coarse = tuning.tune(examples, trials=60, seed=1)
    assert fine.recipe.side_px == 320
    assert tuning.LEAST_SIDE_PX <= coarse.recipe.side_px < 320
    assert coarse.seen.mean_iou > fine.seen.mean_iou - 0.006


def test_half_a_recipe_has_half_its_kernels() -> None:
    half = halved(classical().recipe)
    assert half is not None
    assert half.side_px == 160
    assert [describe_step(step) for step in half.steps] == ["grey", "median 3", "threshold-otsu dark +0", "open 5"]
    assert halved(classical().recipe.model_copy(update={"side_px": 40})) is None


def test_the_box_of_a_component_is_that_of_its_outline() -> None:
    frame, _ = scene(angle=20.0)
    found = [
        classical(f'shape = "box"\nregions = "{regions}"\n{DARK}').locate(frame).box
        for regions in ("contours", "components")
    ]
    assert found[0] is not None
    assert found[0] == found[1]


@pytest.mark.slow
def test_tuning_with_one_seed_gives_one_recipe(plates: Dataset) -> None:
    examples = read_examples(plates, plates.split(Split.TRAIN), side_px=320)[:6]
    first, second = (tuning.tune(examples, trials=12, seed=5) for _ in range(2))
    assert first == second


@pytest.mark.slow
def test_an_interrupted_search_keeps_the_best_so_far(plates: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = read_examples(plates, plates.split(Split.TRAIN), side_px=320)
    fit, seen = tuning.fit, []

    def interrupted(recipe: ClassicalConfig, some: list[tuning.Example]) -> tuple[float, ClassicalConfig]:
        if len(seen) == 20:
            seen.append(-1.0)
            raise KeyboardInterrupt
        found = fit(recipe, some)
        seen.append(found[0])
        return found

    monkeypatch.setattr(tuning, "fit", interrupted)
    tuned = tuning.tune(examples, trials=60, seed=1)
    assert tuned.interrupted
    assert not tuned.complete
    assert tuned.seen.mean_iou == pytest.approx(max(seen[:20]), abs=0.05)


@pytest.mark.slow
def test_cross_validation_sees_every_picture_once_and_never_tunes_on_its_part(plates: Dataset) -> None:
    samples = [sample.model_copy(update={"part": f"part-{row // 2}"}) for row, sample in enumerate(plates.samples)]
    examples = read_examples(Dataset(root=plates.root, samples=tuple(samples)), samples, side_px=320)
    tuned_on: list[set[str]] = []

    def record(some: list[tuning.Example]) -> ClassicalConfig:
        tuned_on.append({example.sample.part_id for example in some})
        return classical().recipe

    pooled = tuning.cross_validate(examples, 4, record)
    assert len(pooled.ious) == 16
    everything = {sample.part_id for sample in samples}
    held_out = [everything - parts for parts in tuned_on]
    assert sorted(part for parts in held_out for part in parts) == sorted(everything)


def test_pictures_without_boxes_cannot_be_tuned_on(plates: Dataset) -> None:
    samples = [sample.model_copy(update={"box_xyxy": None}) for sample in plates.samples]
    with pytest.raises(DatasetError, match="box_xyxy"):
        read_examples(plates, samples, side_px=320)


def test_the_timing_runs_both_and_gives_their_ratio() -> None:
    timing = time_roi(classical(), images.encode_jpeg(scene()[0]), repeats=3)
    assert timing.ratio == pytest.approx(timing.locate_ms / timing.decode_ms)
    assert timing.repeats == 3


@pytest.mark.slow
def test_the_commands_tune_a_recipe_and_preview_it(plates: Dataset, tmp_path: Path) -> None:
    recipe, sheet = tmp_path / "out" / "plate.toml", tmp_path / "out" / "sheet.png"
    runner = CliRunner()
    tuned = runner.invoke(app, ["tune", str(plates.root), "--out", str(recipe), "--trials", "10"])
    assert tuned.exit_code == 0, tuned.output
    assert "unseen (the test split)" in tuned.output
    shown = runner.invoke(app, ["preview", str(recipe), str(plates.root / "0.png"), "--out", str(sheet)])
    assert shown.exit_code == 0, shown.output
    assert images.load_picture(sheet).shape[1] > 320


@pytest.mark.slow
def test_a_data_set_without_splits_is_cross_validated(plates: Dataset, tmp_path: Path) -> None:
    write_metadata(plates.root, [sample.model_copy(update={"split": None}) for sample in plates.samples])
    recipe = tmp_path / "out" / "plate.toml"
    tuned = CliRunner().invoke(app, ["tune", str(plates.root), "--out", str(recipe), "--trials", "2", "--json"])
    assert tuned.exit_code == 0, tuned.output
    assert "5-fold cross-validation" in tuned.output
    assert "# Unseen (5-fold" in recipe.read_text()


@pytest.mark.slow
def test_a_sheet_of_an_unknown_kind_is_refused(plates: Dataset, tmp_path: Path) -> None:
    (tmp_path / "plate.toml").write_text(DARK)
    arguments = ["preview", str(tmp_path / "plate.toml"), str(plates.root / "0.png"), "--out", str(tmp_path / "x.gif")]
    assert isinstance(CliRunner().invoke(app, arguments).exception, InputError)


@pytest.mark.slow
def test_importing_the_room_leaves_the_lab_and_scipy_out() -> None:
    heavy = "{'torch', 'sklearn', 'scipy', 'matplotlib', 'openvino', 'gonogo.dataset'}"
    code = f"import sys, gonogo.roi; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
