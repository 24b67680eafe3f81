"""How many requests each name may make: a rate, and ten seconds' worth of it at once."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

_BURST_S = 10.0
_MOST_NAMES = 10_000


class Allowance:
    """Counts the requests of each name. Thread-safe."""

    def __init__(self, rate_per_s: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.rate_per_s, self._clock = rate_per_s, clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[float, float]] = {}

    def take(self, name: str) -> int:
        """Take one request of a name; return 0, or the seconds to wait if it has used up its requests."""
        with self._lock:
            now, most = self._clock(), max(1.0, self.rate_per_s * _BURST_S)
            left, since = self._left.get(name, (most, now))
            left = min(most, left + (now - since) * self.rate_per_s)
            if left < 1.0:
                return math.ceil((1.0 - left) / self.rate_per_s)
            if len(self._left) > _MOST_NAMES:
                self._left.clear()
            self._left[name] = left - 1.0, now
            return 0
