"""The page Signing key: a person makes, downloads, replaces and revokes a key; administrators can only revoke."""

from __future__ import annotations

import math
import re
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import Response
from pydantic import JsonValue
from starlette.exceptions import HTTPException

from gonogo.ledger import Action, Where
from gonogo.server import responses
from gonogo.server.account.login import turn_to_hash
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.directory import DirectoryDownError
from gonogo.server.auth.people import User, easy_to_guess
from gonogo.server.auth.signing_keys import LONGEST_PASSPHRASE, SHORTEST_PASSPHRASE
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.context import RowNumber, Use
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import Signatures
from gonogo.signing import PublicKey, SigningKey, fingerprint_of

PAGE = "/signing-key"
_RESET = "password_reset"
_SAME = N_("The passphrase must differ from your password: a signature needs both.")
Text = Annotated[str, Form(max_length=LONGEST_PASSPHRASE * 4)]


def signing_key_page(request: Request, signatures: Use[Signatures], me: Me) -> Response:
    """The person's own key, and those before it."""
    user = _person(me)
    return responses.page(
        request,
        "signing_key.html",
        key=signatures.key_of(user),
        keys=signatures.keys_of(user.name),
        offer=signatures.offer(me),
        fingerprint=lambda key: _grouped(fingerprint_of(key.public)),
        shortest=SHORTEST_PASSPHRASE,
        longest=LONGEST_PASSPHRASE,
    )


def make_key(
    request: Request,
    accounts: Use[Accounts],
    signatures: Use[Signatures],
    ledger_pool: Use[LedgerPool],
    me: Me,
    password: Text,
    new: Text,
    again: Text,
) -> Response:
    """Make a key, or replace the present one. Needs the password, so that an open session alone is not enough."""
    user = _person(me)
    with turn_to_hash(accounts):
        _check_password(accounts, ledger_pool, user, password)
        _require_hard_to_guess(accounts, user, new, again)
        if new == password:
            raise RefusedError(_SAME)
        reset = _reset_since(ledger_pool, signatures, user)
        signatures.add_key(user, SigningKey.new(), new, **reset)
    done = N_("The key was made. Only you can sign with it: there is no way to set its passphrase anew.")
    return responses.back(request, PAGE, responses.gettext_of(me)(done))


def change_passphrase(
    request: Request,
    accounts: Use[Accounts],
    signatures: Use[Signatures],
    me: Me,
    passphrase: Text,
    new: Text,
    again: Text,
) -> Response:
    """Change the passphrase; the key stays the same."""
    user = _person(me)
    key = signatures.open(user, passphrase, about="passphrase")
    with turn_to_hash(accounts):
        _require_hard_to_guess(accounts, user, new, again)
        signatures.set_passphrase(user, key, new)
    return responses.back(request, PAGE, responses.gettext_of(me)(N_("The passphrase was changed.")))


def revoke_own(request: Request, signatures: Use[Signatures], me: Me, why: Text = "") -> Response:
    """Revoke one's own key."""
    signatures.revoke(_person(me), me.name, why)
    done = N_("The key was revoked. What it signed before stays valid.")
    return responses.back(request, PAGE, responses.gettext_of(me)(done))


def revoke_of(
    request: Request, accounts: Use[Accounts], signatures: Use[Signatures], me: Me, user_id: RowNumber, why: Text = ""
) -> Response:
    """Revoke somebody's key."""
    signatures.revoke(accounts.people.find(user_id), me.name, why)
    done = N_("The key was revoked. What it signed before stays valid.")
    return responses.back(request, "/people", responses.gettext_of(me)(done))


def public_key(signatures: Use[Signatures], key_id: str) -> Response:
    """A public key as the file that ``gonogo bundle keys add`` reads; those that were revoked are there too."""
    key = signatures.keys().get(key_id)
    if key is None:
        raise HTTPException(404)
    file = f"{re.sub(r'[^A-Za-z0-9]+', '-', key.who).strip('-') or 'key'}-{key_id}.pub"
    return Response(
        PublicKey(key=key.public, name=key.who).line,
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{file}"'},
    )


def _check_password(accounts: Accounts, ledger_pool: LedgerPool, user: User, password: str) -> None:
    subjects = accounts.throttle.of_person(user.id)
    if (wait_s := accounts.throttle.begin(subjects)) > 0:
        raise RefusedError(N_("Too many failed logins. Try again in %(seconds)s seconds."), seconds=math.ceil(wait_s))

    def record(action: str, user: User, details: dict[str, str]) -> None:
        ledger_pool.append(Action(action=action, who="directory", details={"user": user.name, **details}))

    try:
        found = accounts.check(user.name, password, record=record)
    except DirectoryDownError as error:
        raise RefusedError(N_("The plant's directory does not answer. Ask your administrator.")) from error
    if found is None or found.id != user.id:
        raise RefusedError(N_("Wrong current password"))
    accounts.throttle.succeeded(subjects)


def _require_hard_to_guess(accounts: Accounts, user: User, new: str, again: str) -> None:
    if new != again:
        raise RefusedError(N_("The two passphrases do not match."))
    if not SHORTEST_PASSPHRASE <= len(new) <= LONGEST_PASSPHRASE:
        raise RefusedError(
            N_("A passphrase must have %(shortest)s to %(longest)s characters."),
            shortest=SHORTEST_PASSPHRASE,
            longest=LONGEST_PASSPHRASE,
        )
    if easy_to_guess(user.name, new):
        raise RefusedError(N_("That passphrase is easy to guess. Several unrelated words work well."))
    if accounts.people.is_password(user, new):
        raise RefusedError(_SAME)


def _reset_since(ledger_pool: LedgerPool, signatures: Signatures, user: User) -> dict[str, JsonValue]:
    """Who has reset the person's password since their previous key, for the record of the new one.

    Somebody who resets a password can log in as that person, and make a key in their name. It shows here.
    """
    keys = signatures.keys_of(user.name)
    after = keys[0].seq if keys else 0
    with ledger_pool.reading() as ledger:
        for row in ledger.actions(Where(action=_RESET), after=after, newest_first=True):
            if row.record.details.get("user") == user.name:
                return {"password_reset_by": row.record.who, "password_reset_row": row.seq}
    return {}


def _person(me: Visitor) -> User:
    if me.user is None:
        raise RefusedError(N_("Only people can do this. A key has no password and no settings."))
    return me.user


def _grouped(fingerprint: str) -> str:
    return " ".join(fingerprint[at : at + 4] for at in range(0, len(fingerprint), 4))
