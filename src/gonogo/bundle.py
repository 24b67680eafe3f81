"""The bundle: a folder that holds one trained inspector, sealed so that any changed byte is refused.

    classifier.xml, .bin   the graph: uint8 NHWC in; score, heatmap, feature_vector out
    roi.toml               how the region of interest is found, where it is; roi.xml, .bin where a network finds it
    inspector.json         the manifest: recipe, operating point with its evidence, fingerprints
    golden/                a few frames whose exact scores the manifest states
    drift.json, taught.npy what later parts are compared with; written by ``gonogo operate``
    cascade/               the second graph, and the guard that sends strange parts to it, where there is one
    evidence.json          how the operating point was chosen and certified; the same
    scores.json            the scores that the operating point follows from
    revisions/             what belonged to earlier operating points, golden frames too, each file named by its hash
    MODEL_CARD.md          the same for people
    SHA256SUMS             the seal: the hash of every other file, as ``sha256sum -c`` reads it

The SHA-256 of the seal names the bundle. The seal is compared as a whole with one made anew from the folder, so a
changed, added or missing file, or a change to the seal itself, is found before anything else reads the folder.
"""

from __future__ import annotations

import hashlib
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError, field_serializer, field_validator

from gonogo import images, operating_point
from gonogo.config import Recipe, Strict
from gonogo.defect_kinds import KnownKinds
from gonogo.errors import BundleError, InputError
from gonogo.files import folder_beside, plain_files, read_regular, write_beside
from gonogo.heatmap import HeatScale
from gonogo.quantisation import Quantisation
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
REVISIONS = "revisions"
CASCADE = "cascade"
TEACHER = f"{CASCADE}/teacher.xml"
_MOST_BYTES = 8_000_000_000
_LONGEST_SEAL = 4_000_000


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
    map_scale: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The student's map times this and plus ``map_offset`` is in the unit of the teacher's."""
    map_offset: float | None = Field(default=None, allow_inf_nan=False)
    """``None``: both maps are logits of cells, and the student's moves with its score."""
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
    """How it was trained: options, seeds, metrics. For people; ``gonogo learn`` reads the options back."""
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
    digests: Mapping[str, str]
    """The SHA-256 of every sealed file, by its name in the bundle."""

    def data(self, name: str) -> bytes:
        """The bytes of one sealed file, checked in memory: what is used is what was checked, whatever is written later.

        Raises:
            BundleError: there is no such file in the seal, or it was changed since the bundle was opened.
        """
        expected = self.digests.get(name)
        try:
            found = read_regular(self.root / name, most_bytes=_MOST_BYTES) if expected else b""
        except OSError as error:
            raise BundleError(
                f"{self.root / name}: cannot be read ({error.strerror}). Copy the bundle again."
            ) from error
        if expected is None or hashlib.sha256(found).hexdigest() != expected:
            what = "was changed while the bundle was being opened" if expected else "is missing"
            raise BundleError(f"{self.root}: {name} {what}. Copy the bundle again from where it was made.")
        return found

    def graph(self, name: str) -> tuple[bytes, bytes]:
        """The ``.xml`` and the ``.bin`` of one sealed graph, by the name of the ``.xml``; see `data`."""
        return self.data(name), self.data(str(Path(name).with_suffix(".bin")))

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
        return [
            (each.file, images.decode(self.data(each.file), name=str(self.root / each.file)), each.score)
            for each in self.manifest.golden
        ]


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
    try:
        _require_plain(root)
        sealed = (root / SEAL).read_bytes()
        digests = _digests(root)
    except OSError as error:
        raise BundleError(f"{root}: the bundle cannot be read ({error.strerror or error}).") from error
    expected = _seal_text(digests)
    if sealed != expected:
        raise BundleError(
            f"{root}: the bundle was changed after it was sealed ({_difference(sealed, expected)}). "
            "Copy it again from where it was made; nothing was loaded."
        )
    try:
        data = (root / MANIFEST).read_bytes()
        manifest = Manifest.model_validate_json(data)
    except (ValidationError, OSError) as error:
        raise BundleError(f"{root / MANIFEST}: not a manifest of format {FORMAT} ({_first(error)}).") from error
    if hashlib.sha256(data).hexdigest() != digests.get(MANIFEST):
        raise BundleError(f"{root}: {MANIFEST} was changed while the bundle was being opened. Open it again.")
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(sealed).hexdigest(), digests=digests)


def write_manifest(root: Path, manifest: Manifest) -> Bundle:
    """Write manifest and model card into a folder that holds the other files, and seal it."""
    write_beside(root / MANIFEST, manifest.model_dump_json(indent=2).encode() + b"\n")
    write_beside(root / MODEL_CARD, model_card(manifest).encode())
    digests = _digests(root)
    sealed = _seal_text(digests)
    write_beside(root / SEAL, sealed)
    return Bundle(root=root, manifest=manifest, sha256=hashlib.sha256(sealed).hexdigest(), digests=digests)


def replace_operating_point(
    bundle: Bundle,
    point: OperatingPoint,
    *,
    now: str,
    files: Mapping[str, bytes | None] | None = None,
    golden: tuple[Golden, ...] | None = None,
) -> Bundle:
    """Put a new operating point into a bundle as a new revision; the graph stays untouched.

    The old point is kept in the manifest's history. The whole folder is replaced at once.

    Args:
        bundle: What to revise.
        point: The new operating point.
        now: UTC, ISO 8601.
        files: What else belongs to the new revision, by file name; ``None`` removes the file of the old one.
        golden: What is stated of new golden frames, whose pictures are among the files; the old ones where omitted.
    """
    before = bundle.manifest
    belonging = {
        name: f"{REVISIONS}/{bundle.digests[name]}{Path(name).suffix}" for name in files or {} if name in bundle.digests
    }
    history = before.revisions
    if before.operating_point is not None:
        replaced = operating_point.to_json(before.operating_point)
        revision = Revision(
            replaced=now,
            operating_point=replaced,
            bundle_sha256=bundle.sha256,
            files=belonging,
            golden=None if golden is None else before.golden,
        )
        history = (*history, revision)
    manifest = before.model_copy(update={"operating_point": point, "revisions": history})
    if golden is not None:
        manifest = manifest.model_copy(update={"golden": golden})
    with folder_beside(bundle.root, replace=True) as partial:
        shutil.copytree(bundle.root, partial, dirs_exist_ok=True)
        for name, kept in belonging.items():
            if kept not in bundle.digests:
                write_beside(partial / kept, bundle.data(name))
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
        lines += [f"- {sentence}" for sentence in operating_point.describe_point(point)]
        lines += [f"- {_thresholds(point)}"]
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
        *_known_kinds(manifest.classifier),
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


def _thresholds(point: OperatingPoint) -> str:
    if point.go_below == -math.inf:
        if point.no_go_above < math.inf:
            return f"No-go above a score of {point.no_go_above:g}; every other part goes to review."
        return "No thresholds yet: every part goes to review."
    if point.no_go_above == math.inf:
        return f"Go below a score of {point.go_below:g}, review from there; no part is rejected automatically."
    return f"Go below a score of {point.go_below:g}, no-go above {point.no_go_above:g}, review between."


def _known_kinds(classifier: Classifier) -> list[str]:
    known = classifier.defect_kinds
    if known is None:
        return []
    return [
        f"- Defect kinds that it names: {', '.join(known.names)}; {known.named_right:.1%} right on bad parts left out "
        f"of the training, each kind weighing the same; none where the likeliest has less than {known.least_share:.0%}"
    ]


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


def _require_plain(root: Path) -> None:
    """Refuse what must not even be opened: devices, FIFOs, links that lead nowhere, more bytes than any bundle has."""
    try:
        names = plain_files(root)
    except InputError as error:
        raise BundleError(str(error)) from error
    sizes = {name: (root / name).stat().st_size for name in names}
    largest = max(sizes, key=lambda name: sizes[name])
    if sum(sizes.values()) > _MOST_BYTES or sizes[SEAL] > _LONGEST_SEAL:
        raise BundleError(
            f"{root}: expected at most {_MOST_BYTES // 10**9} GB, found {sum(sizes.values()) / 1e9:,.0f} GB; the "
            f"largest file is {largest}. Copy the bundle again from where it was made."
        )


def _digests(root: Path) -> dict[str, str]:
    return {name: _sha256(root / name) for name in plain_files(root) if name != SEAL}


def _seal_text(digests: Mapping[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in digests.items()).encode()


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
