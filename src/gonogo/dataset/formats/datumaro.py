"""Datumaro's own JSON: ``annotations/SPLIT.json`` beside ``images/SPLIT``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gonogo.dataset.marks import (
    FIELDS,
    Described,
    Gathered,
    Marked,
    Picture,
    around,
    box_attributes,
    put,
    split_named,
    with_attributes,
)
from gonogo.dataset.outlines import Polygons, Runs
from gonogo.dataset.run_lengths import coco_lengths, coco_text, run_lengths
from gonogo.errors import DatasetError

_IMAGE = 2
"""Datumaro's number for data sets of pictures."""


def read(content: Mapping[str, Any], path: Path, gathered: Gathered) -> None:
    """Read one parsed Datumaro file: boxes, polygons, masks and labels; the file's name is the split.

    Raises:
        DatasetError: The content is malformed.
    """
    try:
        names = [str(item["name"]) for item in content["categories"].get("label", {}).get("labels", [])]
        split = split_named(path.stem)
        for item in content["items"]:
            shapes, tags, said = [], [], dict(item.get("attr") or {})
            for each in item.get("annotations", []):
                name = "" if each.get("label_id") is None else names[each["label_id"]]
                if each["type"] == "label":
                    tags.append(name)
                elif (shape := _marked(each, name)) is not None:
                    shapes.append(shape)
                else:
                    gathered.skipped[str(each["type"])] += 1
            fields = {key: str(said[key]) for key in FIELDS if said.get(key) is not None}
            fields |= {"split": split} if split else {}
            name = str((item.get("image") or {}).get("path") or item["id"])
            gathered.add(f"{path.stem}/{name}", Described(shapes=tuple(shapes), tags=tuple(tags), fields=fields))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected Datumaro JSON with categories and items ({error!r}). Export it again."
        ) from error


def _marked(each: Mapping[str, Any], name: str) -> Marked | None:
    if each["type"] == "bbox":
        x, y, width, height = map(float, each["bbox"])
        box = Marked(name=name, box_xyxy=(x, y, x + width, y + height))
        return with_attributes(box, each.get("attributes") or {})
    if each["type"] == "polygon":
        ring = tuple(zip(each["points"][::2], each["points"][1::2], strict=True))
        return Marked(name=name, box_xyxy=around(ring), outline=Polygons(rings=(ring,)))
    if each["type"] == "mask":
        height, width = map(int, each["rle"]["size"])
        lengths = tuple(coco_lengths(each["rle"]["counts"]))
        runs = Runs(lengths=lengths, window_xywh=(0, 0, width, height), by_column=True, whole_wh=(width, height))
        return Marked(name=name, box_xyxy=(0, 0, width, height), outline=runs)
    return None


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write one file per split. Good and bad are labels; part, lot and kind are attributes of the items."""
    names = [*dict.fromkeys(("good", "bad", *classes))]
    files: dict[str, list[Any]] = {}
    for picture in pictures:
        width, height = picture.size_wh
        place = {"path": picture.name, "size": [height, width]}
        item = {"id": picture.stem, "annotations": _annotations(picture, names), "attr": picture.attributes}
        files.setdefault(picture.split, []).append(item | {"image": place})
    labels = [{"name": name, "parent": "", "attributes": []} for name in names]
    for split, items in files.items():
        content = {
            "dm_format_version": "1.0",
            "media_type": _IMAGE,
            "infos": {},
            "categories": {"label": {"labels": labels, "label_groups": [], "attributes": ["quad", "region"]}},
            "items": items,
        }
        put(folder / "annotations" / f"{split}.json", json.dumps(content, ensure_ascii=False).encode())


def _annotations(picture: Picture, names: Sequence[str]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    if (label := picture.fields.get("label")) is not None:
        found.append({"type": "label", "label_id": names.index(label), "attributes": {}})
    for box in picture.boxes:
        x1, y1, x2, y2 = box.box_xyxy
        shape = {"label_id": names.index(box.name), "bbox": [x1, y1, x2 - x1, y2 - y1]}
        found.append({"type": "bbox", "attributes": box_attributes(box), **shape})
    if picture.mask is not None:
        code = {"counts": coco_text(run_lengths(picture.mask.T.ravel())), "size": [*picture.mask.shape]}
        found.append({"type": "mask", "label_id": names.index(picture.kind), "attributes": {}, "rle": code})
    return [{"id": number, "group": 0, "z_order": 0, **each} for number, each in enumerate(found)]
