"""Starts the stations that people want to run, and starts them again when they end by themselves.

Any number of servers may serve a workspace; only the one that holds ``stations/keeper.lock`` starts stations. So no
station is started twice, and its own locks refuse a second process in any case.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from gonogo import locks
from gonogo.errors import InputError
from gonogo.fleet import agent_command
from gonogo.station.kept import kept_command
from gonogo.station.place import Ended, Phase, Place, Standing
from gonogo.station.settings import read_settings

_POLL_S = 0.3
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_LONG_LOG_BYTES = 1_000_000
_PATIENCE_S = 90.0
"""How long a process that is to end may take to answer its last parts, before it is killed."""
_log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class _Attempt:
    """The latest start of one station."""

    number: int
    child: subprocess.Popen[bytes] | None = None
    began_s: float = 0.0
    pause_s: float = 0.0
    reported: str = ""


class Keeper:
    """Starts stations in a thread of its own; `start` it once, `close` it without stopping any station."""

    def __init__(
        self,
        root: Path,
        names: Callable[[], list[str]],
        standing: Callable[[str], Standing],
        report: Callable[[str, str], None],
    ) -> None:
        """Store the arguments; nothing runs yet.

        Args:
            root: The folder with the stations.
            names: Lists the stations.
            standing: Says what a station does.
            report: Records that a station ended by itself: its name, and why.
        """
        self._root, self._names, self._standing, self._report = root, names, standing, report
        self._attempts: dict[str, _Attempt] = {}
        self._ending: dict[str, float] = {}
        self._closing = threading.Event()
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._held: IO[bytes] | None = None

    def start(self) -> None:
        """Start the thread if there are stations; called at the start of the server and whenever one is wanted."""
        if (self._thread is None or not self._thread.is_alive()) and not self._closing.is_set() and self._names():
            self._thread = threading.Thread(target=self._run, name="stations", daemon=True)
            self._thread.start()
        self._woken.set()

    def close(self) -> None:
        """Start no more stations; those that run continue."""
        self._closing.set()
        self._woken.set()
        if self._thread is not None:
            self._thread.join(5.0)
        if self._held is not None:
            self._held.close()
            self._held = None

    def _run(self) -> None:
        while not self._closing.is_set():
            self._woken.wait(_POLL_S)
            self._woken.clear()
            if self._closing.is_set() or not self._is_keeper():
                continue
            for name in self._names():
                try:
                    self._keep(name)
                except Exception as error:  # noqa: BLE001  thread boundary: logged; the other stations must go on
                    _log.error("station %s", name, exc_info=error)

    def _is_keeper(self) -> bool:
        """Whether this server starts stations; once it does, until it ends."""
        if self._held is None:
            with suppress(OSError):
                file = (self._root / "keeper.lock").open("ab")
                if locks.try_lock(file):
                    self._held = file
                else:
                    file.close()
        return self._held is not None

    def _keep(self, name: str) -> None:
        place, standing = Place(folder=self._root / name), self._standing(name)
        wish = place.wish()
        attempt = self._attempts.get(name)
        if attempt is not None and attempt.child is not None and attempt.child.poll() is not None:
            attempt.child = None
        if standing.phase is Phase.STOPPING:
            self._hurry(name, place)
            return
        self._ending.pop(name, None)
        if not wish.run or standing.phase not in (Phase.STARTING, Phase.FAILED) or place.is_held():
            return
        if attempt is None or attempt.number != wish.number:
            attempt = self._attempts[name] = _Attempt(number=wish.number)
        if attempt.child is not None:  # it is still starting
            return
        if standing.phase is Phase.FAILED and standing.why != attempt.reported:
            attempt.reported = standing.why
            self._report(name, standing.why)
        if time.monotonic() - attempt.began_s >= attempt.pause_s or attempt.began_s == 0.0:
            self._begin(place, attempt)

    def _begin(self, place: Place, attempt: _Attempt) -> None:
        lasted_s = time.monotonic() - attempt.began_s
        fresh = attempt.began_s == 0.0 or lasted_s > 2 * _LONGEST_PAUSE_S
        attempt.pause_s = _SHORTEST_PAUSE_S if fresh else min(2 * attempt.pause_s, _LONGEST_PAUSE_S)
        attempt.began_s = time.monotonic()
        try:
            agent = [] if read_settings(place.toml).fleet is None else agent_command(place.toml)
        except InputError as error:  # it was changed by hand after a person had started it
            place.write_ended(Ended(number=attempt.number, why=str(error), at=datetime.now(UTC)))
            return
        long = place.log.is_file() and place.log.stat().st_size > _LONG_LOG_BYTES
        with place.log.open("wb" if long else "ab") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}  start {attempt.number}\n".encode())
            # In a new session, so that it survives the end of the server and a Ctrl-C there.
            attempt.child = subprocess.Popen(
                kept_command(place.folder, attempt.number, agent),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
                cwd=place.folder,
            )

    def _hurry(self, name: str, place: Place) -> None:
        """Kill a process that is to end and does not; the line treats the silence as a fault."""
        since_s = self._ending.setdefault(name, time.monotonic())
        running = place.running()
        if running is not None and time.monotonic() - since_s > _PATIENCE_S and place.is_held():
            with suppress(OSError):
                os.kill(running.pid, getattr(signal, "SIGKILL", signal.SIGTERM))
