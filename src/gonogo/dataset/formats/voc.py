"""Pascal VOC: ``Annotations``, ``ImageSets/Main``, ``SegmentationObject`` and ``SegmentationClass``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from gonogo import images
from gonogo.dataset.marks import (
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

    An object with pixels in ``SegmentationObject`` is an outline, any other a box. ``ImageSets/Main`` names the split.

    Raises:
        DatasetError: A file is malformed.
    """
    splits = _splits(path)
    flagged = 0
    for file in files:
        root = read_xml(file)
        if root.tag != "annotation":
            raise DatasetError(f"{file}: expected Pascal VOC XML, found <{root.tag}>. Move it out of the folder.")
        inside = file.relative_to(path).with_suffix("")
        name = Path(*inside.parts[1:]) if inside.parts[0] == "Annotations" else inside
        instances = path / "SegmentationObject" / name.with_name(name.name + ".png")
        shapes, difficult = read_objects(root, file, instances if instances.is_file() else None)
        flagged += difficult
        fields = {"split": splits[name.as_posix()]} if name.as_posix() in splits else {}
        gathered.add(name.as_posix(), Described(shapes=shapes, fields=fields))
    if flagged:
        gathered.notes.append(f"{flagged} objects flagged as difficult were read like the others.")
    if (path / "SegmentationClass").is_dir() and not (path / "SegmentationObject").is_dir():
        gathered.notes.append("Masks were not read: they need SegmentationObject, found only SegmentationClass.")


def read_objects(root: Element, path: Path, instances: Path | None) -> tuple[tuple[Marked, ...], int]:
    """Return the objects of one file, and how many of them are flagged as difficult.

    Raises:
        DatasetError: An object has no box.
    """
    used = set() if instances is None else _numbers(instances)
    marked, difficult = [], 0
    for index, item in enumerate(root.iter("object"), start=1):
        try:
            box = item.find("bndbox")
            x1, y1, x2, y2 = (float(box.findtext(side)) for side in _SIDES)  # type: ignore[union-attr, arg-type]
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: expected a bndbox with four numbers in every object ({error}).") from error
        difficult += item.findtext("difficult") == "1"
        said = {each.findtext("name") or "": each.findtext("value") or "" for each in item.iter("attribute")}
        outline = _Instance(path=instances, number=index) if instances is not None and index in used else None
        shape = Marked(name=item.findtext("name") or "part", box_xyxy=(x1, y1, x2, y2), outline=outline)
        marked.append(with_attributes(shape, said))
    return tuple(marked), difficult


def _splits(path: Path) -> dict[str, str]:
    """Read the lists of names; a file with an underscore lists one class of a split."""
    found: dict[str, str] = {}
    for file in sorted((path / "ImageSets" / "Main").glob("*.txt")):
        if "_" not in file.stem and file.stem != "trainval" and split_named(file.stem):
            found |= {line.strip(): split_named(file.stem) for line in read_json_lines(file) if line.strip()}
    return found


def _numbers(path: Path) -> set[int]:
    """Return the numbers of the objects that have pixels."""
    try:
        frame = images.load_confined(path)
    except ImageError as error:
        raise DatasetError(str(error)) from error
    colors = {tuple(color) for color in np.unique(frame.reshape(-1, 3), axis=0).tolist()}
    return {index for index in range(1, MOST_CLASSES) if _color(index) in colors}


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
        lists.setdefault(picture.split, []).append(Picture(**{**vars(picture), "mask": None}))
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
