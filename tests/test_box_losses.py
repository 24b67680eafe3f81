"""Losses between boxes: their formulas, where the area loss alone cannot train, and that what is shipped can."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from gonogo.schema import Box
from gonogo.train.box_losses import TAU, BoxLoss

TRUTH = (0.2, 0.2, 0.6, 0.6)
BESIDE = (0.7, 0.7, 0.9, 0.9)
POINT = (0.4, 0.4, 0.4, 0.4)
INVERTED = (0.5, 0.3, 0.3, 0.5)
STARTS = {"beside": BESIDE, "point": POINT, "inverted": INVERTED}


def boxes(*rows: tuple[float, ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def gradient(loss: BoxLoss, start: tuple[float, ...]) -> np.ndarray:
    predicted = boxes(start).requires_grad_()
    loss(predicted, boxes(TRUTH)).backward()  # type: ignore[no-untyped-call]
    assert predicted.grad is not None
    return predicted.grad[0].numpy()


def descended(loss: BoxLoss, start: tuple[float, ...], *, steps: int = 150) -> Box:
    """Where Adam takes a single box."""
    predicted = boxes(start).requires_grad_()
    optimiser = torch.optim.Adam([predicted], lr=0.01)
    for _ in range(steps):
        optimiser.zero_grad()
        loss(predicted, boxes(TRUTH)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    x1, y1, x2, y2 = predicted.detach()[0].tolist()
    return Box.from_xyxy((x1, y1, x2, y2))


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        # 0.2 and 0.1 off along x and y; both areas 0.16, 0.06 of it shared, so 0.1 missed and 0.1 in excess
        (BoxLoss.SQUARED, (0.04 + 0.01 + 0.04 + 0.01) / 4),
        (BoxLoss.AREA, 2 * 0.1 + 0.1),
        (BoxLoss.PINBALL, (2 / 3 * 0.2 + 2 / 3 * 0.1 + 1 / 3 * 0.2 + 1 / 3 * 0.1) / 4 + 0.1 * 0.3),
        (BoxLoss.GIOU, (0.2 + 0.1 + 0.2 + 0.1) / 4 + 1 - (0.06 / 0.26 - (0.6 * 0.5 - 0.26) / (0.6 * 0.5))),
    ],
)
def test_each_loss_is_its_formula(loss: BoxLoss, expected: float) -> None:
    assert float(loss(boxes((0.4, 0.3, 0.8, 0.7)), boxes(TRUTH))) == pytest.approx(expected, rel=1e-9)


def test_each_edge_of_a_box_that_is_no_square_counts_at_its_place() -> None:
    truth, predicted = (0.1, 0.3, 0.5, 0.8), (0.2, 0.15, 0.55, 0.7)  # 0.4 by 0.5 and 0.35 by 0.55, shared 0.3 by 0.4
    area, own, shared, hull = 0.4 * 0.5, 0.35 * 0.55, 0.3 * 0.4, 0.45 * 0.65
    union = area + own - shared
    areas = 2 * (area - shared) + (own - shared)
    expected = {
        BoxLoss.SQUARED: (0.1**2 + 0.15**2 + 0.05**2 + 0.1**2) / 4,
        BoxLoss.AREA: areas,
        # short of the truth by 0.1 on the left and at the bottom, beyond it by 0.15 at the top and 0.05 on the right
        BoxLoss.PINBALL: (2 / 3 * 0.1 + 1 / 3 * 0.15 + 1 / 3 * 0.05 + 2 / 3 * 0.1) / 4 + 0.1 * areas,
        BoxLoss.GIOU: (0.1 + 0.15 + 0.05 + 0.1) / 4 + 1 - (shared / union - (hull - union) / hull),
    }
    for loss, value in expected.items():
        assert float(loss(boxes(predicted), boxes(truth))) == pytest.approx(value, rel=1e-9)
    assert {each: float(each(boxes(TRUTH, predicted), boxes(TRUTH, truth))) for each in BoxLoss} == pytest.approx(
        {loss: value / 2 for loss, value in expected.items()}, abs=1e-12
    )


@pytest.mark.parametrize("loss", list(BoxLoss))
def test_a_right_box_costs_nothing_and_a_batch_costs_its_mean(loss: BoxLoss) -> None:
    assert float(loss(boxes(TRUTH), boxes(TRUTH))) == pytest.approx(0.0, abs=1e-12)
    shots, truth = boxes(BESIDE, POINT, INVERTED, TRUTH), boxes(TRUTH, TRUTH, TRUTH, TRUTH)
    single = [float(loss(shots[[row]], truth[[row]])) for row in range(4)]
    assert float(loss(shots, truth)) == pytest.approx(np.mean(single))


def test_what_is_missed_costs_twice_what_is_in_excess() -> None:
    small, large = (0.2, 0.2, 0.5, 0.6), (0.2, 0.2, 0.7, 0.6)
    for loss in (BoxLoss.AREA, BoxLoss.PINBALL):
        assert float(loss(boxes(small), boxes(TRUTH))) == pytest.approx(2 * float(loss(boxes(large), boxes(TRUTH))))


def test_the_area_loss_does_not_feel_where_a_disjoint_box_is() -> None:
    slope = gradient(BoxLoss.AREA, BESIDE)
    assert slope[0] + slope[2] == slope[1] + slope[3] == 0.0, "moving the whole box changes nothing"
    nearer = tuple(value - 0.05 for value in BESIDE)
    assert float(BoxLoss.AREA(boxes(nearer), boxes(TRUTH))) == pytest.approx(
        float(BoxLoss.AREA(boxes(BESIDE), boxes(TRUTH)))
    )


def test_the_area_loss_has_no_gradient_at_a_point_inside_the_truth() -> None:
    assert not gradient(BoxLoss.AREA, POINT).any()


def test_the_area_loss_turns_an_inverted_box_further_inside_out() -> None:
    start = (0.5, 0.3, 0.3, 0.5)
    end = descended(BoxLoss.AREA, start, steps=30)
    assert end.x2 - end.x1 < start[2] - start[0] - 0.1
    assert float(BoxLoss.AREA(boxes(end.xyxy), boxes(TRUTH))) < float(BoxLoss.AREA(boxes(start), boxes(TRUTH)))


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
def test_the_area_loss_alone_does_not_arrive_from_there(start: tuple[float, ...]) -> None:
    assert descended(BoxLoss.AREA, start).iou(Box.from_xyxy(TRUTH)) == 0.0


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS.keys())
@pytest.mark.parametrize("loss", [BoxLoss.GIOU, BoxLoss.PINBALL])
def test_what_is_shipped_arrives_from_there(loss: BoxLoss, start: tuple[float, ...]) -> None:
    assert descended(loss, start).iou(Box.from_xyxy(TRUTH)) > 0.5


@pytest.mark.parametrize(("edge", "level"), [(2, TAU), (3, TAU), (0, 1 - TAU), (1, 1 - TAU)])
def test_the_pinball_loss_is_smallest_at_the_outward_quantile(
    edge: int, level: float, rng: np.random.Generator
) -> None:
    spread = 0.3 * rng.beta(2, 5, 999)
    truth = boxes((0.3, 0.3, 0.6, 0.6)).repeat(len(spread), 1)
    truth[:, edge] = torch.from_numpy(spread if edge < 2 else 0.6 + spread)
    tried = np.linspace(float(truth[:, edge].min()), float(truth[:, edge].max()), 301)
    costs = []
    for place in tried:
        predicted = truth.clone()
        predicted[:, edge] = place
        costs.append(float(BoxLoss.PINBALL(predicted, truth)))
    assert tried[int(np.argmin(costs))] == pytest.approx(np.quantile(truth[:, edge].numpy(), level), abs=0.004)


@pytest.mark.parametrize("loss", list(BoxLoss))
@pytest.mark.parametrize("start", [*STARTS.values(), TRUTH])
def test_no_loss_and_no_gradient_is_ever_not_a_number(loss: BoxLoss, start: tuple[float, ...]) -> None:
    assert np.isfinite(gradient(loss, start)).all()
