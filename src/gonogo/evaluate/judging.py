"""Judges the pictures of a data set with an inspector. All verdicts come from the inspector."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from gonogo.dataset import Dataset, Sample, Split, fingerprint
from gonogo.errors import DatasetError
from gonogo.evaluate.evaluation import Evaluation, Fault
from gonogo.evaluate.placement import Placement, labelled_place, place
from gonogo.evaluate.rates import Rate
from gonogo.evaluate.regions import Regions
from gonogo.heatmap import HeatScale, hottest_point, spread
from gonogo.images import Photograph, in_frame, seen_region
from gonogo.progress import track
from gonogo.roi import Roi, RoiConfig
from gonogo.schema import Frame, Label, Located, Mask, OperatingPoint, Prediction, State, Verdict

MOST_FAULTS = 0.25
"""Largest share of calibration pictures that may be faults; more mean that locating the part does not work."""


class Judge(Protocol):
    """The interface of `gonogo.inspector.Inspector` that evaluation and reports use."""

    def inspect_file(self, path: Path) -> tuple[Photograph | None, Verdict]:
        """Read and judge one picture. A picture that cannot be read or judged is a fault, not an exception."""

    def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
        """Judge one picture, optionally in a given region."""

    @property
    def roi(self) -> Roi:
        """Locates the part."""

    @property
    def operating_point(self) -> OperatingPoint | None:
        """The certified thresholds, if any."""

    @property
    def heat_scale(self) -> HeatScale:
        """The fixed colour scale of the defect maps."""

    @property
    def bundle_sha256(self) -> str:
        """Digest of the bundle."""

    @property
    def path(self) -> Path:
        """Path of the bundle."""


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """Result for one picture."""

    row: Prediction
    reason: str
    timings_ms: Mapping[str, float]
    placement: Placement | None
    """``None`` unless the picture has a labelled box."""


def evaluate(
    inspector: Judge,
    dataset: Dataset,
    splits: Sequence[Split] = (Split.TEST,),
    *,
    confidence: float = 0.95,
    with_regions: bool = True,
) -> Evaluation:
    """Judge every labelled picture of some splits.

    A damaged picture counts as a fault, as it would on the line. Nothing is written.

    If the inspector locates a region of interest and boxes are labelled, each of those pictures is judged a second time
    in its labelled region, which separates errors in locating the part from errors of the network. Pictures labelled as
    not showing exactly one whole part (they belong to no split) test whether they are refused; only every other one is
    used, because the rest may have trained the locator.

    Example:
        >>> from gonogo import Inspector
        >>> judged = evaluate(Inspector.load("fake.inspector"), Dataset.read("discs"))
        >>> len(judged.pictures)
        40

    Args:
        inspector: The inspector to evaluate.
        dataset: Labelled pictures, optionally with masks.
        splits: Splits to judge; default the test split, because all others influenced the inspector.
        confidence: Confidence of the intervals, in (0, 1).
        with_regions: Compare found regions with labelled ones, as described above.

    Raises:
        DatasetError: the splits have no labelled pictures, or a picture file is missing.
        ImageError: a mask is unreadable, or its size differs from its picture.
    """
    samples = labelled_samples(dataset, splits)
    recipe = inspector.roi.recipe if with_regions else None
    to_refuse = () if recipe is None else dataset.without_part(training=False)
    require_files(dataset, [*samples, *to_refuse])
    judged = [_judge(inspector, dataset, sample, recipe) for sample in track(samples, "Judging")]
    return Evaluation(
        pictures=tuple(each.row for each in judged),
        faults=tuple(Fault(file=each.row.file, reason=each.reason) for each in judged if each.row.state is State.FAULT),
        timings_ms=_timings(judged),
        splits=tuple(splits),
        unlabelled=len(dataset.split(*splits)) - len(samples),
        data_fingerprint=fingerprint(dataset, samples),
        bundle_sha256=inspector.bundle_sha256,
        operating_point=inspector.operating_point,
        regions=Regions(
            placements=tuple(each.placement for each in judged if each.placement is not None),
            refused=_refused(inspector, dataset, to_refuse, confidence),
            confidence=confidence,
        ),
        confidence=confidence,
    )


def require_judged(judged: Evaluation, *, then: str) -> None:
    """Raise if too many calibration pictures could not be judged.

    Parts that cannot be judged never pass, so a few of them do not weaken a claim; many of them indicate another
    problem.

    Args:
        judged: Evaluation of the calibration pictures.
        then: Next step for the error message, once they are fixed.

    Raises:
        DatasetError: more than `MOST_FAULTS` of them are faults.
    """
    if len(judged.faults) <= MOST_FAULTS * len(judged.pictures):
        return
    first = judged.faults[0]
    raise DatasetError(
        f"{first.file}: a calibration picture could not be judged ({first.reason}). In total {len(judged.faults)} of "
        f"{len(judged.pictures)} failed, more than {MOST_FAULTS:.0%}. Replace or remove them, then {then}."
    )


def labelled_samples(dataset: Dataset, splits: Sequence[Split]) -> list[Sample]:
    """Return the labelled pictures of some splits.

    Raises:
        DatasetError: there are none.
    """
    samples = [sample for sample in dataset.split(*splits) if sample.label is not None]
    if not samples:
        there: Mapping[str, int] = {split.value: len(dataset.split(split)) for split in Split}
        raise DatasetError(
            f"{dataset.root}: expected labelled pictures in split {' or '.join(splits)}, found none "
            f"(pictures per split: {', '.join(f'{name} {count}' for name, count in there.items())}). "
            "Choose another --split, or import the data set again so that its pictures are labelled and split."
        )
    return samples


def require_files(dataset: Dataset, samples: Sequence[Sample]) -> None:
    """Raise if a picture file is missing, before anything is judged.

    Raises:
        DatasetError: a picture file is missing.
    """
    for sample in samples:
        if not dataset.path(sample).is_file():
            raise DatasetError(
                f"{dataset.path(sample)}: listed in the data set, but the file does not exist. "
                f"Restore it, or check the data set: gonogo dataset check {dataset.root}"
            )


def _timings(judged: Sequence[_Judged]) -> dict[str, np.ndarray]:
    """Durations of each stage over all pictures, in milliseconds."""
    timings: defaultdict[str, list[float]] = defaultdict(list)
    for each in judged:
        for stage, duration_ms in each.timings_ms.items():
            timings[stage].append(duration_ms)
    return {stage: np.array(durations) for stage, durations in timings.items()}


def _judge(inspector: Judge, dataset: Dataset, sample: Sample, recipe: RoiConfig | None) -> _Judged:
    photograph, verdict = inspector.inspect_file(dataset.path(sample))
    prediction = predict(dataset, sample, photograph, verdict, inspector.heat_scale)
    placement = None
    truth = None if recipe is None else labelled_place(recipe, sample)
    if photograph is not None and truth is not None:
        exact = inspector.inspect(photograph, located=truth)
        labelled = replace(prediction, state=exact.state, score=exact.score)
        placement = place(verdict, truth, photograph.shape_hw, judged=prediction, labelled=labelled)
    return _Judged(row=prediction, reason=verdict.reason, timings_ms=verdict.timings_ms, placement=placement)


def predict(
    dataset: Dataset, sample: Sample, photograph: Photograph | None, verdict: Verdict, scale: HeatScale
) -> Prediction:
    """Combine a verdict with the label of its picture, and check whether its heat lies on the marked defect.

    Args:
        dataset: The data set with the picture and its mask.
        sample: A labelled picture.
        photograph: The judged photograph; ``None`` if it could not be decoded.
        verdict: The verdict on it.
        scale: Heat scale of the inspector.

    Raises:
        ImageError: the mask is unreadable, or its size differs from the picture.
    """
    assert sample.label is not None, "unlabelled samples are filtered out earlier"
    prediction = Prediction(
        file=sample.file_name,
        part=sample.part_id,
        label=sample.label,
        defect=sample.defect if sample.label is Label.BAD else None,
        state=verdict.state,
        score=verdict.score if verdict.state is not State.FAULT else None,
        kind=verdict.kind,
        out_of_distribution=verdict.out_of_distribution,
        rejected_by_rule=verdict.rejected_by_rule,
    )
    if photograph is not None and sample.label is Label.BAD:
        mask = dataset.load_mask(sample, photograph.shape_hw)
        if mask is not None and mask.any():
            return _located(prediction, verdict, mask, scale)
    return prediction


def _refused(inspector: Judge, dataset: Dataset, samples: Sequence[Sample], confidence: float) -> Rate:
    """Share of the readable pictures that were refused because no part was found."""
    regions = []
    for sample in track(samples, "Pictures without a part") if samples else ():
        photograph, verdict = inspector.inspect_file(dataset.path(sample))
        if photograph is not None:
            regions.append(verdict.region)
    return Rate.of_outcomes((region is None for region in regions), confidence=confidence)


def _located(prediction: Prediction, verdict: Verdict, mask: Mask, scale: HeatScale) -> Prediction:
    if verdict.heatmap is None or verdict.region is None:
        return prediction
    region = seen_region(np.broadcast_to(np.uint8(0), (*mask.shape, 3)), verdict.region)
    values = spread(verdict.heatmap, region, mask.shape, shift_xy=verdict.shift_xy)
    judged = np.isfinite(values)
    inside, heat = mask[judged], scale.heat(values[judged])
    total = float(heat.sum(dtype=np.float64))
    return replace(
        prediction,
        pointing_hit=_on(mask, hottest_point(verdict.heatmap, region, shift_xy=verdict.shift_xy)),
        centre_hit=_on(mask, in_frame(region, np.array([[0.5, 0.5]]))[0]),
        energy_inside=float(heat[inside].sum(dtype=np.float64)) / total if total > 0 else 0.0,
        mask_share=float(inside.mean()),
    )


def _on(mask: Mask, point_xy: Sequence[float]) -> bool:
    """Whether the mask covers a point. A point on the far edge belongs to the last pixel; one outside to none."""
    x, y = point_xy
    height, width = mask.shape
    return 0 <= x <= width and 0 <= y <= height and bool(mask[min(int(y), height - 1), min(int(x), width - 1)])
