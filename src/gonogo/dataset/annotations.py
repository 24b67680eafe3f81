"""Import of boxes from Pascal VOC, COCO, YOLO and CVAT XML, and export to COCO.

All coordinates are read as edges in continuous pixels, as labelling tools write them today. The original Pascal VOC
kit counted pixels from one, which shifts a box by at most one pixel.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from xml.etree import ElementTree

from gonogo.dataset.records import Dataset, Sample, read_json_lines
from gonogo.errors import DatasetError, InputError
from gonogo.files import MOST_TEXT_BYTES, parse_json, read_regular, read_text, write_beside
from gonogo.progress import track

Xyxy: TypeAlias = tuple[float, float, float, float]
Quad: TypeAlias = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class Marked:
    """One annotated object in a picture."""

    name: str
    box_xyxy: Xyxy
    quad: Quad | None = None
    relative: bool = False
    """Whether the box is in shares of width and height (YOLO) instead of pixels."""

    def in_pixels(self, size_wh: tuple[int, int], where: str) -> Marked:
        """Convert the object to pixels and clip it to the picture.

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
        return Marked(name=self.name, box_xyxy=box, quad=self.quad)


Annotations: TypeAlias = Mapping[str, tuple[Marked, ...]]
"""Annotated objects by picture: by its path or name, or by its stem for formats with one file per picture."""


def read_annotations(path: Path) -> Annotations:
    """Read boxes from a file or folder in one of the four formats.

    Args:
        path: A COCO ``.json``, a CVAT ``.xml``, or a folder of Pascal VOC ``.xml`` or YOLO ``.txt`` files (with the
            class names in ``classes.txt`` in that folder, if there are names).

    Raises:
        DatasetError: The path is missing, malformed, or in none of these formats.
    """
    if path.is_dir():
        if xml := sorted(path.rglob("*.xml")):
            return {file.stem: _voc(file) for file in xml}
        if txt := sorted(file for file in path.rglob("*.txt") if file.name != "classes.txt"):
            names = _class_names(path / "classes.txt")
            return {file.stem: tuple(_yolo(file, names)) for file in txt}
        raise DatasetError(f"{path}: expected Pascal VOC .xml or YOLO .txt files, found neither. Check --annotations.")
    if path.suffix.lower() == ".json":
        return _coco(path)
    if path.suffix.lower() == ".xml":
        root = _xml(path)
        return {path.stem: _voc(path)} if root.tag == "annotation" else _cvat(root, path)
    raise DatasetError(
        f"{path}: expected a COCO .json, a CVAT .xml, or a folder of Pascal VOC .xml or YOLO .txt files. "
        "Check --annotations."
    )


def beside(pictures: Sequence[Path]) -> Annotations:
    """Find Pascal VOC files beside their pictures, named ``NAME.xml``; keys are full picture paths."""
    found = ((picture, picture.with_suffix(".xml")) for picture in pictures)
    return {str(picture): _voc(file) for picture, file in found if file.is_file()}


def marked_in(annotations: Annotations, picture: Path, source: Path) -> tuple[Marked, ...]:
    """Look up the objects of a picture by its path, its path inside the source, its name and its stem."""
    inside = picture.relative_to(source).as_posix()
    for key in (str(picture), inside, picture.name, picture.stem):
        if key in annotations:
            return annotations[key]
    return ()


def _by_name(marked: Mapping[str, tuple[Marked, ...]]) -> Annotations:
    """Add unambiguous bare file names as keys, because each tool uses different paths."""
    names = Counter(PurePosixPath(key).name for key in marked)
    bare = {PurePosixPath(key).name: value for key, value in marked.items()}
    return {name: value for name, value in bare.items() if names[name] == 1} | dict(marked)


def export_coco(dataset: Dataset, path: Path) -> int:
    """Write a data set's boxes as one COCO file and return the number of boxes.

    If a picture has one box, its category is the ``object_name``, or ``part``; if it has several, all are written.

    Raises:
        InputError: No picture has a box, a picture is unreadable, or the file cannot be written.
    """
    pictures: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for number, sample in enumerate(track(dataset.samples, "Reading sizes"), start=1):
        height, width = dataset.load(sample).shape[:2]  # decoded, because EXIF may rotate a picture
        pictures.append({"id": number, "file_name": sample.file_name, "width": width, "height": height})
        for name, (x, y, w, h) in _boxes_xywh(sample):
            category = categories.setdefault(name, len(categories) + 1)
            boxes.append(
                {
                    "id": len(boxes) + 1,
                    "image_id": number,
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                }
            )
    if not boxes:
        raise InputError(f"{dataset.root}: expected pictures with boxes, found none. Import boxes with --annotations.")
    kinds = [{"id": number, "name": name} for name, number in categories.items()]
    content = {"images": pictures, "annotations": boxes, "categories": kinds}
    write_beside(path, json.dumps(content, indent=1).encode())
    return len(boxes)


def _boxes_xywh(sample: Sample) -> list[tuple[str, Xyxy]]:
    extra = sample.model_extra or {}
    if sample.box_xyxy is not None:
        x1, y1, x2, y2 = sample.box_xyxy
        return [(str(extra.get("object_name") or "part"), (x1, y1, x2 - x1, y2 - y1))]
    objects = extra.get("objects") or {"bbox": [], "categories": []}
    return list(zip(objects["categories"], map(tuple, objects["bbox"]), strict=True))


def _voc(path: Path) -> tuple[Marked, ...]:
    root = _xml(path)
    marked = []
    for item in root.iter("object"):
        try:
            box = item.find("bndbox")
            corners = tuple(float(box.findtext(edge)) for edge in ("xmin", "ymin", "xmax", "ymax"))  # type: ignore[union-attr, arg-type]
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: expected a bndbox with four numbers in every object ({error}).") from error
        marked.append(Marked(name=item.findtext("name") or "part", box_xyxy=corners))  # type: ignore[arg-type]
    return tuple(marked)


def _cvat(root: ElementTree.Element, path: Path) -> Annotations:
    if root.tag != "annotations":
        raise DatasetError(f"{path}: expected CVAT or Pascal VOC XML, found <{root.tag}>. Check --annotations.")
    marked: dict[str, tuple[Marked, ...]] = {}
    for picture in root.iter("image"):
        try:
            marked[picture.attrib["name"]] = tuple(_cvat_box(box) for box in picture.iter("box"))
        except (KeyError, ValueError) as error:
            raise DatasetError(f"{path}: expected label, xtl, ytl, xbr and ybr in every box ({error}).") from error
    return _by_name(marked)


def _cvat_box(box: ElementTree.Element) -> Marked:
    x1, y1, x2, y2 = (float(box.attrib[edge]) for edge in ("xtl", "ytl", "xbr", "ybr"))
    turn = math.radians(float(box.attrib.get("rotation", 0)))
    if turn == 0:
        return Marked(name=box.attrib["label"], box_xyxy=(x1, y1, x2, y2))
    cx, cy, cos, sin = (x1 + x2) / 2, (y1 + y2) / 2, math.cos(turn), math.sin(turn)
    corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
    quad = tuple((cx + (x - cx) * cos - (y - cy) * sin, cy + (x - cx) * sin + (y - cy) * cos) for x, y in corners)
    xs, ys = zip(*quad, strict=True)
    return Marked(name=box.attrib["label"], box_xyxy=(min(xs), min(ys), max(xs), max(ys)), quad=quad)


def _coco(path: Path) -> Annotations:
    try:
        content = parse_json(read_text(path))
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        files = {item["id"]: str(item["file_name"]) for item in content["images"]}
        marked: dict[str, list[Marked]] = {name: [] for name in files.values()}
        for item in content["annotations"]:
            x, y, w, h = map(float, item["bbox"])
            marked[files[item["image_id"]]].append(
                Marked(name=names[item["category_id"]], box_xyxy=(x, y, x + w, y + h))
            )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{path}: expected COCO JSON with images, annotations and categories ({error!r}). Export it again."
        ) from error
    return _by_name({name: tuple(boxes) for name, boxes in marked.items()})


def _yolo(path: Path, names: Sequence[str]) -> Iterator[Marked]:
    for number, line in enumerate(read_json_lines(path), start=1):
        if not line.strip():
            continue
        try:
            kind, *numbers = line.split()
            cx, cy, w, h = map(float, numbers)
            index = int(kind)
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {number}: expected class, centre x, centre y, width, height; found {line[:60]!r}."
            ) from error
        name = names[index] if 0 <= index < len(names) else str(index)
        yield Marked(name=name, box_xyxy=(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), relative=True)


def _class_names(path: Path) -> list[str]:
    return read_json_lines(path) if path.is_file() else []


def _xml(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(read_regular(path, most_bytes=MOST_TEXT_BYTES))
    except (OSError, ElementTree.ParseError) as error:
        raise DatasetError(f"{path}: expected XML ({error}). Export it again.") from error
