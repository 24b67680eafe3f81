from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from gonogo import roi
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import DatasetError
from gonogo.evaluate import Evaluation, evaluate
from gonogo.images import Photograph, encode_png
from gonogo.images.geometry import Corners, area_of, as_quad, corners_of_box, shared_area
from gonogo.report import write_report
from gonogo.report.regions import sketch, worst_regions
from gonogo.roi import FixedConfig, FixedRoi, LearnedConfig
from gonogo.schema import Box, Frame, Label, Located, State, Verdict
from judged_data import BrightnessJudge, make_dataset, operating_point, save

GOOD, BAD = Label.GOOD, Label.BAD
HERE = Box(x1=8, y1=8, x2=40, y2=40)
"""Where the search always finds the part: 32 x 32 of a frame of 64 x 48."""


def judge(*, margin: float = 0.0) -> BrightnessJudge:
    made = BrightnessJudge(operating_point(100, 150))
    made.roi = FixedRoi(FixedConfig(box_xyxy=HERE.xyxy, margin=margin))
    return made


def boxed(root: Path, boxes: dict[str, tuple[Label, int, Box | None]]) -> Dataset:
    """Plain pictures, ``{file: (label, score, labelled box)}``."""
    dataset = make_dataset(root, {name: (label, score) for name, (label, score, _) in boxes.items()})
    return save(root, [_with_box(sample, boxes[sample.file_name][2]) for sample in dataset.samples])


def _with_box(sample: Sample, box: Box | None) -> Sample:
    return sample.model_copy(update={"box_xyxy": None if box is None else box.xyxy})


def shrink(dataset: Dataset, name: str) -> None:
    """Replace a picture by one too small for the search to find anything in it."""
    (dataset.root / name).write_bytes(encode_png(np.zeros((24, 24, 3), np.uint8)))


def test_a_region_is_held_against_the_box_that_a_person_drew(tmp_path: Path) -> None:
    to_the_right = Box(x1=24, y1=8, x2=56, y2=40)
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, to_the_right), "c.png": (BAD, 200, None)})
    found = evaluate(judge(margin=0.25), dataset).to_json()
    assert found["roi_pictures"] == 2, "a picture without a labelled box says nothing of the region"
    assert (found["roi_found"], found["roi_found_high"]) == (1.0, 1.0)
    assert found["roi_iou"] == pytest.approx((1 + 1 / 3) / 2), "the margin does not count"
    assert (found["roi_share_above_095"], found["roi_share_above_09"]) == (0.5, 0.5)
    assert found["roi_whole_inside"] == 0.5
    # The margin of 8 px on every side leaves 8 px of the second part's 32 outside.
    assert found["roi_missed_of_truth"] == pytest.approx((0 + 0.25) / 2)
    assert found["roi_missed_of_picture"] == pytest.approx(8 * 32 / (64 * 48) / 2)
    assert found["roi_excess_of_truth"] == pytest.approx(((48 * 48 - 32 * 32) + (48 * 48 - 24 * 32)) / 2 / (32 * 32))


def test_a_part_that_was_not_found_is_wholly_missed(tmp_path: Path) -> None:
    inside = Box(x1=2, y1=2, x2=12, y2=12)
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "lost.png": (BAD, 200, inside)})
    shrink(dataset, "lost.png")
    found = evaluate(judge(), dataset).to_json()
    assert (found["roi_found"], found["roi_iou"], found["roi_whole_inside"]) == (0.5, 0.5, 0.5)
    assert found["roi_missed_of_truth"] == 0.5
    assert found["roi_missed_of_picture"] == pytest.approx(100 / 576 / 2)
    assert found["roi_excess_of_truth"] == 0, "an area beside nothing is undefined, not zero or one"
    assert (found["fault_rate_found_region"], found["fault_rate_labelled_region"]) == (0.5, 0)


def test_the_same_pictures_are_judged_on_the_labelled_region_too(tmp_path: Path) -> None:
    """The fake judge scores the region's first pixel: dark where the search points, bright where the part is."""
    there = Box(x1=32, y1=8, x2=60, y2=40)
    dataset = boxed(tmp_path, {"g.png": (GOOD, 10, HERE), "seen.png": (BAD, 200, HERE), "missed.png": (BAD, 5, there)})
    frame = np.full((48, 64, 3), 5, np.uint8)
    frame[8:40, 32:60] = 220
    (tmp_path / "missed.png").write_bytes(encode_png(frame))
    evaluation = evaluate(judge(), dataset)
    found = evaluation.to_json()
    assert (found["escape_rate"], found["escape_rate_found_region"], found["escape_rate_labelled_region"]) == (
        0.5,
    ) * 2 + (0,)
    assert found["escape_rate_found_less_labelled"] == 0.5
    assert (found["auroc_found_region"], found["auroc_labelled_region"]) == (0.5, 1.0)
    assert found["auroc_found_less_labelled"] == -0.5
    assert found["overkill_rate_found_less_labelled"] == 0
    assert evaluation.regions.only_once(State.GO, BAD) == (1, 0)


def test_a_part_without_a_score_does_not_blur_the_difference(tmp_path: Path) -> None:
    dataset = boxed(
        tmp_path,
        {"g.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE), "lost.png": (BAD, 0, Box(x1=1, y1=1, x2=9, y2=9))},
    )
    shrink(dataset, "lost.png")
    found = evaluate(judge(), dataset).to_json()
    assert found["auroc_found_region"] == 1.0
    assert found["auroc_labelled_region"] == 0.5, "on the labelled region the part that was lost looks good"
    assert found["auroc_found_less_labelled"] == 0


def test_right_regions_and_right_verdicts_are_crossed(tmp_path: Path) -> None:
    off = Box(x1=12, y1=8, x2=44, y2=40)
    dataset = boxed(
        tmp_path,
        {
            "right-right.png": (BAD, 200, HERE),
            "right-review.png": (BAD, 120, HERE),
            "right-wrong.png": (BAD, 10, HERE),
            "wrong-right.png": (GOOD, 10, off),
            "wrong-wrong.png": (GOOD, 200, off),
            "wrong-fault.png": (BAD, 200, Box(x1=1, y1=1, x2=9, y2=9)),
        },
    )
    shrink(dataset, "wrong-fault.png")
    found = evaluate(judge(), dataset).to_json()
    assert (found["roi_right_verdict_right"], found["roi_right_verdict_wrong"]) == (2, 1)
    assert (found["roi_wrong_verdict_right"], found["roi_wrong_verdict_wrong"]) == (1, 2)


def test_where_a_person_decides_everything_no_verdict_is_called_right(tmp_path: Path) -> None:
    undecided = judge()
    undecided.operating_point = operating_point(-math.inf, math.inf)
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE)})
    found = evaluate(undecided, dataset).to_json()
    assert found["roi_right_verdict_right"] is None
    assert found["auroc_labelled_region"] == 1.0


class TurnedSearch:
    """Finds the same turned rectangle in every picture."""

    def __init__(self, corners: Corners, *, margin: float) -> None:
        self.recipe = LearnedConfig(turned=True, size_wh=(64, 64), area=(0.0, 1.0), aspect=(1.0, 9.0), margin=margin)
        self.corners = corners

    def locate(self, _frame: Frame) -> Located:
        (x1, y1), (x2, y2) = self.corners.min(0), self.corners.max(0)
        box = Box.from_xyxy((x1, y1, x2, y2))
        return Located(present=True, box=box, quad=as_quad(self.corners), margin=self.recipe.margin)


def test_a_turned_region_is_held_against_the_turned_label(tmp_path: Path) -> None:
    turned = np.array([[14, 20], [34, 10], [44, 30], [24, 40]], np.float64)
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, Box(x1=14, y1=10, x2=44, y2=40))})
    quad = as_quad(turned[[2, 3, 0, 1]])  # the part's own top left need not be the picture's
    dataset = save(tmp_path, [dataset.samples[0].model_copy(update={"quad": quad})])
    inspector = judge()
    inspector.roi = TurnedSearch(turned, margin=0.0)
    found = evaluate(inspector, dataset).to_json()
    assert (found["roi_iou"], found["roi_whole_inside"]) == (1.0, 1.0), "the corners of its box lie outside"
    assert found["roi_missed_of_truth"] == pytest.approx(0, abs=1e-9)
    inspector.roi = TurnedSearch(turned, margin=0.1)
    assert evaluate(inspector, dataset).to_json()["roi_excess_of_truth"] == pytest.approx(1.2**2 - 1)


def test_only_pictures_that_taught_nothing_try_the_refusal(tmp_path: Path) -> None:
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE)})
    empty = [Sample(file_name=f"empty-{number}.png", present=False) for number in range(5)]
    for sample in empty:
        (tmp_path / sample.file_name).write_bytes(encode_png(np.zeros((48, 64, 3), np.uint8)))
    dataset = save(tmp_path, [*dataset.samples, *empty])
    shrink(dataset, "empty-0.png")  # would be refused, but taught
    shrink(dataset, "empty-3.png")
    found = evaluate(judge(), dataset).to_json()
    assert (found["roi_pictures_to_refuse"], found["roi_refused"]) == (2, 0.5)
    assert (found["parts"], found["roi_pictures"]) == (2, 2)
    (tmp_path / "empty-1.png").unlink()
    with pytest.raises(DatasetError, match=r"empty-1\.png"):
        evaluate(judge(), dataset)


def test_without_a_search_nothing_is_said_of_regions_and_nothing_judged_twice(tmp_path: Path) -> None:
    class Counting(BrightnessJudge):
        calls = 0

        def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
            self.calls += 1
            return super().inspect(picture, located=located)

    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE)})
    whole = Counting(operating_point(100, 150))
    found = evaluate(whole, dataset).to_json()
    assert whole.calls == 2
    assert {found[key] for key in ("roi_found", "roi_iou", "roi_refused", "auroc_labelled_region")} == {None}
    whole.roi = judge().roi
    assert evaluate(whole, dataset, with_regions=False).regions.placements == ()
    assert whole.calls == 4
    evaluate(whole, dataset)
    assert whole.calls == 8


def test_an_unreadable_picture_says_nothing_of_the_search(tmp_path: Path) -> None:
    dataset = boxed(tmp_path, {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE)})
    (tmp_path / "b.png").write_bytes(b"a note")
    found = evaluate(judge(), dataset).to_json()
    assert (found["roi_pictures"], found["roi_found"], found["fault_rate"]) == (1, 1.0, 0.5)
    json.dumps(found, allow_nan=False)


@pytest.fixture
def evaluated(tmp_path: Path) -> tuple[Evaluation, Dataset]:
    boxes = {f"near-{shift}.png": (GOOD, 10, HERE.expanded(-shift, 0, shift, 0)) for shift in range(9)}
    boxes |= {f"lost-{number}.png": (BAD, 200, Box(x1=1, y1=1, x2=9, y2=9)) for number in range(4)}
    dataset = boxed(tmp_path / "tiles", boxes)
    for number in range(4):
        shrink(dataset, f"lost-{number}.png")
    return evaluate(judge(), dataset, [Split.TEST]), dataset


def test_the_worst_regions_are_shown(evaluated: tuple[Evaluation, Dataset]) -> None:
    names = [each.judged.file for each in worst_regions(evaluated[0].regions.placements)]
    assert names == ["lost-0.png", "lost-1.png", "near-8.png", "near-7.png", "near-6.png", "near-5.png"]


def test_the_report_tells_where_the_part_was_found(evaluated: tuple[Evaluation, Dataset], tmp_path: Path) -> None:
    evaluation, dataset = evaluated
    write_report(evaluation, judge(), dataset, tmp_path / "report.html")
    page = " ".join((tmp_path / "report.html").read_text().split())
    section = page.split("<h2>Locating the part</h2>")[1].split("Example pictures")[0]
    assert "9 of 13 pictures" in section
    assert "4 pictures in which the part was not found" in section
    assert "does not fit into the 24 x 24 picture" in section
    assert "4 only as found, 0 only as drawn" in section
    assert section.count("data:image/jpeg") == 6


def test_a_report_without_regions_has_no_such_section(tmp_path: Path) -> None:
    dataset = boxed(tmp_path / "tiles", {"a.png": (GOOD, 10, HERE), "b.png": (BAD, 200, HERE)})
    whole = BrightnessJudge(operating_point(100, 150))
    write_report(evaluate(whole, dataset), whole, dataset, tmp_path / "report.html")
    assert "Locating the part" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("size_hw", [(400, 600), (7, 900), (900, 7), (1, 1)])
def test_regions_are_sketched_on_pictures_of_any_shape(size_hw: tuple[int, int]) -> None:
    frame = np.full((*size_hw, 3), 90, np.uint8)
    height, width = size_hw
    beyond = Box(x1=-0.2 * width, y1=0.2 * height, x2=0.6 * width, y2=1.2 * height)
    drawn = sketch(frame, [(beyond, (255, 138, 0)), (as_quad(corners_of_box(beyond)), (0, 214, 230))])
    assert max(drawn.shape[:2]) == 480
    assert (drawn != 90).any()


def turned_rectangle(rng: np.random.Generator) -> Corners:
    size, angle = rng.uniform(40, 160, 2), rng.uniform(-0.8, 0.8)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    corners: Corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2 @ turn + rng.uniform(120, 180, 2)
    return corners


def test_the_area_two_shapes_share_is_that_of_the_pixels_they_share(rng: np.random.Generator) -> None:
    def filled(corners: Corners) -> np.ndarray:
        canvas = np.zeros((1200, 1200), np.uint8)
        cv2.fillConvexPoly(canvas, np.rint((corners * 4 - 0.5) * 16).astype(np.int32), 1, shift=4)
        return canvas

    for _ in range(30):
        one, other = turned_rectangle(rng), turned_rectangle(rng)
        pixels = (filled(one) & filled(other)).sum() / 16
        assert shared_area(one, other) == pytest.approx(pixels, rel=0.02, abs=40)


def test_shapes_with_common_edges_share_what_they_should(rng: np.random.Generator) -> None:
    for _ in range(200):
        one = turned_rectangle(rng)
        wider = one.copy()
        wider[[1, 2]] += 0.05 * (one[1] - one[0])
        assert shared_area(one, one) == pytest.approx(area_of(one))
        assert shared_area(one, wider) == pytest.approx(area_of(one))
        assert shared_area(wider, one) == pytest.approx(area_of(one))
        assert shared_area(one, one + 1000) == 0


def test_a_learned_recipe_without_a_proven_margin_survives_its_file(tmp_path: Path) -> None:
    recipe = LearnedConfig(turned=False, size_wh=(64, 64), area=(0.1, 0.5), aspect=(1.0, 2.0))
    roi.write_roi_config(tmp_path / "roi.toml", recipe)
    assert roi.read_roi_config(tmp_path / "roi.toml") == recipe


@pytest.fixture
def options() -> Callable[..., object]:
    pytest.importorskip("torch", reason="needs the train extra")
    from gonogo.cli.train import training_options
    from gonogo.cli.train_options import NormalisationName, PoolName

    def made(**changed: object) -> object:
        usual: dict[str, object] = {
            "backbone": "resnet18",
            "weights": "own.safetensors",
            "normalisation": NormalisationName.SYMMETRIC,
            "cut": ["layer1"],
            "pool": PoolName.MEAN,
            "masks": False,
            "size": "64",
            "crops": 1,
            "rotations": 1,
            "roi": "learned",
            "roi_backbone": None,
            "roi_weights": None,
            "seed": 3,
        }
        return training_options(**(usual | changed))  # type: ignore[arg-type]

    return made


def test_a_learned_region_starts_from_the_classifiers_backbone_unless_told_otherwise(options: Callable) -> None:  # type: ignore[type-arg]
    same, other = options().locator, options(roi_backbone="mobilenet_v2", roi_weights="else.safetensors").locator
    assert (same.backbone, same.weights, same.seed) == ("resnet18", "own.safetensors", 3)
    assert same.normalisation is not None
    assert (other.backbone, other.weights) == ("mobilenet_v2", "else.safetensors")
    assert other.normalisation is None, "what the classifier's weights expect says nothing of others"
    assert options().cuts == ("layer1",)
    assert same.cuts == ()


def test_training_with_a_recipe_that_is_not_there_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs the train extra")
    from gonogo.errors import RecipeError
    from gonogo.workflow import LocatorOptions
    from gonogo.workflow.region import keep_roi

    dataset = boxed(tmp_path / "data", {"a.png": (GOOD, 10, HERE)})
    with pytest.raises(RecipeError, match=r"nowhere\.toml"):
        keep_roi(str(tmp_path / "nowhere.toml"), dataset, tmp_path / "x.work" / "roi", LocatorOptions())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
