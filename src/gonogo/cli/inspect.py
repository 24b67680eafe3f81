"""``gonogo inspect``: judge photographs and print the verdicts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.engine import Engine, EngineOption, JournalOption, RayAddressOption, RayOptions, say_how_to_resume
from gonogo.cli.output import print_json
from gonogo.cli.trust import RequireSignatureOption, TrustStoreOption

if TYPE_CHECKING:
    from gonogo.batch import BatchJob
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
        int | None,
        typer.Option(
            min=1,
            max=1024,
            help="Number of processes, each pinned to a core. More give a higher throughput, 1 the lowest latency. "
            "[default: 1; with --engine ray all processors]",
            show_default=False,
        ),
    ] = None,
    engine: EngineOption = Engine.PROCESSES,
    ray_address: RayAddressOption = None,
    journal: JournalOption = None,
    require_signature: RequireSignatureOption = False,
    trust_store: TrustStoreOption = None,
) -> None:
    """Judge photographs: go, no-go, review or fault, with heat maps.

    Exit code 1 if a picture could not be judged (fault), 2 if one could not be read.
    """
    from gonogo import batch
    from gonogo.errors import InputError, UnfitError

    options = RayOptions(engine=engine, address=ray_address, journal=journal)
    on_ray = options.chosen
    files = _pictures(photos)
    names = _heatmap_names(files, photos)
    jobs = [batch.BatchJob(file=file, heatmap=None if heatmaps is None else heatmaps / names[file]) for file in files]
    tally = _Tally()
    opened, rows = _on_ray(bundle, jobs, workers, options, tally) if on_ray else _judged(bundle, jobs, workers or 1)
    try:
        with closing(rows):  # ends the cluster before anything else is printed
            for row in rows:
                tally.add(row)
                _report(row, opened, as_json=as_json)
    except KeyboardInterrupt:
        if on_ray:
            say_how_to_resume(options)
        raise
    if as_json:
        print_json(_summary(opened, tally))
    else:
        typer.echo(_summary_line(opened, tally))
    if heatmaps is not None:
        _say_heatmaps(opened, len(files) - tally.unread, heatmaps)
    if tally.unread:
        raise InputError(f"{tally.unread} of {len(files)} pictures could not be read; the reasons are listed above.")
    if faults := tally.states["fault"]:
        raise UnfitError(f"{faults} of {len(files)} pictures could not be judged; the reasons are listed above.")


def _say_heatmaps(opened: Bundle, count: int, folder: Path) -> None:
    from gonogo.progress import console

    if _has_map(opened):
        console.print(f"Wrote {count} heat maps to {folder}")
    else:
        console.print(f"No heat maps: {opened.root} was imported from another framework without one.", markup=False)


@dataclass
class _Tally:
    """What is counted over all pictures."""

    unread: int = 0
    states: Counter[str] = field(default_factory=Counter)
    devices: set[str] = field(default_factory=set)
    other_processors: dict[str, int] | None = None
    """Pictures by kind of processor, where that is another one than this machine's; ``None`` on one machine."""

    def add(self, row: dict[str, Any]) -> None:
        """Count one picture."""
        self.unread += not row["readable"]
        self.states[row["state"]] += 1
        self.devices.add(row["device"])

    @property
    def device(self) -> str:
        return "; ".join(sorted(self.devices))


def _pictures(photos: list[Path]) -> list[Path]:
    """Find the pictures, and print a note about other files.

    Raises:
        InputError: there are no pictures.
    """
    from gonogo import images
    from gonogo.errors import InputError

    files = list(images.find(*photos))
    if skipped := images.others(*photos):
        from gonogo.progress import console  # rich, which is slow to import

        console.print(skipped)
    if not files:
        raise InputError(
            f"{', '.join(map(str, photos))}: expected pictures ({', '.join(images.SUFFIXES)}), found none."
        )
    return files


def _judged(bundle: Path, jobs: list[BatchJob], workers: int) -> tuple[Bundle, Generator[dict[str, Any]]]:
    from gonogo import batch
    from gonogo import bundle as bundles
    from gonogo.inspector import Inspector

    if workers > 1:
        opened, judged = bundles.read_bundle(bundle), batch.judge_files(bundle, jobs, workers=workers)
    else:
        inspector = Inspector.load(bundle)
        opened, judged = inspector.bundle, (batch.judge_job(inspector, job) for job in jobs)
    return opened, (done.as_row() | {"readable": done.readable} for done in judged)


def _on_ray(
    bundle: Path, jobs: list[BatchJob], workers: int | None, options: RayOptions, tally: _Tally
) -> tuple[Bundle, Generator[dict[str, Any]]]:
    from gonogo import bundle as bundles
    from gonogo.cli.engine import on_cluster, other_processors

    def rows() -> Generator[dict[str, Any]]:
        from gonogo.cluster import Used, inspect_on
        from gonogo.progress import track

        used = Used()
        with on_cluster(options, cpus=workers) as cluster:
            found = inspect_on(cluster, bundle, jobs, journal=options.journal, used=used)
            yield from track(found, "judging", total=len(jobs))
        tally.other_processors = other_processors(used)

    return bundles.read_bundle(bundle), rows()


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


def _summary(opened: Bundle, tally: _Tally) -> dict[str, Any]:
    """Return the last object of ``--json``: the number of pictures per verdict, the bundle and the device."""
    from gonogo.schema import State

    return {
        "summary": True,
        "pictures": tally.states.total(),
        **{state.value: tally.states[state.value] for state in State},
        "bundle": str(opened.root),
        "device": tally.device,
        **({} if tally.other_processors is None else {"other_processors": tally.other_processors}),
        **_shown(opened),
    }


def _summary_line(opened: Bundle, tally: _Tally) -> str:
    """Return the summary as one line of text."""
    from gonogo.schema import State

    states, device = tally.states, tally.device
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


def _report(row: dict[str, Any], opened: Bundle, *, as_json: bool) -> None:
    from gonogo.defect_kinds import describe_kind

    if as_json:
        print_json({name: value for name, value in row.items() if name != "readable"} | _shown(opened))
        return
    score = "" if row["score"] is None else f"{row['score']:9.3f}"
    kind = "" if row["kind"] is None else f"; kind: {describe_kind(row['kind'], row['kind_share'])}"
    notes = "".join(f"; {note}" for note in row["notes"] if note not in row["reason"])
    typer.echo(f"{row['state']:7s}{score:10s}  {row['file']}  {row['reason']}{kind}{notes}")
