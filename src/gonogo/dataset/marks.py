"""What a label file says about pictures, in one form for all formats, and what a data set says to a label file."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from xml.etree import ElementTree
from xml.parsers import expat

from gonogo.dataset.outlines import Outline, Points, bounds_of
from gonogo.errors import DatasetError
from gonogo.files import MOST_TEXT_BYTES, read_regular
from gonogo.schema import Mask

Xyxy: TypeAlias = tuple[float, float, float, float]
Quad: TypeAlias = Points

FIELDS = ("label", "defect", "part", "lot", "split", "present")
"""What a label file may say about a whole picture, beside its class names."""
UNSPLIT = "default"
"""Name that a picture without a split gets where a format needs one; Datumaro and CVAT use the same."""
NO_KIND = "defect"
"""Class name of a defect whose kind is unknown."""
NO_NAME = "part"
"""Class name of a box without a name."""
_SPLIT_NAMES = {"valid": "val", "validation": "val"}


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One annotated object in a picture: a box, or the outline of a defect with the box around it."""

    name: str
    box_xyxy: Xyxy
    quad: Quad | None = None
    relative: bool = False
    """Whether the box is in shares of width and height instead of pixels."""
    outline: Outline | None = None
    region: bool = False
    """Whether this box is the region of interest although the picture has others."""

    def in_pixels(self, size_wh: tuple[int, int], where: str) -> Marked:
        """Convert the box to pixels and clip it to the picture.

        Raises:
            DatasetError: The box does not overlap the picture, or a coordinate is not a finite number.
        """
        width, height = size_wh
        scale_x, scale_y = (width, height) if self.relative else (1, 1)
        x1, y1, x2, y2 = self.box_xyxy
        box = (max(0.0, x1 * scale_x), max(0.0, y1 * scale_y), min(width, x2 * scale_x), min(height, y2 * scale_y))
        if not all(map(math.isfinite, self.box_xyxy)) or box[0] >= box[2] or box[1] >= box[3]:
            raise DatasetError(
                f"{where}: expected a box inside the {width} x {height} picture, found {self.box_xyxy}. "
                "Correct the annotation."
            )
        quad = self.quad if self.quad is None else tuple((x * scale_x, y * scale_y) for x, y in self.quad)
        return replace(self, box_xyxy=box, quad=quad, relative=False)


@dataclass(frozen=True, kw_only=True)
class Described:
    """What a label file says about one picture."""

    shapes: tuple[Marked, ...] = ()
    tags: tuple[str, ...] = ()
    """Class names of the whole picture."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """Values of `FIELDS`; others are dropped."""


@dataclass(frozen=True, kw_only=True)
class Annotations:
    """What label files say, by picture."""

    pictures: Mapping[str, Described] = field(default_factory=dict)
    """By the picture's path or name as the tool writes it, without suffix where the tool leaves that out."""
    notes: tuple[str, ...] = ()
    """What was read differently than it was annotated, or not at all."""

    def of(self, pictures: Sequence[Path], source: Path) -> tuple[dict[Path, Described], int]:
        """Match the annotated pictures with the pictures of a folder.

        Each tool writes other folders before a name. The names must be equal; of several equal names, the one with
        the most equal folders before it is meant.

        Returns:
            What is said of each picture, and the number of annotated pictures that are not in the folder.

        Raises:
            DatasetError: An annotated picture may be several pictures of the folder, or the other way round.
        """
        known: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for key in self.pictures:
            parts = PurePosixPath(key).parts
            known.setdefault(parts[-1], []).append((parts, key))
        found: dict[Path, str] = {}
        for picture in pictures:
            inside = picture.relative_to(source).parts if picture.is_relative_to(source) else picture.parts
            if (best := _best(known, inside, str(picture))) is not None:
                found[picture] = best
        twice = next((key for key, count in Counter(found.values()).items() if count > 1), None)
        if twice is not None:
            names = ", ".join(str(picture) for picture, key in found.items() if key == twice)
            raise DatasetError(
                f"{twice}: expected one annotated picture of this name, found {names}. Give them different names, or "
                "write their folders into the annotations."
            )
        described = {picture: self.pictures[key] for picture, key in found.items()}
        return described, len(self.pictures) - len(described)


def _best(
    known: Mapping[str, Sequence[tuple[tuple[str, ...], str]]], inside: tuple[str, ...], where: str
) -> str | None:
    """Return the annotated name that fits a picture best: the most equal folders, then with its suffix."""
    stem = PurePosixPath(inside[-1]).stem
    options = [
        (_equal_folders(parts, inside), name == inside[-1], key)
        for name in dict.fromkeys((inside[-1], stem))
        for parts, key in known.get(name, ())
    ]
    options.sort(reverse=True)
    if len(options) > 1 and options[0][:2] == options[1][:2]:
        raise DatasetError(
            f"{where}: expected one annotated picture of this name, found {options[0][2]} and {options[1][2]}. "
            "Import the folder that holds the folders of these names."
        )
    return options[0][2] if options else None


def _equal_folders(one: Sequence[str], other: Sequence[str]) -> int:
    folders = zip(reversed(one[:-1]), reversed(other[:-1]), strict=False)
    return next((count for count, (here, there) in enumerate(folders) if here != there), min(len(one), len(other)) - 1)


class Gathered:
    """Collects what a reader finds; a picture may be described once."""

    def __init__(self, source: Path) -> None:
        self._source = source
        self._pictures: dict[str, Described] = {}
        self.skipped: Counter[str] = Counter()
        """Annotations that cannot be used, by their type."""
        self.notes: list[str] = []

    def add(self, name: str, described: Described) -> None:
        """Add a picture.

        Raises:
            DatasetError: The picture was described before, or has no name.
        """
        name = name.replace("\\", "/")
        if not PurePosixPath(name).name:
            raise DatasetError(f"{self._source}: expected the name of a picture, found {name!r}. Export it again.")
        if name in self._pictures:
            raise DatasetError(f"{self._source}: {name} is annotated more than once. Keep one entry per picture.")
        self._pictures[name] = described

    def annotations(self) -> Annotations:
        """Return everything, with a note about what was skipped."""
        notes = list(self.notes)
        if kinds := ", ".join(f"{count} {kind}" for kind, count in self.skipped.most_common() if count):
            notes.append(f"Annotations that are neither box, outline nor class of a picture were skipped: {kinds}.")
        return Annotations(pictures=self._pictures, notes=tuple(notes))


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One picture of a data set, as the writers take it."""

    path: str
    """Where its file is in the export, with forward slashes."""
    name: str
    """Its file name, which no other picture of the export has, not even with another suffix."""
    split: str
    """`UNSPLIT` if it has none."""
    size_wh: tuple[int, int]
    boxes: tuple[Marked, ...]
    mask: Mask | None
    """Pixels of the defect; ``None`` if there are none."""
    fields: Mapping[str, str]
    """See `FIELDS`."""

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def kind(self) -> str:
        """Class name of the outlined defect."""
        return self.fields.get("defect", NO_KIND)

    @property
    def mask_xyxy(self) -> tuple[int, int, int, int]:
        """The box around the defect's pixels."""
        assert self.mask is not None
        return bounds_of(self.mask)

    @property
    def attributes(self) -> dict[str, str]:
        """What is said of the whole picture, for formats with attributes; they state the split themselves."""
        return {name: value for name, value in self.fields.items() if name != "split"}


def box_attributes(box: Marked) -> dict[str, str]:
    """Attributes that keep what a box alone cannot say: its quad, and whether it is the region among several."""
    quad = {} if box.quad is None else {"quad": ";".join(f"{number(x)},{number(y)}" for x, y in box.quad)}
    return quad | ({"region": "true"} if box.region else {})


def with_attributes(box: Marked, attributes: Mapping[str, Any]) -> Marked:
    """Inverse of `box_attributes`. A quad away from its box is dropped: the box was moved in the tool."""
    region = str(attributes.get("region", "")).lower() == "true"
    try:
        corners = [tuple(map(float, pair.split(","))) for pair in str(attributes.get("quad", "")).split(";") if pair]
        quad = tuple((x, y) for x, y in corners)
    except ValueError:
        quad = ()
    if len(quad) != 4 or _overlap(around(quad), box.box_xyxy) < 0.5:
        return replace(box, region=region)
    return replace(box, region=region, quad=quad)


def around(points: Sequence[tuple[float, float]]) -> Xyxy:
    """Return the box around some points."""
    xs, ys = zip(*points, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def turned(corners: Quad, degrees: float, center: tuple[float, float]) -> Quad:
    """Turn corners clockwise (in a picture, y points down) around a center."""
    turn = math.radians(degrees)
    cos, sin, (cx, cy) = math.cos(turn), math.sin(turn), center
    return tuple((cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos) for x, y in corners)


def corners_of(box: Xyxy) -> Quad:
    """Return the corners of a box, clockwise from the top left."""
    x1, y1, x2, y2 = box
    return (x1, y1), (x2, y1), (x2, y2), (x1, y2)


def split_named(name: str) -> str:
    """Return the split for a tool's name of a part of the data: ``valid`` and ``validation`` are val."""
    return _SPLIT_NAMES.get(name.lower(), name.lower()) if name.lower() != UNSPLIT else ""


def number(value: float) -> str:
    """Write a coordinate without loss, and without a point if it is whole."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))


def put(path: Path, data: bytes) -> None:
    """Write a file of an export that is not visible yet, with its folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def read_xml(path: Path) -> ElementTree.Element:
    """Parse an untrusted XML file.

    Raises:
        DatasetError: The file is unreadable, not XML, or declares a document type: no labelling tool writes one, and
            entities declared there can grow without bound or name other files.
    """
    try:
        data = read_regular(path, most_bytes=MOST_TEXT_BYTES)
        scan = expat.ParserCreate()
        scan.StartDoctypeDeclHandler = _refuse_doctype
        scan.Parse(data, True)
        return ElementTree.fromstring(data)
    except (OSError, ElementTree.ParseError, expat.ExpatError, ValueError, LookupError) as error:
        raise DatasetError(f"{path}: expected XML ({error}). Export it again.") from error


def _refuse_doctype(name: str, *_: object) -> None:
    raise ValueError(f"without a document type, found <!DOCTYPE {name}>")


def _overlap(one: Xyxy, other: Xyxy) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    both = sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (one, other)) - shared
    return shared / both if both > 0 else 0.0
