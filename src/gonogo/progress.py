"""Progress on standard error, and into a file for another process, for anything longer than two seconds."""

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
    """``console``, standard error; made on first use, as a station's worker needs none and starts the faster for it."""
    if name != "console":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _console()


@functools.cache
def _console() -> Console:
    from rich.console import Console

    return Console(stderr=True)


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield the items while a bar on standard error shows how far it is; silent when that is no terminal."""
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
        yield from shown if file is None else _told(shown, file, description, total)


def _told(items: Iterable[T], file: Path, step: str, total: int | None) -> Iterator[T]:
    told_at = 0.0
    for done, item in enumerate(items):
        if time.monotonic() - told_at > _FILE_EVERY_S:
            told_at = time.monotonic()
            partial = file.with_name(f".{file.name}")
            partial.write_text(json.dumps({"step": step, "done": done, "total": total}), "utf-8")
            partial.replace(file)
        yield item
