"""The pages of the stations: the list, the form, what the camera sees, and the requests of their scripts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import Form, Query, Request
from fastapi.responses import Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException

from gonogo.server import responses
from gonogo.server.access import ENGINEERS, OPERATORS, Role
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.context import Use, component
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_, RefusedError
from gonogo.server.signature_fields import SignatureFields
from gonogo.server.signatures import Signatures, Signer
from gonogo.server.stations import form
from gonogo.server.stations.looking import Eyes
from gonogo.server.stations.previews import Previews
from gonogo.server.stations.stations import REMOVED, Sign, Station, Stations
from gonogo.server.workspace import Workspace
from gonogo.station.place import Phase

PHASE_NAMES: Mapping[Phase, str] = {
    Phase.OFF: N_("Stopped"),
    Phase.STARTING: N_("Starting"),
    Phase.RUNNING: N_("Running"),
    Phase.FAULT: N_("Fault"),
    Phase.STOPPING: N_("Stopping"),
    Phase.FAILED: N_("Not running"),
    Phase.ELSEWHERE: N_("Running, started elsewhere"),
}
_LONGEST_FIELD, _LONGEST_TEXT = 500, 30_000


def stations_page(request: Request, accounts: Use[Accounts], stations: Use[Stations], me: Me) -> Response:
    """The list of the stations; its script keeps it up to date."""
    return responses.page(request, "stations.html", piece=_list(accounts, stations, me), any=bool(stations.all()))


def stations_list(accounts: Use[Accounts], stations: Use[Stations], me: Me) -> Response:
    """The list as a page fragment."""
    return responses.answer(piece=_list(accounts, stations, me))


def new_page(request: Request, stations: Use[Stations], workspace: Use[Workspace], datasets: Use[Datasets]) -> Response:
    """The form of a new station."""
    taken = {each.name for each in stations.all()}
    free = next(name for number in range(1, 10**6) if (name := f"line-{number}") not in taken)
    values = stations.new_values(free)
    return _form_page(request, None, values, workspace=workspace, datasets=datasets)


def station_page(
    request: Request,
    accounts: Use[Accounts],
    stations: Use[Stations],
    workspace: Use[Workspace],
    datasets: Use[Datasets],
    me: Me,
    name: str,
) -> Response:
    """One station: what its camera sees, a try, its settings."""
    station = stations.find(name)
    read = stations.read(station)
    return _form_page(
        request,
        station,
        read.filled.values,
        workspace=workspace,
        datasets=datasets,
        read=read,
        piece=_standing(accounts, station, me),
        token=stations.token(station) if me.role in ENGINEERS and not station.by_hand else None,
        cameras=[] if station.settings is None else [each.name for each in station.settings.cameras],
    )


async def create(request: Request, stations: Use[Stations], signatures: Use[Signatures], me: Me) -> Response:
    """Set up a new station."""
    values = await _fields(request)
    sign, anywhere = _signing(signatures, me, values), me.role is Role.ADMIN
    station = await run_in_threadpool(stations.create, values, who=me.name, anywhere=anywhere, sign=sign)
    done = responses.gettext_of(me)(N_("The station is set up. Try it, then start it."))
    return await run_in_threadpool(responses.back, request, f"/stations/{station.name}", done)


async def save(request: Request, stations: Use[Stations], signatures: Use[Signatures], me: Me, name: str) -> Response:
    """Change the settings of a station."""
    values = await _fields(request)
    seen = values.pop("seen", "")
    sign, anywhere = _signing(signatures, me, values), me.role is Role.ADMIN
    await run_in_threadpool(stations.save, name, values, seen=seen, who=me.name, anywhere=anywhere, sign=sign)
    done = responses.gettext_of(me)(N_("Saved."))
    return await run_in_threadpool(responses.back, request, f"/stations/{name}", done)


def start(request: Request, stations: Use[Stations], previews: Use[Previews], me: Me, name: str) -> Response:
    """Start a station."""
    previews.stop(stations.find(name).name)
    changed = stations.want(name, run=True, who=me.name)
    return _done(request, me, N_("The station starts.") if changed else N_("The station was started already."))


def stop(request: Request, stations: Use[Stations], me: Me, name: str) -> Response:
    """Stop a station: the parts in progress still get their answers."""
    changed = stations.want(name, run=False, who=me.name)
    return _done(request, me, N_("The station stops.") if changed else N_("The station was stopped already."))


def remove(
    request: Request,
    stations: Use[Stations],
    previews: Use[Previews],
    me: Me,
    name: str,
    seen: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Remove a station; its folder is kept."""
    previews.stop(stations.find(name).name)
    kept = stations.remove(name, seen=seen, who=me.name)
    done = responses.gettext_of(me)(N_("%(name)s is removed. Its folder is kept as %(folder)s."))
    return responses.back(request, "/stations", done % {"name": name, "folder": f"stations/{REMOVED}/{kept.name}"})


def restart(request: Request, stations: Use[Stations], previews: Use[Previews], me: Me, name: str) -> Response:
    """Stop a station and start it again; one that does not run is started."""
    previews.stop(stations.find(name).name)
    stations.want(name, run=True, who=me.name, again=True)
    return _done(request, me, N_("The station starts again."))


def state(
    accounts: Use[Accounts],
    stations: Use[Stations],
    eyes: Use[Eyes],
    me: Me,
    name: str,
) -> Response:
    """What a station does, what its cameras see, and what was tried."""
    station = stations.find(name)
    seen = eyes.look(station, preview=me.role in ENGINEERS)
    cameras = [
        {
            "number": each.number,
            "picture": each.picture,
            "grid": each.grid,
            "piece": responses.fill_template(me.language, "stations/look.html", seen=each),
        }
        for each in seen.cameras
    ]
    tried = responses.fill_template(me.language, "stations/tried.html", tried=seen.tried, name=name)
    return responses.answer(
        phase=station.standing.phase,
        piece=_standing(accounts, station, me),
        cameras=cameras,
        source=seen.source,
        tried=tried,
        busy=bool(seen.tried and seen.tried.get("busy")),
        boxes=[each.get("box") for each in (seen.tried or {}).get("cameras", ())],
        log=station.place.log_tail() if not station.by_hand else "",
    )


def try_once(stations: Use[Stations], previews: Use[Previews], name: str) -> Response:
    """Take one picture and judge it; nothing is recorded, and the line gets no answer."""
    station = stations.find(name)
    if station.settings is None:
        raise RefusedError(N_("These settings cannot be used: %(why)s"), why=station.problem)
    if station.standing.phase.holds_camera:
        raise RefusedError(N_("The station is running and uses its camera. Watch it instead, or stop it first."))
    previews.judge(station)
    return responses.answer()


def picture(
    stations: Use[Stations],
    previews: Use[Previews],
    name: str,
    kind: Annotated[int, Query(ge=0, le=2)] = 0,
    camera: Annotated[int, Query(ge=0, le=99)] = 0,
) -> Response:
    """A picture of a station that does not run; see `Previews.picture`."""
    found = previews.picture(stations.find(name).name, kind, camera)
    if found is None:
        raise HTTPException(404)
    return Response(found, media_type="image/jpeg", headers={"Cache-Control": "no-store"})


def _done(request: Request, me: Visitor, message: str) -> Response:
    to = responses.came_from(request)
    return responses.back(request, "/stations" if to == "/" else to, responses.gettext_of(me)(message))


async def _fields(request: Request) -> form.Values:
    """The fields of the form as text.

    Raises:
        RefusedError: one of them is far too long.
    """
    found: form.Values = {}
    for key, value in (await request.form()).items():
        if isinstance(value, str):
            if len(value) > (_LONGEST_TEXT if key == "more" else _LONGEST_FIELD):
                raise RefusedError(N_("A field in this form is too long."))
            found[key] = value if key in ("more", "passphrase") else value.strip()
    return found


def _signing(signatures: Signatures, me: Visitor, values: form.Values) -> Sign:
    """Take the fields of the signature out of a form; they count only where a signature is required."""
    typed = {name: values.pop(name, "") for name in ("passphrase", "reason", "meaning")}

    def sign(inspectors: str) -> Signer:
        if not (signatures.required and inspectors):
            return Signer(who=me.name)
        try:
            asked = SignatureFields.model_validate({**typed, "meaning": typed["meaning"] or "approved"})
        except ValidationError as error:
            raise RefusedError(N_("A field in this form is missing or invalid.")) from error
        return signatures.signer(me, asked, about=f"inspectors of a station: {inspectors}"[:300])

    return sign


def _form_page(
    request: Request,
    station: Station | None,
    values: form.Values,
    *,
    workspace: Workspace,
    datasets: Datasets,
    **more: Any,
) -> Response:
    active = workspace.active_bundle()
    shown: dict[str, Any] = {"read": None, "piece": "", "token": None, "cameras": [], **more}
    return responses.page(
        request,
        "station_setup.html",
        station=station,
        values=values,
        bundles=[path.name for path in workspace.bundle_paths()],
        active="" if active is None else active.name,
        folders=[f"../../datasets/{name}/images" for name in datasets.names()],
        camera_kinds=form.CAMERA_KINDS,
        trigger_kinds=form.TRIGGER_KINDS,
        answer_kinds=form.ANSWER_KINDS,
        pixel_formats=form.PIXEL_FORMATS,
        examples=form.EXAMPLES,
        offer=component(request, Signatures).offer(request.state.visitor),
        **shown,
    )


def _list(accounts: Accounts, stations: Stations, me: Visitor) -> str:
    return responses.fill_template(
        me.language,
        "stations/list.html",
        stations=stations.all(),
        phases=PHASE_NAMES,
        Phase=Phase,
        may_run=me.role in OPERATORS,
        may_open=me.role in ENGINEERS or me.role is Role.AUDITOR,
        may_set_up=me.role in ENGINEERS,
        csrf=accounts.sessions.csrf(me.session) if me.session else "",
    )


def _standing(accounts: Accounts, station: Station, me: Visitor) -> str:
    return responses.fill_template(
        me.language,
        "stations/standing.html",
        station=station,
        phases=PHASE_NAMES,
        Phase=Phase,
        may_run=me.role in OPERATORS and not station.by_hand,
        csrf=accounts.sessions.csrf(me.session) if me.session else "",
    )
