"""A person who cannot log in any more, let in again from the command line of the server's machine."""

from __future__ import annotations

import time
from pathlib import Path

from gonogo.errors import InputError
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.people import User
from gonogo.server.backup import opened_workspace
from gonogo.server.database import Database
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.options import Options


def recovered_password(root: Path, name: str, *, who: str) -> str:
    """Give a person a one-time password, unlock them, and forget their failed logins.

    Args:
        root: The workspace; a server may be using it.
        name: Whose it is.
        who: Stands in the ledger beside the action ``password_recovered``.

    Raises:
        InputError: there is no such workspace or person.
    """
    space = opened_workspace(root)
    accounts = Accounts.open(Database.open(space.database), hasher=Options().hasher, now=time.time, tls=False)
    pool = LedgerPool.open(space.ledger)
    try:
        people = accounts.people.all()
        person = next((each for each in people if each.name.casefold() == name.strip().casefold()), None)
        if person is None:
            known = ", ".join(each.name for each in people if each.role == "admin")
            raise InputError(f"{name}: expected the name of a person, found none. Administrators: {known}.")

        def let_in(user: User) -> None:
            accounts.people.set_disabled(user.id, False)
            accounts.throttle.forget(user.name)
            pool.act("password_recovered", who, user=user.name)

        return accounts.people.reset_password(person.id, record=let_in)
    finally:
        accounts.close()
        pool.close()
