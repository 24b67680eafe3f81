"""Accuracy of an ROI config on pictures with labelled boxes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gonogo.dataset import Dataset, Sample
from gonogo.errors import DatasetError
from gonogo.progress import track
from gonogo.roi.classical import Roi, reduced_frame
from gonogo.schema import Box, Frame, Quad


@dataclass(frozen=True, kw_only=True)
class Example:
    """A picture with its labelled box: reduced in memory, full size on disk."""

    dataset: Dataset
    sample: Sample
    box: Box
    quad: Quad | None
    picture: Frame
    """The reduced picture, on which the steps run."""
    frame_shape: tuple[int, ...]

    @property
    def frame_wh(self) -> tuple[int, int]:
        """Width and height of the full-size picture."""
        return (self.frame_shape[1], self.frame_shape[0])

    def load(self) -> Frame:
        """Decode the full-size picture."""
        return self.dataset.load(self.sample)


@dataclass(frozen=True, kw_only=True)
class RoiScore:
    """Intersection over union (IoU) of found and labelled boxes, without margin; 0 if the part was not found."""

    ious: tuple[float, ...]
    found: int

    @cached_property
    def mean_iou(self) -> float:
        """Mean intersection over union."""
        return float(np.mean(self.ious)) if self.ious else float("nan")

    def share_above(self, iou: float) -> float:
        """Share of pictures with an IoU above a level."""
        return float(np.mean(np.array(self.ious) > iou)) if self.ious else float("nan")

    @classmethod
    def pooled(cls, scores: Iterable[RoiScore]) -> RoiScore:
        """Merge the scores of different pictures."""
        listed = list(scores)
        ious = tuple(iou for score in listed for iou in score.ious)
        return cls(ious=ious, found=sum(score.found for score in listed))

    def __str__(self) -> str:
        return (
            f"mean IoU {self.mean_iou:.3f}, {self.share_above(0.9):.0%} above 0.9, "
            f"found in {self.found} of {len(self.ious)} pictures"
        )


def read_examples(dataset: Dataset, samples: Sequence[Sample], *, side_px: int) -> list[Example]:
    """Decode the samples that have a box, and reduce them; samples without a box are skipped.

    Raises:
        DatasetError: No sample has a box.
        ImageError: A picture cannot be decoded.
    """
    boxed = [sample for sample in samples if sample.box is not None and sample.box.area > 0]
    if not boxed:
        raise DatasetError(
            f"{dataset.root}: expected pictures with a box (box_xyxy), found none among {len(samples)}. "
            "Import them with: gonogo dataset import SRC --out DATASET --annotations BOXES"
        )
    return [_example(dataset, sample, side_px) for sample in track(boxed, "reading")]


def score(roi: Roi, examples: Sequence[Example]) -> RoiScore:
    """Locate the part in the full-size picture of every example, and compare with the label."""
    located = [roi.locate(example.load()) for example in track(examples, "scoring")]
    ious = tuple(
        one.box.iou(example.box) if one.box is not None else 0.0 for one, example in zip(located, examples, strict=True)
    )
    return RoiScore(ious=ious, found=sum(one.present for one in located))


def _example(dataset: Dataset, sample: Sample, side_px: int) -> Example:
    frame, box = dataset.load(sample), sample.box
    assert box is not None
    quad = None
    if sample.quad is not None:
        first, second, third, fourth = ((x, y) for x, y in sample.quad)
        quad = (first, second, third, fourth)
    return Example(
        dataset=dataset,
        sample=sample,
        box=box,
        quad=quad,
        picture=reduced_frame(frame, side_px),
        frame_shape=frame.shape,
    )
