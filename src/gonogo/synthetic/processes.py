"""Parallel rendering on all cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from multiprocessing import get_context
from typing import TypeVar

import cv2

S = TypeVar("S")
T = TypeVar("T")

PARTS_PER_TASK = 8

# Workers allocate the same large buffers for every picture. Without these settings, glibc returns each buffer to the
# kernel and the page faults take a quarter of the rendering time.
_KEEP_BUFFERS = {
    "MALLOC_MMAP_THRESHOLD_": "268435456",
    "MALLOC_TRIM_THRESHOLD_": "536870912",
    "MALLOC_TOP_PAD_": "67108864",
}


def part_ranges(parts: int) -> list[range]:
    """Divide a number of parts into ranges, each large enough for a worker."""
    return [range(first, min(first + PARTS_PER_TASK, parts)) for first in range(0, parts, PARTS_PER_TASK)]


def in_processes(call: Callable[[S], T], tasks: Sequence[S], workers: int) -> Iterator[T]:
    """Yield the results of a function for all tasks, in order of completion; one worker runs in this process.

    Args:
        call: A function in a module with few imports, because every worker imports it.
        tasks: The tasks; must be picklable.
        workers: Number of processes. With more than one, call this under ``if __name__ == "__main__":``.
    """
    if workers == 1:
        yield from map(call, tasks)
        return
    # Forking a process that runs OpenVINO's threads would deadlock.
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker)
    try:
        with _environment(_KEEP_BUFFERS):
            futures = [pool.submit(call, task) for task in tasks]
        for future in as_completed(futures):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    cv2.setNumThreads(1)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set environment variables for child processes started in the block; existing variables are kept."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
