"""The audit log: actions recorded in the ledger."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from gonogo.ledger import RowKind, Where
from gonogo.server import responses
from gonogo.server.context import RowNumber, Use
from gonogo.server.ledger_pool import LedgerPool

PAGE_ROWS = 50


def audit_page(
    request: Request, ledger_pool: Use[LedgerPool], who: str = "", action: str = "", before: RowNumber | None = None
) -> Response:
    """One page of actions, newest first."""
    where = Where(who=who or None, action=action or None)
    with ledger_pool.reading() as ledger:
        rows = list(ledger.actions(where, before=before, limit=PAGE_ROWS + 1, newest_first=True))
        head = ledger.head()
        total = ledger.count(kind=RowKind.ACTION)
    return responses.page(
        request,
        "audit.html",
        rows=rows[:PAGE_ROWS],
        older=rows[PAGE_ROWS - 1].seq if len(rows) > PAGE_ROWS else None,
        head=head,
        total=total,
        who=who,
        action=action,
    )
