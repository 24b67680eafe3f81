"""The reference for drift detection, measured in the same pass that certifies."""

from __future__ import annotations

from pathlib import Path

from gonogo import drift
from gonogo.dataset import Dataset, Split
from gonogo.drift import DriftReference, ReferenceFeatures, Signs
from gonogo.drift.alarm import MIN_REFERENCE
from gonogo.drift.out_of_distribution import NEIGHBOURS, parts_for_share
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
    distances: dict[str, float] = {}
    for picture in val.pictures:
        if (seen := recorder.signs.get(picture.file)) is not None:
            distances[picture.part] = max(distances.get(picture.part, 0.0), seen.distance)
    good = {part.part for part in calibrate.parts if part.label is Label.GOOD}
    ordinary: dict[str, Signs] = {}
    for picture in calibrate.pictures:
        if picture.part in good and (seen := recorder.signs.get(picture.file)) is not None:
            ordinary.setdefault(picture.part, seen)
    assumed = ASSUMED_BAD_SHARE if bad_share is None else bad_share
    reference = DriftReference(
        features=recorder.features,
        guard=None
        if guard_share is None
        else drift.fit_out_of_distribution_check(list(distances.values()), guard_share),
        watches=drift.fit_watches(list(ordinary.values()), bad_share=assumed),
        bad_share=assumed,
        parts=len(ordinary),
    )
    lacking = []
    if guard_share is not None and reference.guard is None:
        lacking.append(
            f"No out-of-distribution check: stopping at most {100 * guard_share:g} % of ordinary parts requires "
            f"{parts_for_share(guard_share)} val parts, found {len(distances)}. "
            "Allow a larger share with --guard, or label more parts."
        )
    if not reference.watches:
        lacking.append(f"No drift alarm: it requires {MIN_REFERENCE} good calibration parts, found {len(ordinary)}.")
    return reference, lacking
