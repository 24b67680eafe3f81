"""How much programs may ask at once: requests per second for each key, and requests in work for all together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

from gonogo.server.allowance import Allowance
from gonogo.server.api.problems import ApiError

MOST_AT_ONCE = 8
"""Requests that are read and judged at a time. Each may hold a picture of the largest size in memory."""


class Turns:
    """Counts the requests of each key. Thread-safe."""

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._allowance, self._lock = Allowance(rate_per_s, clock=clock), threading.Lock()
        self._at_once = 0

    @contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """Take a turn for one request of a program, without waiting.

        Raises:
            ApiError: the key has used up its requests, or the server has enough to do; nothing was read.
        """
        with self._lock:
            self._charge(name)
            if self._at_once >= MOST_AT_ONCE:
                raise ApiError(
                    HTTPStatus.TOO_MANY_REQUESTS,
                    f"expected at most {MOST_AT_ONCE} requests at a time, found more. Try again in a second.",
                    retry_after_s=1,
                )
            self._at_once += 1
        try:
            yield
        finally:
            with self._lock:
                self._at_once -= 1

    def _charge(self, name: str) -> None:
        wait_s = self._allowance.take(name)
        if wait_s:
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"expected at most {self._allowance.rate_per_s:g} requests per second with one key, found more. "
                f"Try again in {wait_s} s, or start the server with another --key-rate.",
                retry_after_s=wait_s,
            )
