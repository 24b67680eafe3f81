"""Work done on other threads a little ahead of whoever consumes it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

MOST_WORKERS = 4


def prefetch(make: Callable[[S], T], items: Iterable[S], *, workers: int | None = None) -> Iterator[T]:
    """Apply a function to each item on other threads, and yield the results in the order of the items.

    Only a few results wait to be consumed at any time, so that they do not pile up in memory. An error of ``make`` is
    raised in its turn; what was not yet begun then, or when the consumer stops early, never is.

    Args:
        make: Called with one item, by several threads at once.
        items: Drawn by the consuming thread.
        workers: Threads; one for each processor core where omitted, at most four.
    """
    workers = workers or min(MOST_WORKERS, os.cpu_count() or 1)
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(make, item))
                if len(waiting) > 2 * workers + 6:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
