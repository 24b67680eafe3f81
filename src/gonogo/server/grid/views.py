"""The grid page of a data set and the requests of its script."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlencode

from fastapi import Query, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException

from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets.views import SPLIT_NAMES
from gonogo.server.grid import Grid
from gonogo.server.grid.changing import BulkAction, BulkRequest, ConfirmationNeededError, change_pictures
from gonogo.server.grid.index import VERDICTS, GridIndex, mark
from gonogo.server.grid.likeness import PACKAGE
from gonogo.server.grid.predictions import Predicted
from gonogo.server.grid.searching import PER_PAGE, GridSearch
from gonogo.server.grid.thumbnails import WIDTH_PX
from gonogo.server.grid.twins import Twin, said_of_twins, twins_of
from gonogo.server.inspectors.judged import stamp_of
from gonogo.server.label.picture_label import revision
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool

LABEL_NAMES = {
    "good": N_("good"),
    "bad": N_("bad"),
    "open": N_("unlabelled"),
    "none": N_("not one whole part"),
}
SORT_NAMES = {
    "file": N_("as uploaded"),
    "name": N_("by name"),
    "date": N_("newest first"),
    "score": N_("highest score first"),
    "doubt": N_("most doubtful first"),
}
DONE_NAMES = {
    "good": N_("%(count)s pictures labelled good."),
    "bad": N_("%(count)s pictures labelled bad."),
    "open": N_("The label of %(count)s pictures removed."),
    "move": N_("%(count)s pictures moved to another split."),
    "remove": N_("%(count)s pictures removed from the data set."),
    "propagate": N_("%(count)s near-duplicates labelled."),
}
_FOREVER = "private, max-age=31536000, immutable"
_MOST_LOTS = 200


class AlikeRequest(BaseModel):
    """Request body: label the near-duplicates of a picture alike."""

    model_config = ConfigDict(extra="forbid")
    file: Annotated[str, Field(max_length=1000)]
    revision: Annotated[str, Field(max_length=64)]
    sure: bool = False


class UndoRequest(BaseModel):
    """Request body: the change to undo."""

    model_config = ConfigDict(extra="forbid")
    number: int = Field(ge=0, le=10**12)


def grid_page(
    request: Request,
    datasets: Use[Datasets],
    grid: Use[Grid],
    me: Me,
    name: str,
    search: Annotated[GridSearch, Query()],
) -> Response:
    """One page of the pictures that match."""
    records = datasets.read(name)
    grid.predictions.refresh()
    predicted = grid.predictions.of(name)
    index = grid.indexes.of(records, predicted)
    near = grid.likeness.distances(records, search.like) if search.like else None
    rows = search.rows(index, near)
    pages = max(1, -(-len(rows) // PER_PAGE))
    page = min(search.page, pages)
    shown = [_card(index, int(row), records.root) for row in rows[(page - 1) * PER_PAGE : page * PER_PAGE]]
    coming = [_card(index, int(row), records.root) for row in rows[page * PER_PAGE : (page + 1) * PER_PAGE]]
    lots = index.values("lot")
    return responses.page(
        request,
        "grid.html",
        name=name,
        search=search,
        shown=shown,
        thumbs=[_address(name, each, search, predicted) for each in shown],
        coming=[_address(name, each, search, predicted) for each in coming],
        found=len(rows),
        total=len(index.rows),
        page_number=page,
        pages=pages,
        first=(page - 1) * PER_PAGE,
        digest=index.digest(rows),
        predicted=predicted,
        judged=int((index.verdict >= 0).sum()),
        blind=int(index.blind.sum()),
        judging=grid.predictions.progress(name),
        disagreeing=int(index.disagrees.sum()),
        kinds=datasets.listed_kinds(name) + [k for k in index.values("kind") if k not in datasets.listed_kinds(name)],
        lots=lots[:_MOST_LOTS],
        change=grid.undo.latest(name, me.name),
        label_names=LABEL_NAMES,
        split_names=SPLIT_NAMES,
        sort_names=SORT_NAMES,
        done_names=DONE_NAMES,
        near=near,
        weights_package=None if grid.likeness.possible() else PACKAGE,
    )


def thumbnail(datasets: Use[Datasets], grid: Use[Grid], name: str, file: str, v: str = "", heat: str = "") -> Response:
    """A thumbnail as JPEG. Its address holds the version of the picture, so browsers may keep it forever."""
    records = datasets.read(name)
    path = records.root / records.find(file).file_name
    if not path.is_file():
        raise HTTPException(404)
    stamp, predicted = stamp_of(path), grid.predictions.of(name)
    if not heat:
        data = grid.thumbnails.jpeg(path, stamp)
    elif predicted is None or predicted.graph != heat or file not in predicted.scores:
        raise HTTPException(404)
    else:
        data = grid.thumbnails.jpeg(
            path, stamp, drawn=heat, draw=lambda frame: grid.predictions.heat_map(frame, WIDTH_PX)
        )
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": _FOREVER if v == stamp else "no-cache"})


def change(
    datasets: Use[Datasets], grid: Use[Grid], ledger_pool: Use[LedgerPool], me: Me, name: str, body: BulkRequest
) -> Response:
    """Change many pictures in one revision; 409 if the selection is stale or the change has to be confirmed."""
    tell = translations(me.language).gettext
    chosen = _chosen(datasets, grid, name, body)
    twins: list[Twin] = []
    if body.action is BulkAction.PROPAGATE:
        records = datasets.read(name)
        samples = [records.samples[file] for file, _ in chosen if file in records.samples]
        twins = twins_of(records, samples, grid.likeness)
        if not twins and (left := grid.likeness.left(records)):
            raise RefusedError(
                N_("No near-duplicates were found yet. %(count)s pictures are not described; ask again in a minute."),
                count=left,
            )
    try:
        done = change_pictures(
            name, body, chosen, me.name, datasets=datasets, undo=grid.undo, ledger_pool=ledger_pool, twins=twins
        )
    except ConfirmationNeededError as error:
        return JSONResponse({"message": error.text(me.language), "confirm": True}, 409)
    if done.stale and not done.changed:
        message = tell(N_("Somebody else has changed these pictures in the meantime. Nothing was changed."))
        return JSONResponse({"message": message, "stale": True}, 409)
    if body.action is not BulkAction.PROPAGATE:
        return responses.answer(changed=done.changed, stale=done.stale)
    number = None if done.change is None else done.change.number
    said = said_of_twins(twins, done.files, me.language)
    return responses.answer(changed=done.changed, stale=done.stale, said=said, number=number)


def label_alike(
    datasets: Use[Datasets], grid: Use[Grid], ledger_pool: Use[LedgerPool], me: Me, name: str, body: AlikeRequest
) -> Response:
    """Give the label and region of one picture to its near-duplicates; 409 if it is not as the person saw it."""
    sample = datasets.read(name).find(body.file)
    if revision(sample) != body.revision:
        message = translations(me.language).gettext(N_("Somebody else has changed this picture. Look at it again."))
        return JSONResponse({"message": message, "stale": True}, 409)
    files = {body.file: f"{mark(sample):016x}"}
    request = BulkRequest(action=BulkAction.PROPAGATE, files=files, sure=body.sure)
    return change(datasets, grid, ledger_pool, me, name, request)


def undo(
    datasets: Use[Datasets], grid: Use[Grid], ledger_pool: Use[LedgerPool], me: Me, name: str, body: UndoRequest
) -> Response:
    """Take back one's own change, for the pictures that nobody has changed since."""
    datasets.root_of(name)
    ledger_pool.act("pictures_undo", me.name, dataset=name, change=body.number)
    restored, left = grid.undo.undo(datasets, name, me.name, body.number)
    return responses.answer(changed=restored, stale=left)


def judge(grid: Use[Grid], datasets: Use[Datasets], me: Me, name: str) -> Response:
    """Have all pictures judged by the inspector in use, in the background."""
    datasets.root_of(name)
    grid.predictions.judge_all(name, who=me.name)
    return RedirectResponse(f"/datasets/{name}/pictures", 303)


def _chosen(datasets: Datasets, grid: Grid, name: str, body: BulkRequest) -> list[tuple[str, int]]:
    """The chosen files with their marks; all that match must still be those that the person saw."""
    if body.matching is None:
        try:
            return [(file, int(seen, 16)) for file, seen in body.files.items()]
        except ValueError as error:
            raise HTTPException(400) from error
    try:
        search = GridSearch.model_validate(dict(parse_qsl(body.matching.query.removeprefix("?"))))
    except ValidationError as error:
        raise HTTPException(400) from error
    index = grid.indexes.of(datasets.read(name), grid.predictions.of(name))
    rows = search.rows(index)
    if index.digest(rows) != body.matching.digest:
        raise RefusedError(
            N_(
                "The pictures that match have changed in the meantime: somebody labels, or more were judged. Nothing "
                "was changed. Reload the page, look again, and repeat."
            )
        )
    return [(index.rows[row].sample.file_name, index.rows[row].mark) for row in rows.tolist()]


def _card(index: GridIndex, row: int, root: Path) -> dict[str, Any]:
    """What one picture shows."""
    found, verdict, score = index.rows[row], int(index.verdict[row]), float(index.score[row])
    return {
        "file": found.sample.file_name,
        "stamp": stamp_of(root / found.sample.file_name),
        "mark": f"{found.mark:016x}",
        "label": found.label,
        "kind": found.kind,
        "split": found.sample.split,
        "verdict": VERDICTS[verdict] if verdict >= 0 else None,
        "score": score if score == score else None,
        "disagrees": bool(index.disagrees[row]),
    }


def _address(name: str, card: dict[str, Any], search: GridSearch, predicted: Predicted | None) -> str:
    query = {"file": card["file"], "v": card["stamp"]}
    if search.heat and predicted is not None and card["verdict"] is not None:
        query["heat"] = predicted.graph
    return f"/datasets/{name}/thumb.jpg?{urlencode(query)}"
