"""The export page, its downloads, and the verification of the chain for several pages."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import FileResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo.dataset.exporting import Format
from gonogo.schema import State
from gonogo.server import responses
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.visitor import Me
from gonogo.server.context import RowNumber, Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_, RefusedError, told
from gonogo.server.records import Records
from gonogo.server.records.exports import ExportKind, ExportRequest
from gonogo.server.records.fields import cut, day_of, period_of, state_of
from gonogo.server.records.shift import SHIFTS, shift_period
from gonogo.server.records.tables import TableFormat
from gonogo.server.workspace import Workspace

KIND_NAMES = {
    ExportKind.VERDICTS: N_("Verdicts and decisions"),
    ExportKind.ACTIONS: N_("Audit log"),
    ExportKind.DATASET: N_("Data set"),
    ExportKind.INSPECTOR: N_("Inspector"),
    ExportKind.SHIFT: N_("Shift report"),
}
FORMAT_NAMES = {
    Format.COCO: "COCO",
    Format.CVAT: "CVAT",
    Format.VOC: "Pascal VOC",
    Format.YOLO: "YOLO",
    Format.LABEL_STUDIO: "Label Studio",
    Format.DATUMARO: "Datumaro",
}
Line = Annotated[str, Form(max_length=400)]


class VerifyRequest(BaseModel):
    """Request body: the contents of an anchor file that was kept elsewhere, or nothing."""

    model_config = ConfigDict(extra="forbid")

    anchors: Annotated[str, Field(max_length=200_000)] = ""


def export_page(
    request: Request,
    records: Use[Records],
    datasets: Use[Datasets],
    workspace: Use[Workspace],
    me: Me,
    kind: str = "",
    text: str = "",
    since: str = "",
    until: str = "",
    verdict: str = "",
    station: str = "",
    product: str = "",
    who: str = "",
    action: str = "",
) -> Response:
    """The forms and the exports of this person; fields may be filled in by the address, as links from a search are."""
    records.refresh()
    engineer = me.role in ENGINEERS
    return responses.page(
        request,
        "export.html",
        kind=kind,
        given={
            **{"text": cut(text), "since": cut(since), "until": cut(until), "verdict": verdict},
            **{"station": cut(station), "product": cut(product), "who": cut(who), "action": cut(action)},
        },
        exports=_exports_piece(records, me),
        busy=any(not each.over for each in records.exports.of(me.name)),
        states=list(State),
        stations=records.index.choices("station"),
        products=records.index.choices("product"),
        actions=records.index.choices("action"),
        datasets=datasets.names() if engineer else [],
        bundles=[path.name for path in workspace.bundle_paths()] if engineer else [],
        formats=FORMAT_NAMES,
        shifts=SHIFTS,
        engineer=engineer,
    )


def exports_state(records: Use[Records], me: Me) -> Response:
    """The list of this person's exports as a fragment of the page, and whether one is still being made."""
    busy = any(not each.over for each in records.exports.of(me.name))
    return responses.answer(html=_exports_piece(records, me), busy=busy)


def export_table(
    request: Request,
    records: Use[Records],
    me: Me,
    kind: Line,
    table_format: Line = TableFormat.CSV,
    text: Line = "",
    since: Line = "",
    until: Line = "",
    verdict: Line = "",
    station: Line = "",
    product: Line = "",
    who: Line = "",
    action: Line = "",
) -> Response:
    """Start an export of verdicts with decisions, or of the audit log."""
    if kind not in (ExportKind.VERDICTS, ExportKind.ACTIONS) or table_format not in list(TableFormat):
        raise RefusedError(N_("A field in this form is missing or invalid."))
    begin, end = period_of(since, until)
    verdicts = kind == ExportKind.VERDICTS
    wanted = ExportRequest(
        kind=ExportKind(kind),
        table_format=TableFormat(table_format),
        text=cut(text),
        since=begin,
        until=end,
        station=cut(station),
        state=state_of(verdict) if verdicts else None,
        product=cut(product) if verdicts else "",
        who="" if verdicts else cut(who),
        action="" if verdicts else cut(action),
    )
    return _started(request, records, me, wanted)


def export_labels(
    request: Request,
    records: Use[Records],
    datasets: Use[Datasets],
    me: Me,
    dataset: Line,
    label_format: Line,
    labels_only: Annotated[bool, Form()] = False,
) -> Response:
    """Start an export of a data set."""
    datasets.root_of(dataset)
    if label_format not in list(Format):
        raise RefusedError(N_("A field in this form is missing or invalid."))
    wanted = ExportRequest(
        kind=ExportKind.DATASET, dataset=dataset, label_format=Format(label_format), labels_only=labels_only
    )
    return _started(request, records, me, wanted)


def export_inspector(
    request: Request, records: Use[Records], workspace: Use[Workspace], me: Me, bundle: Line
) -> Response:
    """Start an export of a sealed bundle."""
    if bundle not in [path.name for path in workspace.bundle_paths()]:
        raise RefusedError(N_("There is no inspector %(name)s."), name=cut(bundle))
    return _started(request, records, me, ExportRequest(kind=ExportKind.INSPECTOR, bundle=bundle))


def export_shift(
    request: Request, records: Use[Records], me: Me, day: Line, shift: Line, station: Line = ""
) -> Response:
    """Start a shift report."""
    when = day_of(day)
    if when is None or shift not in SHIFTS:
        raise RefusedError(N_("Choose a day and a shift."))
    period_of(day, day)  # refuses a day that no clock can show
    begin, end = shift_period(when, shift)
    wanted = ExportRequest(
        kind=ExportKind.SHIFT, since=begin, until=end, shift=f"{when.isoformat()}-{shift}", station=cut(station)
    )
    return _started(request, records, me, wanted)


def download(records: Use[Records], me: Me, number: RowNumber) -> Response:
    """The file of a finished export of this person."""
    found = records.exports.file(number, me.name)
    if found is None:
        raise HTTPException(404)
    path, name = found
    return FileResponse(path, media_type="application/octet-stream", filename=name)


def verify_chain(records: Use[Records], me: Me, body: VerifyRequest) -> Response:
    """Start a verification of the whole chain."""
    records.chain.start(me.name, body.anchors)
    return responses.answer(done=True)


def chain_state(records: Use[Records], me: Me, seq: RowNumber = 0) -> Response:
    """The state of the verification as a fragment of a page, for a part's row if one is given."""
    task = records.chain.task()
    busy = task is not None and not task.over
    return responses.answer(html=chain_piece(records, me.language, seq=seq), busy=busy)


def chain_piece(records: Records, language: str, *, seq: int = 0) -> Markup:
    """The latest verification of the chain and the progress of a running one."""
    task = records.chain.task()
    failure = "" if task is None or not task.over else told(task.failure, language)
    return responses.fill_template(
        language,
        "records/chain.html",
        task=task if task is not None and not task.over else None,
        failure=failure,
        report=records.chain.latest(),
        seq=seq,
    )


def _started(request: Request, records: Records, me: Me, wanted: ExportRequest) -> Response:
    records.exports.start(wanted, me.name)
    done = responses.gettext_of(me)(N_("The export is being made. Download it under Your exports."))
    return responses.back(request, "/export", done)


def _exports_piece(records: Records, me: Me) -> Markup:
    return responses.fill_template(
        me.language, "records/exports.html", exports=records.exports.of(me.name)[:20], names=KIND_NAMES
    )
