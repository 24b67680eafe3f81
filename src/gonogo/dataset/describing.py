"""Joins what a source folder and a label file say about one picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from gonogo.dataset.layouts import Found, label_named
from gonogo.dataset.marks import NO_KIND, Described, Marked
from gonogo.dataset.outlines import Polygons, bounds_of
from gonogo.dataset.records import Split
from gonogo.errors import DatasetError
from gonogo.schema import Label, Mask

NO_LABEL = "unlabelled"
"""Class name of a picture that carries attributes but no label."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """One picture with what is known about it."""

    item: Found
    mask: Mask | None = None
    """Pixels of the outlined defects; ``None`` if nothing is outlined, false everywhere if no pixel is inside."""
    boxes: tuple[Marked, ...] = ()
    unknown: tuple[str, ...] = ()
    """Class names of the whole picture that are neither a label nor a kind."""
    columns: dict[str, Any] = field(default_factory=dict)
    """Region of interest, or several objects, as columns of the data set."""


def joined(
    item: Found, said: Described | None, size_wh: tuple[int, int], *, good: str | None, object_name: str | None
) -> Joined:
    """Join a picture of a folder with what a label file says about it.

    An outline marks a defect of the kind that its class names, and makes the part bad; outlines of ``object_name`` are
    objects instead, by the box around them. With several kinds, the one with most pixels is taken.

    Args:
        item: The picture as found in its folder.
        said: What the label file says about it.
        size_wh: Width and height of the picture in pixels.
        good: Class name of good parts; every other class of a whole picture is then a defect kind.
        object_name: Use only the boxes and outlines with this class name as objects.

    Raises:
        DatasetError: Folder and label file contradict each other, or an annotation is malformed.
    """
    if said is None:
        return Joined(item=item)
    where = str(item.path)
    mask, kind = _defects(said, size_wh, where, object_name)
    label, named, unknown = _tagged(said, good)
    if label is Label.GOOD and mask is not None:
        raise DatasetError(f"{where}: a defect is outlined on a picture labelled good. Correct one of them.")
    label = Label.BAD if mask is not None else label
    if None not in (item.label, label) and item.label is not label:
        raise DatasetError(
            f"{where}: is labelled {item.label} by its folder or record, and {label} by the annotations. Correct one."
        )
    label, defect = label or item.label, kind or named or item.defect
    defect = defect if label is Label.BAD else item.defect
    item = replace(item, label=label, defect=defect, record={**item.record, **_columns(said)})
    boxes = tuple(_objects(said, size_wh, where, object_name))
    return Joined(item=item, mask=mask, boxes=boxes, unknown=unknown, columns=_region(boxes))


def _defects(
    said: Described, size_wh: tuple[int, int], where: str, object_name: str | None
) -> tuple[Mask | None, str | None]:
    """Return the pixels of all outlined defects, and the kind with most of them."""
    areas: dict[str, Mask] = {}
    for mark in said.shapes:
        if mark.outline is not None and mark.name != object_name:
            pixels = mark.outline.mask(size_wh, where)
            areas[mark.name] = areas[mark.name] | pixels if mark.name in areas else pixels
    if not areas:
        return None, None
    largest = max(areas, key=lambda name: int(areas[name].sum()))
    mask = np.logical_or.reduce(list(areas.values()))
    return mask, None if largest == NO_KIND or label_named(largest) is Label.BAD else largest


def _objects(said: Described, size_wh: tuple[int, int], where: str, object_name: str | None) -> Iterator[Marked]:
    """Yield the boxes, and the boxes around the outlines of ``object_name``."""
    for mark in said.shapes:
        if object_name not in (None, mark.name) or (mark.outline is not None and mark.name != object_name):
            continue
        if mark.outline is not None and not isinstance(mark.outline, Polygons):
            pixels = mark.outline.mask(size_wh, where)
            if not pixels.any():
                continue
            mark = replace(mark, box_xyxy=bounds_of(pixels))
        yield mark.in_pixels(size_wh, where)


def _columns(said: Described) -> dict[str, Any]:
    """What the label file says of the whole picture beside label and kind, as columns of the data set."""
    columns: dict[str, Any] = {key: value for key, value in said.fields.items() if key in ("part", "lot")}
    if (split := said.fields.get("split")) is not None:
        columns["split" if split in (*Split,) else "source_split"] = split
    if said.fields.get("present", "").lower() == "false":
        columns["present"] = False
    return columns


def _tagged(said: Described, good: str | None) -> tuple[Label | None, str | None, tuple[str, ...]]:
    """Return label and kind of the whole picture, and the class names that say neither."""
    names = [name for name in (said.fields.get("label"), *said.tags) if name not in (None, NO_LABEL)]
    labels: set[Label] = set()
    kind, unknown = said.fields.get("defect"), []
    for name in names:
        known = label_named(str(name)) if good is None else Label.GOOD if name == good else label_named(str(name))
        if known is not None:
            labels.add(known)
        elif good is not None:
            labels.add(Label.BAD)
            kind = kind or name
        else:
            unknown.append(str(name))
    if len(labels) > 1:
        raise DatasetError(f"a picture is classed as {' and '.join(map(str, names))}. Keep one of them.")
    return next(iter(labels), None), kind, tuple(unknown)


def _region(boxes: tuple[Marked, ...]) -> dict[str, Any]:
    """Columns for the boxes: one box, or the one marked as such, is the region; several are only kept as objects."""
    regions = boxes if len(boxes) == 1 else [mark for mark in boxes if mark.region]
    record: dict[str, Any] = {}
    if len(regions) == 1:
        region = regions[0]
        record = {"box_xyxy": region.box_xyxy, "quad": region.quad, "object_name": region.name}
        boxes = tuple(mark for mark in boxes if mark is not region)
    if boxes:
        xywh = [(x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (mark.box_xyxy for mark in boxes)]
        record["objects"] = {"bbox": xywh, "categories": [mark.name for mark in boxes]}
    return record
