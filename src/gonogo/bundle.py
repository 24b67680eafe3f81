"""The bundle: a folder that holds one trained inspector, sealed so that any changed byte is refused.

    classifier.xml, .bin   the graph: uint8 NHWC in; score, heatmap, feature_vector out
    roi.toml               how the region of interest is found, where it is; roi.xml, .bin where a network finds it
    inspector.json         the manifest: recipe, operating point with its evidence, fingerprints
    golden/                a few frames whose exact scores the manifest states
    drift.json, taught.npy what later parts are compared with; written by ``gonogo operate``
    cascade/               the second graph, and the guard that sends strange parts to it, where there is one
    evidence.json          how the operating point was chosen and certified; the same
    MODEL_CARD.md          the same for people
    SHA256SUMS             the seal: the hash of every other file, as ``sha256sum -c`` reads it

The SHA-256 of the seal names the bundle. The seal is compared as a whole with one made anew from the folder, so a
changed, added or missing file, or a change to the seal itself, is found before anything else reads the folder.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_serializer, field_validator

from gonogo import images, operating_point
from gonogo.config import Recipe, Strict
from gonogo.errors import BundleError
from gonogo.files import folder_beside, write_beside
from gonogo.heatmap import HeatScale
from gonogo.runtime import Precision
from gonogo.schema import Frame, OperatingPoint

FORMAT = 1
SUFFIX = ".inspector"
CLASSIFIER = "classifier.xml"
MANIFEST = "inspector.json"
SEAL = "SHA256SUMS"
MODEL_CARD = "MODEL_CARD.md"
GOLDEN = "golden"
ROI_RECIPE = "roi.toml"
CASCADE = "cascade"
TEACHER = f"{CASCADE}/teacher.xml"


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


class Revision(Strict):
    """An operating point that was replaced by a later one."""

    replaced: str
    """When, UTC, ISO 8601."""
    operating_point: JsonValue
    bundle_sha256: str


class Counted(Strict):
    """So many of so many parts, and the exact one-sided upper bound of their rate at the section's confidence."""

    count: int = Field(ge=0)
    of: int = Field(gt=0)
    at_most: float = Field(ge=0, le=1)


class Quantisation(Strict):
    """The bundle of full precision that this one was made from, and how far their judgements agree.

    Made by ``gonogo quantize``. Operating point, golden scores and heat scale are the quantised graph's own.
    """

    source_sha256: str
    """Names the bundle it was made from."""
    arithmetic: Literal["int8", "bf16"]
    """``bf16``: the same graph, everything else in the manifest's ``precision``."""
    int8_layers: int = Field(ge=0)
    """Convolutions and matrix products in INT8."""
    float_layers: int = Field(ge=0)
    """Those left in the manifest's ``precision``."""
    nncf: str
    """Version of the tool; empty for ``bf16``."""
    preset: str
    """``performance`` or ``mixed``; empty for ``bf16``."""
    calibration_pictures: int = Field(ge=0)
    """Pictures from train and val that the ranges of the INT8 numbers were taken from."""
    splits: tuple[str, ...] = Field(strict=False)
    """Where the compared parts come from."""
    confidence: float
    flips: Counted
    """Parts that went from go to no-go or back."""
    moves: Counted
    """Parts that went into or out of review."""
    test_flips: Counted | None = None
    """Flips among the parts that set no threshold either."""
    test_moves: Counted | None = None
    pointing_pictures: int = Field(ge=0)
    """Compared pictures with a marked defect."""
    pointing_before: float | None
    """Share of them whose hottest point lies on the mark, before and after."""
    pointing_after: float | None
    map_correlation: float | None
    """Median correlation of the two defect maps over pictures not judged go."""
    map_correlation_low: float | None
    """What all but 5 % of those pictures exceed."""

    def sentences(self) -> list[str]:
        """The same for people."""
        int8 = f"{self.int8_layers} layers in INT8, {self.float_layers} not"
        lines = [
            f"Made from bundle {self.source_sha256[:16]}: {int8 if self.arithmetic == 'int8' else 'BF16'}.",
            f"Compared on parts of {' and '.join(self.splits)}, which trained neither:",
            f"Go became no-go or the reverse: {self._said(self.flips)}.",
            f"Went into or out of review: {self._said(self.moves)}.",
        ]
        if self.test_flips is not None and self.test_moves is not None and self.test_flips.of < self.flips.of:
            lines += [
                "On the test parts alone, which set no threshold either: "
                f"{self._said(self.test_flips)}; review {self._said(self.test_moves)}."
            ]
        if self.pointing_before is not None and self.pointing_after is not None:
            lines += [
                f"Hottest point on the marked defect: {self.pointing_after:.1%}, before {self.pointing_before:.1%} "
                f"({self.pointing_pictures} pictures)."
            ]
        if self.map_correlation is not None and self.map_correlation_low is not None:
            lines += [
                f"Correlation of the defect maps: median {self.map_correlation:.3f}, 95 % of the pictures above "
                f"{self.map_correlation_low:.3f}."
            ]
        return lines

    def _said(self, counted: Counted) -> str:
        bound, sure = operating_point.percent(counted.at_most), operating_point.percent(self.confidence)
        return f"{counted.count} of {counted.of}, at most {bound} of later parts at {sure} confidence"


class Tally(Strict):
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


class Comparison(Strict):
    """A bundle beside its teacher: the same promise, certified on the same parts, tried on the same other parts."""

    teacher_sha256: str
    split: str
    data_fingerprint: str
    itself: Tally
    teacher: Tally


class Cascade(Strict):
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
    compared: Comparison | None = None
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
    quantisation: Quantisation | None = None
    training: Mapping[str, JsonValue] = Field(default_factory=dict)
    """How it was trained: options, seeds, metrics. For people; nothing reads it back."""
    data_fingerprint: str = ""
    """SHA-256 over the records and pictures that were trained on."""
    distilled: Comparison | None = None
    """Where it was taught by another bundle: what became of the parts under each."""
    cascade: Cascade | None = None
    """Where a second graph is asked when the first is not sure."""

    @field_validator("operating_point", mode="before")
    @classmethod
    def _read_point(cls, value: Any) -> OperatingPoint | None:
        return value if value is None or isinstance(value, OperatingPoint) else operating_point.from_json(value)

    @field_serializer("operating_point")
    def _write_point(self, value: OperatingPoint | None) -> dict[str, Any] | None:
        return None if value is None else operating_point.to_json(value)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A bundle that was found whole."""

    root: Path
    manifest: Manifest
    sha256: str
    """Names this exact bundle: the SHA-256 of its seal."""

    @property
    def classifier(self) -> Path:
        """The graph's ``.xml``."""
        return self.root / CLASSIFIER

    @property
    def teacher(self) -> Path:
        """The ``.xml`` of a cascade's second graph."""
        return self.root / TEACHER

    @property
    def roi(self) -> Path:
        """The recipe of the region of interest; there unless the manifest's recipe says ``none``."""
        return self.root / ROI_RECIPE

    def golden(self) -> list[tuple[str, Frame, float]]:
        """File name, frame and expected score of every golden frame."""
        return [(each.file, images.load(self.root / each.file), each.score) for each in self.manifest.golden]


def read(root: str | os.PathLike[str]) -> Bundle:
    """Open a bundle, refusing one that is incomplete or was changed.

    Raises:
        BundleError: not a bundle, a file that does not match the seal, or a manifest of another format.
    """
    root = Path(root)
    if not (root / SEAL).is_file():
        raise BundleError(
            f"{root}: expected a bundle (a folder with {SEAL}), found "
            f"{'a folder without one' if root.is_dir() else 'no such folder'}. Make one with: gonogo train"
        )
    sealed = (root / SEAL).read_bytes()
    expected = _seal_text(root)
    if sealed != expected:
        raise BundleError(
            f"{root}: the bundle was changed after it was sealed ({_difference(sealed, expected)}). "
            "Copy it again from where it was made; nothing was loaded."
        )
    try:
        manifest = Manifest.model_validate_json((root / MANIFEST).read_bytes())
    except (ValidationError, OSError) as error:
        raise BundleError(f"{root / MANIFEST}: not a manifest of format {FORMAT} ({_first(error)}).") from error
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(sealed).hexdigest())


def write_manifest(root: Path, manifest: Manifest) -> Bundle:
    """Write manifest and model card into a folder that holds the other files, and seal it."""
    write_beside(root / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_beside(root / MODEL_CARD, model_card(manifest).encode())
    sealed = _seal_text(root)
    write_beside(root / SEAL, sealed)
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(sealed).hexdigest())


def replace_operating_point(
    bundle: Bundle, point: OperatingPoint, *, now: str, files: Mapping[str, bytes | None] | None = None
) -> Bundle:
    """Put a new operating point into a bundle as a new revision; graph and golden frames stay untouched.

    The old point is kept in the manifest's history. The whole folder is replaced at once.

    Args:
        bundle: What to revise.
        point: The new operating point.
        now: UTC, ISO 8601.
        files: What else belongs to the new revision, by file name; ``None`` removes the file of the old one.
    """
    before = bundle.manifest
    history = before.revisions
    if before.operating_point is not None:
        replaced = operating_point.to_json(before.operating_point)
        history = (*history, Revision(replaced=now, operating_point=replaced, bundle_sha256=bundle.sha256))
    manifest = before.model_copy(update={"operating_point": point, "revisions": history})
    with folder_beside(bundle.root, replace=True) as partial:
        shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
        for name, data in (files or {}).items():
            if data is None:
                (partial / name).unlink(missing_ok=True)
            else:
                write_beside(partial / name, data)
        write_manifest(partial, manifest)
    return read(bundle.root)


def model_card(manifest: Manifest) -> str:
    """What the bundle is, in a page for people."""
    point = manifest.operating_point
    width, height = manifest.recipe.size_wh
    lines = [
        f"# {manifest.name}",
        "",
        f"A gonogo inspector, made {manifest.created} with gonogo {manifest.gonogo_version}. It judges one photograph "
        "of a part: go, no-go or review, and shows where the evidence for a defect lies.",
        "",
        "## Promise",
        "",
    ]
    if point is None:
        lines += ["No operating point was certified: every part goes to review."]
    else:
        lines += [f"- {operating_point.describe(claim)}" for claim in (point.escape, point.overkill)]
        lines += [f"- Go below a score of {point.go_below:g}, no-go above {point.no_go_above:g}, review between."]
    lines += [
        "",
        "The promise holds for parts drawn from the same process as the calibration parts, photographed the same way.",
        "",
        "## Facts",
        "",
        f"- Network: {manifest.classifier.backbone} cut at {', '.join(manifest.classifier.cuts)}, "
        f"{manifest.classifier.pool} pooling, started from {manifest.classifier.weights}",
        *(
            f"- Evidence: {each.kind}, weight {each.weight:.3g}"
            + ("" if each.auroc is None else f", AUROC alone {each.auroc:.3f} on parts left out")
            for each in manifest.classifier.evidence
        ),
        f"- Input: {_input(manifest.recipe)} as {width} x {height} RGB, uint8",
        f"- Arithmetic: {manifest.precision} on {manifest.proven_on.get('processor', 'unknown')}, "
        f"OpenVINO {manifest.proven_on.get('openvino', 'unknown')}",
        f"- Trained on data {manifest.data_fingerprint[:16] or 'unknown'}",
        *_origins(manifest),
        "",
    ]
    if manifest.quantisation is not None:
        lines += ["## Against the bundle of full precision", ""]
        lines += [*(f"- {each}" for each in manifest.quantisation.sentences()), ""]
    return "\n".join(lines)


def _input(recipe: Recipe) -> str:
    region = f"the region of interest ({recipe.roi})"
    if recipe.tiling is None:
        return region
    return f"windows of {region} at full resolution that overlap by {recipe.tiling.overlap_px} pixels or more, each"


def _origins(manifest: Manifest) -> list[str]:
    lines = []
    if manifest.distilled is not None:
        lines.append(f"- Taught by the inspector {manifest.distilled.teacher_sha256[:16]}")
    if manifest.cascade is not None:
        asked = manifest.cascade
        share = f" ({asked.asked} of {asked.pictures} pictures tried)" if asked.pictures else ""
        lines.append(f"- Where it is not sure, {asked.teacher.backbone} is asked{share}")
    return lines


def _seal_text(root: Path) -> bytes:
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if not path.is_dir())
    return "".join(f"{_sha256(root / name)}  {name}\n" for name in files if name != SEAL).encode()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _difference(sealed: bytes, expected: bytes) -> str:
    before, after = (set(text.decode(errors="replace").splitlines()) for text in (sealed, expected))
    names = sorted({line.partition("  ")[2] for line in before ^ after})
    return ", ".join(names[:5]) if names else f"{SEAL} itself"


def _first(error: ValidationError | OSError) -> str:
    if isinstance(error, OSError):
        return str(error.strerror)
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
