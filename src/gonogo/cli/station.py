"""``gonogo station``: run one inspection position, try it out, torment it, simulate a week of it."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.msa import msa

if TYPE_CHECKING:
    from gonogo.dataset import Dataset

app = typer.Typer(help="One inspection position on a line: run, check, stress, measure.", no_args_is_help=True)

_Toml = Annotated[Path, typer.Argument(help="The station's settings.", metavar="STATION.TOML")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def run(station: _Toml) -> None:
    """Run the station until SIGTERM, Ctrl-C or the end of standard input."""
    from gonogo.station import read_settings, worker_command
    from gonogo.station import run as run_station

    settings = read_settings(station)
    run_station(settings, worker_command(station.resolve()), complain=lambda text: typer.echo(text, err=True))


@app.command()
def check(station: _Toml, as_json: _Json = False) -> None:
    """Test everything the station needs: ledger, bundles, cameras. Nothing is recorded."""
    from gonogo.errors import UnfitError
    from gonogo.station import read_settings
    from gonogo.station.checking import check_station

    found = check_station(read_settings(station))
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(each) for each in found]))
    else:
        for each in found:
            typer.echo(f"{'pass' if each.passed else 'FAIL'}  {each.what}: {each.detail}")
    failed = sum(not each.passed for each in found)
    if failed:
        raise UnfitError(f"{station}: {failed} of {len(found)} trials failed; each is named above with its reason.")


@app.command()
def example() -> None:
    """Print a commented station.toml to start from."""
    from gonogo.station import EXAMPLE

    typer.echo(EXAMPLE, nl=False)


@app.command()
def limits(
    photos: Annotated[list[Path], typer.Argument(help="Good photographs from this camera, or folders of them.")],
) -> None:
    """Measure good photographs and print the limits for [views.health]."""
    from gonogo import images
    from gonogo.capture import suggest_limits
    from gonogo.progress import track

    files = list(images.find(*photos))
    found = suggest_limits(images.load(file) for file in track(files, "Measuring"))
    typer.echo(f"# measured on {len(files)} photographs\n[views.health]")
    for key, value in found.model_dump(mode="json").items():
        if value is not None:
            typer.echo(f"{key} = {json.dumps(value)}")


@app.command()
def status(station: _Toml, as_json: _Json = False) -> None:
    """Show the status of the running station."""
    from gonogo.errors import UnfitError
    from gonogo.station import read_settings, read_status

    found = read_status(read_settings(station).state_dir)
    if found is None:
        raise UnfitError(f"{station}: this station has never run. Start it with: gonogo station run {station}")
    if as_json:
        typer.echo(json.dumps(found))
        return
    health = found["health"] if found["alive"] else f"not running since {found['beat'][:19]}"
    typer.echo(f"{found['station']}: {health}")
    for alarm in found["alarms"]:
        typer.echo(f"  alarm: {alarm}")
    typer.echo(f"  answers: {_counts(found['answers'])}; faults: {_counts(found['faults'])}")
    typer.echo(f"  waiting {found['waiting']}, unrecorded {found['unrecorded']}, {found['free_mb']:,} MB free")
    for stage, took in found["stages"].items():
        typer.echo(f"  {stage:12s} median {took['p50_ms']:8.2f} ms, 99 % within {took['p99_ms']:8.2f} ms")


@app.command()
def acknowledge(
    station: _Toml,
    who: Annotated[str, typer.Option(help="Name of the person responsible.")],
    note: Annotated[str, typer.Option(help="What was found and what was done about it.")] = "",
) -> None:
    """Let parts pass again after a failed or overdue test with a known bad part."""
    from gonogo.ledger import Action, Ledger
    from gonogo.station import read_settings
    from gonogo.station.challenge import ACKNOWLEDGE

    settings = read_settings(station)
    with Ledger.open(settings.ledger, create=False) as ledger:
        row = ledger.append_action(
            Action(action=ACKNOWLEDGE, who=who, station=settings.station, details={"what": "challenge", "note": note})
        )
    typer.echo(f"Recorded as row {row.seq}; the station takes note within a second.")


@app.command()
def chaos(
    kills: Annotated[int, typer.Option(min=0, help="Number of kills.")] = 1000,
    triggers: Annotated[int, typer.Option(min=0, help="Number of triggers in the storm.")] = 10_000,
    failures: Annotated[int, typer.Option(min=0, help="Number of failures of each kind.")] = 100,
    pictures: Annotated[int, typer.Option(min=0, help="Number of triggers whose pictures may go astray.")] = 10_000,
    share: Annotated[float, typer.Option(min=0.001, max=1.0, help="Multiply all these counts by this.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 1,
    lanes: Annotated[int, typer.Option(min=1, help="Number of stations that run side by side.")] = 3,
) -> None:
    """Stress stations with kills, trigger storms, failures and stray pictures, and count what goes wrong.

    Exit code 1 if anything does.
    """
    import tempfile

    from gonogo.errors import UnfitError
    from gonogo.station.chaos import progress_ticker, run_all

    counts = {"kills": kills, "triggers": triggers, "failing": failures, "pictures": pictures}
    counts = {name: max(1, round(share * count)) for name, count in counts.items()}
    total = counts["kills"] + counts["triggers"] + 4 * counts["failing"] + counts["pictures"]
    with tempfile.TemporaryDirectory(prefix="gonogo-chaos-") as folder:
        found = run_all(Path(folder), **counts, seed=seed, lanes=lanes, tick=progress_ticker(total))
    for each in found.values():
        for example in each.examples:
            typer.echo(f"wrong: {example}", err=True)
    figures: dict[str, Any] = {name: {**each.done, "wrong": each.wrong} for name, each in found.items()}
    figures["failures"]["slowest_fault_s"] = round(found["failures"].slowest_fault_s, 3)
    typer.echo(json.dumps({"seed": seed, **figures}))
    if not all(each.sound for each in found.values()):
        raise UnfitError("the station lost, doubled, contradicted or wrongly passed something; see the figures above.")


@app.command()
def load(
    minutes: Annotated[float, typer.Option(min=0.05, help="Minutes at 80 % of the measured capacity.")] = 10.0,
    bundle: Annotated[Path | None, typer.Option(help="The bundle that judges. [default: a fake one]")] = None,
    photos: Annotated[Path | None, typer.Option(help="Folder of photographs to judge.")] = None,
    folder: Annotated[Path | None, typer.Option(help="Folder for the ledger; its disk is measured.")] = None,
) -> None:
    """Measure how many parts a station can judge here, then hold 80 % of it. The last line is the figures, as JSON."""
    import tempfile

    from gonogo.errors import InputError, UnfitError
    from gonogo.station.load import example_photos, measure_load

    if (bundle is None) != (photos is None):
        raise InputError("expected --bundle and --photos together, or neither of them.")
    with tempfile.TemporaryDirectory(prefix="gonogo-load-", dir=folder) as place:
        root = Path(place)
        if bundle is None or photos is None:
            from gonogo.station.fake_bundle import write_fake_bundle

            bundle, photos = write_fake_bundle(root / "fake.inspector").root, example_photos(root / "photos")
        result = measure_load(root, bundle, photos, seconds=60 * minutes, tell=lambda text: typer.echo(text, err=True))
    figures = {name: _rounded(value) for name, value in dataclasses.asdict(result).items()}
    typer.echo(json.dumps({**figures, "sync_ms": _rounded(result.sync_ms)}))
    if result.missed:
        raise UnfitError(f"{result.missed} of {result.fired} triggers have no row of their own.")


@app.command()
def week(
    bundle: Annotated[Path, typer.Option(help="The bundle that judges.")],
    out: Annotated[Path, typer.Option(help="New folder for the ledger and the page.")],
    dataset: Annotated[
        Path | None, typer.Option(help="Labelled pictures of parts; rendered boards where omitted.")
    ] = None,
    update: Annotated[
        Path | None, typer.Option(help="Replaces the bundle on Wednesday; the same one issued anew where omitted.")
    ] = None,
    parts: Annotated[int, typer.Option(min=100, help="Parts in the week.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 1,
) -> None:
    """Simulate a week of a line faster than real time and write the shift leader's page."""
    from gonogo.dataset import Dataset
    from gonogo.station.shift_page import write_shift_page
    from gonogo.station.shift_report import gather
    from gonogo.station.week import simulate_week

    data = Dataset.read(dataset) if dataset is not None else _rendered(out / "parts", seed)
    ledger = simulate_week(out, bundle, data, parts=parts, seed=seed, update=update)
    period = gather(ledger)
    write_shift_page(period, ledger, out / "week.html")
    states = {state.value: count for state, count in period.total.states.items()}
    typer.echo(json.dumps({"page": str(out / "week.html"), "parts": period.total.parts, **states}))


@app.command()
def report(
    ledger: Annotated[Path, typer.Argument(help="The station's ledger.", metavar="LEDGER")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    station: Annotated[str | None, typer.Option(help="Which station, where the ledger holds several.")] = None,
    since: Annotated[datetime | None, typer.Option(help="Local time; everything where omitted.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Local time.")] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the plant, for example Europe/Berlin.")] = "UTC",
    shifts: Annotated[str, typer.Option(help="Hours at which shifts begin.")] = "6,14,22",
) -> None:
    """Write the shift leader's page about one station and a period of time."""
    from gonogo.station.shift_page import write_shift_page
    from gonogo.station.shift_report import gather, parse_shifts

    calendar = parse_shifts(shifts, zone)
    period = gather(
        ledger,
        station=station,
        since=None if since is None else since.replace(tzinfo=calendar.zone),
        until=None if until is None else until.replace(tzinfo=calendar.zone),
        shifts=calendar,
    )
    write_shift_page(period, ledger, out, shifts=calendar)
    typer.echo(f"Wrote {out}: {period.total.parts:,} parts")


def _rendered(folder: Path, seed: int) -> Dataset:
    from gonogo.dataset import Dataset
    from gonogo.synthetic import Mix, write_dataset

    write_dataset(folder, 240, seed=seed, mix=Mix(without_chip=0.0, with_two_chips=0.0))
    return Dataset.read(folder)


def _rounded(value: float | int | None) -> float | int | None:
    return round(value, 3) if isinstance(value, float) else value


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


app.command()(msa)
