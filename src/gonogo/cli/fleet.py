"""``gonogo fleet``: many stations: roll a bundle out in stages, look at all stations, go back."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json
from gonogo.cli.signing import KeyOption, StoreOption, chosen_store, open_key

if TYPE_CHECKING:
    from gonogo.fleet import Judgement, Release, ReleaseServer, StationReport

app = typer.Typer(
    help="Many stations: roll bundles out in stages, watch all stations, roll back.", no_args_is_help=True
)

_Shelf = Annotated[Path, typer.Argument(help="Folder with the releases, which stations pull from.", metavar="RELEASES")]
_Channel = Annotated[str, typer.Option(help="Channel: the stations that share a bundle.")]
_Own = Annotated[Path, typer.Option(help="Ledger of the release server, in which every move is recorded.")]
_Ledgers = Annotated[
    list[Path] | None, typer.Option("--from", help="Ledger with rows of stations; may be repeated. [default: --ledger]")
]
_Who = Annotated[str, typer.Option(help="Name of the person responsible.")]
_Why = Annotated[str, typer.Option(help="Reason, for the record.")]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("start")
def start_command(
    releases: _Shelf,
    bundle: Annotated[Path, typer.Argument(help="The new bundle, signed.", metavar="BUNDLE")],
    channel: _Channel,
    ledger: _Own,
    key: KeyOption,
    who: _Who,
    why: _Why = "",
    canary: Annotated[
        list[str] | None, typer.Option(help="Canary station; * matches any characters; may be repeated.")
    ] = None,
    first: Annotated[
        bool, typer.Option("--first", help="Put the first bundle of the channel into use, without a roll-out.")
    ] = False,
    alpha: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Risk of a wrong decision in each stage.")] = 0.05,
    max_flips: Annotated[
        float, typer.Option(min=0.0001, max=0.9, help="Stop above this share of parts that are newly go.")
    ] = 0.05,
    max_bad_flips: Annotated[
        float, typer.Option(min=0.000001, max=0.5, help="Largest share of parts that are newly go and bad.")
    ] = 0.001,
    min_settled: Annotated[int, typer.Option(min=1, help="Parts that people must decide in each stage.")] = 20,
    min_live: Annotated[int, typer.Option(min=1, help="Parts that canary stations must answer.")] = 200,
    people: Annotated[int, typer.Option(min=1, max=5, help="Different people who must call a flip good.")] = 1,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Start the roll-out of a signed bundle: it judges silently beside the one in use."""
    from gonogo.errors import InputError
    from gonogo.fleet import Terms

    server = _release_server(releases, channel, ledger, None, store)
    if first:
        release = server.put_first(bundle, open_key(key), who=who, why=why)
    else:
        if not canary:
            raise InputError("--canary: expected the name of at least one canary station, found none.")
        terms = Terms(
            alpha=alpha,
            max_flips=max_flips,
            max_bad_flips=max_bad_flips,
            min_settled=min_settled,
            min_live=min_live,
            people=people,
        )
        release = server.start(bundle, open_key(key), canaries=tuple(canary), terms=terms, who=who, why=why)
    _tell_release(release, as_json=as_json)


@app.command("status")
def status_command(
    ledger: Annotated[list[Path], typer.Option(help="Ledger with rows of stations; may be repeated.")],
    releases: Annotated[Path | None, typer.Option(help="Folder with the releases: adds roll-outs and drift.")] = None,
    station: Annotated[
        list[str] | None, typer.Option(help="Address or state folder of a station, to ask it; may be repeated.")
    ] = None,
    max_parts: Annotated[int, typer.Option(min=1, help="Requalify after this number of parts.")] = 1_000_000,
    max_days: Annotated[float, typer.Option(min=0.01, max=36_500, help="Requalify after this many days.")] = 365.0,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Show every station: bundle, health, yield, drift, clock, lag and what is due; and every roll-out."""
    from gonogo.fleet import LedgerFile, Limits, Shelf, ask_station, fleet_status

    places = tuple(LedgerFile(path=path) for path in ledger)
    health = {said.station: said for said in map(ask_station, station or ())}
    shelf = None if releases is None else Shelf(releases)
    limits = Limits(parts=max_parts, days=max_days)
    found = fleet_status(places, health=health, shelf=shelf, limits=limits)
    channels = [] if shelf is None else shelf.channels()
    rollouts = (
        [_release_server(releases, each, ledger[0], ledger, store).judge() for each in channels] if releases else []
    )
    if as_json:
        stations = [{**dataclasses.asdict(each), "yield": each.yield_share} for each in found]
        print_json({"stations": stations, "rollouts": [_as_json(each) for each in rollouts]}, default=str)
        return
    for each in found:
        _print_station(each)
    for judged in rollouts:
        _print(judged)


@app.command("flips")
def flips_command(
    releases: _Shelf,
    channel: _Channel,
    ledger: _Own,
    from_: _Ledgers = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """List the parts that are newly go and that a person still has to decide, with their rows and pictures."""
    from gonogo.fleet import flips_to_settle

    server = _release_server(releases, channel, ledger, from_, store)
    found = flips_to_settle(server)
    if as_json:
        print_json([dataclasses.asdict(each) for each in found], default=str)
        return
    for each in found:
        typer.echo(f"{each.part}: gonogo fleet settle {each.ledger} {each.row} --label good|bad --who NAME")
        for frame in each.frames:
            typer.echo(f"  {frame}")
    typer.echo(f"{len(found)} parts are to be decided.")


@app.command("settle")
def settle_command(
    ledger: Annotated[Path, typer.Argument(help="Ledger that has the row.", metavar="LEDGER")],
    row: Annotated[int, typer.Argument(min=1, help="Row of the part's verdict.")],
    label: Annotated[str, typer.Option(help="good, bad, or none to take an earlier decision back.")],
    who: _Who,
    as_json: _Json = False,
) -> None:
    """Decide whether a part is truly good. It is the same record as a decision on the review page."""
    from gonogo.fleet import settle

    seq = settle(ledger, row, label, who=who)
    if as_json:
        print_json({"row": seq, "about": row, "label": label})
    else:
        typer.echo(f"Recorded as row {seq}.")


@app.command("promote")
def promote_command(
    releases: _Shelf,
    channel: _Channel,
    ledger: _Own,
    key: KeyOption,
    who: _Who,
    why: _Why = "",
    from_: _Ledgers = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Move the roll-out to its next stage: canary stations, then all. Exit code 1 if the evidence does not allow it."""
    found = _release_server(releases, channel, ledger, from_, store).promote(open_key(key), who=who, why=why)
    _tell(found, as_json=as_json)


@app.command("stop")
def stop_command(
    releases: _Shelf,
    channel: _Channel,
    ledger: _Own,
    key: KeyOption,
    who: _Who,
    why: _Why = "",
    from_: _Ledgers = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Stop the running roll-out: every station uses the old bundle."""
    found = _release_server(releases, channel, ledger, from_, store).stop(open_key(key), who=who, why=why)
    _tell(found, as_json=as_json)


@app.command("rollback")
def rollback_command(
    releases: _Shelf,
    channel: _Channel,
    ledger: _Own,
    key: KeyOption,
    who: _Who,
    why: _Why = "",
    to: Annotated[str | None, typer.Option(help="SHA-256 of an earlier bundle. [default: the one before]")] = None,
    from_: _Ledgers = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Return every station to the bundle of before; a running roll-out is stopped. It is a new signed release."""
    found = _release_server(releases, channel, ledger, from_, store).roll_back(open_key(key), who=who, why=why, to=to)
    _tell(found, as_json=as_json)


@app.command("watch")
def watch_command(
    releases: _Shelf,
    channel: _Channel,
    ledger: _Own,
    key: KeyOption,
    every: Annotated[
        float | None, typer.Option(min=0.1, max=86_400, help="Seconds between looks, until Ctrl-C. [default: one look]")
    ] = None,
    from_: _Ledgers = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Stop the roll-out by itself as soon as the evidence demands it. Nothing else happens without a person."""
    server, signing_key = _release_server(releases, channel, ledger, from_, store), open_key(key)
    while True:
        found = server.stop_if_needed(signing_key)
        _tell(found, as_json=as_json)
        if every is None:
            return
        time.sleep(every)


@app.command("qualified")
def qualified_command(
    station: Annotated[Path, typer.Argument(help="Settings of the station.", metavar="STATION.TOML")],
    who: _Who,
    note: Annotated[str, typer.Option(help="What was examined, and where the report is.")] = "",
    as_json: _Json = False,
) -> None:
    """Record that a person has examined a station and declares it fit, with its bundle and its cameras as they are."""
    from gonogo.fleet import declare_fit
    from gonogo.ledger import Ledger
    from gonogo.station import read_settings

    settings = read_settings(station)
    with Ledger.open(settings.ledger, create=False) as opened:
        row = declare_fit(opened, settings, who=who, note=note)
    if as_json:
        print_json({"row": row.seq, **row.record.details})
    else:
        typer.echo(f"Recorded as row {row.seq}.")


def _release_server(
    releases: Path, channel: str, ledger: Path, places: list[Path] | None, store: Path | None
) -> ReleaseServer:
    from gonogo.fleet import LedgerFile, ReleaseServer, Shelf

    return ReleaseServer(
        shelf=Shelf(releases),
        channel=channel,
        trust_store=chosen_store(store),
        ledger=ledger,
        places=tuple(LedgerFile(path=path) for path in places or (ledger,)),
    )


def _tell_release(release: Release, *, as_json: bool) -> None:
    if as_json:
        print_json({**release.model_dump(mode="json"), "rollout": release.rollout})
        return
    typer.echo(f"Published release {release.sequence} of channel {release.channel}: {release.stage}.")


def _tell(found: Judgement, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(found))
    else:
        _print(found)


def _as_json(found: Judgement) -> dict[str, Any]:
    return {
        "release": found.release.model_dump(mode="json"),
        "rollout": found.release.rollout,
        "evidence": dataclasses.asdict(found.evidence),
        "decision": dataclasses.asdict(found.decision),
    }


def _print(found: Judgement) -> None:
    from gonogo.fleet import RUNNING

    release, evidence, decision = found.release, found.evidence, found.decision
    typer.echo(
        f"channel {release.channel}: {release.stage}, release {release.sequence}, bundle {release.bundle_sha256[:16]}"
    )
    if release.stage not in RUNNING and not evidence.parts:
        return
    typer.echo(
        f"  {evidence.parts:,} parts judged by both, {evidence.live:,} answered by the candidate; newly go: "
        f"{evidence.flips} ({evidence.bad_flips} bad, {evidence.unsettled} undecided), no longer: {evidence.stricter}"
    )
    low, high = decision.bad_flips
    typer.echo(f"  bad and newly go: between {low:.3%} and {high:.3%} of the parts")
    typer.echo(f"  {decision.verdict}{': ' if decision.reasons else ''}{' '.join(decision.reasons)}")


def _print_station(found: StationReport) -> None:
    bundle = "no bundle" if found.bundle_sha256 is None else found.bundle_sha256[:16]
    share = "" if found.yield_share is None else f", yield {found.yield_share:.1%}"
    lag = "" if found.lag_s is None else f", last verdict {found.lag_s:,.0f} s ago"
    clock = "" if found.clock_offset_s is None else f", clock {found.clock_offset_s:+.1f} s"
    release = "" if found.release is None else f", release {found.release}"
    typer.echo(f"{found.station}: {found.health}, {bundle}{release}, {found.parts:,} parts in 24 h{share}{lag}{clock}")
    if found.refused:
        typer.echo(f"  release: {found.refused}")
    for alarm in found.alarms:
        typer.echo(f"  alarm: {alarm}")
    for each in found.due:
        typer.echo(f"  requalify ({each.trigger}): {each.why}")
