"""Losses between boxes, with their formulas.

Boxes are ``(x1, y1, x2, y2)`` as shares of the frame's width and height, so areas are shares of the picture. ``p`` is
the prediction, ``t`` the truth; ``missed`` is the truth's area outside the prediction, ``excess`` the prediction's area
outside the truth. Every loss is the mean over the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

import torch
from torch import Tensor

from gonogo.array_types import Float

LAMBDA_MISSED = 2.0
"""Weight of missed area, which is never inspected."""
LAMBDA_EXCESS = 1.0
TAU = LAMBDA_MISSED / (LAMBDA_MISSED + LAMBDA_EXCESS)
AREA_SHARE = 0.1
"""Weight of the area term relative to the pinball loss."""

Boxes: TypeAlias = Float[Tensor, "batch 4"]


class BoxLoss(StrEnum):
    """Loss between a predicted and a labelled box."""

    SQUARED = "squared"
    AREA = "area"
    PINBALL = "pinball"
    GIOU = "giou"

    def __call__(self, predicted: Boxes, truth: Boxes) -> Float[Tensor, ""]:
        """Compute the mean loss of a batch."""
        return _FUNCTIONS[self](predicted, truth)


def squared(predicted: Boxes, truth: Boxes) -> Float[Tensor, ""]:
    """``mean over the edges of (p - t)^2``: the article's first loss (Deka and Mittal, 2018)."""
    return (predicted - truth).square().mean()


def area(predicted: Boxes, truth: Boxes) -> Float[Tensor, ""]:
    """``2 missed + excess``: the article's second loss (Deka and Mittal, 2018), the areas as plain products.

    On its own it does not converge from every start. For disjoint boxes moving the prediction changes nothing; a point
    inside the truth has a zero gradient; and an inverted box has a negative area, so the loss rewards inverting it
    further.
    """
    width, height = predicted[:, 2] - predicted[:, 0], predicted[:, 3] - predicted[:, 1]
    return _areas(width * height, predicted, truth).mean()


def pinball(predicted: Boxes, truth: Boxes) -> Float[Tensor, ""]:
    """``mean over the outward coordinates (-x1, -y1, x2, y2) of max(tau (t - p), (1 - tau) (p - t))``, plus a tenth of
    the area loss with areas that are never negative; ``tau = lambda_missed / (lambda_missed + lambda_excess)``.

    The pinball loss (Koenker and Bassett, 1978) is minimal at the tau-quantile of the position of an edge: a prediction
    short of the truth costs twice as much as one beyond it, as in the area loss, but its gradient never vanishes.
    """
    outward = predicted.new_tensor([-1.0, -1.0, 1.0, 1.0])
    short = outward * (truth - predicted)
    edges = torch.maximum(TAU * short, (TAU - 1) * short).mean()
    width, height = _sides(predicted)
    return edges + AREA_SHARE * _areas(width * height, predicted, truth).mean()


def giou(predicted: Boxes, truth: Boxes) -> Float[Tensor, ""]:
    """``mean over the edges of |p - t|`` plus ``1 - GIoU`` (Rezatofighi et al., CVPR 2019).

    ``GIoU = IoU - (hull - union) / hull`` with the smallest box around both; it also has a gradient for disjoint
    boxes, and the first term corrects inverted ones.
    """
    width, height = _sides(predicted)
    shared = _shared(predicted, truth)
    truth_width, truth_height = _sides(truth)
    union = width * height + truth_width * truth_height - shared
    hull_wh = torch.maximum(predicted[:, 2:], truth[:, 2:]) - torch.minimum(predicted[:, :2], truth[:, :2])
    hull = hull_wh.prod(1)
    tiny = torch.finfo(predicted.dtype).eps
    generalised = shared / union.clamp_min(tiny) - (hull - union) / hull.clamp_min(tiny)
    return (predicted - truth).abs().mean() + (1 - generalised).mean()


def _areas(own: Float[Tensor, " batch"], predicted: Boxes, truth: Boxes) -> Float[Tensor, " batch"]:
    shared = _shared(predicted, truth)
    width, height = _sides(truth)
    return LAMBDA_MISSED * (width * height - shared) + LAMBDA_EXCESS * (own - shared)


def _shared(first: Boxes, second: Boxes) -> Float[Tensor, " batch"]:
    sides = torch.minimum(first[:, 2:], second[:, 2:]) - torch.maximum(first[:, :2], second[:, :2])
    return sides.clamp_min(0).prod(1)


def _sides(boxes: Boxes) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    width, height = (boxes[:, 2:] - boxes[:, :2]).clamp_min(0).unbind(1)
    return width, height


_FUNCTIONS: dict[BoxLoss, Callable[[Boxes, Boxes], Tensor]] = {
    BoxLoss.SQUARED: squared,
    BoxLoss.AREA: area,
    BoxLoss.PINBALL: pinball,
    BoxLoss.GIOU: giou,
}
