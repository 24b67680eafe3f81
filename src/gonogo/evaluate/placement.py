"""One picture's region: as it was found, beside as a person labelled it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gonogo.dataset import Sample
from gonogo.images import within
from gonogo.images.geometry import area_of, as_quad, corners_of, corners_of_box, shared_area, upright
from gonogo.roi import ClassicalConfig, LearnedConfig, RoiConfig
from gonogo.schema import Box, Label, Located, Prediction, State, Verdict

RIGHT_IOU = 0.9
"""A region is right where the whole part lies inside it and the tight box overlaps the labelled one at least so far."""
_TOUCHING = 1e-5
"""Of a region's size: a part that fills it to the edge is inside; corners are mapped with 32-bit numbers."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where the part was found in one picture, how well, and the verdicts on that region and on the labelled one.

    The tight box found is held against the labelled box. The region that was cut out, margin included, is held against
    the labelled turned rectangle where it is one itself and one is labelled, else against the labelled box. Areas are
    those of the stated shapes, beyond the frame too.
    """

    judged: Prediction
    """The verdict on the region found: a fault where none was."""
    labelled: Prediction
    """The verdict on the labelled region with the recipe's margin, everything else equal."""
    found: bool
    iou: float
    """Of the boxes, without margin; 0 where the part was not found."""
    whole_inside: bool
    """Whether the region found contains all of the part."""
    missed_of_picture: float
    """Area of the part outside the region found, as a share of the frame's."""
    missed_of_truth: float
    """The same as a share of the part's."""
    excess_of_truth: float | None
    """Area of the region found outside the part, as a share of the part's; ``None`` where it was not found."""

    @property
    def region_right(self) -> bool:
        """The whole part lies inside, and the box fits: see `RIGHT_IOU`."""
        return self.whole_inside and self.iou >= RIGHT_IOU

    @property
    def verdict_right(self) -> bool:
        """A completed judgement without a mistake: no bad part judged go, no good part judged no-go.

        Sending a part to a person is no mistake; a fault is no judgement.
        """
        mistake = State.GO if self.judged.label is Label.BAD else State.NO_GO
        return self.judged.state not in (mistake, State.FAULT)


def labelled_place(recipe: RoiConfig, sample: Sample) -> Located | None:
    """What a search with this recipe should have found in a sample's picture.

    ``None`` without a labelled box, or where the picture is labelled as not showing exactly one whole part.
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
    """Hold what was found against what was labelled.

    Args:
        verdict: The judgement of the region found.
        truth: What should have been found, see `labelled_place`.
        frame_shape: Height and width of the frame, and whatever follows.
        judged: The row of this judgement.
        labelled: The row of the judgement of the labelled region.
    """
    assert truth.box is not None, "only pictures with a labelled box are held against it"
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
