"""Every picture of a data set through the inspector, and what comes of it. There is no second way to a verdict."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np

from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import DatasetError
from gonogo.evaluate.evaluation import Evaluation, Fault
from gonogo.heatmap import HeatScale, hottest_point, spread
from gonogo.images import in_frame, seen_region
from gonogo.progress import track
from gonogo.schema import Frame, Label, Mask, OperatingPoint, Prediction, State, Verdict


class Judge(Protocol):
    """The part of `gonogo.inspector.Inspector` that evaluation and reports need."""

    def inspect_file(self, path: Path) -> tuple[Frame | None, Verdict]:
        """Read and judge one picture; what cannot be read or judged is a fault, never an exception."""

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The thresholds, if the inspector has any."""

    @property
    def heat_scale(self) -> HeatScale:
        """The fixed colour scale of its defect maps."""

    @property
    def bundle_sha256(self) -> str:
        """Digest of everything the inspector is made of."""

    @property
    def path(self) -> Path:
        """Where its bundle lies."""


def evaluate(
    inspector: Judge, dataset: Dataset, splits: Sequence[Split] = (Split.TEST,), *, confidence: float = 0.95
) -> Evaluation:
    """Judge every labelled picture of some splits.

    A damaged picture counts as a fault, as it would on the line. Nothing is written; interrupting loses nothing but
    the time.

    Args:
        inspector: What judges.
        dataset: Labelled pictures, with masks where there are any.
        splits: Which of them; the test split unless told otherwise, because every other one shaped the inspector.
        confidence: Of the intervals, in (0, 1).

    Raises:
        DatasetError: no labelled picture in these splits, or a picture's file is missing.
        ImageError: a mask is unreadable or does not fit its picture.
    """
    chosen = dataset.split(*splits)
    samples = [sample for sample in chosen if sample.label is not None]
    _check(dataset, samples, splits)
    pictures: list[Prediction] = []
    faults: list[Fault] = []
    timings: defaultdict[str, list[float]] = defaultdict(list)
    for sample in track(samples, "Judging"):
        prediction, verdict = _judge(inspector, dataset, sample)
        pictures.append(prediction)
        if verdict.state is State.FAULT:
            faults.append(Fault(file=sample.file_name, reason=verdict.reason))
        for stage, duration_ms in verdict.timings_ms.items():
            timings[stage].append(duration_ms)
    return Evaluation(
        pictures=tuple(pictures),
        faults=tuple(faults),
        timings_ms={stage: np.array(durations) for stage, durations in timings.items()},
        splits=tuple(splits),
        unlabelled=len(chosen) - len(samples),
        data_fingerprint=fingerprint(dataset, samples),
        bundle_sha256=inspector.bundle_sha256,
        operating_point=inspector.operating_point,
        confidence=confidence,
    )


def _check(dataset: Dataset, samples: Sequence[Sample], splits: Sequence[Split]) -> None:
    if not samples:
        there: Mapping[str, int] = {split.value: len(dataset.split(split)) for split in Split}
        raise DatasetError(
            f"{dataset.root}: expected labelled pictures in split {' or '.join(splits)}, found none "
            f"(pictures per split: {', '.join(f'{name} {count}' for name, count in there.items())}). "
            "Choose another --split, or import the data set again so that its pictures are labelled and split."
        )
    for sample in samples:
        if not dataset.path(sample).is_file():
            raise DatasetError(
                f"{dataset.path(sample)}: named in the data set, but there is no such file. "
                f"Put it back, or see what else is amiss: gonogo dataset check {dataset.root}"
            )


def _judge(inspector: Judge, dataset: Dataset, sample: Sample) -> tuple[Prediction, Verdict]:
    assert sample.label is not None, "unlabelled samples were left out before"
    frame, verdict = inspector.inspect_file(dataset.path(sample))
    prediction = Prediction(
        file=sample.file_name,
        part=sample.part_id,
        label=sample.label,
        defect=sample.defect if sample.label is Label.BAD else None,
        state=verdict.state,
        score=verdict.score if verdict.state is not State.FAULT else None,
    )
    if frame is not None and sample.label is Label.BAD:
        mask = dataset.load_mask(sample, (frame.shape[0], frame.shape[1]))
        if mask is not None and mask.any():
            prediction = _located(prediction, frame, verdict, mask, inspector.heat_scale)
    return prediction, verdict


def _located(prediction: Prediction, frame: Frame, verdict: Verdict, mask: Mask, scale: HeatScale) -> Prediction:
    if verdict.heatmap is None or verdict.region is None:
        return prediction
    region = seen_region(frame, verdict.region)
    values = spread(verdict.heatmap, region, mask.shape, shift_xy=scale.shift_xy)
    judged = np.isfinite(values)
    inside, heat = mask[judged], scale.heat(values[judged])
    total = float(heat.sum(dtype=np.float64))
    return replace(
        prediction,
        pointing_hit=_on(mask, hottest_point(verdict.heatmap, region, shift_xy=scale.shift_xy)),
        centre_hit=_on(mask, in_frame(region, np.array([[0.5, 0.5]]))[0]),
        energy_inside=float(heat[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0,
        mask_share=float(inside.mean()),
    )


def _on(mask: Mask, point_xy: Sequence[float]) -> bool:
    """Whether the mask covers a point; one on the frame's far edge belongs to the last pixel, one beyond to none."""
    x, y = point_xy
    height, width = mask.shape
    return 0 <= x <= width and 0 <= y <= height and bool(mask[min(int(y), height - 1), min(int(x), width - 1)])
