"""Label, region and outlines of one picture, saved with optimistic locking by revision."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import cv2
import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from gonogo.array_types import UInt8
from gonogo.dataset import Sample
from gonogo.errors import GonogoError
from gonogo.files import write_beside
from gonogo.images import encode_png
from gonogo.schema import Box, Label
from gonogo.server.dataset_store import LONGEST_KIND, Datasets
from gonogo.server.label.photos import Photos
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool

Pixels = Annotated[float, Field(allow_inf_nan=False, ge=-100_000, le=100_000)]
Point = tuple[Pixels, Pixels]
MOST_OUTLINES, MOST_POINTS = 50, 400
"""Maximum number of outlines of a picture, and of the corners of one."""
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=MOST_POINTS)]
Outlines = Annotated[tuple[Polygon, ...], Field(max_length=MOST_OUTLINES)]

DRAWN = "masks/drawn"
_LEAST_SIDE_PX = 1.0
_REVISED = (
    "label", "defect", "present", "box_xyxy", "quad", "mask_file_name", "polygons", "labelled_by", "labelled_at",
)  # fmt: skip
"""Fields covered by a revision. Splits and groups are excluded, because training sets them while people label."""


class PictureLabel(BaseModel):
    """Request body: the complete label of one picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str = Field(max_length=1000)
    revision: str = Field(max_length=64)
    """Revision of the record that the person saw."""
    label: Label | None = None
    defect: str | None = Field(default=None, min_length=1, max_length=LONGEST_KIND)
    present: bool | None = None
    """``False``: the picture does not show exactly one whole part."""
    box_xyxy: tuple[Pixels, Pixels, Pixels, Pixels] | None = None
    quad: tuple[Point, Point, Point, Point] | None = None
    polygons: Outlines | None = None
    """Outlines of the defect in frame pixels; ``None`` keeps an imported mask."""


class ConflictError(GonogoError):
    """Someone else saved the same picture in the meantime."""

    def __init__(self, theirs: Sample) -> None:
        self.theirs = theirs
        super().__init__(f"{theirs.file_name}: was changed in the meantime.")


def revision(sample: Sample) -> str:
    """Hash of a picture's label; changes whenever the label changes."""
    record = sample.model_dump(mode="json")
    said = [record.get(key) for key in _REVISED]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def row(sample: Sample) -> dict[str, Any]:
    """Convert a record to JSON for the label page, without empty fields."""
    record = sample.model_dump(mode="json")
    found = {key: record[key] for key in (*_REVISED, "split") if record.get(key) is not None}
    return {"file": sample.file_name, "revision": revision(sample), **found}


class RowCache:
    """Cache of `row`: a data set may have very many records."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Sample, dict[str, Any]]] = {}

    def of(self, dataset: str, sample: Sample) -> dict[str, Any]:
        """See `row`."""
        key = dataset, sample.file_name
        known = self._known.get(key)
        if known is None or known[0] is not sample:  # records are never changed, only replaced
            known = self._known[key] = (sample, row(sample))
        return known[1]


def save_label(
    dataset: str, said: PictureLabel, who: str, *, datasets: Datasets, photos: Photos, ledger_pool: LedgerPool
) -> Sample:
    """Save a label: first in the ledger, then in the data set.

    An unchanged label is not saved again, so sending a label twice is safe.

    Raises:
        ConflictError: another label was saved since ``said.revision``.
        RefusedError: there is no such picture, or the region lies outside it.
        LedgerError: the label could not be recorded and was not saved.
    """
    with datasets.changing(dataset, what="label", who=who) as draft:
        before = draft.before.find(said.file)
        size_wh = photos.size_wh(draft.before.root / said.file)
        changes = _changes(before, said, size_wh)
        after = Sample.model_validate(before.model_dump() | changes)
        if _said(after) == _said(before):
            return before
        if revision(before) != said.revision:
            raise ConflictError(before)
        mask = changes["mask_file_name"]
        if mask is not None and changes["polygons"]:
            write_beside(draft.before.root / mask, encode_png(drawn_mask(changes["polygons"], size_wh[::-1])))
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        after = after.model_copy(update={"labelled_by": who, "labelled_at": now})
        ledger_pool.act(
            "label",
            who,
            label=after.label,
            defect=after.defect,
            dataset=dataset,
            file=after.file_name,
            **{key: value for key, value in row(after).items() if key in ("present", "box_xyxy", "quad")},
            **({"polygons": len(changes["polygons"])} if changes["polygons"] else {}),
        )
        draft.put([after])
    return after


def relabelled(before: Sample, label: Label | None, defect: str | None, who: str) -> Sample:
    """A record with another label, without looking at the picture; the region stays.

    Outlines of a defect stay on a bad part; on a good one they go, as on the label page.
    """
    said = PictureLabel(file=before.file_name, revision="", label=label, defect=defect)
    masked = {} if label is Label.BAD else _mask(before, said, label)
    now = datetime.now(UTC).isoformat(timespec="milliseconds")
    changes = {"label": label, "defect": defect if label is Label.BAD else None, "present": before.present or None}
    values = before.model_dump() | changes | masked | {"labelled_by": who, "labelled_at": now}
    return Sample.model_validate(values)


def with_region(before: Sample, region: Mapping[str, Any], size_wh: tuple[int, int], root: Path) -> Sample:
    """A record with the region and outlines of another picture; the mask of the outlines is written.

    Args:
        before: The record.
        region: ``box_xyxy``, ``quad`` and ``polygons``, as far as they are known.
        size_wh: Size of the picture.
        root: Folder of the data set.
    """
    values: dict[str, Any] = {key: region[key] for key in ("box_xyxy", "quad") if region.get(key) is not None}
    polygons = region.get("polygons")
    if polygons and before.label is Label.BAD:
        said = PictureLabel(file=before.file_name, revision="", label=before.label, polygons=polygons)
        values |= _mask(before, said, before.label)
        write_beside(root / values["mask_file_name"], encode_png(drawn_mask(polygons, size_wh[::-1])))
    return Sample.model_validate(before.model_dump() | values)


def _changes(before: Sample, said: PictureLabel, size_wh: tuple[int, int]) -> dict[str, Any]:
    """The record's new values."""
    label = None if said.present is False else said.label
    quad = said.quad
    box_xyxy = _around(quad) if quad is not None else said.box_xyxy
    if said.present is False:
        quad = box_xyxy = None
    return {
        "label": label,
        "defect": said.defect if label is Label.BAD else None,
        "present": False if said.present is False else before.present or None,
        "box_xyxy": None if box_xyxy is None else _inside(box_xyxy, size_wh),
        "quad": quad,
        **_mask(before, said, label),
    }


def _mask(before: Sample, said: PictureLabel, label: Label | None) -> dict[str, Any]:
    """The mask file and its outlines. An imported mask that a drawing replaces is kept for undo."""
    extra = before.model_extra or {}
    drawn = extra.get("polygons") is not None
    imported = extra.get("mask_before") if drawn else before.mask_file_name
    polygons = said.polygons
    if label is not Label.BAD and polygons:
        raise RefusedError(N_("Only a bad part can have outlined defects."))
    if label is not Label.BAD and imported:
        polygons = ()
    if polygons is None:
        return {"mask_file_name": imported, "polygons": None, "mask_before": None}
    if not polygons:
        return {
            "mask_file_name": None,
            "polygons": [] if imported else None,
            "mask_before": imported,
        }
    # Named by content, so that undoing to an earlier drawing finds its file again.
    shown = hashlib.sha256(json.dumps(polygons).encode()).hexdigest()[:12]
    name = f"{DRAWN}/{PurePosixPath(before.file_name).stem[:80]}-{shown}.png"
    return {"mask_file_name": name, "polygons": polygons, "mask_before": imported}


def _said(sample: Sample) -> dict[str, Any]:
    return {key: value for key, value in row(sample).items() if key not in ("revision", "labelled_by", "labelled_at")}


def _around(quad: tuple[Point, Point, Point, Point]) -> tuple[float, float, float, float]:
    xs, ys = zip(*quad, strict=True)
    return (min(xs), min(ys), max(xs), max(ys))


def _inside(box_xyxy: tuple[float, float, float, float], size_wh: tuple[int, int]) -> tuple[float, ...]:
    """Clip a box to the picture.

    Raises:
        RefusedError: the box lies outside the picture.
    """
    inside = Box.from_xyxy(box_xyxy).intersection(Box.whole_of(*size_wh))
    if inside.width < _LEAST_SIDE_PX or inside.height < _LEAST_SIDE_PX:
        raise RefusedError(
            N_("The box must lie inside the picture of %(width)s x %(height)s pixels and cover at least one pixel."),
            width=size_wh[0],
            height=size_wh[1],
        )
    return tuple(round(value, 2) for value in inside.xyxy)


def drawn_mask(polygons: Sequence[Sequence[Point]], shape: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Draw a mask of height and width ``shape``: 255 inside any outline and on the pixels that outlines cross."""
    mask = np.zeros(shape, np.uint8)
    shift = 4
    for polygon in polygons:
        # In OpenCV, integers are pixel centres; here, they are pixel edges.
        corners = [[math.floor((x - 0.5) * 2**shift), math.floor((y - 0.5) * 2**shift)] for x, y in polygon]
        cv2.fillPoly(mask, [np.array(corners, np.int32)], 255, shift=shift)
    return mask
