"""Route for pictures of parts."""

from __future__ import annotations

from fastapi.responses import Response
from starlette.exceptions import HTTPException

from gonogo.ledger import VerdictRecord
from gonogo.server.auth.visitor import Me
from gonogo.server.context import RowNumber, Use
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.parts.pictures import PartPictures


def part_picture(
    ledger_pool: Use[LedgerPool],
    pictures: Use[PartPictures],
    me: Me,
    seq: RowNumber,
    view: int = 0,
    heat: bool = False,
    width: int = 960,
) -> Response:
    """A view of the part in row ``seq`` as JPEG; see `gonogo.server.parts.pictures.PartPictures.jpeg`."""
    with ledger_pool.reading() as ledger:
        row = ledger.row(seq)
    if row is None or not isinstance(row.record, VerdictRecord):
        raise HTTPException(404)
    if me.screen is not None and not me.screen.shows(row.record.station):
        raise HTTPException(403)
    drawn = pictures.jpeg(row.record, view=view, heat=heat, width=width)
    if drawn is None:
        raise HTTPException(404)
    # A row and its picture never change; the time is short because a login may end.
    return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})
