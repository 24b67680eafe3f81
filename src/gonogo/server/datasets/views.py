"""The data set pages: list, create, upload, set the kinds of defect."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Query, Request, UploadFile
from fastapi.responses import RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from gonogo.dataset import Split
from gonogo.dataset.checking import MIN_LABELLED
from gonogo.errors import DatasetError
from gonogo.schema import Label
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import NEEDED, Datasets, Overview, checked_name
from gonogo.server.datasets.history import WHAT_NAMES, latest_revisions
from gonogo.server.datasets.uploads import MOST_BYTES, take
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.training.jobs import Jobs
from gonogo.server.training.presets import BACKBONES, EFFORT_NAMES, EFFORT_WORDS, Effort
from gonogo.server.training.views import PHASE_NAMES
from gonogo.server.zone_file import ZONE_FILE

BOXES_FOR_ROI = 40
"""Minimum number of boxes for learning the region: half of them are in the train split, and 20 are needed there."""
SPLIT_NAMES = {
    Split.TRAIN: N_("for training"),
    Split.VAL: N_("for validation"),
    Split.CALIBRATE: N_("for calibration"),
    Split.TEST: N_("for testing"),
}

Line = Annotated[str, Form(max_length=200)]


class KindsRequest(BaseModel):
    """Request body: the kinds of defect in the order of their number keys."""

    model_config = ConfigDict(extra="forbid")
    kinds: list[Annotated[str, Field(max_length=400)]] = Field(max_length=200)


def datasets_page(request: Request, datasets: Use[Datasets]) -> Response:
    """All data sets."""
    return responses.page(
        request, "datasets.html", found=[datasets_overview(datasets, name) for name in datasets.names()]
    )


def create_dataset(datasets: Use[Datasets], ledger_pool: Use[LedgerPool], me: Me, name: Line) -> Response:
    """Create a data set."""
    name = checked_name(name)
    if name in datasets.names():
        raise RefusedError(N_("The data set %(name)s already exists."), name=name)
    ledger_pool.act("dataset_created", me.name, dataset=name)
    datasets.create(name)
    return RedirectResponse(f"/datasets/{name}", 303)


def dataset_page(
    request: Request,
    datasets: Use[Datasets],
    jobs: Use[Jobs],
    name: str,
    splits: Annotated[str, Query(max_length=40)] = "",
) -> Response:
    """The page of one data set: statistics, upload, training; ``splits`` are suggested to the first training."""
    found = datasets_overview(datasets, name)
    weights = jobs.weights_files()
    return responses.page(
        request,
        "dataset.html",
        found=found,
        suggested=jobs.free_name(name),
        efforts=[(effort, EFFORT_NAMES[effort], EFFORT_WORDS[effort]) for effort in Effort],
        splits="" if found.splits else splits,
        weights=[file for file in weights if file.startswith(BACKBONES)],
        split_names=SPLIT_NAMES,
        phases=PHASE_NAMES,
        most=MOST_BYTES,
        least=MIN_LABELLED,
        each=NEEDED[Label.GOOD],
        boxes_for_roi=BOXES_FOR_ROI,
        revisions=latest_revisions(datasets, name),
        zones=ZONE_FILE.read(datasets.root_of(name)),
        what_names=WHAT_NAMES,
        jobs=[job for job in jobs.all() if job.request.dataset == name][:5],
    )


def upload(
    datasets: Use[Datasets],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: str,
    files: list[UploadFile],
    by_folder: Annotated[bool, Form()] = False,
) -> Response:
    """Upload photographs and archives."""
    datasets.root_of(name)
    sent = [(file.filename or "picture", file.file) for file in files]
    taken = take(datasets, ledger_pool, name, sent, who=me.name, by_folder=by_folder)
    tell = translations(me.language).gettext
    return responses.answer(
        added=taken.added,
        copies=taken.copies,
        labelled=taken.labelled,
        unknown_folders=taken.unknown_folders,
        refused=[{"name": refused.name, "reason": tell(refused.reason)} for refused in taken.refused],
    )


def set_kinds(datasets: Use[Datasets], ledger_pool: Use[LedgerPool], me: Me, name: str, body: KindsRequest) -> Response:
    """Set the defect kinds and their order."""
    datasets.root_of(name)
    ledger_pool.act("kinds", me.name, dataset=name, kinds=[*body.kinds])
    return responses.answer(kinds=datasets.set_kinds(name, body.kinds))


def datasets_overview(datasets: Datasets, name: str) -> Overview:
    """What a data set holds; a malformed one is listed with its error."""
    try:
        return datasets.read(name).overview
    except DatasetError as error:
        return Overview(name=name, problem=str(error))
