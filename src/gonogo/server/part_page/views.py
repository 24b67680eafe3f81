"""The page of a part."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from gonogo.server import responses
from gonogo.server.access import ENGINEERS_AND_AUDITORS
from gonogo.server.auth.visitor import Me
from gonogo.server.context import RowNumber, Use
from gonogo.server.part_page.code import qr_code
from gonogo.server.part_page.story import Stories, what_was_done
from gonogo.server.parts.facts import ruler
from gonogo.server.records import Records
from gonogo.server.records.views import chain_piece
from gonogo.server.review import GoneError, Review
from gonogo.server.understand.mistakes import finite


def part_page(request: Request, records: Use[Records], stories: Use[Stories], me: Me, seq: RowNumber) -> Response:
    """Everything about the part in row ``seq`` on one page."""
    records.refresh()
    story = stories.of(seq, me.name)
    if story is None:
        raise HTTPException(404)
    address = f"{request.base_url}parts/{seq}"
    return responses.page(
        request,
        "part.html",
        story=story,
        record=story.record,
        ruler=ruler(story.record),
        address=address,
        code=qr_code(address),
        done=what_was_done,
        finite=finite,
        may_verify=me.role in ENGINEERS_AND_AUDITORS,
        chain=chain_piece(records, me.language, seq=seq),
    )


def dealt_part(review: Use[Review], me: Me, ticket: str) -> Response:
    """The page of a part that the person reviews, by its ticket, which says nothing about the part."""
    try:
        found = review.queue.find(me.name, ticket)
    except GoneError as error:
        raise HTTPException(404) from error
    return RedirectResponse(f"/parts/{found.seq}", 303)
