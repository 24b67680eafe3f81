"""``gonogo inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gonogo.pool import Done, Job


def inspect(
    bundle: Annotated[Path, typer.Argument(help="The inspector, for example tile.inspector.")],
    photos: Annotated[list[Path], typer.Argument(help="Photographs or folders of them.")],
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for the photographs with their heat drawn on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per picture, a line each.")] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Processes, each pinned to a core: for throughput. 1 gives the shortest delay.")
    ] = 1,
) -> None:
    """Judge photographs: go, no-go, review or fault, with the evidence."""
    from gonogo import images, pool
    from gonogo.errors import InputError
    from gonogo.progress import console

    files = list(images.find(*photos))
    if not files:
        raise InputError(f"{', '.join(map(str, photos))}: no pictures ({', '.join(images.SUFFIXES)}) found there.")
    names = _heatmap_names(files, photos)
    jobs = [pool.Job(file=file, heatmap=None if heatmaps is None else heatmaps / names[file]) for file in files]
    unread = 0
    for done in _judged(bundle, jobs, workers):
        unread += not done.readable
        _report(done, as_json=as_json)
    if heatmaps is not None:
        console.print(f"Wrote {len(files) - unread} heat maps to {heatmaps}")
    if unread:
        raise InputError(f"{unread} of {len(files)} pictures could not be read; each is named above with its reason.")


def _judged(bundle: Path, jobs: list[Job], workers: int) -> Iterator[Done]:
    from gonogo import pool
    from gonogo.inspector import Inspector

    if workers > 1:
        yield from pool.judge_files(bundle, jobs, workers=workers)
        return
    inspector = Inspector.load(bundle)
    yield from (pool.judge(inspector, job) for job in jobs)


def _heatmap_names(files: list[Path], roots: list[Path]) -> dict[Path, Path]:
    """Where each heat map goes: the picture's place below the folder it was found in; numbered where two would meet."""

    def candidates(file: Path) -> Iterator[Path]:
        root = next((root for root in roots if root.is_dir() and file.is_relative_to(root)), file.parent)
        place = file.relative_to(root)
        yield place.with_suffix(".jpg")
        yield place.with_name(f"{place.name}.jpg")
        yield from (place.with_name(f"{place.stem}-{number}.jpg") for number in range(2, len(files) + 2))

    taken: dict[Path, Path] = {}
    used: set[Path] = set()
    for file in files:
        name = next(name for name in candidates(file) if name not in used)
        used.add(name)
        taken[file] = name
    return taken


def _report(done: Done, *, as_json: bool) -> None:
    verdict, file = done.verdict, done.job.file
    if not as_json:
        score = "" if verdict.score is None else f"{verdict.score:9.3f}"
        typer.echo(f"{verdict.state.value:7s}{score:10s}  {file}  {verdict.reason}")
        return
    from gonogo.images.geometry import corners_of

    row: dict[str, Any] = {
        "file": str(file),
        "state": verdict.state.value,
        "score": verdict.score,
        "box_xyxy": None if verdict.box is None else list(verdict.box.xyxy),
        "region_xy": None if verdict.region is None else corners_of(verdict.region).tolist(),
        "heatmap_file": str(done.job.heatmap) if done.job.heatmap is not None and done.readable else None,
        "reason": verdict.reason,
        "windows": verdict.windows,
        "timings_ms": {stage: round(duration, 3) for stage, duration in verdict.timings_ms.items()},
    }
    typer.echo(json.dumps(row))
