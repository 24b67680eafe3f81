"""``gonogo ledger publish``: deliver the results of a station to other systems."""

from __future__ import annotations

import dataclasses
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gonogo.cli.centre import become_background
from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.results.lanes import Lane, LaneState
    from gonogo.results.settings import EmailResults
    from gonogo.station.settings import StationSettings


def publish_command(
    station: Annotated[Path, typer.Argument(help="Settings of the station.", metavar="STATION.TOML")],
    once: Annotated[bool, typer.Option("--once", help="Deliver what is there, then end.")] = False,
    with_parent: Annotated[
        bool, typer.Option("--with-parent", help="Run at low priority, and end as soon as standard input ends.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
) -> None:
    """Deliver the station's results to its [[results]]; after an interruption, go on where it ended."""
    from gonogo.errors import InputError
    from gonogo.results.lanes import run_lanes
    from gonogo.station.outbox import RESULTS
    from gonogo.station.settings import read_settings

    stop = threading.Event()
    settings = read_settings(station)
    if not settings.results:
        raise InputError(f"{station}: expected at least one [[results]], found none. See: gonogo station example")
    if with_parent:
        become_background(stop)
    with _alone(settings.state_dir):
        lanes = _lanes(settings)
        if once:
            _publish_once(lanes, as_json=as_json)
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            if threading.current_thread() is threading.main_thread():
                signal.signal(number, lambda *_: stop.set())
        run_lanes(lanes, stop, settings.state_dir / RESULTS, lambda state: _say(state, as_json=as_json))


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Keep a second publisher of the same station away: both would deliver everything."""
    from gonogo import locks
    from gonogo.errors import InputError, UnfitError

    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        file = (state_dir / "results.lock").open("ab")
    except OSError as error:
        raise InputError(f"{state_dir}: cannot be written ({error.strerror or error}). Check state_dir.") from error
    with file:
        if not locks.try_lock(file):  # released when the process ends
            raise UnfitError(
                f"{state_dir}: the results of this station are already being delivered. A running station does that."
            )
        yield


def _lanes(settings: StationSettings) -> list[tuple[Lane, float]]:
    from gonogo.results.digest import Digests
    from gonogo.results.opening import open_lanes
    from gonogo.station.digest import composer

    def digests(email: EmailResults) -> Digests:
        compose = composer(settings.ledger, settings.station, email.zone)
        return Digests(settings.ledger, settings.station, email, compose)

    return open_lanes(settings.ledger, settings.station, settings.results, digests)


def _publish_once(lanes: list[tuple[Lane, float]], *, as_json: bool) -> None:
    """Deliver what is there; one that fails does not keep the others.

    Raises:
        UnfitError: a destination did not take everything.
    """
    from gonogo.errors import GonogoError, UnfitError
    from gonogo.progress import track
    from gonogo.results.lanes import is_refusal

    failed = 0
    for lane, _ in track(lanes, "delivering"):
        try:
            while lane.step():
                pass
            state = lane.state()
            lane.finish()
        except GonogoError as error:
            failed += 1
            state = dataclasses.replace(lane.state(), trouble=str(error), refused=is_refusal(error))
            lane.close()
        _say(state, as_json=as_json)
    if failed:
        raise UnfitError(f"{failed} of {len(lanes)} destinations did not take everything; the reasons are above.")


def _say(state: LaneState, *, as_json: bool) -> None:
    if as_json:
        print_json(dataclasses.asdict(state) | {"at": state.at.isoformat()}, ensure_ascii=False)
        return
    waiting = f"{state.delivered:,} delivered, {state.lag_rows:,} {'shifts' if state.kind == 'email' else 'rows'} wait"
    typer.echo(f"{state.name}: {waiting}{f': {state.trouble}' if state.trouble else ''}")
