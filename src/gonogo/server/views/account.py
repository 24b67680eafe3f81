"""Logging in and out, one's own password, language and colours; and ``/health``."""

from __future__ import annotations

import math
import secrets
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import PlainTextResponse, RedirectResponse, Response

from gonogo.server import pages
from gonogo.server.guard import session_cookie
from gonogo.server.language import LANGUAGES, N_, RefusedError
from gonogo.server.people import LONGEST_PASSWORD, User, WrongPasswordError
from gonogo.server.services import Here, Me, Services, Visitor
from gonogo.server.sessions import LONGEST_SESSION_S

Text = Annotated[str, Form(max_length=LONGEST_PASSWORD * 4)]


def health() -> Response:
    """Alive. Says nothing else, to anybody."""
    return PlainTextResponse("ok\n")


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
    address = request.client.host if request.client else "?"
    wait_s = here.throttle.wait_s(name, address)
    if wait_s > 0:
        text = pages.gettext_of(me)(N_("Too many failed logins. Try again in %(seconds)s seconds."))
        failure = text % {"seconds": math.ceil(wait_s)}
        return _login_page(request, here, me, next, name=name, failure=failure, status_code=429)
    user = here.people.check(name, password)
    if user is None:
        here.book.act("login_failed", name, address=address)
        here.throttle.failed(name, address)
        failure = pages.gettext_of(me)(N_("Wrong name or password"))
        return _login_page(request, here, me, next, name=name, failure=failure, status_code=401)
    here.book.act("login", user.name, address=address, role=user.role)
    here.throttle.succeeded(name, address)
    if me.session:
        here.sessions.end(me.session)
    return _with_session(here, user.id, RedirectResponse(pages.inside(next), 303))


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
        wait_s = here.throttle.wait_s(user.name, "")
        if wait_s > 0:
            raise RefusedError(
                N_("Too many failed logins. Try again in %(seconds)s seconds."), seconds=math.ceil(wait_s)
            )
        with here.store.transaction():
            here.people.change_password(user, old, new)
            here.book.act("password_changed", user.name)
    except RefusedError as error:
        if isinstance(error, WrongPasswordError):
            here.throttle.failed(user.name, "")
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
        _set_cookie(here, answer, cookie)
    return answer


def _with_session(here: Services, user_id: int, answer: Response) -> Response:
    _set_cookie(here, answer, here.sessions.begin(user_id))
    return answer


def _set_cookie(here: Services, answer: Response, value: str) -> None:
    answer.set_cookie(
        session_cookie(here),
        value,
        max_age=LONGEST_SESSION_S,
        path="/",
        secure=here.options.tls,
        httponly=True,
        samesite="strict",
    )
