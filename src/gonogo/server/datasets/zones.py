"""The zones page of a data set and the requests of its script."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, get_args

import cv2
import numpy as np
from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from gonogo.array_types import Float64
from gonogo.config import USUAL_SENSITIVITY, CodeFormat, CodeZone, InspectZone, Zone
from gonogo.config.zones import DrawnOn
from gonogo.images.geometry import corners_of, corners_of_box
from gonogo.images.regions import UNIT
from gonogo.images.zones import Place, on_frame
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.background_work import Task
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets.placing import pictures_to_draw_on, place_of
from gonogo.server.datasets.views import BOXES_FOR_ROI
from gonogo.server.datasets.zone_trial import ZoneTrials
from gonogo.server.drawn_file import ChangedFileError, WrongRowsError
from gonogo.server.label import Labelling
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.zone_file import ZONE_FILE, DrawnZone, ZonesRequest, checked_zones, kept_zones, save_zones

KIND_NAMES = {
    "ignore": N_("Ignore"),
    "inspect": N_("Inspect"),
    "code": N_("Code"),
    "presence": N_("Items that must be there"),
}
_NO_BOX = N_("No picture has a box. Draw one on the label page, or draw zones on the whole picture.")
_NO_PICTURE = N_("There is no picture to draw on yet.")

FORMATS = get_args(CodeFormat)
_USUAL_CODE = CodeZone(kind="code", name="code", polygon=((0, 0), (1, 0), (1, 1)))

Number = Annotated[int, Query(ge=-(10**9), le=10**9)]


class TrialRequest(BaseModel):
    """Request body: zones as drawn, saved or not, to try on pictures."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    drawn_on: DrawnOn
    zones: Annotated[list[DrawnZone], Field(max_length=100)]
    file: Annotated[str, Field(max_length=1000)] = ""
    """The picture whose codes are read; empty to try the zones on the data set."""


def zones_page(request: Request, datasets: Use[Datasets], name: str) -> Response:
    """The HTML page; its script fetches the pictures."""
    saved = ZONE_FILE.read(datasets.root_of(name))
    zones = saved.content
    boxes = datasets.read(name).overview.boxes
    kept = {zone.name for zone in kept_zones(zones)}
    return responses.page(
        request,
        "zones.html",
        name=name,
        saved=saved,
        drawn_on=zones.drawn_on or ("part" if boxes >= BOXES_FOR_ROI else "picture"),
        zones=[_row(zone, kept=zone.name in kept) for zone in zones.zones],
        kinds=KIND_NAMES,
        usual=USUAL_SENSITIVITY,
        usual_code=_code_fields(_USUAL_CODE),
        formats=FORMATS,
    )


def zones_picture(
    datasets: Use[Datasets],
    labelling: Use[Labelling],
    name: str,
    drawn_on: DrawnOn,
    number: Number = 0,
    file: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """One picture to draw on: its size, its part, and the conversion between part coordinates and its pixels.

    ``file`` names it; otherwise it is the one with this number, and good pictures come first.
    """
    records = datasets.read(name)
    shown, parts = pictures_to_draw_on(records, drawn_on)
    if not shown:
        raise RefusedError(_NO_BOX if drawn_on == "part" and records.samples else _NO_PICTURE)
    if file:
        number = next((row for row, sample in enumerate(shown) if sample.file_name == file), number)
    sample = shown[number % len(shown)]
    size_wh = labelling.photos.size_wh(records.root / sample.file_name)
    part = parts.get(sample.file_name)
    to_frame = _matrix(place_of(part, size_wh))
    return responses.answer(
        file=sample.file_name,
        number=number % len(shown),
        count=len(shown),
        label=sample.label,
        size_wh=size_wh,
        quad=None if part is None else corners_of(part).tolist(),
        to_frame=to_frame.tolist(),
        to_part=np.linalg.inv(to_frame).tolist(),
    )


def save(datasets: Use[Datasets], ledger_pool: Use[LedgerPool], me: Me, name: str, body: ZonesRequest) -> Response:
    """Save the zones: 409 if the file has changed since the page was loaded, 422 with the wrong values."""
    try:
        saved = save_zones(datasets.root_of(name), body, me.name, ledger_pool)
    except ChangedFileError:
        message = translations(me.language).gettext(
            N_("The zones were changed in the meantime and yours are not saved. They stay on this page: open the saved "
               "zones in another tab, and draw there what is missing.")
        )  # fmt: skip
        return JSONResponse({"message": message}, 409)
    except WrongRowsError as error:
        return error.answer(N_("Not saved: correct the marked zones."), me)
    return responses.answer(digest=saved.digest)


def try_zones(datasets: Use[Datasets], trials: Use[ZoneTrials], me: Me, name: str, body: TrialRequest) -> Response:
    """Try zones as drawn: read the codes of one picture, or try all zones on the data set in the background."""
    try:
        saved = ZONE_FILE.read(datasets.root_of(name)).content
        zones = checked_zones(ZonesRequest(digest="", drawn_on=body.drawn_on, zones=body.zones), saved).zones
    except WrongRowsError as error:
        return error.answer(N_("Not tried: correct the marked zones."), me)
    if body.file:
        code_zones = [zone for zone in zones if isinstance(zone, CodeZone)]
        read = trials.read(name, body.file, body.drawn_on, code_zones) if code_zones else ()
        return responses.answer(codes=[asdict(each) for each in read])
    found = trials.attempt(name, body.drawn_on, zones)
    failure = found.failure if isinstance(found, Task) else ""
    return responses.answer(
        busy=isinstance(found, Task) and not found.over,
        piece=responses.fill_template(
            me.language,
            "zones/trial.html",
            task=found if isinstance(found, Task) else None,
            found=None if isinstance(found, Task) else found,
            failure=failure.text(me.language) if isinstance(failure, RefusedError) else failure,
        ),
    )


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
        **(_code_fields(zone) if isinstance(zone, CodeZone) else {}),
        "kept": kept,
    }


def _code_fields(zone: CodeZone) -> dict[str, Any]:
    return {"formats": zone.formats, "pattern": zone.pattern, "unreadable": zone.unreadable}
