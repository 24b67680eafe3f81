"""The audit log: actions recorded in the ledger."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import Response

from gonogo.ledger import Action, RowKind, VerdictRecord
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import RowNumber, Use
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records import Records
from gonogo.server.records.fields import cut, period_of
from gonogo.server.records.paging import page_of
from gonogo.server.records.row_index import Wanted
from gonogo.server.records.views import chain_piece
from gonogo.server.signatures import Signatures


def audit_page(
    request: Request,
    ledger_pool: Use[LedgerPool],
    records: Use[Records],
    signatures: Use[Signatures],
    me: Me,
    text: str = "",
    since: str = "",
    until: str = "",
    who: str = "",
    action: str = "",
    before: RowNumber | None = None,
) -> Response:
    """One page of actions, newest first."""
    left = records.refresh()
    text, who, action = cut(text), cut(who), cut(action)
    begin, end = period_of(since, until)
    wanted = Wanted(kind=RowKind.ACTION, text=text, since=begin, until=end, who=who, action=action)
    fields = {"text": text, "since": since, "until": until, "who": who, "action": action}
    found = page_of(records.index, wanted, fields, before=before)
    with ledger_pool.reading() as ledger:
        rows = [row for seq in found.numbers if (row := ledger.row(seq)) is not None]
        about = {row.record.about for row in rows if isinstance(row.record, Action) and row.record.about is not None}
        parts = {seq for seq in about if (row := ledger.row(seq)) is not None and isinstance(row.record, VerdictRecord)}
        head = ledger.head()
        total = ledger.count(kind=RowKind.ACTION)
    return responses.page(
        request,
        "audit.html",
        rows=rows,
        parts=parts,
        signed=signatures.of_rows(rows),
        older=found.older,
        here=found.here,
        head=head,
        total=total,
        left=left,
        actions=records.index.choices("action"),
        chain=chain_piece(records, me.language),
        fields=fields,
    )
