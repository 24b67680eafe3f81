"""The zones page of a data set and the requests of its script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import cv2
import numpy as np
from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response

from gonogo.array_types import Float64
from gonogo.config import USUAL_SENSITIVITY, InspectZone, Zone
from gonogo.config.zones import DrawnOn
from gonogo.dataset import Sample
from gonogo.images.geometry import as_quad, corners_of, corners_of_box
from gonogo.images.regions import UNIT
from gonogo.images.zones import Place, on_frame
from gonogo.schema import Box, Label, Region
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets.views import BOXES_FOR_ROI
from gonogo.server.label import Labelling
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.zone_file import (
    ChangedZonesError,
    SavedZones,
    WrongZonesError,
    ZonesRequest,
    save_zones,
)
from gonogo.source import labelled_box, labelled_corners

KIND_NAMES = {
    "ignore": N_("Ignore"),
    "inspect": N_("Inspect"),
    "code": N_("Code"),
    "presence": N_("Items that must be there"),
}
_NO_BOX = N_("No picture has a box. Draw one on the label page, or draw zones on the whole picture.")
_NO_PICTURE = N_("There is no picture to draw on yet.")

Number = Annotated[int, Query(ge=-(10**9), le=10**9)]


def zones_page(request: Request, datasets: Use[Datasets], name: str) -> Response:
    """The HTML page; its script fetches the pictures."""
    saved = SavedZones.read(datasets.root_of(name))
    boxes = sum(labelled_box(sample) is not None for sample in datasets.read(name).samples.values())
    kept = {zone.name for zone in saved.kept}
    return responses.page(
        request,
        "zones.html",
        name=name,
        saved=saved,
        drawn_on=saved.drawn_on or ("part" if boxes >= BOXES_FOR_ROI else "picture"),
        zones=[_row(zone, kept=zone.name in kept) for zone in saved.zones],
        kinds=KIND_NAMES,
        usual=USUAL_SENSITIVITY,
    )


def zones_picture(
    datasets: Use[Datasets], labelling: Use[Labelling], name: str, drawn_on: DrawnOn, number: Number = 0
) -> Response:
    """One picture to draw on: its size, its part, and the conversion between part coordinates and its pixels.

    Good pictures come first; others are shown only if there is no good one.
    """
    records = datasets.read(name)
    shown = [sample for sample in records.samples.values() if sample.present is not False]
    parts = _parts(shown) if drawn_on == "part" else {}
    shown = [sample for sample in shown if drawn_on == "picture" or sample.file_name in parts]
    shown = [sample for sample in shown if sample.label is Label.GOOD] or shown
    if not shown:
        raise RefusedError(_NO_BOX if drawn_on == "part" and records.samples else _NO_PICTURE)
    sample = shown[number % len(shown)]
    size_wh = labelling.photos.size_wh(records.root / sample.file_name)
    part = parts.get(sample.file_name)
    to_frame = _matrix(Place(region=part or Box.from_xyxy((0, 0, *size_wh))))
    return responses.answer(
        file=sample.file_name,
        number=number % len(shown),
        count=len(shown),
        size_wh=size_wh,
        quad=None if part is None else corners_of(part).tolist(),
        to_frame=to_frame.tolist(),
        to_part=np.linalg.inv(to_frame).tolist(),
    )


def save(datasets: Use[Datasets], ledger_pool: Use[LedgerPool], me: Me, name: str, body: ZonesRequest) -> Response:
    """Save the zones: 409 if the file has changed since the page was loaded, 422 with the wrong values."""
    tell = translations(me.language).gettext
    try:
        saved = save_zones(datasets.root_of(name), body, me.name, ledger_pool)
    except ChangedZonesError:
        message = tell(
            N_("The zones were changed in the meantime and yours are not saved. They stay on this page: open the saved "
               "zones in another tab, and draw there what is missing.")
        )  # fmt: skip
        return JSONResponse({"message": message}, 409)
    except WrongZonesError as error:
        problems = [{"row": each.row, "field": each.field, "message": tell(each.message)} for each in error.problems]
        return JSONResponse({"message": tell(N_("Not saved: correct the marked zones.")), "problems": problems}, 422)
    return responses.answer(digest=saved.digest)


def _parts(samples: Sequence[Sample]) -> dict[str, Region]:
    """The labelled part of each picture that has one, as a learned region finds it: by quads only if all have quads."""
    boxes = {sample.file_name: box for sample in samples if (box := labelled_box(sample)) is not None}
    quads = {
        sample.file_name: as_quad(corners)
        for sample in samples
        if sample.file_name in boxes and (corners := labelled_corners(sample)) is not None
    }
    return {**quads} if len(quads) == len(boxes) else {**boxes}


def _matrix(place: Place) -> Float64[np.ndarray, "3 3"]:
    """The homography from part coordinates to frame pixels."""
    unit = corners_of_box(UNIT)
    corners = on_frame(unit, place).astype(np.float32)
    return np.asarray(cv2.getPerspectiveTransform(unit.astype(np.float32), corners), np.float64)


def _row(zone: Zone, *, kept: bool) -> dict[str, Any]:
    """A zone for the page's script."""
    return {
        "kind": zone.kind,
        "name": zone.name,
        "polygon": zone.polygon,
        "sensitivity": zone.sensitivity if isinstance(zone, InspectZone) else None,
        "kept": kept,
    }
