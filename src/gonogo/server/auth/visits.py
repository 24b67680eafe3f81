"""What every request passes after its visitor is known: the request rate, and the record of pictures that were read."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from fastapi import Request
from starlette.exceptions import HTTPException

from gonogo.server.access import Route
from gonogo.server.allowance import Allowance
from gonogo.server.auth.throttle import network_of
from gonogo.server.auth.visitor import Visitor
from gonogo.server.ledger_pool import LedgerPool

SAME_S = 600.0
"""A picture that the same visitor reads again within this time is recorded once."""
_MOST_READS = 20_000


class Visits:
    """Counts requests and records reads. Thread-safe."""

    def __init__(
        self,
        ledger_pool: LedgerPool,
        *,
        rate_per_s: float,
        audit_pictures: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger_pool, self._clock = ledger_pool, clock
        self._allowance = Allowance(rate_per_s, clock=clock)
        self.audits_pictures = audit_pictures
        self._reads: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._lock = threading.Lock()

    def charge(self, visitor: Visitor, request: Request) -> None:
        """Count a request of a person, a program, or an address without a login.

        Raises:
            HTTPException: 429, if there were too many.
        """
        address = "" if request.client is None else network_of(request.client.host)
        wait_s = self._allowance.take(visitor.name or f"at {address}")
        if wait_s:
            raise HTTPException(429, headers={"Retry-After": str(wait_s)})

    def record(self, route: Route, visitor: Visitor, request: Request) -> None:
        """Record that a visitor asked for a picture, before it is given.

        Raises:
            LedgerError: it could not be recorded, so it must not be given.
        """
        if not (self.audits_pictures and route.picture):
            return
        query = request.query_params
        path, file = request.url.path[:300], (query.get("file") or query.get("seq") or "")[:300]
        key, now = (visitor.name, f"{path}?{file}"), self._clock()
        with self._lock:
            if now - self._reads.get(key, -SAME_S) < SAME_S:
                return
            self._reads[key] = now
            while len(self._reads) > _MOST_READS:
                self._reads.popitem(last=False)
        self._ledger_pool.act("picture_read", visitor.name, path=path, file=file or None)
