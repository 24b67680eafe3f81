"""CVAT for images 1.1: ``annotations.xml`` beside ``images/SPLIT``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from gonogo.dataset.marks import (
    FIELDS,
    Described,
    Gathered,
    Marked,
    Picture,
    around,
    box_attributes,
    corners_of,
    number,
    put,
    split_named,
    turned,
    with_attributes,
)
from gonogo.dataset.outlines import Polygons, Runs
from gonogo.dataset.records import Split
from gonogo.dataset.run_lengths import run_lengths
from gonogo.errors import DatasetError

_PICTURE_FIELDS = tuple(name for name in FIELDS if name not in ("label", "split"))


def read(root: Element, path: Path, gathered: Gathered) -> None:
    """Read a CVAT file: boxes, turned boxes, polygons, masks and tags.

    Raises:
        DatasetError: The file is malformed, or of a video.
    """
    if root.tag != "annotations":
        raise DatasetError(f"{path}: expected CVAT or Pascal VOC XML, found <{root.tag}>. Check --annotations.")
    if root.find("track") is not None:
        raise DatasetError(
            f"{path}: expected CVAT for images, found tracks of a video. Export the task as CVAT for images 1.1."
        )
    named = path.stem if split_named(path.stem) in (*Split,) else ""  # Datumaro writes one file per split
    task_split = root.findtext("meta/task/subset") or named
    for picture in root.iter("image"):
        try:
            split = picture.get("subset") or task_split
            name = "/".join(filter(None, (picture.get("subset", named), picture.attrib["name"])))
            gathered.add(name, _described(picture, split_named(split), gathered))
        except (KeyError, ValueError) as error:
            raise DatasetError(
                f"{path}: expected label, xtl, ytl, xbr and ybr in every box, points in every polygon and rle in every "
                f"mask ({error})."
            ) from error


def _described(picture: Element, split: str, gathered: Gathered) -> Described:
    shapes, tags = [], []
    fields = {"split": split} if split else {}
    for shape in picture:
        said = {each.get("name", ""): each.text or "" for each in shape.iter("attribute")}
        if shape.tag == "tag":
            tags.append(shape.attrib["label"])
            fields |= {name: said[name] for name in FIELDS if said.get(name)}
        elif shape.tag == "box":
            shapes.append(with_attributes(_box(shape), said))
        elif shape.tag == "polygon":
            ring = tuple(_pair(pair) for pair in shape.attrib["points"].split(";"))
            shapes.append(Marked(name=shape.attrib["label"], box_xyxy=around(ring), outline=Polygons(rings=(ring,))))
        elif shape.tag == "mask":
            shapes.append(_mask(shape, picture))
        else:
            gathered.skipped[shape.tag] += 1
    return Described(shapes=tuple(shapes), tags=tuple(tags), fields=fields)


def _box(box: Element) -> Marked:
    x1, y1, x2, y2 = (float(box.attrib[edge]) for edge in ("xtl", "ytl", "xbr", "ybr"))
    degrees = float(box.attrib.get("rotation", 0))
    if degrees == 0:
        return Marked(name=box.attrib["label"], box_xyxy=(x1, y1, x2, y2))
    quad = turned(corners_of((x1, y1, x2, y2)), degrees, ((x1 + x2) / 2, (y1 + y2) / 2))
    return Marked(name=box.attrib["label"], box_xyxy=around(quad), quad=quad)


def _mask(shape: Element, picture: Element) -> Marked:
    x, y, width, height = (int(float(shape.attrib[edge])) for edge in ("left", "top", "width", "height"))
    whole = [int(float(picture.get(side, 0))) for side in ("width", "height")]
    runs = Runs(
        lengths=tuple(map(int, shape.attrib["rle"].split(","))),
        window_xywh=(x, y, width, height),
        whole_wh=(whole[0], whole[1]) if all(whole) else None,
    )
    return Marked(name=shape.attrib["label"], box_xyxy=(x, y, x + width, y + height), outline=runs)


def _pair(text: str) -> tuple[float, float]:
    x, y = map(float, text.split(","))
    return x, y


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write one XML file, and ``labels.json`` for CVAT's raw editor of labels.

    Good and bad are tags with kind, part and lot as attributes; CVAT keeps these only where its task has them.
    """
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    meta = SubElement(root, "meta")
    splits: dict[str, int] = {}
    for index, picture in enumerate(pictures):
        splits[picture.split] = splits.get(picture.split, 0) + 1
        root.append(_image(picture, index))
    labels = _labels(classes)
    _describe(meta, labels, splits)
    ElementTree.indent(root)
    put(folder / "annotations.xml", ElementTree.tostring(root, "utf-8", xml_declaration=True))
    put(folder / "labels.json", json.dumps(labels, indent=1, ensure_ascii=False).encode())


def _labels(classes: Sequence[str]) -> list[dict[str, Any]]:
    tagged = [(name, _PICTURE_FIELDS, "tag") for name in ("good", "bad", "unlabelled")]
    drawn = [(name, ("quad", "region"), "any") for name in classes if name not in ("good", "bad", "unlabelled")]
    return [
        {
            "name": name,
            "type": kind,
            "attributes": [
                {"name": each, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
                for each in attributes
            ],
        }
        for name, attributes, kind in (*tagged, *drawn)
    ]


def _describe(meta: Element, labels: Sequence[Mapping[str, Any]], splits: Mapping[str, int]) -> None:
    project = SubElement(meta, "project")
    SubElement(project, "name").text = "gonogo"
    listed = SubElement(project, "labels")
    for label in labels:
        item = SubElement(listed, "label")
        SubElement(item, "name").text = label["name"]
        attributes = SubElement(item, "attributes")
        for each in label["attributes"]:
            attribute = SubElement(attributes, "attribute")
            for key in ("name", "input_type", "default_value"):
                SubElement(attribute, key).text = each[key]
    tasks = SubElement(project, "tasks")
    for split, count in splits.items():
        task = SubElement(tasks, "task")
        SubElement(task, "name").text = split
        SubElement(task, "size").text = str(count)
        SubElement(task, "mode").text = "annotation"
        SubElement(task, "subset").text = split


def _image(picture: Picture, index: int) -> Element:
    width, height = map(str, picture.size_wh)
    place = {"id": str(index), "name": picture.name, "subset": picture.split, "width": width, "height": height}
    image = Element("image", place)
    label, said = picture.fields.get("label"), {name: picture.fields.get(name, "") for name in _PICTURE_FIELDS}
    if label is not None or any(said.values()):
        _attributes(SubElement(image, "tag", {"label": label or "unlabelled", "source": "file"}), said)
    for box in picture.boxes:
        edges = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(number, box.box_xyxy), strict=True))
        _attributes(SubElement(image, "box", _common(box.name) | edges), box_attributes(box))
    if picture.mask is not None:
        x1, y1, x2, y2 = picture.mask_xyxy
        lengths = run_lengths(picture.mask[y1:y2, x1:x2].ravel())
        window = {"left": x1, "top": y1, "width": x2 - x1, "height": y2 - y1}
        place = {"rle": ", ".join(map(str, lengths))} | {edge: str(value) for edge, value in window.items()}
        SubElement(image, "mask", _common(picture.kind) | place)
    return image


def _common(name: str) -> dict[str, str]:
    return {"label": name, "source": "file", "occluded": "0", "z_order": "0"}


def _attributes(shape: Element, said: Mapping[str, str]) -> None:
    for name, value in said.items():
        SubElement(shape, "attribute", {"name": name}).text = value
