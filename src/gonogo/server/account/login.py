"""Login and logout, password change, language and colour settings, and ``/health``."""

from __future__ import annotations

import math
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException

from gonogo import files
from gonogo.errors import GonogoError
from gonogo.ledger import Action
from gonogo.server import responses
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.directory import DirectoryDownError
from gonogo.server.auth.hashing import BusyError
from gonogo.server.auth.people import LONGEST_PASSWORD, User, WrongPasswordError
from gonogo.server.auth.sessions import LONGEST_SESSION_S
from gonogo.server.auth.throttle import DEVICE_DAYS
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.context import Use, component
from gonogo.server.language import LANGUAGES, N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.workspace import Workspace

LEAST_FREE_BYTES = 20_000_000
"""Minimum free disk space of a healthy server."""
Text = Annotated[str, Form(max_length=LONGEST_PASSWORD * 4)]


def health(ledger_pool: Use[LedgerPool], workspace: Use[Workspace]) -> Response:
    """Report whether the ledger is readable and the disk has free space. Needs no login and reveals nothing else."""
    try:
        with ledger_pool.reading() as ledger:
            ledger.head()
        well = ledger_pool.path.exists() and files.free_bytes(workspace.root) >= LEAST_FREE_BYTES
    except (GonogoError, OSError):
        well = False
    return PlainTextResponse("ok\n") if well else PlainTextResponse("unfit\n", 503)


def login_page(request: Request, accounts: Use[Accounts], me: Me, next: str = "/") -> Response:
    """The login page, the only page available without a login."""
    if me.user is not None:
        return RedirectResponse(responses.inside(next), 303)
    return _login_page(request, accounts, me, next)


def login(
    request: Request,
    accounts: Use[Accounts],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: Text,
    password: Text,
    next: Text = "/",
) -> Response:
    """Check the password and start a session under a new cookie."""
    device = request.cookies.get(accounts.device_cookie)
    address = request.client.host if request.client else "?"
    subjects = accounts.throttle.of_login(name, address, device)
    user, wait_s = None, accounts.throttle.wait_s(subjects)

    def record(action: str, user: User, details: dict[str, str]) -> None:
        ledger_pool.append(Action(action=action, who="directory", details={"user": user.name, **details}))

    try:
        if wait_s == 0:
            with turn_to_hash(accounts, known=len(subjects) == 1):
                wait_s = accounts.throttle.begin(subjects)
                user = accounts.check(name, password, record=record) if wait_s == 0 else None
    except DirectoryDownError as error:
        ledger_pool.act("login_failed", name, address=address, reason=str(error))
        failure = responses.gettext_of(me)(N_("The plant's directory does not answer. Ask your administrator."))
        return _login_page(request, accounts, me, next, name=name, failure=failure, status_code=503)
    if wait_s > 0:
        text = responses.gettext_of(me)(N_("Too many failed logins. Try again in %(seconds)s seconds."))
        failure = text % {"seconds": math.ceil(wait_s)}
        answer = _login_page(request, accounts, me, next, name=name, failure=failure, status_code=429)
        answer.headers["Retry-After"] = str(math.ceil(wait_s))
        return answer
    if user is None:
        ledger_pool.act("login_failed", name, address=address)
        failure = responses.gettext_of(me)(N_("Wrong name or password"))
        return _login_page(request, accounts, me, next, name=name, failure=failure, status_code=401)
    accounts.throttle.succeeded(subjects)
    ledger_pool.act("login", user.name, address=address, role=user.role)
    if me.session:
        accounts.sessions.end(me.session)
    answer = _with_session(accounts, user.id, RedirectResponse(responses.inside(next), 303))
    _set_cookie(
        accounts, answer, accounts.device_cookie, accounts.throttle.remember(device, name), max_age=DEVICE_DAYS * 86400
    )
    return answer


def incomplete_login(request: Request) -> Response:
    """Show the form again if the name or the password is missing or too long."""
    me: Visitor = request.state.visitor
    failure = responses.gettext_of(me)(N_("Enter your name and your password."))
    return _login_page(request, component(request, Accounts), me, "/", failure=failure, status_code=422)


def logout(accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me) -> Response:
    """End this session."""
    if me.session:
        accounts.sessions.end(me.session)
    ledger_pool.act("logout", me.name)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(accounts.session_cookie, path="/", secure=accounts.tls, httponly=True, samesite="strict")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def password_page(request: Request) -> Response:
    """The page for changing the user's own password."""
    return responses.page(request, "password.html", failure="")


def change_password(
    request: Request,
    accounts: Use[Accounts],
    ledger_pool: Use[LedgerPool],
    me: Me,
    old: Text,
    new: Text,
    again: Text,
) -> Response:
    """Change the password. Ends the user's other sessions; this one continues under a new cookie."""
    user = _person(me)
    try:
        if new != again:
            raise RefusedError(N_("The new passwords do not match."))
        with turn_to_hash(accounts):
            _change_password(accounts, ledger_pool, user, old, new)
    except RefusedError as error:
        return responses.page(request, "password.html", status_code=422, failure=error.text(me.language))
    return _with_session(accounts, user.id, RedirectResponse("/", 303))


def set_preferences(
    request: Request, accounts: Use[Accounts], me: Me, language: Text = "", theme: Text = ""
) -> Response:
    """Save language and colours; an empty value follows the browser."""
    accounts.people.set_preferences(
        _person(me).id,
        language=language if language in LANGUAGES else None,
        theme=theme if theme in ("light", "dark") else None,
    )
    return RedirectResponse(responses.came_from(request), 303)


@contextmanager
def turn_to_hash(accounts: Accounts, *, known: bool = True) -> Iterator[None]:
    """Reserve one of the few slots for requests that hash a password.

    Raises:
        HTTPException: 503 if every slot is taken.
    """
    try:
        with accounts.people.hashing.turn(known=known):
            yield
    except BusyError as error:
        raise HTTPException(503, headers={"Retry-After": "2"}) from error


def _change_password(accounts: Accounts, ledger_pool: LedgerPool, user: User, old: str, new: str) -> None:
    subjects = accounts.throttle.of_person(user.id)
    wait_s = accounts.throttle.begin(subjects)
    if wait_s > 0:
        raise RefusedError(N_("Too many failed logins. Try again in %(seconds)s seconds."), seconds=math.ceil(wait_s))
    try:
        accounts.people.change_password(
            user, old, new, record=lambda user: ledger_pool.act("password_changed", user.name)
        )
    except WrongPasswordError:
        raise
    except RefusedError:
        accounts.throttle.succeeded(subjects)  # only the new password was refused
        raise
    accounts.throttle.succeeded(subjects)


def _person(me: Visitor) -> User:
    if me.user is None:
        raise RefusedError(N_("Only people can do this. A key has no password and no settings."))
    return me.user


def _login_page(
    request: Request,
    accounts: Accounts,
    me: Visitor,
    target: str,
    *,
    name: str = "",
    failure: str = "",
    status_code: int = 200,
) -> Response:
    values = {"next": responses.inside(target), "name": name, "failure": failure}
    return guest_page(request, accounts, me, "login.html", status_code=status_code, **values)


def guest_page(
    request: Request, accounts: Accounts, me: Visitor, template: str, *, status_code: int = 200, **values: str
) -> Response:
    """A page with a form for somebody who is not logged in."""
    # A visitor gets a random cookie first: the form's CSRF token is bound to it, as it is to a session later.
    cookie = me.session or secrets.token_urlsafe(32)
    request.state.visitor = Visitor(name="", role=None, language=me.language, theme="auto", session=cookie)
    answer = responses.page(request, template, status_code=status_code, **values)
    if me.session is None:
        _set_cookie(accounts, answer, accounts.session_cookie, cookie)
    return answer


def _with_session(accounts: Accounts, user_id: int, answer: Response) -> Response:
    _set_cookie(accounts, answer, accounts.session_cookie, accounts.sessions.begin(user_id))
    return answer


def _set_cookie(
    accounts: Accounts, answer: Response, name: str, value: str, *, max_age: int = LONGEST_SESSION_S
) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=max_age,
        path="/",
        secure=accounts.tls,
        httponly=True,
        samesite="strict",
    )
