"""The label page and the requests of its script."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo.images.geometry import corners_of
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.label import Labelling, growing
from gonogo.server.label.growing import GrowRequest
from gonogo.server.label.picture_label import ConflictError, PictureLabel, row, save_label
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.training.jobs import Jobs

KEYS = {
    "good": "g",
    "bad": "b",
    "none": "o",
    "undo": "u",
    "next": "n",
    "previous": "p",
    "open": "j",
    "copy": "c",
    "propose": "f",
    "box": "x",
    "quad": "q",
    "polygon": "m",
    "lasso": "l",
    "grow": "w",
    "erase": "a",
    "resize": "r",
    "clear": "e",
    "hide": "h",
    "similar": "s",
    "alike": "d",
}
"""Actions with a configurable key. Digits are reserved for the kinds; arrows, Enter, Escape and Delete are fixed."""
KEY_NAMES = {
    "good": N_("Good"),
    "bad": N_("Bad"),
    "none": N_("Not one whole part"),
    "undo": N_("Undo"),
    "next": N_("Next picture"),
    "previous": N_("Previous picture"),
    "open": N_("Next unlabelled"),
    "copy": N_("Copy the last box"),
    "propose": N_("Propose a box"),
    "box": N_("Box around the part"),
    "quad": N_("Rotated box around the part"),
    "polygon": N_("Outline a defect"),
    "lasso": N_("Magnetic lasso: outline along edges"),
    "grow": N_("Grow an area of similar colour"),
    "erase": N_("Grow: take away instead of adding"),
    "resize": N_("Arrows move or resize"),
    "clear": N_("Remove the box"),
    "hide": N_("Hide drawings"),
    "similar": N_("Find similar pictures"),
    "alike": N_("Label near-duplicates alike"),
}


class OpenPicture(BaseModel):
    """Request body: the picture that a page shows, and the version it has."""

    model_config = ConfigDict(extra="forbid")
    place: Annotated[str, Field(max_length=64)]
    """Random identifier of the open page."""
    file: Annotated[str, Field(max_length=1000)]
    since: int
    """The version that the page has."""
    next: Annotated[str, Field(max_length=1000)] = ""
    """The picture it would show next, if no one else has it."""


class KeysRequest(BaseModel):
    """Request body: keys by action; an empty mapping restores the defaults."""

    model_config = ConfigDict(extra="forbid")
    keys: dict[str, Annotated[str, Field(max_length=8)]] = Field(max_length=40)


def label_page(
    request: Request,
    datasets: Use[Datasets],
    jobs: Use[Jobs],
    labelling: Use[Labelling],
    me: Me,
    name: str,
    file: str = "",
) -> Response:
    """The HTML page; its script fetches the pictures."""
    datasets.root_of(name)
    return responses.page(
        request,
        "label.html",
        name=name,
        file=file,
        keys=labelling.shortcuts.keys(me.user.id, "label", KEYS) if me.user else KEYS,
        key_names=KEY_NAMES,
        kinds=datasets.kinds(name),
        has_bundle=jobs.trained_on(name) is not None,
        by_doubt=jobs.made_from(name) is not None,
    )


def samples(datasets: Use[Datasets], labelling: Use[Labelling], name: str) -> Response:
    """All records of a data set and their version."""
    records = datasets.read(name)
    rows = [labelling.rows.of(name, sample) for sample in records.samples.values()]
    return responses.answer(version=records.version, rows=rows)


def label_picture(datasets: Use[Datasets], labelling: Use[Labelling], me: Me, name: str, body: OpenPicture) -> Response:
    """Report the open picture; returns other people's changes and open pictures."""
    records = datasets.read(name)
    others, held = labelling.presence.look(name, body.place, me.name, body.file, body.next)
    rows = [row(sample) for sample in records.since(body.since)]
    return responses.answer(version=records.version, rows=rows, others=others, held=held)


def submit_label(
    datasets: Use[Datasets],
    labelling: Use[Labelling],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: str,
    body: PictureLabel,
) -> Response:
    """Save a label; 409 with the other record if someone else saved first."""
    try:
        saved = save_label(name, body, me.name, datasets=datasets, photos=labelling.photos, ledger_pool=ledger_pool)
    except ConflictError as conflict:
        theirs = row(conflict.theirs)
        tell = translations(me.language).gettext
        message = tell(N_("%(who)s changed this picture in the meantime."))
        if theirs.get("labelled_by") == me.name:
            message = tell(N_("You changed this picture in another tab."))
        return JSONResponse({"message": message % {"who": theirs.get("labelled_by", "?")}, "row": theirs}, 409)
    return responses.answer(row=row(saved))


def labelled_picture(
    datasets: Use[Datasets], labelling: Use[Labelling], name: str, file: str, width: int = 1920
) -> Response:
    """A picture as JPEG, with its full size in the headers."""
    records = datasets.read(name)
    path = records.root / records.find(file).file_name
    if not path.is_file():
        raise HTTPException(404)
    drawn = labelling.photos.jpeg(path, width)
    across, down = labelling.photos.size_wh(path)
    headers = {"Cache-Control": "private, max-age=300", "X-Picture-Size": f"{across} {down}"}
    return Response(drawn, media_type="image/jpeg", headers=headers)


def mask(datasets: Use[Datasets], labelling: Use[Labelling], name: str, file: str) -> Response:
    """A picture's mask as a greyscale PNG."""
    records = datasets.read(name)
    sample = records.find(file)
    size_wh = labelling.photos.size_wh(records.root / sample.file_name)
    return Response(labelling.photos.mask(records.dataset, sample, size_wh), media_type="image/png")


def propose(
    labelling: Use[Labelling], me: Me, name: str, file: str, turn: Annotated[int, Query(ge=0, le=10**6)] = 0
) -> Response:
    """Propose the region of the part; the next one with each turn."""
    labelling.proposals.tune(name)
    found = labelling.proposals.propose(name, file, turn)
    tell = translations(me.language).gettext
    located = found.located
    if not located.present or located.box is None:
        return responses.answer(found=False, reason=tell(located.reason))
    quad = None if located.quad is None else corners_of(located.quad).tolist()
    return responses.answer(
        found=True,
        box_xyxy=located.box.xyxy,
        quad=quad,
        source=tell(found.source),
        number=found.number,
        count=found.count,
    )


def grow(datasets: Use[Datasets], labelling: Use[Labelling], name: str, body: GrowRequest) -> Response:
    """Grow an area of similar colour from a point; changes nothing, the page saves the outlines."""
    grown = growing.grow(labelling.planes, datasets.read(name), body)
    return responses.answer(polygons=grown.polygons, share=grown.share, left_out=grown.left_out)


def doubt(labelling: Use[Labelling], name: str) -> Response:
    """Doubt of the newest inspector for each unlabelled picture; judging continues in the background."""
    labelling.doubts.refresh(name)
    ranking = labelling.doubts.ranking(name)
    return responses.answer(
        bundle=ranking.bundle, waiting=ranking.waiting, doubt=ranking.doubt, problem=ranking.problem
    )


def set_keys(labelling: Use[Labelling], me: Me, body: KeysRequest) -> Response:
    """Save this person's keys for this page."""
    if me.user is None:
        raise RefusedError(N_("Only people can do this. A key has no password and no settings."))
    labelling.shortcuts.set_keys(me.user.id, "label", KEYS, body.keys)
    return responses.answer(keys=labelling.shortcuts.keys(me.user.id, "label", KEYS))
