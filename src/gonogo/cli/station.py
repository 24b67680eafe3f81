"""``gonogo station``: run, check and report on one inspection station."""

from __future__ import annotations

import dataclasses
import json
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.device import DeviceOption
from gonogo.cli.grr import grr_command
from gonogo.cli.msa import msa_command
from gonogo.cli.output import print_json

app = typer.Typer(help="One inspection station on a line: run, check, report.", no_args_is_help=True)


class Acknowledged(StrEnum):
    """What a person acknowledges."""

    CHALLENGE = "challenge"
    LINE = "line"


_Toml = Annotated[Path, typer.Argument(help="Settings of the station.", metavar="STATION.TOML")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("run")
def run_command(station: _Toml, device: DeviceOption = None) -> None:
    """Run the station until SIGTERM, Ctrl-C or end of standard input."""
    from gonogo.devices import device_name
    from gonogo.station import read_settings
    from gonogo.station.running import run_with_companions

    settings, toml = read_settings(station).on_device(device), station.resolve()
    if settings.device is not None:
        device_name(settings.device)  # a misspelt name must end the command, not fault every part
    agent: list[str] = []
    if settings.fleet is not None:
        from gonogo.fleet import agent_command

        agent = agent_command(toml)
    run_with_companions(settings, toml, agent=agent, complain=lambda text: typer.echo(text, err=True))


@app.command("check")
def check_command(station: _Toml, device: DeviceOption = None, as_json: _Json = False) -> None:
    """Check everything that the station needs: ledger, bundles, cameras. Nothing is recorded."""
    from gonogo.errors import UnfitError
    from gonogo.station import read_settings
    from gonogo.station.checking import check_station

    found = check_station(read_settings(station).on_device(device))
    if as_json:
        print_json([dataclasses.asdict(each) for each in found])
    else:
        for each in found:
            typer.echo(f"{'pass' if each.passed else 'FAIL'}  {each.what}: {each.detail}")
    failed = sum(not each.passed for each in found)
    if failed:
        raise UnfitError(f"{station}: {failed} of {len(found)} checks failed; the reasons are listed above.")


@app.command("example")
def example_command() -> None:
    """Print a commented station.toml as a starting point."""
    from gonogo.station import EXAMPLE

    typer.echo(EXAMPLE, nl=False)


@app.command("limits")
def limits_command(
    photos: Annotated[
        list[Path], typer.Argument(help="Photographs of good parts from this camera, or folders of them.")
    ],
    bundle: Annotated[
        Path | None, typer.Option(help="Decode them as this bundle does; needed for 16-bit pictures.")
    ] = None,
) -> None:
    """Measure photographs of good parts and print the limits for [cameras.health]."""
    from gonogo import images
    from gonogo.bundle import read_bundle
    from gonogo.capture import suggest_limits
    from gonogo.progress import track

    files = list(images.find(*photos))
    depth = None if bundle is None else read_bundle(bundle).manifest.recipe.depth
    found = suggest_limits(images.load_confined(file, depth=depth) for file in track(files, "Measuring"))
    typer.echo(f"# measured on {len(files)} photographs\n[cameras.health]")
    for key, value in found.model_dump(mode="json").items():
        if value is not None:
            typer.echo(f"{key} = {json.dumps(value)}")


@app.command("status")
def status_command(station: _Toml, as_json: _Json = False) -> None:
    """Show the status of a running station."""
    from gonogo.errors import UnfitError
    from gonogo.station import read_settings, read_station_status

    found = read_station_status(read_settings(station).state_dir)
    if found is None:
        raise UnfitError(f"{station}: this station has never run. Start it with: gonogo station run {station}")
    if as_json:
        print_json(found)
        return
    health = found["health"] if found["alive"] else f"not running since {found['beat'][:19]}"
    typer.echo(f"{found['station']}: {health}")
    for alarm in found["alarms"]:
        typer.echo(f"  alarm: {alarm}")
    typer.echo(f"  answers: {_counts(found['answers'])}; faults: {_counts(found['faults'])}")
    typer.echo(f"  waiting {found['waiting']}, unrecorded {found['unrecorded']}, {found['free_mb']:,} MB free")
    tracking = found.get("tracking")
    if tracking is not None:
        typer.echo(f"  between camera and gate {len(tracking['parts'])}; {_counts(tracking['counts'])}")
    link = found.get("centre")
    if link is not None:
        typer.echo(
            f"  centre: {link['lag_rows']:,} rows wait ({link['lag_s']:.0f} s); {link['trouble'] or 'connected'}"
        )
    for each in found.get("results", ()):
        waiting = f"{each['lag_rows']:,} {'shifts' if each['kind'] == 'email' else 'rows'} wait ({each['lag_s']:.0f} s)"
        typer.echo(f"  results {each['name']}: {waiting}; {each['trouble'] or 'delivered'}")
    for stage, took in found["stages"].items():
        typer.echo(f"  {stage:12s} median {took['p50_ms']:8.2f} ms, 99 % within {took['p99_ms']:8.2f} ms")


@app.command("acknowledge")
def acknowledge_command(
    station: _Toml,
    who: Annotated[str, typer.Option(help="Name of the person responsible.")],
    note: Annotated[str, typer.Option(help="The finding and the action taken.")] = "",
    what: Annotated[
        Acknowledged, typer.Option(help="A test with a challenge part, or a stop of the line ([reject]).")
    ] = Acknowledged.CHALLENGE,
) -> None:
    """Let parts pass again after a failed or overdue test with a challenge part, or after the line was stopped."""
    from gonogo.ledger import Action, Ledger
    from gonogo.station import read_settings
    from gonogo.station.challenge import ACKNOWLEDGE
    from gonogo.station.reject import acknowledge_line

    settings = read_settings(station)
    if what is Acknowledged.LINE:
        seq = acknowledge_line(settings, who=who, note=note)
        typer.echo(f"Recorded as row {seq}; takes effect within a second, from the next trigger on.")
        return
    with Ledger.open(settings.ledger, create=False) as ledger:
        row = ledger.append_action(
            Action(action=ACKNOWLEDGE, who=who, station=settings.station, details={"what": "challenge", "note": note})
        )
    typer.echo(f"Recorded as row {row.seq}; takes effect within a second.")


@app.command("select")
def select_command(
    station: _Toml,
    product: Annotated[str, typer.Argument(help="One of the products in the settings.", metavar="PRODUCT")],
    who: Annotated[str, typer.Option(help="Name of the person responsible.")],
) -> None:
    """Select the product that the station makes from now on."""
    from gonogo.errors import InputError
    from gonogo.ledger import Ledger
    from gonogo.station import read_settings
    from gonogo.station.changeover import request_product

    settings = read_settings(station)
    if product not in settings.products:
        listed = ", ".join(settings.products) or "none, because it has no [products]"
        raise InputError(f"{station}: expected a product of this station ({listed}), found {product!r}.")
    with Ledger.open(settings.ledger, create=False) as ledger:
        row = request_product(ledger, settings.station, product, who=who)
    typer.echo(f"Recorded as row {row}; the station follows within a second.")


@app.command("report")
def report_command(
    ledger: Annotated[Path, typer.Argument(help="The station's ledger.", metavar="LEDGER")],
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    station: Annotated[str | None, typer.Option(help="Name of the station, if the ledger holds several.")] = None,
    since: Annotated[
        datetime | None, typer.Option(help="Start of the period, local time. [default: the first row]")
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(help="End of the period, local time. [default: the last row]")
    ] = None,
    zone: Annotated[str, typer.Option(help="Time zone of the plant, for example Europe/Berlin.")] = "UTC",
    shifts: Annotated[str, typer.Option(help="Hours at which the shifts begin.")] = "6,14,22",
) -> None:
    """Write a shift report on one station for a period of time."""
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


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


app.command("msa")(msa_command)
app.command("grr")(grr_command)
