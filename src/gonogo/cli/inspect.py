"""``gonogo inspect``."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from gonogo.inspector import Inspector
    from gonogo.schema import Frame, Verdict


def inspect(
    bundle: Annotated[Path, typer.Argument(help="The inspector, for example tile.inspector.")],
    photos: Annotated[list[Path], typer.Argument(help="Photographs or folders of them.")],
    heatmaps: Annotated[Path | None, typer.Option(help="Folder for the photographs with their heat drawn on.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per picture, a line each.")] = False,
) -> None:
    """Judge photographs: go, no-go, review or fault, with the evidence."""
    from gonogo import images
    from gonogo.errors import InputError
    from gonogo.inspector import Inspector
    from gonogo.progress import console

    files = list(images.find(*photos))
    if not files:
        raise InputError(f"{', '.join(map(str, photos))}: no pictures ({', '.join(images.SUFFIXES)}) found there.")
    inspector = Inspector.load(bundle)
    names = _heatmap_names(files, photos)
    unread = 0
    for file in files:
        frame, verdict = inspector.inspect_file(file)
        drawn = None
        if frame is None:
            unread += 1
        elif heatmaps is not None:
            drawn = _draw(inspector, frame, verdict, heatmaps / names[file])
        _report(file, verdict, drawn, as_json=as_json)
    if heatmaps is not None:
        console.print(f"Wrote {len(files) - unread} heat maps to {heatmaps}")
    if unread:
        raise InputError(f"{unread} of {len(files)} pictures could not be read; each is named above with its reason.")


def _draw(inspector: Inspector, frame: Frame, verdict: Verdict, path: Path) -> Path:
    from gonogo.files import write_beside
    from gonogo.heatmap import overlay
    from gonogo.images import encode_jpeg

    write_beside(path, encode_jpeg(overlay(frame, verdict, inspector.heat_scale)))
    return path


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


def _report(file: Path, verdict: Verdict, drawn: Path | None, *, as_json: bool) -> None:
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
        "heatmap_file": None if drawn is None else str(drawn),
        "reason": verdict.reason,
        "timings_ms": {stage: round(duration, 3) for stage, duration in verdict.timings_ms.items()},
    }
    typer.echo(json.dumps(row))
