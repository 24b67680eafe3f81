"""Managing people and tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from gonogo.server import pages
from gonogo.server.access import Role
from gonogo.server.language import N_
from gonogo.server.people import User
from gonogo.server.services import Here, Me, RowNumber, Services, Visitor
from gonogo.server.views.account import turn_to_hash

Line = Annotated[str, Form(max_length=200)]
AnyRole = Annotated[Role, Form()]


def people_page(request: Request, here: Here, me: Me, once: str = "") -> Response:
    """Everyone who may log in, and every program that may call; ``once`` numbers a secret that is shown now."""
    shown = here.sessions.take_once(me.session, once) if me.session and once else None
    return pages.page(
        request,
        "people.html",
        users=here.people.all(),
        tokens=here.sessions.tokens(),
        now=here.options.now(),
        shown=shown,
    )


def add_person(here: Here, me: Me, name: Line, role: AnyRole) -> Response:
    """Add a person; their one-time password is shown this once."""

    def record(user: User) -> None:
        here.book.act("user_added", me.name, user=user.name, role=role)

    with turn_to_hash(here):
        user, password = here.people.add(name, role, record=record)
    return _show_once(here, me, user.name, password)


def set_role(request: Request, here: Here, me: Me, user_id: RowNumber, role: AnyRole) -> Response:
    """Give a person another role."""
    user = here.people.find(user_id)
    with here.store.transaction():
        here.people.set_role(user_id, role)
        here.book.act("user_role", me.name, user=user.name, role=role, before=user.role)
    return pages.back(request, "/people", pages.gettext_of(me)(N_("The role was changed.")))


def disable(request: Request, here: Here, me: Me, user_id: RowNumber) -> Response:
    """Let a person in no longer."""
    return _set_disabled(request, here, me, user_id, True)


def enable(request: Request, here: Here, me: Me, user_id: RowNumber) -> Response:
    """Let a person in again."""
    return _set_disabled(request, here, me, user_id, False)


def reset_password(here: Here, me: Me, user_id: RowNumber) -> Response:
    """Give a person a new one-time password, shown this once."""
    user = here.people.find(user_id)
    with turn_to_hash(here):
        password = here.people.reset_password(
            user_id, record=lambda user: here.book.act("password_reset", me.name, user=user.name)
        )
    if me.user is not None and me.user.id == user_id:
        return RedirectResponse("/login", 303)
    return _show_once(here, me, user.name, password)


def issue_token(here: Here, me: Me, name: Line, role: AnyRole, days: Annotated[int, Form()]) -> Response:
    """Make a token for a program; its secret is shown this once."""
    with here.store.transaction():
        token, secret = here.sessions.issue(name, role, days=days, created_by=me.name)
        here.book.act("token_issued", me.name, token=token.name, token_id=token.id, role=role, days=days)
    return _show_once(here, me, token.name, secret)


def revoke_token(request: Request, here: Here, me: Me, token_id: RowNumber) -> Response:
    """End a token for good."""
    with here.store.transaction():
        token = here.sessions.revoke(token_id)
        here.book.act("token_revoked", me.name, token=token.name, token_id=token.id)
    return pages.back(request, "/people", pages.gettext_of(me)(N_("The key was revoked.")))


def _set_disabled(request: Request, here: Here, me: Me, user_id: RowNumber, disabled: bool) -> Response:
    user = here.people.find(user_id)
    with here.store.transaction():
        here.people.set_disabled(user_id, disabled)
        here.book.act("user_disabled" if disabled else "user_enabled", me.name, user=user.name)
    done = N_("The person can no longer log in.") if disabled else N_("The person can log in again.")
    return pages.back(request, "/people", pages.gettext_of(me)(done))


def _show_once(here: Services, me: Visitor, about: str, secret: str) -> Response:
    """Go to the page of people, which shows the secret once; a program gets it in the answer."""
    if me.user is None or me.session is None:
        return pages.answer(name=about, secret=secret)
    return RedirectResponse(f"/people?once={here.sessions.show_once(me.session, about, secret)}", 303)
