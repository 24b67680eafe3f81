"""``gonogo inspect``: judge photographs and print the verdicts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.device import DeviceOption

if TYPE_CHECKING:
    from gonogo.batch import BatchJob, JudgedFile
    from gonogo.bundle import Bundle


def inspect_command(
    bundle: Annotated[Path, typer.Argument(help="The inspector bundle, for example tile.inspector.")],
    photos: Annotated[list[Path], typer.Argument(help="Photographs, or folders of photographs.")],
    heatmaps: Annotated[
        Path | None, typer.Option(help="Folder for copies of the photographs with the heat map overlaid.")
    ] = None,
    device: DeviceOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line and picture.")] = False,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=1024,
            help="Number of processes, each pinned to a core. More give a higher throughput, 1 the lowest latency.",
        ),
    ] = 1,
) -> None:
    """Judge photographs: go, no-go, review or fault, with heat maps.

    Exit code 1 if a picture could not be judged (fault), 2 if one could not be read.
    """
    from gonogo import batch
    from gonogo.errors import InputError, UnfitError
    from gonogo.progress import console

    files = _pictures(photos)
    names = _heatmap_names(files, photos)
    jobs = [batch.BatchJob(file=file, heatmap=None if heatmaps is None else heatmaps / names[file]) for file in files]
    unread, states, used = 0, Counter[str](), set[str]()
    opened, judged = _judged(bundle, jobs, workers)
    for done in judged:
        unread += not done.readable
        states[done.verdict.state.value] += 1
        used.add(done.device)
        _report(done, opened, as_json=as_json)
    on = "; ".join(sorted(used))
    typer.echo(json.dumps(_summary(opened, states, on)) if as_json else _summary_line(opened, states, on))
    if heatmaps is not None and not _has_map(opened):
        console.print(f"No heat maps: {opened.root} was imported from another framework without one.", markup=False)
    elif heatmaps is not None:
        console.print(f"Wrote {len(files) - unread} heat maps to {heatmaps}")
    if unread:
        raise InputError(f"{unread} of {len(files)} pictures could not be read; the reasons are listed above.")
    if states["fault"]:
        raise UnfitError(
            f"{states['fault']} of {len(files)} pictures could not be judged; the reasons are listed above."
        )


def _pictures(photos: list[Path]) -> list[Path]:
    """Find the pictures, and print a note about other files.

    Raises:
        InputError: there are no pictures.
    """
    from gonogo import images
    from gonogo.errors import InputError
    from gonogo.progress import console

    files = list(images.find(*photos))
    if skipped := images.others(*photos):
        console.print(skipped)
    if not files:
        raise InputError(
            f"{', '.join(map(str, photos))}: expected pictures ({', '.join(images.SUFFIXES)}), found none."
        )
    return files


def _judged(bundle: Path, jobs: list[BatchJob], workers: int) -> tuple[Bundle, Iterator[JudgedFile]]:
    from gonogo import batch
    from gonogo import bundle as bundles
    from gonogo.inspector import Inspector

    if workers > 1:
        return bundles.read_bundle(bundle), batch.judge_files(bundle, jobs, workers=workers)
    inspector = Inspector.load(bundle)
    return inspector.bundle, (batch.judge_job(inspector, job) for job in jobs)


def _has_map(opened: Bundle) -> bool:
    return opened.manifest.classifier.pool != "none"


def _thresholds(opened: Bundle) -> dict[str, float | None]:
    """Return both thresholds; ``None`` for one that is not certified or infinite."""
    from gonogo.operating_point import to_json

    point = opened.manifest.operating_point
    shown: dict[str, Any] = {} if point is None else to_json(point)
    return {name: shown.get(name) for name in ("go_below", "no_go_above")}


def _shown(opened: Bundle) -> dict[str, Any]:
    """Return the fields about the bundle that every object of ``--json`` has."""
    point = opened.manifest.operating_point
    return {
        "bundle_sha256": opened.sha256,
        **_thresholds(opened),
        "go_without_promise": point is not None and point.go_without_promise,
    }


def _summary(opened: Bundle, states: Counter[str], device: str) -> dict[str, Any]:
    """Return the last object of ``--json``: the number of pictures per verdict, the bundle and the device."""
    from gonogo.schema import State

    return {
        "summary": True,
        "pictures": states.total(),
        **{state.value: states[state.value] for state in State},
        "bundle": str(opened.root),
        "device": device,
        **_shown(opened),
    }


def _summary_line(opened: Bundle, states: Counter[str], device: str) -> str:
    """Return the summary as one line of text."""
    from gonogo.schema import State

    counts = ", ".join(f"{states[state.value]} {state.value.replace('_', '-')}" for state in State)
    pictures = "1 picture" if states.total() == 1 else f"{states.total()} pictures"
    limits = [
        f"{name} {value:.3f}"
        for name, value in zip(("go below", "no-go above"), _thresholds(opened).values(), strict=True)
        if value is not None
    ]
    point = opened.manifest.operating_point
    if point is not None and point.go_without_promise:
        limits.append("go without a promise")
    named = [f"bundle {opened.sha256[:16]}", *([f"device {device}"] if device != "CPU" else [])]
    return f"{pictures}: {counts} ({', '.join([*named, *(limits or ['no thresholds'])])})"


def _heatmap_names(files: list[Path], roots: list[Path]) -> dict[Path, Path]:
    """Return the relative path of each heat map: the picture's path below its folder, numbered if two would collide."""

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


def _report(done: JudgedFile, opened: Bundle, *, as_json: bool) -> None:
    from gonogo.defect_kinds import describe_kind

    verdict, file = done.verdict, done.job.file
    if not as_json:
        score = "" if verdict.score is None else f"{verdict.score:9.3f}"
        kind = "" if verdict.kind is None else f"; kind: {describe_kind(verdict.kind, verdict.kind_share)}"
        notes = "".join(f"; {note}" for note in verdict.notes if note not in verdict.reason)
        typer.echo(f"{verdict.state.value:7s}{score:10s}  {file}  {verdict.reason}{kind}{notes}")
        return
    from gonogo.images.geometry import corners_of

    row: dict[str, Any] = {
        "file": str(file),
        "state": verdict.state.value,
        "score": verdict.score,
        "kind": verdict.kind,
        "kind_share": verdict.kind_share,
        "box_xyxy": None if verdict.box is None else list(verdict.box.xyxy),
        "region_xy": None if verdict.region is None else corners_of(verdict.region).tolist(),
        "heatmap_file": str(done.job.heatmap) if done.job.heatmap and done.readable and _has_map(opened) else None,
        "reason": verdict.reason,
        "measurements": [asdict(each) for each in verdict.measurements],
        "counts": [asdict(each) for each in verdict.counts],
        "notes": list(verdict.notes),
        "windows": verdict.windows,
        "device": done.device,
        "timings_ms": {stage: round(duration, 3) for stage, duration in verdict.timings_ms.items()},
        **_shown(opened),
    }
    typer.echo(json.dumps(row))
