"""The station page: the latest verdict, readable from five metres."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated
from urllib.parse import quote

from fastapi import Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gonogo.ledger import Action, VerdictRecord
from gonogo.server import responses
from gonogo.server.auth.access_check import AccessCheckedRoute, identify
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.station.feed import Feed, Snapshot, TooManyStreamsError
from gonogo.server.station.trend import lay_out
from gonogo.server.stations.stations import Stations
from gonogo.station.messages import REQUESTED

BEAT_S = 2.0
"""A page without three consecutive beats shows that the connection is lost."""
_SEND_TIMEOUT_S = 10.0


Name = Annotated[str, Query(max_length=64)]


def station_page(request: Request, feed: Use[Feed], stations: Use[Stations], me: Me, name: Name = "") -> Response:
    """The page with the current state; its script keeps it up to date.

    Without a name, a workspace with several stations shows the page of all of them.
    """
    if not name and len(stations.all()) > 1:
        return RedirectResponse("/wall", 303)
    snapshot = feed.of(name).read()
    return responses.page(request, "station.html", snapshot=snapshot, pieces=_pieces(snapshot, me.language), name=name)


def select_product(
    request: Request,
    feed: Use[Feed],
    ledger_pool: Use[LedgerPool],
    me: Me,
    product: Annotated[str, Form(max_length=64)],
    name: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Select what the station makes from now on; the station follows within a second, and records that it does."""
    station = feed.of(name).read().station
    if station is None or not station.alive:
        raise RefusedError(N_("The station is not running, so no product can be selected."))
    if product not in station.products:
        raise RefusedError(N_("The station has no product %(name)s."), name=product)
    ledger_pool.append(Action(action=REQUESTED, who=me.name, station=station.name, details={"product": product}))
    done = responses.gettext_of(me)(N_("Selected. It counts for the parts that are judged from now on."))
    return responses.back(request, f"/station?name={quote(name)}" if name else "/station", done)


async def events(request: Request, accounts: Use[Accounts], feed: Use[Feed], me: Me, name: Name = "") -> Response:
    """Server-sent events: ``station`` on a change, ``beat`` every two seconds, ``goodbye`` at the end."""
    route = request.scope["route"]
    assert isinstance(route, AccessCheckedRoute)

    async def welcome() -> bool:
        visitor = await run_in_threadpool(identify, accounts, request)
        return visitor.role in route.declared.roles

    feed = await run_in_threadpool(feed.of, name)
    return _LivePage(feed, me.name, _stream(feed, me.language, welcome))


class _LivePage(EventSourceResponse):
    """A stream that reserves its slot before the first byte, so that it can be refused, and always releases it."""

    def __init__(self, feed: Feed, who: str, content: AsyncIterator[ServerSentEvent]) -> None:
        super().__init__(content, send_timeout=_SEND_TIMEOUT_S)
        self._feed, self._who = feed, who

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with self._feed.watched(self._who):
                await super().__call__(scope, receive, send)
        except TooManyStreamsError as error:
            raise HTTPException(503, headers={"Retry-After": "30"}) from error


async def _stream(feed: Feed, language: str, welcome: Callable[[], Awaitable[bool]]) -> AsyncIterator[ServerSentEvent]:
    seen, asked_at = -1, time.monotonic()
    while True:
        snapshot = await feed.next(seen, BEAT_S)
        if time.monotonic() - asked_at > BEAT_S:  # a person who has been locked out sees no further events
            asked_at = time.monotonic()
            if not await welcome():
                yield ServerSentEvent(event="goodbye", data="")
                return
        if snapshot is None:
            yield ServerSentEvent(event="beat", data="")
            continue
        seen = snapshot.version
        pieces = await run_in_threadpool(_pieces, snapshot, language)
        last = snapshot.last
        said = {
            "pieces": pieces,
            "state": snapshot.current.record.state if snapshot.current else None,
            "now": feed.now().isoformat(),
            "seq": last.seq if last else None,
            "pictures": _pictures(last.record) if last else 0,
        }
        yield ServerSentEvent(event="station", data=json.dumps(said))


@functools.lru_cache(maxsize=8)
def _pieces(snapshot: Snapshot, language: str) -> dict[str, str]:
    """The dynamic fragments of the page as HTML, rendered once per language."""
    values = {"snapshot": snapshot, "trend": lay_out(snapshot.recent)}
    names = ("alarms", "product", "verdict", "rejects", "belt", "counters", "trend", "faults")
    return {name: responses.fill_template(language, f"station/{name}.html", **values) for name in names}


def _pictures(record: VerdictRecord) -> int:
    return sum(view.frame_sha256 is not None for view in record.views)
