"""The page Sizes of a data set and the requests of its script."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import Form, Query, Request, UploadFile
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from gonogo import images
from gonogo.config import Checks, Scale
from gonogo.dataset import Sample
from gonogo.dataset.levels import levels_of
from gonogo.measure import Calibration, calibrate_checkerboard, calibrate_edge
from gonogo.schema import Label, Measurement, State
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.background_work import Task
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.drawn_file import ChangedFileError, Saved, WrongRowsError
from gonogo.server.inspectors import Inspectors
from gonogo.server.label import Labelling
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.sizes.applying import copy_with_checks
from gonogo.server.sizes.checks_file import (
    CHECKS_FILE,
    ChecksRequest,
    DrawnChecks,
    DrawnRule,
    drawn_checks,
    save_checks,
)
from gonogo.server.sizes.measuring import MeasuredPicture, SizeTrial, SizeTrials, fits, measurable
from gonogo.server.training.jobs import Jobs
from gonogo.server.zone_file import ZONE_FILE

_CHANGED = N_(
    "The sizes were changed in the meantime and yours are not saved. They stay on this page: open the saved sizes in "
    "another tab, and set there what is missing."
)
Coordinate = Annotated[float, Field(ge=0, le=100_000, allow_inf_nan=False)]


class EdgeRequest(BaseModel):
    """Request body: two points of a picture at a known distance."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    file: Annotated[str, Field(max_length=1000)]
    ends_xy: tuple[Coordinate, Coordinate, Coordinate, Coordinate]
    mm: Annotated[float, Field(gt=0, lt=100_000, allow_inf_nan=False)]


class TrialRequest(DrawnChecks):
    """Request body: a scale and limits to try with an inspector."""

    inspector: Annotated[str, Field(max_length=200)]
    file: Annotated[str, Field(max_length=1000)] = ""
    """The picture to measure; empty to measure the data set."""


class CopyRequest(BaseModel):
    """Request body: the inspector to copy, and the name of the copy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    inspector: Annotated[str, Field(max_length=200)]
    copy_name: Annotated[str, Field(max_length=200)]
    digest: Annotated[str, Field(max_length=64)]
    """`Saved.digest` of the sizes that the page shows."""


def sizes_page(
    request: Request, datasets: Use[Datasets], inspectors: Use[Inspectors], jobs: Use[Jobs], me: Me, name: str
) -> Response:
    """The HTML page; its script fetches the pictures."""
    root = datasets.root_of(name)
    saved, in_use = CHECKS_FILE.read(root), inspectors.in_use()
    made = jobs.made_from(name)
    found = [inspectors.bundles.open(path) for path in inspectors.workspace.bundle_paths()]
    names = [each.name for each in found if each is not None and each.manifest.classifier.pool != "none"]
    chosen = next((each.name for each in (made, in_use) if each is not None and each.name in names), "")
    return responses.page(
        request,
        "sizes.html",
        name=name,
        saved=saved,
        scale=_scale(saved.content.scale),
        rules=[DrawnRule.of(rule).model_dump(mode="json") for rule in saved.content.rules],
        kept=[zone.name for zone in saved.content.zones],
        zones=[zone.name for zone in ZONE_FILE.read(root).content.zones],
        kinds=datasets.kinds(name),
        inspectors=names,
        chosen=chosen,
        piece=_inspectors_piece(inspectors, saved, name, me),
    )


def sizes_picture(
    datasets: Use[Datasets],
    labelling: Use[Labelling],
    name: str,
    number: Annotated[int, Query(ge=-(10**9), le=10**9)] = 0,
    file: Annotated[str, Query(max_length=1000)] = "",
) -> Response:
    """One picture of the data set: those that may be measured come first, bad ones before good ones."""
    records = datasets.read(name)
    shown = sorted(records.samples.values(), key=_order)
    if not shown:
        raise RefusedError(N_("There is no picture to draw on yet."))
    number = next((row for row, each in enumerate(shown) if each.file_name == file), number) % len(shown)
    sample = shown[number]
    return responses.answer(
        file=sample.file_name,
        number=number,
        count=len(shown),
        label=sample.label,
        measurable=measurable(sample),
        size_wh=labelling.photos.size_wh(records.root / sample.file_name),
    )


def edge(datasets: Use[Datasets], name: str, body: EdgeRequest) -> Response:
    """Compute the scale from two points at a known distance."""
    records = datasets.read(name)
    path = records.root / records.find(body.file).file_name
    return _calibrated(calibrate_edge(images.load_confined(path, depth=levels_of(path)), body.ends_xy, body.mm))


def checkerboard(
    datasets: Use[Datasets],
    name: str,
    photo: UploadFile,
    across: Annotated[int, Form(ge=3, le=60)],
    down: Annotated[int, Form(ge=3, le=60)],
    square_mm: Annotated[float, Form(gt=0, lt=10_000, allow_inf_nan=False)],
) -> Response:
    """Compute the scale from a photograph of a checkerboard, which is not kept."""
    datasets.root_of(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "board"
        with path.open("wb") as file:
            shutil.copyfileobj(photo.file, file)
        frame = images.load_confined(path)
    return _calibrated(calibrate_checkerboard(frame, (across, down), square_mm))


def try_sizes(datasets: Use[Datasets], trials: Use[SizeTrials], me: Me, name: str, body: TrialRequest) -> Response:
    """Measure one picture, or the data set in the background, with a scale and limits that are saved or not."""
    try:
        checks = drawn_checks(body, CHECKS_FILE.read(datasets.root_of(name)).content)
    except WrongRowsError as error:
        return error.answer(N_("Not tried: correct the marked limits."), me)
    if checks.scale is None:
        raise RefusedError(N_("Measuring needs a scale: draw a known length, or use a checkerboard."))
    opened = trials.bundle(body.inspector)
    if body.file:
        found = trials.measure(name, body.file, opened, checks)
        return responses.answer(
            measured=found.size_wh == checks.scale.size_wh,
            sizes=[_size(each) for each in found.verdict.measurements],
            before=found.before,
            after=found.verdict.state,
            notes=list(found.verdict.notes),
            names=_state_names(me),
        )
    trial = trials.attempt(name, opened, checks)
    failure = trial.failure if isinstance(trial, Task) else ""
    done = None if isinstance(trial, Task) else trial
    return responses.answer(
        busy=isinstance(trial, Task) and not trial.over,
        rows=[] if done is None else [_row(each) for each in done.pictures],
        piece=responses.fill_template(
            me.language,
            "sizes/trial.html",
            task=trial if isinstance(trial, Task) else None,
            found=done,
            counts=None if done is None else _counts(done),
            scale=checks.scale,
            other=0 if done is None else sum(each.size_wh != checks.scale.size_wh for each in done.pictures),
            failure=failure.text(me.language) if isinstance(failure, RefusedError) else failure,
        ),
    )


def save(
    datasets: Use[Datasets],
    inspectors: Use[Inspectors],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: str,
    body: ChecksRequest,
) -> Response:
    """Save scale and limits: 409 if the file has changed since the page was loaded, 422 with the wrong values."""
    try:
        saved = save_checks(datasets.root_of(name), body, me.name, ledger_pool)
    except ChangedFileError:
        return JSONResponse({"message": translations(me.language).gettext(_CHANGED)}, 409)
    except WrongRowsError as error:
        return error.answer(N_("Not saved: correct the marked limits."), me)
    return responses.answer(digest=saved.digest, piece=_inspectors_piece(inspectors, saved, name, me))


def put_into_copy(
    datasets: Use[Datasets],
    inspectors: Use[Inspectors],
    trials: Use[SizeTrials],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: str,
    body: CopyRequest,
) -> Response:
    """Make a second inspector with the saved scale and limits; the first one stays as it is."""
    saved = CHECKS_FILE.read(datasets.root_of(name))
    if saved.problem or not saved.digest or saved.digest != body.digest:
        raise RefusedError(N_("The sizes were changed in the meantime. Look at them, then try again."))
    opened = trials.bundle(body.inspector)
    copy_with_checks(inspectors.workspace, ledger_pool, opened, body.copy_name, saved.content, who=me.name)
    return responses.answer(
        message=responses.gettext_of(me)(N_("The copy is there. Compare it, then put it to use on the page Training.")),
        piece=_inspectors_piece(inspectors, saved, name, me),
    )


def _calibrated(found: Calibration) -> Response:
    return responses.answer(
        scale=found.scale.model_dump(mode="json"),
        points=found.points_xy.tolist(),
        residual_px=found.residual_px,
    )


def _scale(scale: Scale | None) -> dict[str, Any] | None:
    return None if scale is None else scale.model_dump(mode="json")


def _order(sample: Sample) -> tuple[bool, bool]:
    return not measurable(sample), sample.label is not Label.BAD


def _size(found: Measurement) -> dict[str, Any]:
    return {
        "path": found.path_xy,
        "longer_than_mm": [found.length_mm, found.length_error_mm],
        "wider_than_mm": [found.width_mm, found.width_error_mm],
        "larger_than_mm2": [found.area_mm2, found.area_error_mm2],
        "refined": found.refined,
        "zone": found.zone,
    }


def _row(found: MeasuredPicture) -> dict[str, Any]:
    """The largest sizes in a picture, for the histogram; zeros if nothing was measured."""
    sizes = found.verdict.measurements
    return {
        "file": found.file,
        "bad": found.bad,
        "stopped": found.before is State.GO and found.verdict.state is not State.GO,
        "longer_than_mm": max((each.length_mm for each in sizes), default=0),
        "wider_than_mm": max((each.width_mm for each in sizes), default=0),
        "larger_than_mm2": max((each.area_mm2 for each in sizes), default=0),
    }


def _counts(trial: SizeTrial) -> dict[bool, dict[str, int]]:
    """For good and bad pictures: how many there are, are measured, pass by the score, and are stopped by a limit."""
    rows = {bad: [each for each in trial.pictures if each.bad is bad] for bad in (False, True)}
    return {
        bad: {
            "of": len(found),
            "measured": sum(bool(each.verdict.measurements) for each in found),
            "passed": sum(each.before is State.GO for each in found),
            "review": sum(each.before is State.GO and each.verdict.state is State.REVIEW for each in found),
            "rejected": sum(each.before is not State.NO_GO and each.verdict.state is State.NO_GO for each in found),
        }
        for bad, found in rows.items()
    }


def _state_names(me: Me) -> dict[str, str]:
    tell: Callable[[str], str] = translations(me.language).gettext
    return {state.value: tell(responses.STATE_NAMES[state]) for state in State}


def _inspectors_piece(inspectors: Inspectors, saved: Saved[Checks], name: str, me: Me) -> str:
    """What the saved sizes would mean for each inspector, with the form that makes a copy."""
    in_use = inspectors.in_use()
    rows = []
    for path in inspectors.workspace.bundle_paths():
        opened = inspectors.bundles.open(path)
        if opened is not None and opened.manifest.classifier.pool != "none":
            recipe = opened.manifest.recipe
            has = (recipe.scale, recipe.rules) == (saved.content.scale, saved.content.rules)
            rows.append(
                (opened, "has" if has else fits(opened, saved.content), in_use is not None and opened == in_use)
            )
    return responses.fill_template(
        me.language, "sizes/inspectors.html", rows=rows if saved.digest else [], name=name, saved=saved
    )
