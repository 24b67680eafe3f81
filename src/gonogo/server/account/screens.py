"""Wall screens: made and revoked by administrators, and the page on which a screen sends its code."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from gonogo.server import responses
from gonogo.server.account.login import guest_page
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.screens import COOKIE_S
from gonogo.server.auth.visitor import Me
from gonogo.server.context import RowNumber, Use
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records import Records

START = "/wall"
"""The page that a screen opens with."""
_THROTTLED = "\N{SYMBOL FOR NULL}screen code"
"""Name under which wrong codes are counted; nobody can be called this way by accident."""
Line = Annotated[str, Form(max_length=200)]


def screen_page(request: Request, accounts: Use[Accounts], me: Me) -> Response:
    """The page on which a wall screen sends its code."""
    return guest_page(request, accounts, me, "screen.html", failure="")


def pair_screen(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, code: Line = ""
) -> Response:
    """Log this browser in as a wall screen; a person who is logged in here stays so."""
    address = request.client.host if request.client else "?"
    subjects = accounts.throttle.of_login(_THROTTLED, address, None)
    wait_s = accounts.throttle.begin(subjects)
    say = responses.gettext_of(me)
    if wait_s > 0:
        failure = say(N_("Too many wrong codes. Try again in %(seconds)s seconds.")) % {"seconds": math.ceil(wait_s)}
        answer = guest_page(request, accounts, me, "screen.html", status_code=429, failure=failure)
        answer.headers["Retry-After"] = str(math.ceil(wait_s))
        return answer
    with accounts.database.transaction():
        found = accounts.screens.pair(code, address=address)
        if found is not None:
            ledger_pool.act("screen_paired", f"screen:{found[0].name}", address=address, screen=found[0].id)
    if found is None:
        ledger_pool.act("screen_refused", "?", address=address)
        failure = say(N_("This code is wrong, was used before, or is older than a quarter of an hour."))
        return guest_page(request, accounts, me, "screen.html", status_code=401, failure=failure)
    accounts.throttle.succeeded(subjects)
    answer = RedirectResponse(START, 303)
    keep_login(accounts, answer, found[1])
    return answer


def keep_login(accounts: Accounts, answer: Response, secret: str) -> None:
    """Have the browser keep the login of a screen, as long as browsers keep anything."""
    answer.set_cookie(
        accounts.screen_cookie,
        secret,
        max_age=COOKIE_S,
        path="/",
        secure=accounts.tls,
        httponly=True,
        samesite="strict",
    )


def add_screen(
    request: Request,
    accounts: Use[Accounts],
    ledger_pool: Use[LedgerPool],
    records: Use[Records],
    me: Me,
    name: Line,
    stations: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Make a wall screen and show its code, once."""
    chosen = [station for station in records.index.choices("station") if station in (stations or ())]
    if len(chosen) != len(set(stations or ())):
        raise RefusedError(N_("A field in this form is missing or invalid."))
    with accounts.database.transaction():
        screen, code = accounts.screens.add(name, chosen, created_by=me.name)
        ledger_pool.act("screen_added", me.name, screen=screen.id, name=screen.name, stations=[*chosen] or None)
    return _show_code(request, accounts, me, screen.name, code)


def new_code(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, screen_id: RowNumber
) -> Response:
    """Show a new code of a screen, once."""
    with accounts.database.transaction():
        screen, code = accounts.screens.new_code(screen_id)
        ledger_pool.act("screen_code", me.name, screen=screen.id, name=screen.name)
    return _show_code(request, accounts, me, screen.name, code)


def revoke_screen(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, screen_id: RowNumber
) -> Response:
    """End the login of a screen for good."""
    with accounts.database.transaction():
        screen = accounts.screens.revoke(screen_id)
        ledger_pool.act("screen_revoked", me.name, screen=screen.id, name=screen.name)
    return responses.back(request, "/people", responses.gettext_of(me)(N_("The screen shows nothing any more.")))


def _show_code(request: Request, accounts: Accounts, me: Me, name: str, code: str) -> Response:
    if me.user is None or me.session is None:
        return responses.answer(name=name, code=code)
    about = responses.gettext_of(me)(N_("%(name)s: open %(address)s there within 15 minutes and type this code"))
    said = about % {"name": name, "address": f"{request.base_url}screen"}
    return RedirectResponse(f"/people?once={accounts.sessions.show_once(me.session, said, code)}#screens", 303)
