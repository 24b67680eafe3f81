"""COCO instances: ``annotations/instances_SPLIT.json`` beside ``images/SPLIT``."""

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
    box_attributes,
    put,
    split_named,
    with_attributes,
)
from gonogo.dataset.outlines import Outline, Polygons, Runs
from gonogo.dataset.run_lengths import coco_lengths, coco_text, run_lengths
from gonogo.errors import DatasetError

_PREFIX = "instances_"


def read(content: Mapping[str, Any], path: Path, gathered: Gathered) -> None:
    """Read one parsed COCO file.

    A box without segmentation is an object. A segmentation is an outline, whether polygons or runs, compressed or not,
    crowd or not.

    Raises:
        DatasetError: The content is malformed.
    """
    try:
        names = {item["id"]: str(item["name"]) for item in content["categories"]}
        files = {item["id"]: item for item in content["images"]}
        marked: dict[Any, list[Marked]] = {number: [] for number in files}
        for item in content["annotations"]:
            marked[item["image_id"]].append(_marked(item, names, files[item["image_id"]]))
        split = path.stem.removeprefix(_PREFIX) if path.stem.startswith(_PREFIX) else ""
        for number, item in files.items():
            said = item.get("attributes") or {}
            fields = {name: str(said[name]) for name in FIELDS if said.get(name) is not None}
            fields |= {"split": split_named(split)} if split_named(split) else {}
            name = "/".join(filter(None, (split, str(item["file_name"]))))
            gathered.add(name, Described(shapes=tuple(marked[number]), fields=fields))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: expected COCO JSON with images, annotations and categories ({error!r}). Export it again."
        ) from error


def _marked(item: Mapping[str, Any], names: Mapping[Any, str], picture: Mapping[str, Any]) -> Marked:
    name = names[item["category_id"]]
    outline = _outline(item.get("segmentation"), picture)
    if outline is not None and not item.get("bbox"):
        return Marked(name=name, box_xyxy=(0, 0, 0, 0), outline=outline)
    x, y, width, height = map(float, item["bbox"])
    box = Marked(name=name, box_xyxy=(x, y, x + width, y + height), outline=outline)
    return with_attributes(box, item.get("attributes") or {})


def _outline(segmentation: Any, picture: Mapping[str, Any]) -> Outline | None:
    if not segmentation or segmentation == [[]]:
        return None
    if isinstance(segmentation, list):
        return Polygons(rings=tuple(tuple(zip(ring[::2], ring[1::2], strict=True)) for ring in segmentation))
    counts, (height, width) = segmentation["counts"], map(int, segmentation["size"])
    lengths = coco_lengths(counts) if isinstance(counts, str) else list(map(int, counts))
    return Runs(lengths=tuple(lengths), window_xywh=(0, 0, width, height), by_column=True, whole_wh=(width, height))


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write one file per split. Masks are compressed runs; part, lot and label are attributes of the images."""
    numbers = {name: number for number, name in enumerate(classes, start=1)}
    files: dict[str, tuple[list[Any], list[Any]]] = {}
    for number, picture in enumerate(pictures, start=1):
        entries, shapes = files.setdefault(picture.split, ([], []))
        width, height = picture.size_wh
        entry = {"id": number, "file_name": picture.name, "width": width, "height": height}
        entries.append(entry | {"attributes": picture.attributes})
        for shape in _shapes(picture, numbers):
            shapes.append({"id": len(shapes) + 1, "image_id": number, "iscrowd": 0, **shape})
    categories = [{"id": number, "name": name, "supercategory": ""} for name, number in numbers.items()]
    for split, (entries, shapes) in files.items():
        content = {"images": entries, "annotations": shapes, "categories": categories}
        put(folder / "annotations" / f"{_PREFIX}{split}.json", json.dumps(content, ensure_ascii=False).encode())


def _shapes(picture: Picture, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    shapes: list[dict[str, Any]] = []
    for box in picture.boxes:
        x1, y1, x2, y2 = box.box_xyxy
        shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "segmentation": []}
        shapes.append({"category_id": numbers[box.name], **shape, "attributes": box_attributes(box)})
    if picture.mask is not None:
        x1, y1, x2, y2 = picture.mask_xyxy
        code = {"size": [*picture.mask.shape], "counts": coco_text(run_lengths(picture.mask.T.ravel()))}
        shape = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(picture.mask.sum()), "segmentation": code}
        shapes.append({"category_id": numbers[picture.kind], **shape})
    return shapes
