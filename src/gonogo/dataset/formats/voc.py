"""Pascal VOC: ``Annotations``, ``ImageSets/Main``, ``SegmentationObject`` and ``SegmentationClass``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from gonogo import images
from gonogo.dataset.layouts import label_named
from gonogo.dataset.marks import (
    NO_KIND,
    Described,
    Gathered,
    Marked,
    Picture,
    Xyxy,
    box_attributes,
    number,
    put,
    read_xml,
    split_named,
    with_attributes,
)
from gonogo.dataset.records import read_json_lines
from gonogo.errors import DatasetError, ImageError
from gonogo.schema import Mask

MOST_CLASSES = 255
"""Colors of Pascal VOC beside the background."""
_SIDES = ("xmin", "ymin", "xmax", "ymax")


@dataclass(frozen=True, kw_only=True)
class _Instance:
    """The pixels of one color in a picture of ``SegmentationObject``."""

    path: Path
    number: int

    def mask(self, size_wh: tuple[int, int], where: str) -> Mask:
        """Return the pixels of this object; see `gonogo.dataset.outlines.Outline`."""
        frame = images.load_confined(self.path)
        if frame.shape[:2] != size_wh[::-1]:
            raise DatasetError(
                f"{self.path}: expected {size_wh[0]} x {size_wh[1]} pixels like {where}, found "
                f"{frame.shape[1]} x {frame.shape[0]}. Export it again."
            )
        found: Mask = (frame == np.array(_color(self.number), np.uint8)).all(axis=2)
        return found


def read(path: Path, files: Sequence[Path], gathered: Gathered) -> None:
    """Read the files of a folder.

    An object with pixels in ``SegmentationObject`` is an outline, any other a box. ``ImageSets/Main`` names the split
    and, in lists such as ``good_train.txt``, the label.

    Raises:
        DatasetError: A file is malformed.
    """
    splits, tags, classes = *_lists(path), _class_colors(path)
    flagged = 0
    for file in files:
        root = read_xml(file)
        if root.tag != "annotation":
            raise DatasetError(f"{file}: expected Pascal VOC XML, found <{root.tag}>. Move it out of the folder.")
        inside = file.relative_to(path).with_suffix("")
        name = Path(*inside.parts[1:]) if inside.parts[0] == "Annotations" else inside
        shapes, difficult = read_objects(root, file)
        flagged += difficult
        shapes = _outlined(shapes, path, name.as_posix() + ".png", classes)
        fields = {"split": splits[name.as_posix()]} if name.as_posix() in splits else {}
        said = Described(shapes=shapes, fields=fields, tags=tuple(tags.get(name.as_posix(), ())))
        gathered.add(name.as_posix(), said)
    if flagged:
        gathered.notes.append(f"{flagged} objects flagged as difficult were read like the others.")
    if (path / "SegmentationClass").is_dir() and not (path / "SegmentationObject").is_dir():
        gathered.notes.append("Masks were not read: they need SegmentationObject, found only SegmentationClass.")


def read_objects(root: Element, path: Path) -> tuple[tuple[Marked, ...], int]:
    """Return the boxes of one file, and how many of them are flagged as difficult.

    Raises:
        DatasetError: An object has no box.
    """
    marked, difficult = [], 0
    for item in root.iter("object"):
        try:
            box = item.find("bndbox")
            x1, y1, x2, y2 = (float(box.findtext(side)) for side in _SIDES)  # type: ignore[union-attr, arg-type]
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: expected a bndbox with four numbers in every object ({error}).") from error
        difficult += item.findtext("difficult") == "1"
        said = {each.findtext("name") or "": each.findtext("value") or "" for each in item.iter("attribute")}
        shape = Marked(name=item.findtext("name") or "part", box_xyxy=(x1, y1, x2, y2))
        marked.append(with_attributes(shape, said))
    return tuple(marked), difficult


def _outlined(
    shapes: tuple[Marked, ...], path: Path, name: str, classes: Mapping[tuple[int, ...], str]
) -> tuple[Marked, ...]:
    """Add the pixels of ``SegmentationObject``.

    Pascal VOC numbers them as the objects of the annotation; Datumaro numbers them on their own. An object has the
    pixels of its number if ``SegmentationClass`` gives these the object's class, or says nothing.
    """
    instances, semantic = path / "SegmentationObject" / name, path / "SegmentationClass" / name
    if not instances.is_file():
        return shapes
    try:
        frame = images.load_confined(instances)
        colored = images.load_confined(semantic) if semantic.is_file() else None
    except ImageError as error:
        raise DatasetError(str(error)) from error
    colors, first = np.unique(frame.reshape(-1, 3), axis=0, return_index=True)
    numbers = {_color(index): index for index in range(1, MOST_CLASSES)}
    found = list(shapes)
    for color, place in zip(map(tuple, colors.tolist()), first.tolist(), strict=True):
        if (index := numbers.get(color)) is None:
            continue  # background, or the border between objects
        kind = None if colored is None else classes.get(tuple(colored.reshape(-1, 3)[place].tolist()))
        outline = _Instance(path=instances, number=index)
        if index <= len(shapes) and kind in (None, shapes[index - 1].name):
            found[index - 1] = replace(shapes[index - 1], outline=outline)
        else:
            found.append(Marked(name=kind or NO_KIND, box_xyxy=(0, 0, *frame.shape[1::-1]), outline=outline))
    return tuple(found)


def _lists(path: Path) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Read ``ImageSets/Main``: the split of each name, and its classes that are a label."""
    splits: dict[str, str] = {}
    tags: dict[str, list[str]] = {}
    for file in sorted((path / "ImageSets" / "Main").glob("*.txt")):
        lines = [line.strip() for line in read_json_lines(file) if line.strip()]
        label, _, split = file.stem.rpartition("_")
        if label and label_named(label) is not None:
            for name, _, present in (line.rpartition(" ") for line in lines):
                if present == "1":
                    tags.setdefault(name.strip(), []).append(label)
        elif not label and split != "trainval" and split_named(split):
            splits |= dict.fromkeys(lines, split_named(split))
    return splits, tags


def _class_colors(path: Path) -> dict[tuple[int, ...], str]:
    """Read ``labelmap.txt``: the class of each color; a class without a color has that of its position."""
    file = path / "labelmap.txt"
    lines = read_json_lines(file) if file.is_file() else []
    entries = [line.split(":") for line in lines if line.strip() and not line.startswith("#")]
    found: dict[tuple[int, ...], str] = {}
    for index, (name, color, *_) in enumerate(entry for entry in entries if len(entry) > 1):
        try:
            found[tuple(map(int, color.split(","))) if color else _color(index)] = name
        except ValueError as error:
            raise DatasetError(f"{file}: expected NAME:RED,GREEN,BLUE::, found {color!r}. Correct the line.") from error
    return found


def _color(index: int) -> tuple[int, int, int]:
    """Return the color of a number: its bits, three at a time, from the highest bit of red, green and blue down."""
    red, green, blue = (
        sum((index >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)
    )
    return red, green, blue


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write annotations, lists and, for pictures with a mask, both kinds of segmentation.

    Good and bad are classes of whole pictures, in ``ImageSets/Main/good_SPLIT.txt`` and so on.
    """
    names = [*dict.fromkeys(("background", "good", "bad", *classes))]
    lists: dict[str, list[Picture]] = {}
    masked: dict[str, list[str]] = {}
    for picture in pictures:
        put(folder / "Annotations" / f"{picture.stem}.xml", _annotation(picture))
        lists.setdefault(picture.split, []).append(replace(picture, mask=None))
        if picture.mask is not None:
            masked.setdefault(picture.split, []).append(picture.stem)
            for place, index in (("Object", len(picture.boxes) + 1), ("Class", names.index(picture.kind))):
                colored = picture.mask[:, :, None] * np.array(_color(index), np.uint8)
                put(folder / f"Segmentation{place}" / f"{picture.stem}.png", images.encode_png(colored))
    for split, members in lists.items():
        main = folder / "ImageSets" / "Main"
        _lines(main / f"{split}.txt", [picture.stem for picture in members])
        for label in ("good", "bad"):
            _lines(
                main / f"{label}_{split}.txt",
                [f"{each.stem} {1 if each.fields.get('label') == label else -1}" for each in members],
            )
    for split, stems in masked.items():
        _lines(folder / "ImageSets" / "Segmentation" / f"{split}.txt", stems)
    colors = [f"{name}:{','.join(map(str, _color(index)))}::" for index, name in enumerate(names)]
    _lines(folder / "labelmap.txt", ["# label:color_rgb:parts:actions", *colors])


def _annotation(picture: Picture) -> bytes:
    root = Element("annotation")
    SubElement(root, "folder").text = "JPEGImages"
    SubElement(root, "filename").text = picture.name
    size = SubElement(root, "size")
    for side, value in zip(("width", "height", "depth"), (*picture.size_wh, 3), strict=True):
        SubElement(size, side).text = str(value)
    SubElement(root, "segmented").text = str(int(picture.mask is not None))
    for box in picture.boxes:
        _object(root, box.name, box.box_xyxy, box_attributes(box))
    if picture.mask is not None:
        _object(root, picture.kind, picture.mask_xyxy, {})
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, "utf-8"))


def _object(root: Element, name: str, box_xyxy: Xyxy, said: dict[str, str]) -> None:
    item = SubElement(root, "object")
    SubElement(item, "name").text = name
    for flag in ("truncated", "occluded", "difficult"):
        SubElement(item, flag).text = "0"
    box = SubElement(item, "bndbox")
    for side, value in zip(_SIDES, box_xyxy, strict=True):
        SubElement(box, side).text = number(value)
    attributes = SubElement(item, "attributes") if said else item
    for key, text in said.items():
        attribute = SubElement(attributes, "attribute")
        SubElement(attribute, "name").text, SubElement(attribute, "value").text = key, text


def _lines(path: Path, lines: Iterable[str]) -> None:
    put(path, "".join(f"{line}\n" for line in lines).encode())
