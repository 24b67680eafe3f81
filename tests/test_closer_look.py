"""Small parts: training views that come close to them, and the second look that a learned region takes."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.roi import LearnedConfig, LearnedRoi
from gonogo.roi.learned import CLOSER_BELOW, FILLED, closer_view, mirrored
from gonogo.runtime import Graph, Picture
from gonogo.schema import Box, Frame
from gonogo.train.augmentations import SCALES, random_picture

HEIGHT, WIDTH = 300, 400
RECIPE = LearnedConfig(size_wh=(64, 64), turned=False, closer_below=CLOSER_BELOW, area=(0.0, 1.0), aspect=(1.0, 9.0))


def frame_with(box: Box) -> Frame:
    """A bright rectangle on a dark ground."""
    frame = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    frame[round(box.y1) : round(box.y2), round(box.x1) : round(box.x2)] = 200
    return frame


class BrightThings:
    """In a network's stead: says where the bright pixels are, badly where they are few."""

    def __init__(self) -> None:
        self.seen: list[Picture] = []

    def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
        self.seen.append(picture)
        rows, columns = np.nonzero(picture[..., 0] > 120)
        side = len(picture)
        box = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], np.float32) / side
        small = (box[2:] - box[:2]).max() < 0.3
        box += 0.02 * small
        corners = box[[0, 1, 2, 1, 2, 3, 0, 3]]
        return {"box": box[None], "corners": corners[None], "presence": np.array([-2.0 if small else 2.0])}


def located_by(network: BrightThings, recipe: LearnedConfig, box: Box) -> tuple[bool, float]:
    """Whether the part counts as found, and how well."""
    found = LearnedRoi(recipe, cast(Graph, network)).locate(frame_with(box))
    return found.present, 0.0 if found.box is None else found.box.iou(box)


@pytest.mark.parametrize("xyxy", [(200, 120, 240, 150), (2, 3, 42, 33), (358, 268, 398, 298)])
def test_a_small_part_is_looked_at_again_and_that_look_counts(xyxy: tuple[float, float, float, float]) -> None:
    box = Box.from_xyxy(xyxy)
    network = BrightThings()
    found, iou = located_by(network, RECIPE, box)
    assert len(network.seen) == 4, "two looks, each at the mirror image as well"
    assert found, "the closer look is sure of the part"
    assert iou > 0.8
    once = BrightThings()
    found, _ = located_by(once, RECIPE.model_copy(update={"closer_below": 0.0}), box)
    assert len(once.seen) == 1
    assert not found


def test_a_large_part_is_looked_at_once() -> None:
    network = BrightThings()
    found, iou = located_by(network, RECIPE, Box.from_xyxy((60, 60, 340, 240)))
    assert len(network.seen) == 2, "one look, at the mirror image as well"
    assert found
    assert iou > 0.95


@given(
    x=st.floats(0, 1), y=st.floats(0, 1), across=st.floats(0.0, 1.2), down=st.floats(0.0, 1.2), below=st.floats(0, 1)
)
def test_a_closer_view_lies_in_the_frame_and_holds_a_small_part(
    x: float, y: float, across: float, down: float, below: float
) -> None:
    box = np.array([x, y, x + across, y + down])
    view = closer_view(box, (HEIGHT, WIDTH, 3), below)
    inside = np.clip(box, 0, 1)
    reach = max(inside[2] - inside[0], inside[3] - inside[1])
    assert view is None or reach < below
    if view is None:
        return
    assert view.intersection(Box.whole_of(WIDTH, HEIGHT)).xyxy == pytest.approx(view.xyxy, abs=1e-6)
    assert view.width / WIDTH == pytest.approx(view.height / HEIGHT)
    part = Box.from_xyxy((inside[0] * WIDTH, inside[1] * HEIGHT, inside[2] * WIDTH, inside[3] * HEIGHT))
    assert part.intersection(view).area == pytest.approx(part.area, abs=1e-6)
    assert reach / (view.width / WIDTH) <= FILLED + 1e-9


def test_what_is_no_place_is_not_looked_at_again() -> None:
    assert closer_view(np.array([0.1, np.nan, 0.2, 0.2]), (HEIGHT, WIDTH, 3), 1.0) is None
    inverted = closer_view(np.array([0.5, 0.5, 0.4, 0.4]), (HEIGHT, WIDTH, 3), 1.0)
    assert inverted is not None
    assert inverted.area > 0


def test_views_come_as_close_to_a_small_part_as_the_second_look() -> None:
    """And no closer; a large part keeps the usual windows."""
    for box, least in ((Box.from_xyxy((150, 100, 190, 130)), 0.1), (Box.from_xyxy((80, 60, 280, 210)), 0.5)):
        reach = max(box.width / WIDTH, box.height / HEIGHT)
        rng = np.random.default_rng(6)
        shown = [random_picture(frame_with(box), box, None, (64, 64), rng).box for _ in range(300)]
        reaches = np.array([max(one[2] - one[0], one[3] - one[1]) for one in shown if one is not None])
        assert len(reaches) > 180
        nearest = min(SCALES[0], reach / FILLED)
        assert reaches.max() <= 1.0
        assert reaches.max() == pytest.approx(reach / nearest, rel=0.25)
        assert reaches.min() == pytest.approx(reach / SCALES[1], rel=0.25)
        assert reach == pytest.approx(least)


def test_a_look_at_the_mirror_image_takes_out_what_is_biased_to_one_side() -> None:
    class Biased(BrightThings):
        def __call__(self, picture: Picture) -> dict[str, np.ndarray]:
            found = super().__call__(picture)
            return found | {"box": found["box"] + np.array([[0.1, 0, 0.1, 0]], np.float32)}

    box = Box.from_xyxy((60, 60, 340, 240))
    _, once = located_by(Biased(), RECIPE.model_copy(update={"closer_below": 0.0}), box)
    network = Biased()
    found, both = located_by(network, RECIPE, box)
    assert found
    assert len(network.seen) == 2
    assert (network.seen[0] == network.seen[1][:, ::-1]).all()
    assert once < 0.85
    assert both > 0.95


def test_places_in_a_mirror_image_keep_their_names() -> None:
    places = np.array([[0.1, 0.2], [0.4, 0.8], [0.1, 0.25], [0.35, 0.2], [0.4, 0.75], [0.15, 0.8]])
    seen = mirrored(places)
    assert seen[:2].tolist() == pytest.approx(np.array([[0.6, 0.2], [0.9, 0.8]]))
    top_left, top_right, bottom_right, bottom_left = seen[2:]
    assert top_left[0] < top_right[0]
    assert bottom_left[0] < bottom_right[0]
    assert max(top_left[1], top_right[1]) < min(bottom_left[1], bottom_right[1])
    np.testing.assert_allclose(mirrored(seen), places)
