"""Compares the region found in one picture with the labelled one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gonogo.dataset import Sample
from gonogo.images import within
from gonogo.images.geometry import area_of, as_quad, corners_of, corners_of_box, shared_area, upright
from gonogo.roi import ClassicalConfig, LearnedConfig, RoiConfig
from gonogo.schema import Box, Label, Located, Prediction, State, Verdict

RIGHT_IOU = 0.9
"""Smallest IoU of the tight box and the labelled one for a region to be right; see `Placement.region_right`."""
_TOUCHING = 1e-5
"""Tolerance as a share of the region's size, for parts that touch its edge: corners are mapped in 32-bit precision."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """How well the part was located in one picture, and the verdicts on the region found and the labelled one.

    The tight box found is compared with the labelled box. The cropped region, margin included, is compared with the
    labelled rotated rectangle if both are rotated rectangles, otherwise with the labelled box. Areas include what lies
    outside the frame.
    """

    judged: Prediction
    """The verdict on the region found; a fault if none was found."""
    labelled: Prediction
    """The verdict on the labelled region with the same margin."""
    found: bool
    iou: float
    """IoU of the boxes without margin; 0 if the part was not found."""
    whole_inside: bool
    """Whether the region found contains the whole part."""
    missed_of_picture: float
    """Area of the part outside the region found, as a share of the frame."""
    missed_of_truth: float
    """The same as a share of the part."""
    excess_of_truth: float | None
    """Area of the region found outside the part, as a share of the part; ``None`` if not found."""

    @property
    def region_right(self) -> bool:
        """Whether the whole part lies inside the region and the box overlaps by at least `RIGHT_IOU`."""
        return self.whole_inside and self.iou >= RIGHT_IOU

    @property
    def verdict_right(self) -> bool:
        """Whether the verdict is neither an error nor a fault: no bad part judged go, no good part judged no-go.

        Sending a part to review is not an error.
        """
        mistake = State.GO if self.judged.label is Label.BAD else State.NO_GO
        return self.judged.state not in (mistake, State.FAULT)


def labelled_place(recipe: RoiConfig, sample: Sample) -> Located | None:
    """The correct region for a sample under this ROI config.

    ``None`` without a labelled box, or if the picture is labelled as not showing exactly one whole part.
    """
    box = sample.box
    if box is None or box.area <= 0 or sample.present is False:
        return None
    turned = recipe.turned if isinstance(recipe, LearnedConfig) else _cuts_quads(recipe)
    corners = upright(np.array(sample.quad, np.float64)) if turned and sample.quad is not None else None
    quad = None if corners is None else as_quad(corners)
    return Located(present=True, box=box, quad=quad, margin=recipe.margin)


def place(
    verdict: Verdict, truth: Located, frame_shape: tuple[int, ...], *, judged: Prediction, labelled: Prediction
) -> Placement:
    """Compare the region found with the labelled one.

    Args:
        verdict: The verdict on the region found.
        truth: The labelled region, see `labelled_place`.
        frame_shape: Shape of the frame; height and width are used.
        judged: The prediction for the region found.
        labelled: The prediction for the labelled region.
    """
    assert truth.box is not None, "only pictures with a labelled box are compared"
    if verdict.region is None or verdict.box is None:
        part = area_of(corners_of(truth.quad or truth.box))
        return Placement(
            judged=judged,
            labelled=labelled,
            found=False,
            iou=0.0,
            whole_inside=False,
            missed_of_picture=part / (frame_shape[0] * frame_shape[1]),
            missed_of_truth=1.0,
            excess_of_truth=None,
        )
    as_boxes = isinstance(verdict.region, Box) or truth.quad is None
    corners = corners_of_box(truth.box) if as_boxes else corners_of(truth.quad or truth.box)
    region = corners_of(verdict.region)
    part, shared = area_of(corners), shared_area(corners, region)
    inside = within(verdict.region, corners)
    return Placement(
        judged=judged,
        labelled=labelled,
        found=True,
        iou=verdict.box.iou(truth.box),
        whole_inside=bool(inside.min() >= -_TOUCHING and inside.max() <= 1 + _TOUCHING),
        missed_of_picture=max(0.0, part - shared) / (frame_shape[0] * frame_shape[1]),
        missed_of_truth=max(0.0, 1 - shared / part),
        excess_of_truth=max(0.0, area_of(region) - shared) / part,
    )


def _cuts_quads(recipe: RoiConfig) -> bool:
    return isinstance(recipe, ClassicalConfig) and recipe.shape == "quad"
