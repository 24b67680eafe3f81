"""Progress on standard error, and into a file for another process, for anything longer than two seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gonogo.config import settings

T = TypeVar("T")

console = Console(stderr=True)
_FILE_EVERY_S = 0.3


def track(items: Iterable[T], description: str, *, total: int | None = None) -> Iterator[T]:
    """Yield the items while a bar on standard error shows how far it is; silent when that is no terminal."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    file = settings().progress_file
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
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
