"""Progress bars on standard error, and progress for another process or thread, for loops longer than two seconds."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gonogo.config import settings

if TYPE_CHECKING:
    from rich.console import Console

    console: Console

T = TypeVar("T")

_FILE_EVERY_S = 0.3
_step: ContextVar[Callable[[int, int], None] | None] = ContextVar("step", default=None)


def __getattr__(name: str) -> Console:
    """Provide ``console`` (standard error) on first use; a station's worker does not need it and starts faster."""
    if name != "console":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console()


@functools.cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


@contextmanager
def reported_to(step: Callable[[int, int], None]) -> Iterator[None]:
    """Report the progress of every `track` in the block to a function, which gets the items done and their total.

    The total is 0 if it is unknown. What the function raises ends the loop, for example because a server stops.
    """
    before = _step.set(step)
    try:
        yield
    finally:
        _step.reset(before)


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield the items and show a progress bar on standard error; no bar if that is not a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    file, step = settings().progress_file, _step.get()
    if step is not None:
        for done, item in enumerate(items):
            step(done, total or 0)
            yield item
        return
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=_console(),
        transient=True,
        disable=not _console().is_terminal,
    ) as progress:
        shown = progress.track(items, description=description, total=total)
        yield from shown if file is None else _recorded(shown, file, description, total)


def _recorded(items: Iterable[T], file: Path, step: str, total: int | None) -> Iterator[T]:
    began, written_at = time.monotonic(), 0.0
    for done, item in enumerate(items):
        if time.monotonic() - written_at > _FILE_EVERY_S:
            written_at = time.monotonic()
            partial = file.with_name(f".{file.name}")
            left_s = (written_at - began) * (total - done) / done if total and done else None
            said = {"step": step, "done": done, "total": total, "left_s": left_s}
            partial.write_text(json.dumps(said), "utf-8")
            partial.replace(file)
        yield item
