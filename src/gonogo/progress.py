"""Progress bars on standard error, and progress in a file for another process, for loops longer than two seconds."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from gonogo.config import settings

if TYPE_CHECKING:
    from rich.console import Console

    console: Console

T = TypeVar("T")

_FILE_EVERY_S = 0.3


def __getattr__(name: str) -> Console:
    """Provide ``console`` (standard error) on first use; a station's worker does not need it and starts faster."""
    if name != "console":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console()


@functools.cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


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
    file = settings().progress_file
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
    written_at = 0.0
    for done, item in enumerate(items):
        if time.monotonic() - written_at > _FILE_EVERY_S:
            written_at = time.monotonic()
            partial = file.with_name(f".{file.name}")
            partial.write_text(json.dumps({"step": step, "done": done, "total": total}), "utf-8")
            partial.replace(file)
        yield item
