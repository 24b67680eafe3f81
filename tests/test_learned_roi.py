"""The learned region of interest: views, heads, margin, what counts as found, training, the bundle, the inspector."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from gonogo import bundle, roi
from gonogo.augment import PLAIN
from gonogo.certification import golden
from gonogo.dataset import Dataset, Sample, Split
from gonogo.errors import BundleError, DatasetError, ParityError, RecipeError
from gonogo.export import check_locator_parity, export_locator
from gonogo.images.geometry import as_quad, box_around, corners_of, corners_of_box, upright
from gonogo.inspector import Inspector
from gonogo.model import (
    IMAGENET,
    FeatureNetwork,
    Locator,
    LocatorHead,
    Scaling,
    load_backbone,
)
from gonogo.model.locator import Sightings, make_head
from gonogo.roi import LearnedConfig, conformal_margin, margin_parts_needed, outward_residual
from gonogo.roi.learned import judge_sighting
from gonogo.runtime import Graph, compile_graph
from gonogo.schema import Box, Frame, Located, State
from gonogo.train import Locating, Places, choose_presence, fit_scaling, locating
from gonogo.train.augmentations import AugmentedPicture, plain_picture, random_picture
from gonogo.train.box_losses import BoxLoss
from gonogo.train.locating import LOOSE_STEPS, least_presence
from gonogo.workflow import LocatorOptions, TrainingOptions, find_regions, learned_region, region, train_inspector
from gonogo.workflow.locator_samples import locator_samples
from plates import SIZE_WH, empty_frame, make_plates, plate_frame

# --- views


LIGHT = (160, 160, 160)


def painted(size_wh: tuple[int, int], corners: np.ndarray | None = None) -> Frame:
    """A bright shape on a dark frame, in tones that no light of a random view clips; about a pixel too large."""
    frame = np.full((size_wh[1], size_wh[0], 3), 40, np.uint8)
    if corners is not None:
        cv2.fillConvexPoly(frame, np.rint((corners - 0.5) * 16).astype(np.int32), LIGHT, cv2.LINE_AA, 4)
    return frame


def bright(view: AugmentedPicture) -> np.ndarray:
    tone = view.picture[..., 0].astype(np.float64)
    mask: np.ndarray = tone > (tone.min() + tone.max()) / 2
    return mask


def seen_box(view: AugmentedPicture) -> np.ndarray:
    """Where the bright pixels of a view are, as shares."""
    y, x = np.nonzero(bright(view))
    height, width = view.picture.shape[:2]
    return np.array([x.min() / width, y.min() / height, (x.max() + 1) / width, (y.max() + 1) / height])


@settings(max_examples=60)
@given(
    size_wh=st.tuples(st.integers(90, 400), st.integers(90, 400)),
    view_wh=st.sampled_from([(64, 64), (80, 48)]),
    seed=st.integers(0, 2**20),
)
def test_the_box_follows_the_picture_through_every_view(
    size_wh: tuple[int, int], view_wh: tuple[int, int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    (x1, y1), (x2, y2) = (rng.uniform(low, high, 2) * size_wh for low, high in ((0.05, 0.4), (0.6, 0.95)))
    box = Box.from_xyxy((round(x1), round(y1), round(x2), round(y2)))
    frame = painted(size_wh)
    frame[round(box.y1) : round(box.y2), round(box.x1) : round(box.x2)] = LIGHT
    shown = [
        plain_picture(frame, box, None, view_wh),
        *(random_picture(frame, box, None, view_wh, rng) for _ in range(4)),
    ]
    for view in shown:
        assert view.picture.shape == (view_wh[1], view_wh[0], 3)
        if view.box is not None:
            off_px = (seen_box(view) - view.box) * [*view_wh, *view_wh]
            assert np.abs(off_px).max() < 1.6


@pytest.mark.slow
@settings(max_examples=60)
@given(degrees=st.floats(-40, 40), seed=st.integers(0, 2**20))
def test_the_corners_follow_the_picture_through_every_view(degrees: float, seed: int) -> None:
    corners = upright(cv2.boxPoints(((110.0, 80.0), (90, 50), degrees)).astype(np.float64))
    frame, rng = painted((220, 160), corners), np.random.default_rng(seed)
    for _ in range(4):
        view = random_picture(frame, box_around(corners), corners, (96, 96), rng)
        if view.box is None or view.corners is None:
            assert view.box is None
            assert view.corners is None
            continue
        found = view.corners.reshape(4, 2)
        np.testing.assert_allclose(found, upright(found), err_msg="clockwise from the top left of the view")
        pixels, middle = bright(view), found.mean(axis=0)
        for corner in found:
            for reach, lit in ((0.8, True), (1.25, False)):
                x, y = ((middle + reach * (corner - middle)) * 96).astype(int)
                if 0 <= x < 96 and 0 <= y < 96:
                    assert pixels[y, x] == lit


@pytest.mark.slow
def test_absent_views_show_no_single_whole_part() -> None:
    box = Box.from_xyxy((90, 60, 130, 90))
    frame, rng = painted((220, 160), corners_of_box(box)), np.random.default_rng(4)
    before = frame.copy()
    shown = [random_picture(frame, box, corners_of_box(box), (96, 96), rng) for _ in range(400)]
    absent = [view for view in shown if view.box is None]
    assert stats.binomtest(len(absent), 400, 0.25).pvalue > 1e-3
    kinds = set()
    for view in absent:
        assert view.corners is None
        steepest = np.abs(np.diff(view.picture[..., 0].astype(int), axis=1)).max()
        count, _, facts, _ = cv2.connectedComponentsWithStats(bright(view).astype(np.uint8))
        parts = 0 if steepest < 20 else count - 1  # an even shade, or blurred beyond recognition
        kinds.add(parts)
        if parts == 1:  # cut off by the edge of the view
            x, y, width, height, _ = facts[1]
            assert min(x, y) == 0 or x + width == 96 or y + height == 96
    assert kinds == {0, 1, 2}
    assert np.array_equal(frame, before)


def test_a_part_that_fills_the_frame_can_be_hidden_too() -> None:
    frame, rng = np.full((70, 90, 3), 130, np.uint8), np.random.default_rng(1)
    assert any(random_picture(frame, Box.whole(frame), None, (64, 64), rng).box is None for _ in range(40))


def test_a_frame_without_a_part_has_none_in_any_view() -> None:
    frame, rng = np.full((70, 90, 3), 130, np.uint8), np.random.default_rng(1)
    assert plain_picture(frame, None, None, (64, 64)).box is None
    assert all(random_picture(frame, None, None, (64, 64), rng).box is None for _ in range(20))


def test_the_same_seed_gives_the_same_views() -> None:
    frame, corners = plate_frame(np.random.default_rng(2))
    runs = [
        [random_picture(frame, box_around(corners), corners, (64, 64), rng) for _ in range(6)]
        for rng in (np.random.default_rng(seed) for seed in (3, 3, 4))
    ]
    pictures = [np.stack([view.picture for view in run]) for run in runs]
    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])
    for first, second in zip(runs[0], runs[1], strict=True):
        np.testing.assert_array_equal(first.box, second.box)


# --- heads and export


@pytest.mark.parametrize("scale", [0.1, 1.0, 100.0])
def test_the_edges_head_places_nothing_farther_out_than_half_a_cell(scale: float) -> None:
    torch.manual_seed(0)
    head = make_head(LocatorHead.EDGES, 8).eval()
    found = head(scale * torch.randn(5, 8, 6, 9))
    assert found.box.shape == (5, 4)
    assert found.corners.shape == (5, 8)
    assert found.presence.shape == (5,)
    for places in (found.box, found.corners):
        for axis, cells in ((places[:, 0::2], 9), (places[:, 1::2], 6)):
            assert bool(((axis > -0.5 / cells) & (axis < 1 + 0.5 / cells)).all())


@pytest.mark.slow
def test_the_edges_head_reaches_the_rim_of_the_picture() -> None:
    torch.manual_seed(0)
    head = make_head(LocatorHead.EDGES, 8).train()
    features, whole = torch.randn(16, 8, 5, 5), torch.tensor([0.0, 0.0, 1.0, 1.0])
    optimiser = torch.optim.Adam(head.parameters(), 1e-2)
    for _ in range(150):
        loss = (head(features).box - whole).abs().mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss.detach()) < 0.03, "the middle of the outermost cell is at 0.1"


@pytest.mark.parametrize("kind", list(LocatorHead))
def test_every_cell_can_move_the_box(kind: LocatorHead) -> None:
    torch.manual_seed(0)
    head = make_head(kind, 8).eval()
    features = torch.randn(2, 8, 7, 7, requires_grad=True)
    head(features).box.square().sum().backward()
    assert features.grad is not None
    assert bool((features.grad.abs().sum(1) > 0).all())


def test_a_channel_that_slept_in_training_does_not_drown_the_others() -> None:
    maps = np.random.default_rng(0).normal(0, 1, (6, 3, 4, 4)).astype(np.float16)
    maps[:, 2] = 0
    places = Places(maps=maps, boxes=np.full((6, 4), np.nan, np.float32), corners=np.full((6, 8), np.nan, np.float32))
    scaled = fit_scaling(places)(torch.ones(1, 3, 4, 4))
    assert float(scaled.abs().max()) < 1000


def small_locator(seed: int = 0, kind: LocatorHead = LocatorHead.EDGES) -> Locator:
    stack = load_backbone("resnet18", weights="none", cuts=("layer1",)).eval()
    torch.manual_seed(seed)
    channels = stack(torch.zeros(1, 3, 64, 64)).shape[1]
    scaling = Scaling(torch.zeros(channels), torch.ones(channels))
    return Locator(FeatureNetwork(stack, IMAGENET), make_head(kind, channels), scaling).eval()


@pytest.fixture(scope="module")
def exported() -> dict[LocatorHead, Graph]:
    return {kind: compile_graph(export_locator(small_locator(kind=kind), (64, 48))) for kind in LocatorHead}


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(LocatorHead))
def test_the_exported_locator_agrees_with_torch(
    kind: LocatorHead, exported: dict[LocatorHead, Graph], frame: Frame
) -> None:
    assert set(exported[kind](cv2.resize(frame, (64, 48)))) == {"box", "corners", "presence"}
    assert check_locator_parity(small_locator(kind=kind), exported[kind], [frame, frame[::-1], frame[:, ::2]]) < 1e-3


def test_an_exported_locator_that_differs_is_refused(exported: dict[LocatorHead, Graph], frame: Frame) -> None:
    other = small_locator(seed=1, kind=LocatorHead.REGRESSION)
    with pytest.raises(ParityError, match="differs"):
        check_locator_parity(other, exported[LocatorHead.REGRESSION], [frame])


def test_a_locator_that_only_differs_in_presence_is_refused(exported: dict[LocatorHead, Graph], frame: Frame) -> None:
    other = small_locator(kind=LocatorHead.REGRESSION)
    with torch.no_grad():
        other.head.layers[2].bias[12] += 1.0  # type: ignore[union-attr, index]
    with pytest.raises(ParityError, match="differs"):
        check_locator_parity(other, exported[LocatorHead.REGRESSION], [frame])


def test_a_locator_that_gives_no_numbers_is_refused(exported: dict[LocatorHead, Graph], frame: Frame) -> None:
    locator = small_locator()
    with torch.no_grad():
        locator.scaling.mean.fill_(math.nan)
    with pytest.raises(ParityError, match="nan"):
        check_locator_parity(locator, exported[LocatorHead.EDGES], [frame])


# --- margin


def test_one_percent_takes_ninety_nine_parts() -> None:
    assert margin_parts_needed(0.01) == 99
    assert [margin_parts_needed(rate) for rate in (0.5, 0.1, 0.05, 0.02)] == [1, 9, 19, 49]


@pytest.mark.parametrize(("parts", "rank"), [(99, 99), (198, 198), (199, 198), (299, 297), (300, 298)])
def test_the_margin_is_the_stated_order_statistic(parts: int, rank: int, rng: np.random.Generator) -> None:
    margin = conformal_margin(list(rng.permutation(np.arange(1, parts + 1) / 1000)), 0.01)
    assert margin is not None
    assert margin.share == pytest.approx(rank / 1000)
    assert (margin.miss_rate, margin.parts) == (0.01, parts)


def test_too_few_parts_prove_no_margin() -> None:
    assert conformal_margin([0.01] * 98, 0.01) is None
    assert conformal_margin([0.01] * 99, 0.01) is not None
    assert conformal_margin([], 0.5) is None


def test_a_part_that_was_not_found_counts_as_beyond_any_margin() -> None:
    assert conformal_margin([0.01] * 98 + [math.inf], 0.01) is None
    spared = conformal_margin([0.01] * 198 + [math.inf], 0.01)
    assert spared is not None
    assert spared.share == pytest.approx(0.01)
    assert conformal_margin([0.01] * 197 + [math.inf] * 2, 0.01) is None


def test_the_margin_is_never_negative() -> None:
    margin = conformal_margin([-0.05] * 99, 0.01)
    assert margin is not None
    assert margin.share == 0.0


@pytest.mark.parametrize(("parts", "miss_rate", "exact"), [(19, 0.05, 19 / 20), (40, 0.05, 39 / 41), (99, 0.01, 0.99)])
def test_the_next_part_is_covered_as_often_as_promised(parts: int, miss_rate: float, exact: float) -> None:
    rng, repeats = np.random.default_rng(12), 1500
    covered = 0
    for _ in range(repeats):
        *seen, following = rng.gamma(0.7, 0.02, parts + 1)
        margin = conformal_margin(seen, miss_rate)
        assert margin is not None
        covered += following <= margin.share
    assert exact >= 1 - miss_rate
    assert stats.binomtest(int(covered), repeats, exact).pvalue > 1e-3


def found(corners: np.ndarray | None, box: Box | None = None) -> Located:
    quad = None if corners is None else as_quad(corners)
    return Located(present=True, box=box or (None if corners is None else box_around(corners)), quad=quad)


def test_the_residual_of_a_box_is_the_farthest_edge_in_its_own_size() -> None:
    truth = corners_of_box(Box.from_xyxy((10, 10, 110, 60)))
    assert outward_residual(found(None, Box.from_xyxy((20, 10, 100, 60))), truth) == pytest.approx(10 / 80)
    assert outward_residual(found(None, Box.from_xyxy((0, 15, 120, 65))), truth) == pytest.approx(5 / 50)
    assert outward_residual(found(None, Box.from_xyxy((0, 0, 120, 70))), truth) == pytest.approx(-10 / 120, abs=1e-6)


@pytest.mark.parametrize("degrees", [-30.0, 0.0, 17.0])
def test_the_residual_of_a_quad_is_measured_along_its_own_sides(degrees: float) -> None:
    def part(width: float, height: float) -> np.ndarray:
        return upright(cv2.boxPoints(((200.0, 150.0), (width, height), degrees)).astype(np.float64))

    truth = part(100, 60)
    assert outward_residual(found(part(80, 70)), truth) == pytest.approx(10 / 80, abs=1e-4)
    assert outward_residual(found(part(120, 50)), truth) == pytest.approx(5 / 50, abs=1e-4)
    assert outward_residual(found(part(110, 64)), truth) == pytest.approx(-2 / 64, abs=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_a_margin_of_the_residual_just_holds_the_part(seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = upright(cv2.boxPoints(((200.0, 150.0), (120, 80), float(rng.uniform(-30, 30)))).astype(np.float64))
    located = found(truth + rng.normal(0, 4, (4, 2)))
    residual = outward_residual(located, truth)

    def depth_px(margin: float) -> float:
        """How far inside the region the part's corners lie."""
        grown = corners_of(as_quad(np.array(replace(located, margin=margin).crop_quad)))
        sides, away = np.roll(grown, -1, axis=0) - grown, truth[:, None] - grown
        across = (sides[:, 0] * away[..., 1] - sides[:, 1] * away[..., 0]) / np.linalg.norm(sides, axis=1)
        return float(across.min())

    assert depth_px(residual) == pytest.approx(0, abs=0.01)
    assert depth_px(residual + 0.01) > 0 > depth_px(residual - 0.01)


def test_the_residual_of_what_was_not_found_is_infinite() -> None:
    truth = corners_of_box(Box.from_xyxy((10, 10, 110, 60)))
    assert outward_residual(Located(present=False, reason="nothing"), truth) == math.inf
    far = found(truth / 100 + 900)
    assert outward_residual(far, truth) == math.inf


# --- what counts as found

SHAPE = (100, 200, 3)
RECIPE = LearnedConfig(size_wh=(64, 64), turned=True, area=(0.05, 0.3), aspect=(1.0, 4.0), margin=0.1)
BOX = np.array([0.3, 0.3, 0.7, 0.6], np.float32)
CORNERS = np.array([0.3, 0.3, 0.7, 0.3, 0.7, 0.6, 0.3, 0.6], np.float32)


def judged(
    box: Sequence[float] | np.ndarray = BOX,
    corners: Sequence[float] | np.ndarray = CORNERS,
    presence: float = 4.0,
    *,
    recipe: LearnedConfig = RECIPE,
) -> Located:
    return judge_sighting(recipe, np.array(box, np.float32), np.array(corners, np.float32), presence, SHAPE)


def flat(corners: Sequence[tuple[float, float]]) -> np.ndarray:
    return np.array(corners, np.float32).ravel()


def test_a_part_as_taught_is_present_in_frame_pixels() -> None:
    located = judged()
    assert located.present
    assert located.reason == ""
    assert located.box is not None
    assert located.box.xyxy == pytest.approx((60, 30, 140, 60), abs=1e-3)
    assert located.quad is not None
    np.testing.assert_allclose(located.quad, [[60, 30], [140, 30], [140, 60], [60, 60]], atol=1e-3)
    assert located.margin == 0.1
    assert located.confidence == pytest.approx(1 / (1 + math.exp(-4)))
    boxed = judged(recipe=RECIPE.model_copy(update={"turned": False}))
    assert boxed.quad is None
    assert boxed.box == located.box


def test_a_box_over_the_edge_is_kept_inside_the_frame() -> None:
    located = judged(box=[-0.05, 0.3, 0.35, 0.6])
    assert located.box is not None
    assert located.box.x1 == 0.0


def test_corners_the_other_way_round_are_set_clockwise() -> None:
    located = judged(corners=flat([(0.3, 0.6), (0.7, 0.6), (0.7, 0.3), (0.3, 0.3)]))
    assert located.present
    assert located.quad == judged().quad


@pytest.mark.parametrize("turned", [True, False])
@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"presence": -3.0}, "expected exactly one part"),
        ({"presence": math.nan}, "not finite"),
        ({"box": [math.nan, 0.3, 0.7, 0.6]}, "not finite"),
        ({"corners": [*CORNERS[:7], math.inf]}, "not finite"),
        ({"box": [0.7, 0.3, 0.3, 0.6]}, "no area"),
        ({"box": [0.7, 0.6, 0.3, 0.3]}, "no area"),
        ({"box": [1.3, 0.3, 1.7, 0.6]}, "no area"),
        (
            {
                "box": [0.45, 0.45, 0.55, 0.55],
                "corners": flat([(0.45, 0.45), (0.55, 0.45), (0.55, 0.55), (0.45, 0.55)]),
            },
            "not in the expected range",
        ),
        ({"box": [0.1, 0.1, 0.9, 0.9], "corners": flat([(0.1, 0.1), (0.9, 0.1), (0.9, 0.9), (0.1, 0.9)])}, "found 64"),
        ({"box": [0.1, 0.4, 0.9, 0.5], "corners": flat([(0.1, 0.4), (0.9, 0.4), (0.9, 0.5), (0.1, 0.5)])}, "16.0 : 1"),
    ],
)
def test_what_is_not_as_taught_is_not_present_and_says_why(
    given: dict[str, Sequence[float]], why: str, turned: bool
) -> None:
    located = judged(**given, recipe=RECIPE.model_copy(update={"turned": turned}))  # type: ignore[arg-type]
    assert not located.present
    assert why in located.reason
    assert located.box is None
    assert located.region is None


def test_crossed_or_dented_corners_are_not_a_part() -> None:
    crossed = flat([(0.3, 0.3), (0.7, 0.3), (0.3, 0.6), (0.72, 0.62)])
    dented = flat([(0.3, 0.2), (0.7, 0.2), (0.48, 0.39), (0.3, 0.6)])
    for corners in (crossed, dented):
        located = judged(corners=corners)
        assert not located.present
        assert located.reason


@pytest.mark.slow
@settings(max_examples=200)
@given(
    box=arrays.arrays(np.float32, 4, elements=st.floats(width=32)),
    corners=arrays.arrays(np.float32, 8, elements=st.floats(width=32)),
    presence=st.floats(width=32),
    turned=st.booleans(),
)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_whatever_the_network_says_a_part_is_only_present_with_a_place(
    box: np.ndarray, corners: np.ndarray, presence: float, turned: bool
) -> None:
    for said in (box, np.clip(np.nan_to_num(box), -0.5, 1.5)):
        located = judged(said, corners, presence, recipe=RECIPE.model_copy(update={"turned": turned}))
        assert located.present == (located.reason == "") == (located.region is not None)
        if located.present:
            assert located.box is not None
            assert located.box.area > 0
            assert located.box.intersection(Box.whole_of(200, 100)) == located.box


# --- the least presence


def test_a_clean_gap_around_one_half_leaves_the_cut_there() -> None:
    assert least_presence(np.array([1.0, 3.0]), np.array([-2.0, -1.0])) == 0.5
    assert least_presence(np.array([1.0]), np.array([])) == 0.5
    assert least_presence(np.array([]), np.array([1.0])) == 0.5


def test_the_cut_lies_in_the_gap_wherever_that_is() -> None:
    cut = least_presence(np.array([-1.0, 0.5, 2.0]), np.array([-3.0, -4.0]))
    assert cut == pytest.approx(1 / (1 + math.exp(2.0)))
    assert least_presence(np.array([90.0]), np.array([70.0])) == 0.98
    assert least_presence(np.array([-70.0]), np.array([-90.0])) == 0.02


@pytest.mark.slow
@settings(max_examples=100)
@given(
    present=arrays.arrays(np.float64, st.integers(1, 12), elements=st.integers(-3, 3).map(float)),
    absent=arrays.arrays(np.float64, st.integers(1, 12), elements=st.integers(-3, 3).map(float)),
)
def test_no_other_cut_refuses_fewer_and_accepts_fewer(present: np.ndarray, absent: np.ndarray) -> None:
    def wrong(cut: float) -> float:
        return float((present < cut).mean() + (absent >= cut).mean())

    best = least_presence(present, absent)
    logit = math.log(best / (1 - best))
    assert wrong(round(logit, 9)) <= min(wrong(cut) for cut in np.arange(-3.25, 3.5, 0.5)) + 1e-9


def test_the_least_presence_is_chosen_on_views_that_taught_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads that are sure of what they learned and say -2 or -6 of anything else: the cut is -4, not 0."""
    there = np.arange(12) % 3 > 0
    boxes = np.where(there[:, None], [[0.2, 0.2, 0.8, 0.8]], np.nan).astype(np.float32)
    places = Places(maps=np.zeros((12, 3, 4, 4), np.float16), boxes=boxes, corners=np.full((12, 8), np.nan, np.float32))
    taught: list[np.ndarray] = []

    def fit(_places: Places, _scaling: Scaling, recipe: Locating, *, seed: int, among: np.ndarray) -> np.ndarray:
        assert (recipe.steps, seed) == (7, 3)
        taught.append(among)
        return among

    def sight(_head: np.ndarray, _scaling: Scaling, held_out: Places) -> Sightings:
        logits = torch.where(torch.from_numpy(held_out.present), -2.0, -6.0)
        return Sightings(torch.zeros(len(logits), 4), torch.zeros(len(logits), 8), logits)

    monkeypatch.setattr(locating, "fit_locator", fit)
    monkeypatch.setattr(locating, "sight", sight)
    scaling = Scaling(torch.zeros(3), torch.ones(3))
    cut = choose_presence(places, scaling, np.arange(12) // 4, Locating(presence_steps=7), seed=3)
    assert cut == pytest.approx(0.02)  # 1 / (1 + exp(4)), held at its bound
    assert [sorted({*range(12)} - set(among)) for among in taught] == [[*range(4)], [*range(4, 8)], [*range(8, 12)]]


# --- training, bundle, inspector

LOCATING = Locating(views=6, steps=150, loss=BoxLoss.GIOU, presence_folds=2, presence_steps=60)
LOCATOR = LocatorOptions(weights="none", size_wh=(64, 64), locating=LOCATING)
OPTIONS = TrainingOptions(size_wh=(32, 32), augmentation=PLAIN, locator=LOCATOR)


def must_not_train(*_: object) -> None:
    raise AssertionError("trained again")


@pytest.fixture(scope="module")
def plates(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    made: Dataset = make_plates(tmp_path_factory.mktemp("plates") / "data")
    return made


@pytest.fixture(scope="module")
def kept(plates: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where an interrupted run left a learned region."""
    folder = tmp_path_factory.mktemp("kept") / "roi"
    region.keep_roi("learned", plates, folder, LOCATOR)
    return folder


@pytest.fixture(scope="module")
def learned(plates: Dataset, kept: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle made by taking that run up again."""
    out = tmp_path_factory.mktemp("bundles") / "plate.inspector"
    shutil.copytree(kept, out.with_name(f"{out.name}.work") / "roi")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learned_region, "learn_roi", must_not_train)
        train_inspector(plates, out, replace(OPTIONS, roi="learned"))
    return out


@pytest.fixture(scope="module")
def inspector(learned: Path) -> Inspector:
    return Inspector.load(learned)


@pytest.mark.slow
def test_a_learned_region_is_not_learned_twice(
    plates: Dataset, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learned_region, "learn_roi", must_not_train)
    assert region.keep_roi("learned", plates, kept, LOCATOR) is not None
    fewer = Dataset(root=plates.root, samples=plates.samples[1:])
    for dataset, options in ((plates, replace(LOCATOR, seed=1)), (fewer, LOCATOR)):
        left = shutil.copytree(kept, tmp_path / "roi")
        with pytest.raises(AssertionError, match="trained again"):
            region.keep_roi("learned", dataset, left, options)
        shutil.rmtree(left)


@pytest.mark.slow
def test_the_bundle_holds_the_network_under_its_seal(learned: Path, tmp_path: Path) -> None:
    sealed = {line.split("  ")[1] for line in (learned / bundle.SEAL).read_text().splitlines()}
    assert {"roi.toml", "roi.xml", "roi.bin"} < sealed
    assert region.IDENTITY not in sealed
    assert bundle.read_bundle(learned).manifest.recipe.roi == "learned"
    assert not learned.with_name(f"{learned.name}.work").exists()
    changed = shutil.copytree(learned, tmp_path / "changed.inspector")
    with (changed / "roi.bin").open("r+b") as file:
        file.write(b"\1")
    with pytest.raises(BundleError, match=r"roi\.bin"):
        Inspector.load(changed)


@pytest.mark.slow
def test_a_recipe_without_its_network_says_so(learned: Path, tmp_path: Path) -> None:
    shutil.copyfile(learned / "roi.toml", tmp_path / "roi.toml")
    with pytest.raises(RecipeError, match=r"roi\.xml"):
        roi.open_roi(tmp_path / "roi.toml")


@pytest.mark.slow
def test_the_recipe_holds_the_taught_range_and_says_what_its_margin_is_worth(inspector: Inspector) -> None:
    recipe = inspector.roi.recipe
    assert isinstance(recipe, LearnedConfig)
    assert recipe.turned
    assert recipe.area[0] < 44 * 30 / (128 * 96) < 52 * 34 / (128 * 96) < recipe.area[1]
    assert recipe.aspect[1] > 52 / 30
    assert (recipe.margin, recipe.margin_miss_rate) == (roi.FIXED_MARGIN, None), "six val parts prove nothing"


@pytest.mark.slow
def test_the_inspector_finds_parts_it_never_saw(inspector: Inspector) -> None:
    rng, ious = np.random.default_rng(99), []
    for _ in range(12):
        frame, corners = plate_frame(rng)
        verdict = inspector.inspect(frame)
        assert verdict.box is not None, verdict.reason
        ious.append(verdict.box.iou(box_around(corners)))
    assert np.mean(ious) > 0.7


@pytest.mark.slow
def test_the_verdict_carries_the_tight_box_and_the_region_with_its_margin_in_frame_pixels(inspector: Inspector) -> None:
    frame, _ = plate_frame(np.random.default_rng(7))
    verdict, located = inspector.inspect(frame), inspector.roi.locate(frame)
    assert verdict.box == located.box
    assert verdict.region == located.crop_quad
    assert located.quad is not None
    share = roi.FIXED_MARGIN
    np.testing.assert_allclose(
        outward_residual(replace(located, margin=0.0), corners_of(located.region)),  # type: ignore[arg-type]
        share,
        atol=1e-4,
    )
    large = inspector.inspect(cv2.resize(frame, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC))
    assert large.box is not None
    assert verdict.box is not None
    np.testing.assert_allclose(large.box.xyxy, 3 * np.array(verdict.box.xyxy), atol=12)


@pytest.mark.slow
def test_a_picture_without_the_part_is_a_fault_and_never_go(inspector: Inspector) -> None:
    rng = np.random.default_rng(5)
    black = np.zeros((SIZE_WH[1], SIZE_WH[0], 3), np.uint8)
    for frame in (*(empty_frame(rng) for _ in range(10)), black, black[:1, :1]):
        verdict = inspector.inspect(np.ascontiguousarray(frame))
        assert verdict.state is State.FAULT
        assert verdict.score is None
        assert verdict.box is None
        assert verdict.region is None
        assert verdict.reason.startswith("not judged")


def test_fewer_than_twenty_boxes_are_refused(plates: Dataset, tmp_path: Path) -> None:
    boxed = itertools.count()
    samples = tuple(
        sample.model_copy(update={"box_xyxy": None, "quad": None})
        if sample.split is Split.TRAIN and next(boxed) >= 19
        else sample
        for sample in plates.samples
    )
    options = replace(OPTIONS, roi="learned")
    with pytest.raises(DatasetError, match=r"at least 20 training pictures with a box, found 19.*roi tune"):
        train_inspector(Dataset(root=plates.root, samples=samples), tmp_path / "few.inspector", options)
    assert not (tmp_path / "few.inspector").exists()


def test_a_box_on_a_picture_without_a_whole_part_is_not_learned(plates: Dataset) -> None:
    marked = plates.samples[0].model_copy(update={"present": False})
    degenerate = plates.samples[1].model_copy(update={"box_xyxy": (5.0, 5.0, 5.0, 9.0), "quad": None})
    dataset = Dataset(root=plates.root, samples=(marked, degenerate, plates.samples[2]))
    assert [sample.file_name for sample in locator_samples(dataset, Split.TRAIN)] == [
        plates.samples[2].file_name,
        marked.file_name,
    ]


class Fixed:
    """A network that always says the same."""

    def __init__(self, box: Box) -> None:
        x1, y1, x2, y2 = np.array(box.xyxy) / [*SIZE_WH, *SIZE_WH]
        self.said = {
            "box": np.array([[x1, y1, x2, y2]]),
            "corners": np.array([[x1, y1, x2, y1, x2, y2, x1, y2]]),
            "presence": np.array([9.0]),
        }

    def __call__(self, _: Frame) -> dict[str, np.ndarray]:
        return self.said


WIDE = LearnedConfig(size_wh=(64, 64), turned=False, area=(0.0, 1.0), aspect=(1.0, 50.0))


def boxed_parts(plates: Dataset, boxes: Sequence[tuple[float, float, float, float]]) -> list[Sample]:
    shown = plates.samples[0]
    return [
        shown.model_copy(update={"box_xyxy": box, "quad": None, "part": f"p{number}"})
        for number, box in enumerate(boxes)
    ]


@pytest.mark.slow
def test_ninety_nine_val_parts_prove_a_margin(plates: Dataset) -> None:
    samples = boxed_parts(plates, [(40.0 - 0.04 * number, 30.0, 80.0, 60.0) for number in range(99)])
    graph = Fixed(Box.from_xyxy((40, 30, 80, 60)))
    proven = learned_region.with_margin(WIDE, graph, plates, samples, 0.01)  # type: ignore[arg-type]
    assert proven.margin == pytest.approx(0.04 * 98 / 40, abs=1e-4)
    assert (proven.margin_miss_rate, proven.margin_parts) == (0.01, 99)
    samples[0] = samples[0].model_copy(update={"part": "p1"})
    again = learned_region.with_margin(WIDE, graph, plates, samples, 0.01)  # type: ignore[arg-type]
    assert again == WIDE, "98 parts in 99 pictures"


def test_a_margin_larger_than_the_part_is_not_written(plates: Dataset, tmp_path: Path) -> None:
    samples = boxed_parts(plates, [(10.0, 10.0, 120.0, 90.0)] * 99)
    recipe = learned_region.with_margin(WIDE, Fixed(Box.from_xyxy((40, 30, 60, 40))), plates, samples, 0.01)  # type: ignore[arg-type]
    roi.write_roi_config(tmp_path / "roi.toml", recipe)
    assert roi.read_roi_config(tmp_path / "roi.toml") == WIDE


class Blind:
    """A search that finds nothing, with a recipe that asks for turned rectangles."""

    recipe = RECIPE

    def locate(self, _: Frame) -> Located:
        return Located(present=False, reason="it is dark")


def test_where_nothing_is_found_the_label_stands_in_as_the_search_would_have_found_it(
    plates: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    shown, unlabelled = plates.samples[0], plates.samples[1].model_copy(update={"box_xyxy": None, "quad": None})
    regions = find_regions(Blind(), plates, [shown, unlabelled])
    assert list(regions) == [shown.file_name]
    located = Located(present=True, quad=as_quad(np.array(shown.quad)), margin=RECIPE.margin)
    np.testing.assert_allclose(regions[shown.file_name], located.crop_quad)  # type: ignore[arg-type]
    told = " ".join(capsys.readouterr().err.split() + capsys.readouterr().out.split())
    assert unlabelled.file_name in told
    assert "it is dark" in told


CLASSICAL = """
method = "classical"
shape = "quad"
area = [0.05, 0.4]
steps = [{step = "grey"}, {step = "threshold-fixed", level = 120, keep = "bright"}, {step = "close", size = 21}]
"""


@pytest.mark.slow
def test_a_classical_recipe_is_carried_into_the_bundle_and_judges_quads(plates: Dataset, tmp_path: Path) -> None:
    from gonogo.heatmap import overlay

    (tmp_path / "plate.toml").write_text(CLASSICAL)
    (tmp_path / "roi.xml").write_text("of another recipe")
    out = tmp_path / "plate.inspector"
    train_inspector(plates, out, replace(OPTIONS, roi=str(tmp_path / "plate.toml")))
    assert not (out / "roi.xml").exists()
    inspector = Inspector.load(out)
    assert inspector.recipe.roi == "classical"
    frame, corners = plate_frame(np.random.default_rng(7), bad=True)
    verdict = inspector.inspect(frame)
    assert verdict.box is not None
    assert verdict.box.iou(box_around(corners)) > 0.85
    assert isinstance(verdict.region, tuple)
    assert verdict.heatmap is not None
    hot = replace(verdict, heatmap=np.full_like(verdict.heatmap, inspector.heat_scale.hot))
    changed = (overlay(frame, hot, inspector.heat_scale) != frame).any(axis=2)
    inside = np.zeros(changed.shape, np.uint8)
    cv2.fillConvexPoly(inside, np.rint(corners_of(verdict.region) * 16 - 8).astype(np.int32), 1, shift=4)
    assert not changed[cv2.dilate(inside, np.ones((5, 5))) == 0].any()
    assert changed[cv2.erode(inside, np.ones((5, 5))) == 1].mean() > 0.98
    assert inspector.inspect(empty_frame(np.random.default_rng(1))).state is State.FAULT


@pytest.mark.slow
def test_a_golden_frame_is_kept_whole_where_a_fixed_region_does_not_shrink_with_it(
    plates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "GOLDEN_PIXELS", SIZE_WH[0] * SIZE_WH[1] // 4)
    (tmp_path / "fixed.toml").write_text('method = "fixed"\nbox_xyxy = [10, 10, 120, 90]\n')
    train_inspector(plates, tmp_path / "fixed.inspector", replace(OPTIONS, roi=str(tmp_path / "fixed.toml")))
    verdict = Inspector.load(tmp_path / "fixed.inspector").inspect(plates.load(plates.samples[0]))
    assert verdict.box == Box.from_xyxy((10, 10, 120, 90))


@pytest.mark.slow
@pytest.mark.parametrize("small", [False, True])
def test_parts_that_lie_about_are_learned_less_by_heart(
    plates: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: bool
) -> None:
    class LearningError(Exception):
        """Ends the training where it would begin."""

    def begin(_places: object, _scaling: object, recipe: Locating, **_: object) -> None:
        raise LearningError(recipe)

    taught_range = learned_region.taught_range
    monkeypatch.setattr(
        learned_region,
        "taught_range",
        lambda *args: taught_range(*args).model_copy(update={"closer_below": 0.6 * small}),
    )
    monkeypatch.setattr(learned_region, "fit_locator", begin)
    with pytest.raises(LearningError) as caught:
        learned_region.learn_roi(plates, tmp_path, LOCATOR)
    recipe: Locating = caught.value.args[0]
    assert recipe == (LOCATOR.locating.for_loose_parts() if small else LOCATOR.locating)
    assert (recipe.dropout > 0) is small
    assert recipe.steps == LOCATOR.locating.steps, "what was asked for stays"
    assert Locating().for_loose_parts().steps == LOOSE_STEPS
