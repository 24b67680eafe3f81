"""The manifest of a bundle, ``inspector.json``: what it states of its graph, its proof and its history."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AliasChoices, Field, JsonValue, field_serializer, field_validator

from gonogo import operating_point
from gonogo.config import Recipe, Strict
from gonogo.defect_kinds import KnownKinds
from gonogo.heatmap import HeatScale
from gonogo.quantization import Quantization
from gonogo.runtime import Precision
from gonogo.schema import OperatingPoint


class Golden(Strict):
    """A frame in the bundle and the score that it must give."""

    file: str
    score: float = Field(allow_inf_nan=False)


class Evidence(Strict):
    """One kind of evidence that counts, see `gonogo.evidence`."""

    kind: Literal["context", "memory", "cells"]
    weight: float = Field(ge=0, allow_inf_nan=False)
    auroc: float | None = None
    """What it alone reaches on parts left out; ``None`` where one class is missing."""


class Classifier(Strict):
    """What the graph is made of."""

    backbone: str
    cuts: tuple[str, ...] = Field(strict=False)
    pool: Literal["mean", "max", "lse", "evidence"]
    """``evidence``: each kind's map has a pooling of its own, see `gonogo.evidence`."""
    sharpness: float
    """Of log-sum-exp pooling."""
    bias: float
    """``score = pool(heatmap) + bias``; with evidence ``sum of the pooled maps + bias``."""
    weights: str
    """Where the training started from."""
    context: bool = False
    """Whether every cell of the heat map also holds what the picture as a whole says, the same in all."""
    evidence: tuple[Evidence, ...] = Field(default=(), strict=False)
    """The kinds in the order of their maps in the output ``evidence``."""
    defect_kinds: KnownKinds | None = None
    """What the output ``kinds`` tells apart; ``None`` where there is no such output."""


class Revision(Strict):
    """An operating point that was replaced by a later one."""

    replaced: str
    """When, UTC, ISO 8601."""
    operating_point: JsonValue
    bundle_sha256: str
    files: Mapping[str, str] | None = None
    """The files that belonged to it, and where the bundle keeps them now; ``None``: none were kept then."""
    golden: tuple[Golden, ...] | None = Field(default=None, strict=False)
    """What was stated of its golden frames, which are among the files; ``None``: they were not chosen for it."""


class VerdictCounts(Strict):
    """What the two thresholds of a bundle did with the parts of one split; guards are left aside."""

    parts_good: int = Field(ge=0)
    parts_bad: int = Field(ge=0)
    escapes: int = Field(ge=0)
    """Bad parts judged go."""
    overkills: int = Field(ge=0)
    """Good parts judged no-go."""
    reviews: int = Field(ge=0)
    """Parts of both labels sent to a person."""
    faults: int = Field(ge=0)


class ParentComparison(Strict):
    """A bundle beside its teacher: the same promise, certified on the same parts, tried on the same other parts."""

    teacher_sha256: str
    split: str
    data_fingerprint: str
    itself: VerdictCounts
    teacher: VerdictCounts


class CascadeRule(Strict):
    """When the second graph is asked, and how both answers come to one score; see `gonogo.cascade`."""

    student_sha256: str
    teacher: Classifier
    size_wh: tuple[int, int] = Field(strict=False)
    """Of the teacher's picture, width then height, in pixels."""
    precision: Precision = "f32"
    """Of the teacher's arithmetic."""
    ask_from: float = Field(allow_inf_nan=False)
    """Student scores below this are clearly good."""
    ask_to: float = Field(allow_inf_nan=False)
    """Student scores above this are clearly bad."""
    good_shift: float = Field(allow_inf_nan=False)
    """Added to the student's score where it is clearly good."""
    bad_shift: float = Field(allow_inf_nan=False)
    """Added to the student's score where it is clearly bad."""
    student_shift_xy: tuple[float, float] = Field(default=(0.0, 0.0), strict=False)
    """Where the cells of the student's map look; those of the teacher's by the manifest's heat scale."""
    map_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The student's map times this and plus ``map_offset`` is in the unit of the teacher's."""
    map_offset: float | None = Field(default=None, allow_inf_nan=False)
    """``None``: both maps are logits of cells, and the student's moves with its score."""
    compared: ParentComparison | None = None
    pictures: int = Field(default=0, ge=0)
    """Judged for the comparison."""
    asked: int = Field(default=0, ge=0)
    """Of those, the pictures that went to the teacher."""


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
    """The arithmetic that the golden scores and the operating point were proven in."""
    score_tolerance: float = 1e-3
    """Largest difference in golden scores on another processor or OpenVINO build than ``proven_on``."""
    proven_on: Mapping[str, str]
    heat_scale: HeatScale
    operating_point: OperatingPoint | None = None
    revisions: tuple[Revision, ...] = Field(default=(), strict=False)
    golden: tuple[Golden, ...] = Field(default=(), strict=False)
    quantization: Quantization | None = Field(
        default=None, validation_alias=AliasChoices("quantization", "quantisation")
    )
    """How far it agrees with the bundle it was made from, where it is quantized; 0.1.0 wrote ``quantisation``."""
    training: Mapping[str, JsonValue] = Field(default_factory=dict)
    """How it was trained: options, seeds, metrics. For people; ``gonogo bundle learn`` reads the options back."""
    data_fingerprint: str = ""
    """SHA-256 over the records and pictures that were trained on."""
    distilled: ParentComparison | None = None
    """Where it was taught by another bundle: what became of the parts under each."""
    cascade: CascadeRule | None = None
    """Where a second graph is asked when the first is not sure."""

    @field_validator("operating_point", mode="before")
    @classmethod
    def _read_point(cls, value: Any) -> OperatingPoint | None:
        return value if value is None or isinstance(value, OperatingPoint) else operating_point.from_json(value)

    @field_serializer("operating_point")
    def _write_point(self, value: OperatingPoint | None) -> dict[str, Any] | None:
        return None if value is None else operating_point.to_json(value)
