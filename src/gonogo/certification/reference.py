"""The reference for drift detection, measured in the same pass that certifies."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gonogo import drift
from gonogo.dataset import Dataset, Split
from gonogo.drift import DriftReference, OutOfDistributionCheck, ReferenceFeatures, Signs
from gonogo.drift.alarm import MIN_REFERENCE
from gonogo.drift.out_of_distribution import MOST_SHARE, NEIGHBOURS, parts_for_share, strictest_share
from gonogo.evaluate import Evaluation
from gonogo.heatmap import HeatScale
from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.progress import track
from gonogo.roi import Roi
from gonogo.schema import DefectMap, FeatureVector, Frame, Label, Located, OperatingPoint, Verdict

ASSUMED_BAD_SHARE = 0.05
"""Default for the largest share of bad parts on the line under normal conditions."""


class Recorder:
    """Wraps an inspector and records drift measurements and maps, so that no picture is judged twice."""

    def __init__(self, inspector: Inspector, dataset: Dataset) -> None:
        self._inspector = inspector
        self._root = dataset.root
        self.vectors: dict[str, FeatureVector] = {}
        self.signs: dict[str, Signs] = {}
        self.maps: dict[str, DefectMap] = {}
        """Defect map of each judged picture, by file name."""
        self.features = self._learn(dataset)

    def _learn(self, dataset: Dataset) -> ReferenceFeatures | None:
        vectors = []
        for sample in track(dataset.split(Split.TRAIN), "Judging training pictures"):
            if sample.label is not None:
                _, verdict = self._inspector.inspect_file(dataset.path(sample))
                if verdict.feature_vector is not None:
                    vectors.append(verdict.feature_vector)
        return ReferenceFeatures.of(vectors) if len(vectors) >= NEIGHBOURS else None

    def inspect_file(self, path: Path) -> tuple[Photograph | None, Verdict]:
        """See `gonogo.evaluate.Judge`."""
        photograph, verdict = self._inspector.inspect_file(path)
        file = path.relative_to(self._root).as_posix()
        if verdict.heatmap is not None:
            self.maps[file] = verdict.heatmap
        if photograph is not None and verdict.feature_vector is not None and self.features is not None:
            seen = drift.observe(photograph, verdict, self.features, self._inspector.recipe)
            if seen is not None:
                self.vectors[file], self.signs[file] = verdict.feature_vector, seen
        return photograph, verdict

    def inspect(self, picture: Frame | Photograph, *, located: Located | None = None) -> Verdict:
        """See `gonogo.evaluate.Judge`; nothing is recorded."""
        return self._inspector.inspect(picture, located=located)

    @property
    def roi(self) -> Roi:
        """See `gonogo.evaluate.Judge`."""
        return self._inspector.roi

    @property
    def operating_point(self) -> OperatingPoint | None:
        """See `gonogo.evaluate.Judge`."""
        return self._inspector.operating_point

    @property
    def heat_scale(self) -> HeatScale:
        """See `gonogo.evaluate.Judge`."""
        return self._inspector.heat_scale

    @property
    def bundle_sha256(self) -> str:
        """See `gonogo.evaluate.Judge`."""
        return self._inspector.bundle_sha256

    @property
    def path(self) -> Path:
        """See `gonogo.evaluate.Judge`."""
        return self._inspector.path


def make_reference(
    recorder: Recorder, val: Evaluation, calibrate: Evaluation, *, guard_share: float | None, bad_share: float | None
) -> tuple[DriftReference | None, list[str]]:
    """Fit the out-of-distribution check on val and the drift limits on good calibrate parts; list what is missing."""
    if recorder.features is None:
        return None, [
            f"No out-of-distribution check and no drift alarm: they need {NEIGHBOURS} judged training pictures."
        ]
    distances = distances_of(recorder, val)
    good = {part.part for part in calibrate.parts if part.label is Label.GOOD}
    ordinary: dict[str, Signs] = {}
    for picture in calibrate.pictures:
        if picture.part in good and (seen := recorder.signs.get(picture.file)) is not None:
            ordinary.setdefault(picture.part, seen)
    assumed = ASSUMED_BAD_SHARE if bad_share is None else bad_share
    guard, lacking = _fit_guard(distances, guard_share)
    if guard is not None:
        alarms = [guard.stops(distance) for part, distance in distances_of(recorder, calibrate).items() if part in good]
        guard = replace(guard, good_parts=len(alarms), false_alarms=sum(alarms))
    reference = DriftReference(
        features=recorder.features,
        guard=guard,
        watches=drift.fit_watches(list(ordinary.values()), bad_share=assumed),
        bad_share=assumed,
        parts=len(ordinary),
    )
    if not reference.watches:
        lacking.append(f"No drift alarm: it requires {MIN_REFERENCE} good calibration parts, found {len(ordinary)}.")
    return reference, lacking


def distances_of(recorder: Recorder, judged: Evaluation) -> dict[str, float]:
    """Return the distance of each part from the training parts: the largest of its pictures."""
    distances: dict[str, float] = {}
    for picture in judged.pictures:
        if (seen := recorder.signs.get(picture.file)) is not None:
            distances[picture.part] = max(distances.get(picture.part, 0.0), seen.distance)
    return distances


def _fit_guard(distances: dict[str, float], share: float | None) -> tuple[OutOfDistributionCheck | None, list[str]]:
    """Fit the check with the share that was asked for, or the smallest one that the number of val parts supports."""
    if share is None:
        return None, ["The out-of-distribution check is off: a foreign part is judged by its score alone."]
    guard = drift.fit_out_of_distribution_check(list(distances.values()), share)
    if guard is not None:
        return guard, []
    found, needed = len(distances), parts_for_share(share)
    least = strictest_share(found)
    if least is None:
        return None, [
            f"No out-of-distribution check: it requires {parts_for_share(MOST_SHARE)} val parts, found {found}. "
            "Label more parts."
        ]
    return drift.fit_out_of_distribution_check(list(distances.values()), least), [
        f"The out-of-distribution check sends up to {100 * least:.3g} % of ordinary parts to review, because val has "
        f"{found} parts; {100 * share:g} % requires {needed}. Label more parts, or turn it off with --guard 0."
    ]
