"""``gonogo ledger prepare|migrate|forward|chains|capacity``: a centre for many ledgers, in PostgreSQL."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.edge import path_problem
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.centre import Centre, Link
    from gonogo.ledger import Ledger

LedgerFile = Annotated[Path, typer.Argument(help="The ledger file, for example line1.ledger.", metavar="LEDGER")]
Place = Annotated[
    str,
    typer.Argument(
        help="The ledger file; or a centre: @FILE with its URL, env:NAME, or postgresql://user@host/database.",
        metavar="LEDGER",
    ),
]
ChainName = Annotated[str | None, typer.Option("--chain", help="Name of the chain at the centre.", show_default=False)]
_Centre = Annotated[
    str,
    typer.Argument(help="@FILE with the centre's URL, env:NAME, or postgresql://user@host/database.", metavar="CENTRE"),
]
_Chain = Annotated[
    str | None,
    typer.Option(
        "--chain",
        help="Name of the chain at the centre. [default: the ledger's name without suffix]",
        show_default=False,
    ),
]
_Frames = Annotated[
    str | None,
    typer.Option(help="Store for the frames: s3://bucket/folder or file:///folder. Without, rows are sent alone."),
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")]


def is_centre(place: str) -> bool:
    """Whether an argument names a centre and not a file."""
    return place.startswith(("@", "env:", "postgresql:", "postgres:", "postgresql+psycopg:"))


@contextmanager
def connected(address: str) -> Iterator[Centre]:
    """Connect to a centre for the duration of the block.

    Raises:
        MissingExtraError: the extra ``scale`` is not installed.
        InputError: the address is none.
    """
    from gonogo.cli.extras import require

    require("scale", "sqlalchemy", "psycopg", "alembic", "fsspec")
    from gonogo.centre import Centre

    centre = Centre.connect(address)
    try:
        yield centre
    finally:
        centre.close()


@contextmanager
def opened(place: str, chain: str | None) -> Iterator[Ledger]:
    """Open a ledger for reading: a file, or a chain at a centre.

    Raises:
        InputError: a centre without a chain, or a chain without a centre.
    """
    from gonogo.errors import InputError
    from gonogo.ledger import Ledger

    if not is_centre(place):
        with Ledger.open(ledger_file(place, chain), create=False, read_only=True) as ledger:
            yield ledger
        return
    if chain is None:
        raise InputError("expected --chain with the name of a chain. List them with: gonogo ledger chains")
    with connected(place) as centre:
        yield centre.ledger(chain)


def ledger_file(place: str, chain: str | None) -> Path:
    """Return the path of a ledger's file.

    Raises:
        InputError: it cannot be a file, or a chain is named.
    """
    from gonogo.errors import InputError

    problem = path_problem(Path(place))
    if problem is not None:
        raise InputError(problem)
    if chain is not None:
        raise InputError("--chain: expected a centre, found a file, which holds one chain. Leave it out.")
    return Path(place)


def prepare_command(
    centre: _Centre,
    station: Annotated[
        str | None,
        typer.Option(help="Also create a station's login, which writes its own chain alone.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File for the URL of that login, with its password.", show_default=False)
    ] = None,
    frames: Annotated[
        str | None, typer.Option(help="Store for the frames whose bucket is created too: s3://bucket/folder.")
    ] = None,
) -> None:
    """Create the tables of a centre in an empty PostgreSQL database, or bring older ones up to date."""
    from gonogo.errors import InputError

    if (station is None) != (out is None):
        raise InputError("expected --station and --out together: the name of a station, and a file for its URL.")
    with connected(centre) as opened_centre:
        from gonogo.centre import prepare_frames

        changed = opened_centre.prepare()
        typer.echo(f"{opened_centre.name}: {'prepared' if changed else 'is up to date'}")
        if station is not None and out is not None:
            from gonogo.centre.logins import create_login

            new = create_login(opened_centre, _clean(station, "--station"), out)
            typer.echo(
                f"{'created the login' if new else 'replaced the password'} of {station}; wrote its URL to {out}"
            )
        if frames is not None:
            prepare_frames(frames)
            typer.echo(f"{frames}: prepared")


def migrate_command(
    ledger: LedgerFile, centre: _Centre, chain: _Chain = None, frames: _Frames = None, as_json: _Json = False
) -> None:
    """Copy a ledger to a centre and verify it on both sides; every hash stays. Interrupted, run it again."""
    with connected(centre) as opened_centre:
        from gonogo.centre import move

        place = opened_centre.name
        try:
            moved = move(ledger, opened_centre, _named(ledger, chain), frames_url=frames)
        except KeyboardInterrupt:
            typer.echo(f"Interrupted. Rows that {place} acknowledged stay there; run it again to go on.", err=True)
            raise typer.Exit(130) from None
    if as_json:
        print_json(dataclasses.asdict(moved) | {"rows_per_s": round(moved.rows_per_s, 1)})
        return
    typer.echo(
        f"{place} chain {moved.chain}: sent {moved.sent:,} rows in {moved.seconds:.1f} s "
        f"({moved.rows_per_s:,.0f} rows/s) and {moved.frames_sent:,} frames"
    )
    if moved.frames_missing:
        typer.echo(f"{moved.frames_missing:,} frames are missing or damaged here and were not sent")
    typer.echo(f"verified on both sides: {moved.rows:,} rows, head {moved.head_sha256}")


def forward_command(
    ledger: LedgerFile,
    centre: _Centre,
    chain: _Chain = None,
    frames: _Frames = None,
    once: Annotated[bool, typer.Option("--once", help="Send what is there, then end.")] = False,
    every_s: Annotated[
        float, typer.Option("--every", min=0.05, max=3600, help="Seconds between two looks for new rows.")
    ] = 1.0,
    status: Annotated[
        Path | None, typer.Option(help="File for the state of the connection, as JSON.", show_default=False)
    ] = None,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Run at low priority, and end as soon as standard input ends.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Forward a ledger to a centre, each row and frame exactly once; after an interruption, go on where it ended."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        if not once and threading.current_thread() is threading.main_thread():
            signal.signal(number, lambda *_: stop.set())
    if with_parent:
        become_background(stop)
    with connected(centre) as opened_centre:
        from gonogo.centre import Forwarder, open_frames

        forwarder = Forwarder(
            ledger,
            opened_centre,
            _named(ledger, chain),
            frames=None if frames is None else open_frames(frames),
            frames_url=frames,
            say=_reporter(status, as_json=as_json),
        )
        if not once:
            forwarder.run(stop, every_s=every_s)
            return
        for _ in forwarder.catch_up():
            pass
        link = forwarder.link()
    if as_json:
        print_json(_shown(link))
    else:
        typer.echo(
            f"{link.centre} chain {link.chain}: sent {link.rows_sent:,} rows and {link.frames_sent:,} frames; "
            f"the centre has {link.centre_seq:,} of {link.local_seq:,} rows"
        )


def chains_command(centre: _Centre, as_json: _Json = False) -> None:
    """List the chains of a centre: rows, last contact, clock and alarms."""
    with connected(centre) as opened_centre:
        found = opened_centre.chains()
    for each in found:
        seen = each.seen_at.isoformat(timespec="seconds")
        ahead = "" if each.clock_ahead_s is None else f"  clock {each.clock_ahead_s:+.1f} s"
        alarm = "" if each.alarm is None else f"  ALARM {each.alarm}"
        entry = dataclasses.asdict(each) | {"seen_at": seen}
        if as_json:
            print_json(entry, ensure_ascii=False)
        else:
            typer.echo(f"{each.name:20s} {each.head.seq:12,d} rows  {seen}{ahead}{alarm}")


def capacity_command(
    stations: Annotated[int, typer.Option(min=1, help="Number of stations.")],
    parts_per_second: Annotated[float, typer.Option(help="Parts per second of each station.")] = 1.0,
    years: Annotated[float, typer.Option(help="How long rows are kept.")] = 1.0,
    hours_per_day: Annotated[float, typer.Option(max=24, help="How long the stations run.")] = 24.0,
    every_s: Annotated[float, typer.Option("--every", help="Seconds between two batches of a station.")] = 1.0,
    frame_kb: Annotated[float, typer.Option(min=0, help="Size of a part's pictures; 0: they stay at the station.")] = 0,
    frame_days: Annotated[float, typer.Option(min=0, help="How long pictures are kept.")] = 30.0,
    database_price: Annotated[float, typer.Option(min=0, help="Price of a database disk per TB and month.")] = 100.0,
    frames_price: Annotated[float, typer.Option(min=0, help="Price of the store per TB and month.")] = 25.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Calculate disk, network, processors and the price of the disks of a centre; nothing is opened."""
    from gonogo.ledger.capacity import Plan, capacity

    plan = Plan(
        stations=stations,
        parts_per_s=parts_per_second,
        years=years,
        hours_per_day=hours_per_day,
        every_s=every_s,
        frame_bytes=1e3 * frame_kb,
        frame_days=frame_days,
    )
    need = capacity(plan)
    price = need.cost_per_month(database_per_tb=database_price, frames_per_tb=frames_price)
    if as_json:
        print_json(dataclasses.asdict(need) | {"price_per_month": price})
        return
    for what, value in (
        ("rows per second", f"{need.rows_per_s:,.0f} in {need.transactions_per_s:,.0f} transactions"),
        ("rows at the end", f"{need.rows:,.0f}"),
        ("database", f"{need.database_bytes / 1e12:,.2f} TB at the end"),
        ("frames", f"{need.frame_bytes / 1e12:,.2f} TB"),
        ("network", f"{need.network_bits_per_s / 1e6:,.1f} Mbit/s"),
        ("PostgreSQL", f"{need.database_cores:,.2f} cores fully used; plan for twice as many"),
        ("a forwarder", f"{need.forwarder_core_share:.2%} of a core at the station"),
        ("after a restart", f"{need.reconnection_s:,.0f} s of a core until all stations are connected"),
        ("disks", f"{price:,.0f} a month at the end, one copy"),
    ):
        typer.echo(f"{what:18s}{value}")


def _named(ledger: Path, chain: str | None) -> str:
    return _clean(ledger.stem if chain is None else chain, "--chain")


def _clean(name: str, option: str) -> str:
    from gonogo.errors import InputError
    from gonogo.names import clean_name

    try:
        return clean_name(name)
    except ValueError as error:
        raise InputError(f"{option}: {error}.") from error


def become_background(stop: threading.Event) -> None:
    """Yield the processor to the line, and end with the station that started this process."""
    from gonogo.station.companion import end_with_parent

    if sys.platform != "win32":
        os.nice(10)
    end_with_parent(sys.stdin, stop.set)


def _shown(link: Link) -> dict[str, object]:
    return dataclasses.asdict(link) | {"at": link.at.isoformat(), "lag_rows": link.lag_rows}


def _reporter(status: Path | None, *, as_json: bool) -> Callable[[Link], None]:
    """Return a function that writes the status file, and a line whenever the trouble changes."""
    said: list[str] = [""]

    def report(link: Link) -> None:
        if status is not None:
            _replace(status, json.dumps(_shown(link)))
        if link.trouble != said[0]:
            said[0] = link.trouble
            text = link.trouble or f"connected to {link.centre}; {link.lag_rows:,} rows wait"
            if as_json:
                print_json(_shown(link))
            else:
                typer.echo(text, err=True)

    return report


def _replace(path: Path, text: str) -> None:
    """Replace a file atomically, without a flush that would delay the line: the next version follows soon.

    Raises:
        InputError: the file cannot be written.
    """
    from gonogo.errors import InputError

    partial = path.with_name(f".{path.name}.new")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}). Choose another place.") from error
