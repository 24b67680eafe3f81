"""YOLO as Ultralytics reads it: ``data.yaml`` beside ``images/SPLIT`` and ``labels/SPLIT``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gonogo.dataset.marks import (
    UNSPLIT,
    Described,
    Gathered,
    Marked,
    Picture,
    Xyxy,
    around,
    corners_of,
    put,
    split_named,
)
from gonogo.dataset.outlines import Points, Polygons, traced
from gonogo.dataset.records import Split, read_json_lines
from gonogo.errors import DatasetError

_NAMES_FILES = ("classes.txt", "obj.names")
_ENTRY = re.compile(r"\s*(?:-|(\d+)\s*:)\s*(.*?)\s*$")


def read(path: Path, gathered: Gathered) -> None:
    """Read boxes and polygons of a folder: all of ``labels``, or without that folder all of its text files.

    A rectangle with level sides is a box, any other polygon an outline. The folder below ``labels`` is the split.

    Raises:
        DatasetError: A line is malformed, or the boxes are oriented.
    """
    root = path / "labels" if (path / "labels").is_dir() else path
    names = _class_names(path) or _class_names(root)
    corners: set[int] = set()
    for file in sorted(root.rglob("*.txt")):
        inside = file.relative_to(root).with_suffix("")
        if file.name in _NAMES_FILES:
            continue
        shapes = []
        for number, line in enumerate(read_json_lines(file), start=1):
            if line.strip():
                shape, count = _marked(line.split(), names, f"{file}, line {number}")
                shapes.append(shape)
                corners |= {count} if shape.outline is not None else set()
        split = split_named(inside.parts[0]) if len(inside.parts) > 1 else ""
        fields = {"split": split} if split in (*Split,) else {}
        gathered.add(inside.as_posix(), Described(shapes=tuple(shapes), fields=fields))
    if corners == {4}:
        raise DatasetError(
            f"{path}: expected boxes or outlines, found only quadrilaterals, as in YOLO's oriented boxes (OBB). Export "
            "the boxes as YOLO detection, or as CVAT, which keeps their rotation."
        )


def _marked(fields: Sequence[str], names: Sequence[str], where: str) -> tuple[Marked, int]:
    """Return the object of a line and its number of corners."""
    try:
        index, values = int(fields[0]), tuple(map(float, fields[1:]))
        if len(values) != 4 and (len(values) < 6 or len(values) % 2):
            raise ValueError(f"{len(values)} numbers")
    except ValueError as error:
        raise DatasetError(
            f"{where}: expected class, centre x, centre y, width, height, or class and the corners of a polygon; found "
            f"{' '.join(fields)[:60]!r}."
        ) from error
    name = names[index] if 0 <= index < len(names) else str(index)
    if len(values) == 4:
        cx, cy, w, h = values
        return Marked(name=name, box_xyxy=(cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), relative=True), 4
    ring = tuple(zip(values[::2], values[1::2], strict=True))
    box = around(ring)
    if len(ring) == 4 and set(ring) == set(corners_of(box)):
        return Marked(name=name, box_xyxy=box, relative=True), 4
    outline = Polygons(rings=(ring,), relative=True)
    return Marked(name=name, box_xyxy=box, relative=True, outline=outline), len(ring)


def _class_names(folder: Path) -> list[str]:
    for name in ("data.yaml", "data.yml"):
        if (folder / name).is_file():
            return _names_in(read_json_lines(folder / name), folder / name)
    for name in _NAMES_FILES:
        if (folder / name).is_file():
            return [line.strip() for line in read_json_lines(folder / name)]
    return []


def _names_in(lines: Sequence[str], path: Path) -> list[str]:
    """Read ``names`` of a ``data.yaml``: a list in one line, a list in several lines, or numbers with names."""
    start = next((index for index, line in enumerate(lines) if line.startswith("names:")), None)
    if start is None:
        return []
    inline = lines[start].removeprefix("names:").strip()
    if inline.startswith("["):
        try:
            return [str(name) for name in json.loads(inline)]
        except ValueError:
            return [_unquoted(name) for name in inline.strip("[] ").split(",")]
    found: dict[int, str] = {}
    for line in lines[start + 1 :]:
        entry = _ENTRY.match(line)
        if entry is None and line.strip():
            break
        if entry is not None:
            found[len(found) if entry[1] is None else int(entry[1])] = _unquoted(entry[2])
    if inline or not found or max(found) > 100_000:
        raise DatasetError(f"{path}: expected a list of names after names:, found {inline[:40]!r}. Write [one, two].")
    return [found.get(index, str(index)) for index in range(max(found) + 1)]


def _unquoted(text: str) -> str:
    text = text.strip()
    if text[:1] == '"':
        try:
            return str(json.loads(text))
        except ValueError:
            return text.strip('"')
    return text[1:-1].replace("''", "'") if len(text) > 1 and text[0] == text[-1] == "'" else text


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write a label file per picture; a picture without objects has an empty one.

    Ultralytics wants either boxes or polygons in all files. Where one picture has an outline, boxes are therefore
    rectangles, and an outline that is a rectangle gets a fifth corner. Label, part and lot have no place.
    """
    found = [(picture.split, picture.stem, *_lines(picture, classes)) for picture in pictures]
    outlined = any(outlines for *_, outlines in found)
    for split, stem, boxes, rectangles, outlines in found:
        text = rectangles + outlines if outlined else boxes
        put(folder / "labels" / split / f"{stem}.txt", text.encode())
    for split in ("train", "val"):  # Ultralytics needs both folders, whatever is in them
        (folder / "images" / split).mkdir(parents=True, exist_ok=True)
    splits = {split for split, *_ in found}
    places = [f"{split}: images/{split}" for split in (*Split, UNSPLIT) if split in {*splits, "train", "val"}]
    names = json.dumps(list(classes), ensure_ascii=False)
    put(folder / "data.yaml", "\n".join((*places, f"nc: {len(classes)}", f"names: {names}", "")).encode())


def _lines(picture: Picture, classes: Sequence[str]) -> tuple[str, str, str]:
    """Return the lines of the boxes, of the boxes as rectangles, and of the outlines."""
    boxes, rectangles, outlines = [], [], []
    for box in picture.boxes:
        index = classes.index(box.name)
        boxes.append(_line(index, _middle(box.box_xyxy), picture))
        rectangles.append(_line(index, corners_of(box.box_xyxy), picture))
    for ring in [] if picture.mask is None else traced(picture.mask):
        (x, y), following = ring[0], ring[1]
        extra = (((x + following[0]) / 2, (y + following[1]) / 2),) if len(ring) == 4 else ()
        outlines.append(_line(classes.index(picture.kind), (ring[0], *extra, *ring[1:]), picture))
    return "".join(boxes), "".join(rectangles), "".join(outlines)


def _middle(box: Xyxy) -> Points:
    x1, y1, x2, y2 = box
    return ((x1 + x2) / 2, (y1 + y2) / 2), (x2 - x1, y2 - y1)


def _line(index: int, points: Points, picture: Picture) -> str:
    width, height = picture.size_wh
    shares = (f"{value:.12f}".rstrip("0").rstrip(".") for x, y in points for value in (x / width, y / height))
    return f"{index} {' '.join(shares)}\n"
