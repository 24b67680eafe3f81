"""Management of people and access tokens."""

from __future__ import annotations

from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import RedirectResponse, Response

from gonogo.server import responses
from gonogo.server.access import Role
from gonogo.server.account.login import turn_to_hash
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.people import User
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.context import RowNumber, Use
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records import Records
from gonogo.server.signatures import Signatures

Line = Annotated[str, Form(max_length=200)]
AnyRole = Annotated[Role, Form()]


def people_page(
    request: Request,
    accounts: Use[Accounts],
    records: Use[Records],
    signatures: Use[Signatures],
    me: Me,
    once: str = "",
) -> Response:
    """List all people, access tokens and wall screens; ``once`` is the number of a secret to show now."""
    shown = accounts.sessions.take_once(me.session, once) if me.session and once else None
    return responses.page(
        request,
        "people.html",
        users=(users := accounts.people.all()),
        keys={user.id: key for user in users if (key := signatures.key_of(user)) is not None},
        tokens=accounts.sessions.tokens(),
        screens=accounts.screens.all(),
        stations=records.index.choices("station"),
        now=accounts.now(),
        shown=shown,
    )


def add_person(accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, name: Line, role: AnyRole) -> Response:
    """Add a person and show the one-time password, once."""

    def record(user: User) -> None:
        ledger_pool.act("user_added", me.name, user=user.name, role=role)

    with turn_to_hash(accounts):
        user, password = accounts.people.add(name, role, record=record)
    return _show_once(accounts, me, user.name, password)


def set_role(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, user_id: RowNumber, role: AnyRole
) -> Response:
    """Change a person's role."""
    user = accounts.people.find(user_id)
    with accounts.database.transaction():
        accounts.people.set_role(user_id, role)
        ledger_pool.act("user_role", me.name, user=user.name, role=role, before=user.role)
    return responses.back(request, "/people", responses.gettext_of(me)(N_("The role was changed.")))


def disable(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, user_id: RowNumber
) -> Response:
    """Lock a person out."""
    return _set_disabled(request, accounts, ledger_pool, me, user_id, True)


def enable(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, user_id: RowNumber
) -> Response:
    """Unlock a person."""
    return _set_disabled(request, accounts, ledger_pool, me, user_id, False)


def reset_password(accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, user_id: RowNumber) -> Response:
    """Reset a password and show the new one-time password, once."""
    user = accounts.people.find(user_id)
    with turn_to_hash(accounts):
        password = accounts.people.reset_password(
            user_id, record=lambda user: ledger_pool.act("password_reset", me.name, user=user.name)
        )
    if me.user is not None and me.user.id == user_id:
        return RedirectResponse("/login", 303)
    return _show_once(accounts, me, user.name, password)


def issue_token(
    accounts: Use[Accounts],
    ledger_pool: Use[LedgerPool],
    me: Me,
    name: Line,
    role: AnyRole,
    days: Annotated[int, Form()],
) -> Response:
    """Create an access token for a program and show its secret, once."""
    with accounts.database.transaction():
        token, secret = accounts.sessions.issue(name, role, days=days, created_by=me.name)
        ledger_pool.act("token_issued", me.name, token=token.name, token_id=token.id, role=role, days=days)
    return _show_once(accounts, me, token.name, secret)


def revoke_token(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, token_id: RowNumber
) -> Response:
    """Revoke an access token permanently."""
    with accounts.database.transaction():
        token = accounts.sessions.revoke(token_id)
        ledger_pool.act("token_revoked", me.name, token=token.name, token_id=token.id)
    return responses.back(request, "/people", responses.gettext_of(me)(N_("The key was revoked.")))


def _set_disabled(
    request: Request, accounts: Use[Accounts], ledger_pool: Use[LedgerPool], me: Me, user_id: RowNumber, disabled: bool
) -> Response:
    user = accounts.people.find(user_id)
    with accounts.database.transaction():
        accounts.people.set_disabled(user_id, disabled)
        ledger_pool.act("user_disabled" if disabled else "user_enabled", me.name, user=user.name)
    done = N_("The person can no longer log in.") if disabled else N_("The person can log in again.")
    return responses.back(request, "/people", responses.gettext_of(me)(done))


def _show_once(accounts: Accounts, me: Visitor, about: str, secret: str) -> Response:
    """Redirect to the people page, which shows the secret once; a program gets it in the response."""
    if me.user is None or me.session is None:
        return responses.answer(name=about, secret=secret)
    return RedirectResponse(f"/people?once={accounts.sessions.show_once(me.session, about, secret)}", 303)
