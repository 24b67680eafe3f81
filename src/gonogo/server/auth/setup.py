"""First start: creation of the administrator account."""

from __future__ import annotations

from gonogo.server.access import Role
from gonogo.server.auth.accounts import Accounts
from gonogo.server.ledger_pool import LedgerPool


def first_administrator(accounts: Accounts, ledger_pool: LedgerPool) -> str | None:
    """Create the administrator account of a new workspace.

    Returns:
        The one-time password of ``admin``, to be printed on the console; ``None`` if the workspace has accounts.
    """
    with accounts.database.transaction():
        if accounts.people.all():
            return None
        _, password = accounts.people.add("admin", Role.ADMIN)
        ledger_pool.act("user_added", "gonogo serve", user="admin", role=Role.ADMIN)
    return password
