"""The page that finds parts: by name, serial number, trigger, lot, code or row, in a period, by verdict."""

from __future__ import annotations

import re

from fastapi import Request
from fastapi.responses import RedirectResponse, Response

from gonogo.ledger import Ledger, Row, RowKind, VerdictRecord
from gonogo.schema import State
from gonogo.server import responses
from gonogo.server.context import RowNumber, Use
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records import Records
from gonogo.server.records.fields import cut, period_of, state_of
from gonogo.server.records.paging import page_of
from gonogo.server.records.row_index import LARGEST_COUNT, Wanted

_ADDRESS = re.compile(r"https?://\S+/parts/([1-9][0-9]{0,17})/?")


def search_page(
    request: Request,
    ledger_pool: Use[LedgerPool],
    records: Use[Records],
    text: str = "",
    since: str = "",
    until: str = "",
    verdict: str = "",
    product: str = "",
    station: str = "",
    before: RowNumber | None = None,
) -> Response:
    """One page of parts, the newest first; what names exactly one part, such as a scanned code, leads to that part."""
    text, product, station = cut(text), cut(product), cut(station)
    left = records.refresh()
    fields = {"text": text, "since": since, "until": until, "verdict": verdict, "product": product, "station": station}
    if text and not any(value for name, value in fields.items() if name != "text") and before is None:
        scanned = _ADDRESS.fullmatch(text)
        one = int(scanned[1]) if scanned else records.index.one_part(text)
        if one is not None:
            return RedirectResponse(f"/parts/{one}", 303)
    begin, end = period_of(since, until)
    wanted = Wanted(
        kind=RowKind.VERDICT,
        text=text,
        since=begin,
        until=end,
        state=state_of(verdict),
        product=product,
        station=station,
    )
    found = page_of(records.index, wanted, fields, before=before)
    with ledger_pool.reading() as ledger:
        rows = [row for seq in found.numbers if (row := _verdict(ledger, seq)) is not None]
        by_number = _verdict(ledger, int(text)) if re.fullmatch(r"[1-9][0-9]{0,17}", text) and before is None else None
    return responses.page(
        request,
        "parts_list.html",
        rows=rows,
        by_number=by_number,
        count=len(found.numbers) if found.whole and before is None else records.index.count(wanted),
        most=LARGEST_COUNT,
        left=left,
        older=found.older,
        newest=found.here if before is not None else "",
        states=list(State),
        products=records.index.choices("product"),
        stations=records.index.choices("station"),
        fields=fields,
    )


def _verdict(ledger: Ledger, seq: int) -> Row[VerdictRecord] | None:
    row = ledger.row(seq)
    if row is None or not isinstance(row.record, VerdictRecord):
        return None
    return Row(**{**vars(row), "record": row.record})
