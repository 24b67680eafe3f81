"""The manifest of a bundle, ``inspector.json``: its graph, its certificate and its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field, JsonValue, field_serializer, field_validator, model_validator

from gonogo import operating_point
from gonogo.config import Recipe, Strict
from gonogo.defect_kinds import KnownKinds
from gonogo.heatmap import HeatScale
from gonogo.quantization import Quantization
from gonogo.runtime import Precision
from gonogo.schema import OperatingPoint
from gonogo.zoning import zone_names, zones_digest


class Golden(Strict):
    """A frame in the bundle and its expected score."""

    file: str
    score: float = Field(allow_inf_nan=False)


class Evidence(Strict):
    """One kind of evidence in the score, see `gonogo.evidence`."""

    kind: Literal["context", "memory", "cells"]
    weight: float = Field(ge=0, allow_inf_nan=False)
    auroc: float | None = None
    """AUROC of this kind alone, in cross-validation; ``None`` if one class is missing."""


class ZoneBias(Strict):
    """Scale of an inspect zone or of the rest."""

    name: str
    factor: float = Field(gt=0, allow_inf_nan=False)
    """Factor of the evidence in this zone; the heat map includes it."""
    bias: float = Field(allow_inf_nan=False)
    """Score of the zone = pooled heat map of its cells + ``bias``."""


class ModelOrigin(Strict):
    """Origin of a classifier that was trained in another framework, see `gonogo.imported`."""

    framework: Literal["keras", "tensorflow", "onnx", "torch", "openvino"]
    file: str
    sha256: str
    """Hash of the model with all its files."""
    declared: Mapping[str, JsonValue]
    """Preprocessing, classes and head, see `gonogo.imported.Declaration`."""
    compared_with: str
    """What the scores were compared with; the largest difference is in ``training.parity``."""
    map: Literal["exact", "fitted", "none"]
    """``exact``: what each cell of the last feature map adds to the score. ``fitted``: a linear model of the score on
    the means of ``map_layer``. ``none``: the graph has no output ``heatmap``."""
    map_layer: str = ""
    map_r2: float | None = None
    """Of a fitted map: share of the variance of the scores that it explains, on parts left out of the fit."""
    no_map: str = ""
    """Why there is no map in closed form."""


class Classifier(Strict):
    """Structure of the graph."""

    backbone: str
    cuts: tuple[str, ...] = Field(strict=False)
    pool: Literal["mean", "max", "lse", "evidence", "none"]
    """``evidence``: each kind of evidence has a different pooling, see `gonogo.evidence`. ``none``: there is no map."""
    sharpness: float
    """Sharpness of log-sum-exp pooling."""
    bias: float
    """``score = pool(heatmap) + bias``; with evidence, ``score = sum of the pooled maps + bias``."""
    weights: str
    """Initial weights of the backbone."""
    context: bool = False
    """Whether every cell of the heat map includes the same contribution of the whole picture."""
    evidence: tuple[Evidence, ...] = Field(default=(), strict=False)
    """Kinds of evidence, in the order of their maps in the output ``evidence``."""
    zones: tuple[ZoneBias, ...] = Field(default=(), strict=False)
    """Zones of the output ``zones``, in its order; the score is the highest of theirs. Empty without inspect zones."""
    defect_kinds: KnownKinds | None = None
    """Defect kinds of the output ``kinds``; ``None`` if the graph has no such output."""
    imported: ModelOrigin | None = None
    """Set if the classifier was trained in another framework."""


class Revision(Strict):
    """An earlier operating point."""

    replaced: str
    """Time of replacement, UTC, ISO 8601."""
    operating_point: JsonValue
    bundle_sha256: str
    files: Mapping[str, str] | None = None
    """Its files, and where the bundle keeps them now; ``None`` if they were not kept."""
    golden: tuple[Golden, ...] | None = Field(default=None, strict=False)
    """Its golden frames, whose pictures are in ``files``; ``None`` if it had none of its own."""
    proven_on: Mapping[str, str] | None = None
    """Where the scores of these golden frames were computed; ``None`` in bundles of 0.1.0."""


class VerdictCounts(Strict):
    """Verdicts of a bundle's two thresholds on one split, without the out-of-distribution check."""

    parts_good: int = Field(ge=0)
    parts_bad: int = Field(ge=0)
    escapes: int = Field(ge=0)
    """Number of bad parts judged go."""
    overkills: int = Field(ge=0)
    """Number of good parts judged no-go."""
    reviews: int = Field(ge=0)
    """Number of parts of both labels sent to review."""
    faults: int = Field(ge=0)


class ParentComparison(Strict):
    """Comparison of a bundle with its teacher: the same promise, certified and tested on the same parts."""

    teacher_sha256: str
    split: str
    data_fingerprint: str
    itself: VerdictCounts
    teacher: VerdictCounts


class CascadeRule(Strict):
    """When the second graph is asked, and how both answers give one score; see `gonogo.cascade`."""

    student_sha256: str
    teacher: Classifier
    size_wh: tuple[int, int] = Field(strict=False)
    """Width and height of the teacher's input, in pixels."""
    precision: Precision = "f32"
    """Precision of the teacher's arithmetic."""
    ask_from: float = Field(allow_inf_nan=False)
    """Student scores below this are clearly good."""
    ask_to: float = Field(allow_inf_nan=False)
    """Student scores above this are clearly bad."""
    good_shift: float = Field(allow_inf_nan=False)
    """Added to the student's score where it is clearly good."""
    bad_shift: float = Field(allow_inf_nan=False)
    """Added to the student's score where it is clearly bad."""
    student_shift_xy: tuple[float, float] = Field(default=(0.0, 0.0), strict=False)
    """Offset of the cells of the student's map; the teacher's is in the manifest's heat scale."""
    map_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The student's map times ``map_scale`` plus ``map_offset`` is in the unit of the teacher's map."""
    map_offset: float | None = Field(default=None, allow_inf_nan=False)
    """``None`` if both maps are logits of cells; the student's map then shifts together with its score."""
    compared: ParentComparison | None = None
    pictures: int = Field(default=0, ge=0)
    """Number of pictures judged to choose the rule."""
    asked: int = Field(default=0, ge=0)
    """Number of those pictures that the teacher judged."""


class DataRevision(Strict):
    """The revision of the data set that a bundle was trained on; see `gonogo.dataset.history`."""

    dataset: str
    """Name of the data set's folder."""
    number: int = Field(ge=1)
    sha256: str

    def __str__(self) -> str:
        return f"revision {self.number} of {self.dataset} ({self.sha256[:16]})"


class PartCertificate(Strict):
    """Which cameras' pictures a part was certified with, if several look at it."""

    cameras: tuple[str, ...] = Field(min_length=1, strict=False)
    """All of them, sorted. The part is judged by the worst of one picture of each."""
    id: str = ""
    """The same in all bundles that were certified together; empty if one bundle judges all cameras."""


def part_alone(cameras: tuple[str, ...]) -> PartCertificate | None:
    """Return the certificate of a bundle that judges all these cameras by itself; ``None`` without cameras."""
    return PartCertificate(cameras=cameras) if cameras else None


class Manifest(Strict):
    """``inspector.json``."""

    format: Literal[1] = 1
    name: str
    created: str
    """UTC, ISO 8601."""
    gonogo_version: str
    recipe: Recipe
    labels: tuple[str, str] = Field(default=("good", "bad"), strict=False)
    classifier: Classifier
    precision: Precision = "f32"
    """Precision in which the golden scores and the operating point were computed."""
    score_tolerance: float = 1e-3
    """Largest allowed difference in golden scores on a processor or OpenVINO build other than ``proven_on``."""
    proven_on: Mapping[str, str]
    heat_scale: HeatScale
    operating_point: OperatingPoint | None = None
    cameras: tuple[str, ...] = Field(default=(), strict=False)
    """The cameras whose pictures it was trained on, sorted; empty if the data set names none."""
    part: PartCertificate | None = None
    """For a bundle with ``cameras``: what the operating point was certified for."""
    revisions: tuple[Revision, ...] = Field(default=(), strict=False)
    golden: tuple[Golden, ...] = Field(default=(), strict=False)
    quantization: Quantization | None = Field(
        default=None, validation_alias=AliasChoices("quantization", "quantisation")
    )
    """For a quantized bundle, its agreement with the original bundle; 0.1.0 wrote ``quantisation``."""
    training: Mapping[str, JsonValue] = Field(default_factory=dict)
    """Training options, seeds and metrics, for information; ``gonogo bundle learn`` reads the options."""
    data_fingerprint: str = ""
    """SHA-256 over the records and pictures of the training data."""
    data_revision: DataRevision | None = None
    """The revision of the data set at that time; ``None`` if it was not recorded."""
    distilled: ParentComparison | None = None
    """For a distilled bundle, the comparison with its teacher."""
    cascade: CascadeRule | None = None
    """For a cascade, the rule that decides when the second graph is asked."""

    @field_validator("operating_point", mode="before")
    @classmethod
    def _read_point(cls, value: Any) -> OperatingPoint | None:
        return value if value is None or isinstance(value, OperatingPoint) else operating_point.from_json(value)

    @model_validator(mode="after")
    def _fits_the_zones(self) -> Manifest:
        expected, digest = zone_names(self.recipe.zones), zones_digest(self.recipe.zones)
        graphs = [self.classifier, *([] if self.cascade is None else [self.cascade.teacher])]
        if any(tuple(zone.name for zone in each.zones) != expected for each in graphs):
            raise ValueError(f"recipe.zones: expected the zones that the network was made with, found {expected}")
        if self.operating_point is not None and self.operating_point.zones_sha256 != digest:
            raise ValueError(
                "operating_point: expected one that was certified with the recipe's zones, found one with "
                f"{'other zones' if self.operating_point.zones_sha256 else 'none'}. Certify again: gonogo certify"
            )
        return self

    @field_serializer("operating_point")
    def _write_point(self, value: OperatingPoint | None) -> dict[str, Any] | None:
        return None if value is None else operating_point.to_json(value)
