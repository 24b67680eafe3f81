"""Label Studio's JSON of tasks: ``tasks.json`` and ``label_config.xml`` beside ``images``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from gonogo.dataset.marks import (
    FIELDS,
    NO_NAME,
    Described,
    Gathered,
    Marked,
    Picture,
    Xyxy,
    around,
    box_attributes,
    corners_of,
    put,
    split_named,
    turned,
    with_attributes,
)
from gonogo.dataset.outlines import Polygons, Runs
from gonogo.dataset.run_lengths import brush_code, brush_mask
from gonogo.errors import DatasetError

CONFIG = "label_config.xml"
_UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")
"""What Label Studio writes before the name of an uploaded file."""
_SHAPES = ("rectanglelabels", "polygonlabels", "brushlabels")
_LOCAL = "/data/local-files/?d="


def read(content: Sequence[Any], path: Path, gathered: Gathered) -> None:
    """Read parsed tasks: rectangles, polygons, brushes and choices. Turned rectangles become quads.

    Of several annotations of a task, the one marked as ground truth counts, otherwise the last one.

    Raises:
        DatasetError: The content is malformed, or is Label Studio's JSON-MIN.
    """
    several = 0
    try:
        for task in content:
            if "annotations" not in task and "completions" not in task and "data" not in task:
                raise DatasetError(
                    f"{path}: expected Label Studio's JSON, found a task without data and annotations, as in JSON-MIN. "
                    "Export the project as JSON."
                )
            done = [each for each in task.get("annotations") or [] if not each.get("was_cancelled")]
            several += len(done) > 1
            truth = [each for each in done if each.get("ground_truth")] or done
            result = truth[-1].get("result", []) if truth else []
            gathered.skipped["predictions"] += len(task.get("predictions") or [])
            gathered.add(_picture_of(task["data"], result, path), _described(task["data"], result, gathered))
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError) as error:
        raise DatasetError(
            f"{path}: expected Label Studio's JSON of tasks with data and annotations ({error!r}). Export it again."
        ) from error
    if several:
        gathered.notes.append(f"{several} tasks have several annotations: the ground truth or the last one was read.")


def _picture_of(data: Mapping[str, Any], result: Sequence[Mapping[str, Any]], path: Path) -> str:
    """Return the name of a task's picture: from a path, an address, or the path of a local file."""
    address = data.get("image")
    if not isinstance(address, str):
        texts = [value for value in data.values() if isinstance(value, str) and PurePosixPath(value).suffix]
        if len(texts) != 1:
            raise DatasetError(f"{path}: expected the picture of a task as data.image, found {str(data)[:60]!r}.")
        address = texts[0]
    parts = urlsplit(address)
    local = parse_qs(parts.query).get("d")
    name = local[0] if local else unquote(parts.path)
    if "/upload/" in name or name.startswith("upload/"):
        folder, _, file = name.rpartition("/")
        return f"{folder}/{_UPLOADED.sub('', file, count=1)}"
    return name


def _described(data: Mapping[str, Any], result: Sequence[Mapping[str, Any]], gathered: Gathered) -> Described:
    shapes: list[Marked] = []
    tags: list[str] = []
    fields = {name: str(data[name]) for name in FIELDS if data.get(name) is not None}
    for each in result:
        value, kind = each.get("value", {}), each["type"]
        if each.get("image_rotation"):
            raise ValueError(f"a picture that is turned by {each['image_rotation']} degrees in Label Studio")
        if kind == "choices" and each["from_name"] == "kind":
            fields["defect"] = str(value["choices"][0])
        elif kind == "choices":
            tags += map(str, value["choices"])
        elif kind in _SHAPES:
            shapes.append(_marked(kind, value, each))
        else:
            gathered.skipped[str(kind)] += 1
    fields |= {"split": split_named(fields["split"])} if "split" in fields else {}
    return Described(shapes=tuple(shapes), tags=tuple(tags), fields=fields)


def _marked(kind: str, value: Mapping[str, Any], each: Mapping[str, Any]) -> Marked:
    name = str((value.get(kind) or [NO_NAME])[0])
    if kind == "brushlabels":
        if value.get("format", "rle") != "rle":
            raise ValueError(f"a brush in the format {value['format']!r}")
        width, height = int(each["original_width"]), int(each["original_height"])
        decoded = partial(brush_mask, value["rle"])
        runs = Runs(lengths=decoded, window_xywh=(0, 0, width, height), whole_wh=(width, height))
        return Marked(name=name, box_xyxy=(0, 0, width, height), outline=runs)
    if kind == "polygonlabels":
        ring = tuple((float(x) / 100, float(y) / 100) for x, y in value["points"])
        return Marked(name=name, box_xyxy=around(ring), relative=True, outline=Polygons(rings=(ring,), relative=True))
    return _rectangle(name, value, each)


def _rectangle(name: str, value: Mapping[str, Any], each: Mapping[str, Any]) -> Marked:
    """Return a box in pixels. Label Studio turns a rectangle around its top left corner."""
    across, down = float(each["original_width"]) / 100, float(each["original_height"]) / 100
    x, y = float(value["x"]) * across, float(value["y"]) * down
    box: Xyxy = (x, y, x + float(value["width"]) * across, y + float(value["height"]) * down)
    if not value.get("rotation"):
        return with_attributes(Marked(name=name, box_xyxy=box), each.get("meta") or {})
    quad = turned(corners_of(box), float(value["rotation"]), (x, y))
    return Marked(name=name, box_xyxy=around(quad), quad=quad)


def write(pictures: Iterable[Picture], folder: Path, classes: Sequence[str]) -> None:
    """Write the tasks and the labeling configuration.

    Masks are brushes. Label and kind are choices; split, part and lot are columns of the task's data. The pictures are
    addressed as local files below the exported folder (``LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT``).
    """
    tasks: list[dict[str, Any]] = []
    boxes: dict[str, None] = {}
    kinds: dict[str, None] = {}
    for number, picture in enumerate(pictures, start=1):
        boxes |= dict.fromkeys(box.name for box in picture.boxes)
        kinds |= dict.fromkeys([picture.kind] if picture.mask is not None or "defect" in picture.fields else [])
        said = {name: value for name, value in picture.fields.items() if name not in ("label", "defect")}
        result = [*_choices(picture), *_boxes(picture), *_brush(picture)]
        annotations = [{"id": number, "result": result, "was_cancelled": False, "ground_truth": False}]
        data = {"image": _LOCAL + quote(picture.path)} | said
        tasks.append({"id": number, "data": data, "annotations": annotations if result else [], "predictions": []})
    put(folder / "tasks.json", json.dumps(tasks, ensure_ascii=False).encode())
    put(folder / CONFIG, _config([*boxes] or [NO_NAME], [*kinds]))


def _choices(picture: Picture) -> Iterable[dict[str, Any]]:
    for name, key in (("label", "label"), ("kind", "defect")):
        if key in picture.fields:
            yield {"from_name": name, "to_name": "image", "type": "choices", "id": f"{name}-{picture.stem}"} | {
                "value": {"choices": [picture.fields[key]]}
            }


def _boxes(picture: Picture) -> Iterable[dict[str, Any]]:
    width, height = picture.size_wh
    for number, box in enumerate(picture.boxes):
        x1, y1, x2, y2 = box.box_xyxy
        place = {"x": 100 * x1 / width, "y": 100 * y1 / height, "rotation": 0}
        size = {"width": 100 * (x2 - x1) / width, "height": 100 * (y2 - y1) / height}
        meta = {"meta": box_attributes(box)} if box_attributes(box) else {}
        value = place | size | {"rectanglelabels": [box.name]}
        yield _shape(picture, f"box{number}", "box", "rectanglelabels", value) | meta


def _brush(picture: Picture) -> Iterable[dict[str, Any]]:
    if picture.mask is not None:
        value = {"format": "rle", "rle": brush_code(picture.mask.ravel()), "brushlabels": [picture.kind]}
        yield _shape(picture, "brush", "defect", "brushlabels", value)


def _shape(picture: Picture, key: str, control: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    width, height = picture.size_wh
    size = {"original_width": width, "original_height": height, "image_rotation": 0}
    names = {"from_name": control, "to_name": "image", "type": kind, "id": f"{key}-{picture.stem}", "origin": "manual"}
    return names | size | {"value": value}


def _config(boxes: Sequence[str], kinds: Sequence[str]) -> bytes:
    view = Element("View")
    SubElement(view, "Image", {"name": "image", "value": "$image", "zoom": "true"})
    for tag, name, labels in (("RectangleLabels", "box", boxes), ("BrushLabels", "defect", kinds)):
        control = SubElement(view, tag, {"name": name, "toName": "image"}) if labels else view
        for label in labels:
            SubElement(control, "Label", {"value": label})
    for name, choices in (("label", ("good", "bad")), ("kind", kinds)):
        control = SubElement(view, "Choices", {"name": name, "toName": "image"}) if choices else view
        for choice in choices:
            SubElement(control, "Choice", {"value": choice})
    ElementTree.indent(view)
    return bytes(ElementTree.tostring(view, "utf-8"))
