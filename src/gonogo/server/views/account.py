"""Logging in and out, one's own password, language and colours; and ``/health``."""

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
from gonogo.server import pages
from gonogo.server.guard import device_cookie, session_cookie
from gonogo.server.hashing import BusyError
from gonogo.server.language import LANGUAGES, N_, RefusedError
from gonogo.server.people import LONGEST_PASSWORD, User, WrongPasswordError
from gonogo.server.services import Here, Me, Services, Visitor
from gonogo.server.sessions import LONGEST_SESSION_S
from gonogo.server.throttle import DEVICE_DAYS

LEAST_FREE_BYTES = 20_000_000
"""With less disk space left, the server is not healthy."""
Text = Annotated[str, Form(max_length=LONGEST_PASSWORD * 4)]


def health(here: Here) -> Response:
    """Alive, with its ledger and some space to write to. Says nothing else, to anybody."""
    try:
        with here.book.reading() as ledger:
            ledger.head()
        well = here.book.path.exists() and files.free_bytes(here.workspace.root) >= LEAST_FREE_BYTES
    except (GonogoError, OSError):
        well = False
    return PlainTextResponse("ok\n") if well else PlainTextResponse("unfit\n", 503)


def login_page(request: Request, here: Here, me: Me, next: str = "/") -> Response:
    """The only page there is before login."""
    if me.user is not None:
        return RedirectResponse(pages.inside(next), 303)
    return _login_page(request, here, me, next)


def login(
    request: Request,
    here: Here,
    me: Me,
    name: Text,
    password: Text,
    next: Text = "/",
) -> Response:
    """Check a password; start a session under a new cookie."""
    device = request.cookies.get(device_cookie(here))
    address = request.client.host if request.client else "?"
    subjects = here.throttle.of_login(name, address, device)
    user, wait_s = None, here.throttle.wait_s(subjects)
    if wait_s == 0:
        with turn_to_hash(here, known=len(subjects) == 1):
            wait_s = here.throttle.begin(subjects)
            user = here.people.check(name, password) if wait_s == 0 else None
    if wait_s > 0:
        text = pages.gettext_of(me)(N_("Too many failed logins. Try again in %(seconds)s seconds."))
        failure = text % {"seconds": math.ceil(wait_s)}
        answer = _login_page(request, here, me, next, name=name, failure=failure, status_code=429)
        answer.headers["Retry-After"] = str(math.ceil(wait_s))
        return answer
    if user is None:
        here.book.act("login_failed", name, address=address)
        failure = pages.gettext_of(me)(N_("Wrong name or password"))
        return _login_page(request, here, me, next, name=name, failure=failure, status_code=401)
    here.throttle.succeeded(subjects)
    here.book.act("login", user.name, address=address, role=user.role)
    if me.session:
        here.sessions.end(me.session)
    answer = _with_session(here, user.id, RedirectResponse(pages.inside(next), 303))
    _set_cookie(here, answer, device_cookie(here), here.throttle.remember(device, name), max_age=DEVICE_DAYS * 86400)
    return answer


def incomplete_login(request: Request) -> Response:
    """The form again, for a login without name or password, or with one that is too long to be one."""
    me: Visitor = request.state.visitor
    failure = pages.gettext_of(me)(N_("Enter your name and your password."))
    return _login_page(request, request.app.state.services, me, "/", failure=failure, status_code=422)


def logout(here: Here, me: Me) -> Response:
    """End this session."""
    if me.session:
        here.sessions.end(me.session)
    here.book.act("logout", me.name)
    answer = RedirectResponse("/login", 303)
    answer.delete_cookie(session_cookie(here), path="/", secure=here.options.tls, httponly=True, samesite="strict")
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def password_page(request: Request) -> Response:
    """One's own password."""
    return pages.page(request, "password.html", failure="")


def change_password(request: Request, here: Here, me: Me, old: Text, new: Text, again: Text) -> Response:
    """Set it; every other session of this person ends, and this one goes on under a new cookie."""
    user = _person(me)
    try:
        if new != again:
            raise RefusedError(N_("The new passwords do not match."))
        with turn_to_hash(here):
            _change_password(here, user, old, new)
    except RefusedError as error:
        return pages.page(request, "password.html", status_code=422, failure=error.text(me.language))
    return _with_session(here, user.id, RedirectResponse("/", 303))


def set_taste(request: Request, here: Here, me: Me, language: Text = "", theme: Text = "") -> Response:
    """Keep language and colours; empty follows the browser."""
    here.people.set_taste(
        _person(me).id,
        language=language if language in LANGUAGES else None,
        theme=theme if theme in ("light", "dark") else None,
    )
    return RedirectResponse(pages.came_from(request), 303)


@contextmanager
def turn_to_hash(here: Services, *, known: bool = True) -> Iterator[None]:
    """Hold a place among the few requests that may hash a password at once.

    Raises:
        HTTPException: 503, every place is taken.
    """
    try:
        with here.people.hashing.turn(known=known):
            yield
    except BusyError as error:
        raise HTTPException(503, headers={"Retry-After": "2"}) from error


def _change_password(here: Services, user: User, old: str, new: str) -> None:
    subjects = here.throttle.of_person(user.id)
    wait_s = here.throttle.begin(subjects)
    if wait_s > 0:
        raise RefusedError(N_("Too many failed logins. Try again in %(seconds)s seconds."), seconds=math.ceil(wait_s))
    try:
        here.people.change_password(user, old, new, record=lambda user: here.book.act("password_changed", user.name))
    except WrongPasswordError:
        raise
    except RefusedError:
        here.throttle.succeeded(subjects)  # only the new password was refused
        raise
    here.throttle.succeeded(subjects)


def _person(me: Visitor) -> User:
    if me.user is None:
        raise RefusedError(N_("Only people can do this. A key has no password and no settings."))
    return me.user


def _login_page(
    request: Request,
    here: Services,
    me: Visitor,
    target: str,
    *,
    name: str = "",
    failure: str = "",
    status_code: int = 200,
) -> Response:
    # A visitor gets a random cookie first: the form's CSRF token is bound to it, as it is to a session later.
    cookie = me.session or secrets.token_urlsafe(32)
    request.state.visitor = Visitor(name="", role=None, language=me.language, theme="auto", session=cookie)
    answer = pages.page(
        request, "login.html", status_code=status_code, next=pages.inside(target), name=name, failure=failure
    )
    if me.session is None:
        _set_cookie(here, answer, session_cookie(here), cookie)
    return answer


def _with_session(here: Services, user_id: int, answer: Response) -> Response:
    _set_cookie(here, answer, session_cookie(here), here.sessions.begin(user_id))
    return answer


def _set_cookie(here: Services, answer: Response, name: str, value: str, *, max_age: int = LONGEST_SESSION_S) -> None:
    answer.set_cookie(
        name,
        value,
        max_age=max_age,
        path="/",
        secure=here.options.tls,
        httponly=True,
        samesite="strict",
    )
