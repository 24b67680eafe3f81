"""Prefetching: results computed on other threads slightly ahead of their consumer."""

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

    Only a few results are computed ahead, to limit memory. An exception in ``make`` is raised at the position of its
    item; items not yet started at that point, or when the consumer stops early, are skipped.

    Args:
        make: Called with one item, by several threads at once.
        items: Iterated by the consuming thread.
        workers: Number of threads; by default one per processor core, at most four.
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
