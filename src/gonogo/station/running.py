"""Run a station: trigger source, supervisor, answer port and HTTP server in this process, the worker in another."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gonogo import locks
from gonogo.capture import read_token
from gonogo.errors import UnfitError
from gonogo.line import Answer, open_adapter
from gonogo.station.answers import Port, Sender, open_port
from gonogo.station.companion import Companion
from gonogo.station.forwarder import forwarder
from gonogo.station.http import StationServer
from gonogo.station.ledger_handle import same_name, station_lock
from gonogo.station.outbox import outbox
from gonogo.station.settings import HttpTrigger, StationSettings
from gonogo.station.supervisor import Supervisor
from gonogo.station.systemd import ALIVE, READY, STOPPING, notify
from gonogo.station.triggers import open_source


def run_station(
    settings: StationSettings,
    worker: Sequence[str],
    *,
    complain: Callable[[str], None],
    port: Port | None = None,
    stop: threading.Event | None = None,
) -> None:
    """Run until a signal, end of standard input, or ``stop``; then answer and record the parts in progress.

    Args:
        settings: Settings of the station.
        worker: The command that starts the worker; see `worker_command`.
        complain: Called with a one-line message about unusable input.
        port: Receives the answers instead of the port in the settings.
        stop: Ends the station when set.

    Raises:
        InputError: a port or a token file cannot be used.
        UnfitError: the station already runs, or its supervisor or trigger source ended unexpectedly.
    """
    with _alone(settings.state_dir), _only_of_its_name(settings):
        _run(settings, worker, complain, port, stop or threading.Event())


def run_with_companions(
    settings: StationSettings,
    toml: Path,
    *,
    agent: Sequence[str] = (),
    complain: Callable[[str], None],
    stop: threading.Event | None = None,
) -> None:
    """Run a station and the processes beside it: the fleet's agent, and the delivery of its results.

    Args:
        settings: Settings of the station, with the device to judge on.
        toml: The file of the settings, which the other processes read again.
        agent: The command of the fleet's agent; empty without ``[fleet]``.
        complain: Called with a one-line message about unusable input.
        stop: Ends the station when set.

    Raises:
        InputError: see `run_station`.
        UnfitError: see `run_station`.
    """
    with contextlib.ExitStack() as beside:
        if agent:

            def ended(code: int) -> None:
                complain(f"the agent ended with exit code {code}; it is started again.")

            beside.enter_context(Companion(agent, ended))
        results = outbox(settings, toml)
        if results is not None:
            beside.enter_context(results)
        run_station(settings, worker_command(toml, device=settings.device), complain=complain, stop=stop)


def _run(
    settings: StationSettings,
    worker: Sequence[str],
    complain: Callable[[str], None],
    port: Port | None,
    stop: threading.Event,
) -> None:
    takers: list[Callable[[Answer], None]] = []
    supervisor = Supervisor(settings, worker, partial(_give, takers))
    opened = port or open_port(settings.answer)
    sender = None if opened is None else Sender(opened, supervisor.acknowledged, supervisor.undelivered)
    takers += [] if sender is None else [sender.send]
    adapters = [open_adapter(each, supervisor, window_s=settings.window_s) for each in settings.adapters]
    takers += [adapter.publish for adapter in adapters]
    supervisor.adapters = lambda: tuple(adapter.link.snapshot() for adapter in adapters)
    server = _server(settings, supervisor)
    forwarding = None if settings.centre is None else forwarder(settings, settings.centre)
    source = open_source(settings.trigger, supervisor.submit, complain)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
    for part in (sender, server, source, supervisor, *adapters, forwarding):
        if part is not None:
            part.start()
    notify(READY)
    heartbeat: object = None
    while not stop.wait(0.1):
        if not supervisor.alive or (source is not None and source.ended.is_set()):
            break
        if supervisor.published is not heartbeat:  # the supervisor's own thread still turns
            heartbeat = supervisor.published
            notify(ALIVE)
    notify(STOPPING)
    died = not supervisor.alive
    if source is not None:
        source.stop()
    supervisor.stop()
    for adapter in adapters:
        adapter.stop()
    if sender is not None:
        sender.close()
    if server is not None:
        server.close()
    if forwarding is not None:
        forwarding.stop()
    if died:
        raise UnfitError(
            "the supervisor ended unexpectedly; see the error above. Until it runs again, the line must treat silence "
            "as a fault."
        )
    if source is not None and source.trouble:
        raise UnfitError(f"the trigger source failed ({source.trouble}). Restart the station.")


def _give(takers: Sequence[Callable[[Answer], None]], answer: Answer) -> None:
    for take in takers:
        take(answer)


def _server(settings: StationSettings, supervisor: Supervisor) -> StationServer | None:
    http = settings.http
    if http is None:
        return None
    return StationServer(
        supervisor,
        host=http.host,
        port=http.port,
        token=read_token(http.token_file),
        triggers=isinstance(settings.trigger, HttpTrigger),
        hosts=http.hosts,
    )


@contextmanager
def _alone(state_dir: Path) -> Iterator[None]:
    """Lock the state folder against a second station."""
    state_dir.mkdir(parents=True, exist_ok=True)
    with (state_dir / "lock").open("ab") as file:
        if not locks.try_lock(file):  # released when the process ends
            raise UnfitError(f"{state_dir}: another station uses this state_dir. Stop it, or set another state_dir.")
        yield


@contextmanager
def _only_of_its_name(settings: StationSettings) -> Iterator[None]:
    """Refuse a second station with the same name on the same ledger; its worker could not lock the ledger anyway."""
    lock = station_lock(settings.ledger, settings.station)
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):  # the ledger's disk is missing; the worker locks the ledger once it is back
            file = held.enter_context(lock.open("ab"))
            if not locks.try_lock(file):
                raise UnfitError(same_name(settings.ledger, settings.station))
        yield


def worker_command(path: Path, *, device: str | None = None) -> list[str]:
    """Return the command that starts the worker for a settings file, with another device if one is given."""
    return [sys.executable, "-m", "gonogo.station.worker", str(path), *([device] if device else [])]
