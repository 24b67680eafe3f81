"""The page of long work, and what the bar on every page shows of it."""

from __future__ import annotations

import json
import time
from functools import partial
from typing import Any

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup
from pydantic import ValidationError
from starlette.exceptions import HTTPException

from gonogo.server import responses
from gonogo.server.access import ENGINEERS, ENGINEERS_AND_AUDITORS
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.background_work import Asked, Journal, WorkKind, WorkState
from gonogo.server.compare import Comparing
from gonogo.server.compare.views import Couple, start_comparison
from gonogo.server.context import Use, component
from gonogo.server.dataset_store import Datasets
from gonogo.server.grid import Grid
from gonogo.server.inspectors import Inspectors
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records import Records
from gonogo.server.records.exports import ExportRequest
from gonogo.server.review import Review
from gonogo.server.signatures import Signatures
from gonogo.server.training.jobs import Jobs
from gonogo.server.understand import Understanding
from gonogo.server.understand.views import LimitsRequest, start_certification
from gonogo.server.work.board import TRAINING, Board, WorkItem
from gonogo.signed_actions import SIGNED

STATE_NAMES = {
    WorkState.WAITING: N_("Waiting"),
    WorkState.RUNNING: N_("Running"),
    WorkState.DONE: N_("Done"),
    WorkState.FAILED: N_("Failed"),
    WorkState.CANCELLED: N_("Cancelled"),
    WorkState.INTERRUPTED: N_("Interrupted"),
}
_SHOWN_S, _MOST_ENDED = 7 * 86400.0, 50
"""What ended within this time is listed, at most so much of it."""
_MAY_ASK = {
    WorkKind.CERTIFY: ENGINEERS,
    WorkKind.COMPARE: ENGINEERS,
    WorkKind.JUDGE: ENGINEERS,
    WorkKind.EXPORT: ENGINEERS_AND_AUDITORS,
    WorkKind.VERIFY: ENGINEERS_AND_AUDITORS,
}


def work_page(request: Request, board: Use[Board], me: Me) -> Response:
    """The queue: what runs, waits, was interrupted and has ended."""
    return responses.page(request, "work.html", **_lists(board, me))


def work_state(board: Use[Board], accounts: Use[Accounts], me: Me, since: float = 0.0, whole: bool = False) -> Response:
    """What runs now, and what this person asked for and ended after ``since``, for the bar on every page.

    ``whole`` adds the lists of the page of long work.
    """
    now = accounts.now()
    listed = [item for item in board.now() if _concerns(me, item)]
    first = listed[0] if listed else None
    ended = [item for item in board.ended(since=since) if item.who == me.name] if since > 0 else []
    return responses.answer(
        now=now,
        first=None if first is None else _said(me, first),
        more=max(0, len(listed) - 1),
        interrupted=sum(_concerns(me, item) for item in board.interrupted()),
        ended=[{**_said(me, item), "at": item.ended_at} for item in reversed(ended)],
        html=_lists_piece(board, accounts, me) if whole else "",
    )


def cancel(request: Request, board: Use[Board], me: Me, identifier: str) -> Response:
    """Cancel what waits or runs."""
    item = _own(board, me, identifier)
    if item.over:
        raise RefusedError(N_("This has already ended."))
    component(request, LedgerPool).act("work_cancelled", me.name, work=_named(item), asked_by=item.who)
    if item.id.startswith(TRAINING):
        component(request, Jobs).cancel(int(item.id[1:]))
    elif not board.cancel(int(item.id[1:])):
        raise RefusedError(N_("This has already ended."))
    return _back(request, me, N_("It is being cancelled."))


def move_first(request: Request, board: Use[Board], me: Me, identifier: str) -> Response:
    """Do what waits before everything else that waits."""
    item = _own(board, me, identifier)
    if item.id.startswith(TRAINING):
        component(request, Jobs).put_first(int(item.id[1:]))
    elif not board.move_first(int(item.id[1:])):
        raise RefusedError(N_("This does not wait any more."))
    return _back(request, me, N_("It is next in its queue."))


def resume(request: Request, board: Use[Board], me: Me, identifier: str) -> Response:
    """Continue what was interrupted, stopped or failed; what the engine cannot resume is started again."""
    item = _own(board, me, identifier)
    if item.id.startswith(TRAINING):
        job = component(request, Jobs).resume(int(item.id[1:]))
        component(request, LedgerPool).act(
            "training_resumed", me.name, bundle=job.request.bundle, run=job.request.number
        )
        return _back(request, me, N_("It continues."))
    journal = component(request, Journal)
    entry = journal.find(int(item.id[1:]))
    if entry is None or entry.state not in (WorkState.INTERRUPTED, WorkState.CANCELLED, WorkState.FAILED):
        raise RefusedError(N_("This was not interrupted, or somebody has continued it."))
    if me.role not in _MAY_ASK[entry.asked.kind]:
        raise HTTPException(403)
    _ask_again(request, entry.asked, me.name)
    if entry.state is WorkState.INTERRUPTED:
        journal.set_state(entry.number, WorkState.SETTLED)
    return _back(request, me, N_("It continues."))


def dismiss(request: Request, board: Use[Board], me: Me, identifier: str) -> Response:
    """Take what was interrupted from the list."""
    item = _own(board, me, identifier)
    if item.state is not WorkState.INTERRUPTED:
        raise RefusedError(N_("This was not interrupted, or somebody has continued it."))
    if item.id.startswith(TRAINING):
        component(request, Jobs).settle(int(item.id[1:]))
    else:
        component(request, Journal).set_state(int(item.id[1:]), WorkState.SETTLED)
    return RedirectResponse("/long-work", 303)


def _ask_again(request: Request, asked: Asked, who: str) -> None:
    """Start the same work for this person."""
    arguments = dict(asked.arguments)
    try:
        match asked.kind:
            case WorkKind.CERTIFY:
                inspectors = component(request, Inspectors)
                _require_in_use(inspectors, asked.about)
                if arguments.pop(SIGNED, False):
                    raise RefusedError(
                        N_("Your signing key was closed when the server ended. Set and sign the limits again there.")
                    )
                limits = LimitsRequest.model_validate(arguments)
                parts_of_it = component(request, Understanding), component(request, Signatures)
                start_certification(inspectors, *parts_of_it, request.state.visitor, limits)
            case WorkKind.COMPARE:
                couple = Couple.model_validate(arguments)
                parts = component(request, Inspectors), component(request, Comparing), component(request, Review)
                start_comparison(*parts, who, couple)
            case WorkKind.JUDGE:
                component(request, Datasets).root_of(str(arguments["dataset"]))
                component(request, Grid).predictions.judge_all(str(arguments["dataset"]), who=who)
            case WorkKind.EXPORT:
                wanted = ExportRequest.model_validate_json(json.dumps(arguments["request"]))
                component(request, Records).exports.start(wanted, who)
            case WorkKind.VERIFY:
                component(request, Records).chain.start(who, str(arguments["anchors"]))
    except (ValidationError, KeyError) as error:
        raise RefusedError(N_("Another version of the program began this. Ask for it again on its page.")) from error


def _require_in_use(inspectors: Inspectors, name: str) -> None:
    opened = inspectors.in_use()
    if opened is None or opened.name != name:
        raise RefusedError(N_("Another inspector is in use now, so its limits were not set."))


def _own(board: Board, me: Visitor, identifier: str) -> WorkItem:
    """The item, if this person may change it: engineers all, others what they asked for."""
    item = board.find(identifier)
    if item is None:
        raise RefusedError(N_("This does not exist any more."))
    if not _concerns(me, item):
        raise HTTPException(403)
    return item


def _concerns(me: Visitor, item: WorkItem) -> bool:
    return me.role in ENGINEERS or (item.who == me.name and bool(item.who))


def _lists(board: Board, me: Visitor) -> dict[str, Any]:
    """What the page lists."""
    interrupted = [item for item in board.interrupted() if _concerns(me, item)]
    since = max(0.0, time.time() - _SHOWN_S)
    return {
        "now": [item for item in board.now() if _concerns(me, item)],
        "interrupted": interrupted,
        "ended": [item for item in board.ended(since=since, limit=_MOST_ENDED) if _concerns(me, item)],
        "states": STATE_NAMES,
        "State": WorkState,
        "left": partial(responses.time_left, me.language),
    }


def _lists_piece(board: Board, accounts: Accounts, me: Visitor) -> Markup:
    csrf = accounts.sessions.csrf(me.session) if me.session else ""
    return responses.fill_template(me.language, "long_work/lists.html", csrf=csrf, **_lists(board, me))


def _said(me: Visitor, item: WorkItem) -> dict[str, Any]:
    """An item for the scripts, in the person's language."""
    say = translations(me.language).gettext
    name = say(item.title) + (f": {item.about}" if item.about else "")
    share = item.done / item.total if item.total else None
    return {
        "id": item.id,
        "name": name,
        "state": item.state,
        "text": f"{name} \N{EN DASH} {say(STATE_NAMES[item.state])}",
        "share": share,
        "left": responses.time_left(me.language, item.left_s),
        "failed": item.state is WorkState.FAILED,
        "link": item.link or "/long-work",
    }


def _named(item: WorkItem) -> str:
    return f"{item.title}: {item.about}" if item.about else item.title


def _back(request: Request, me: Visitor, message: str) -> Response:
    return responses.back(request, responses.came_from(request), responses.gettext_of(me)(message))
