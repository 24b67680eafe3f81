"""A station's handle on its ledger: reopens it after a failure, and refuses another ledger in its place."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from gonogo import locks
from gonogo.errors import LedgerError
from gonogo.files import write_beside
from gonogo.ledger import Ledger

_PATIENCE_S = 0.5

Opener = Callable[[Path, bool], Ledger]
"""Opens the ledger at a path; the second argument says whether to create one if none exists."""


def open_ledger(path: Path, create: bool) -> Ledger:
    """Open a ledger with the short timeout of a station: a lock held for longer than a second costs parts a verdict."""
    return Ledger.open(path, create=create, timeout_s=1.0)


def station_lock(path: Path, station: str) -> Path:
    """Return the lock file, next to the ledger, that a station holds while it runs."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{station}.lock")


def worker_lock(path: Path, station: str) -> Path:
    """Return the lock file, next to the ledger, that the worker of a station holds while it writes."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{station}.worker.lock")


def same_name(path: Path, station: str) -> str:
    """Return the error message for two stations with the same name."""
    return f"{path}: another station named {station} writes to this ledger. Stop it or rename one of them."


class LedgerHandle:
    """Opens the station's ledger and recognizes it by its first row, also after a restart.

    If the ledger's disk is not mounted, every part must become a fault. A new ledger in its place would not know the
    verdicts that were already given.
    """

    def __init__(
        self, path: Path, state_dir: Path, opener: Opener = open_ledger, *, station: str | None = None
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            path: The ledger.
            state_dir: Folder where the station stores the hash of the ledger's first row.
            opener: Opens the ledger.
            station: Lock the ledger for the station of this name; ``None`` takes no lock, for reading only.
        """
        self._path = path
        self._station = station
        self._lock: IO[bytes] | None = None
        self._mark = state_dir / f"{path.name}.first"
        self._opener = opener
        self._ledger: Ledger | None = None
        self._opened_as: tuple[int, int] | None = None

    def open(self) -> Ledger:
        """Return the ledger at the path, reopened if the file was replaced: rows in a moved file would be lost.

        Raises:
            LedgerError: the ledger is missing, cannot be read, or is not the station's.
            InputError: the state folder cannot be written.
        """
        if self._ledger is not None and _identity(self._path) != self._opened_as:
            self.forget()
        if self._ledger is None:
            ledger = self._opener(self._path, not self._mark.exists())
            with contextlib.ExitStack() as unless_own:
                unless_own.callback(ledger.close)  # close a ledger that is not the station's
                self._require_own(ledger)
                self._hold()
                unless_own.pop_all()
            self._ledger, self._opened_as = ledger, _identity(self._path)
        return self._ledger

    def forget(self) -> None:
        """Close the ledger, so that it is reopened the next time; call after a failure."""
        ledger, self._ledger = self._ledger, None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
        if ledger is not None:
            with contextlib.suppress(Exception):  # it has failed already and will be reopened
                ledger.close()

    def _hold(self) -> None:
        """Lock the ledger against another station with the same name, even one with another state folder."""
        if self._station is None:
            return
        place = worker_lock(self._path, self._station)
        try:
            self._lock = place.open("ab")
        except OSError as error:
            raise LedgerError(f"{place}: expected a writable file, found {error}. Make its folder writable.") from error
        until_s = time.monotonic() + _PATIENCE_S  # a worker that was killed may take a moment to exit
        while True:
            if locks.try_lock(self._lock):  # released when the process ends
                return
            if time.monotonic() >= until_s:
                self._lock.close()
                self._lock = None
                raise LedgerError(same_name(self._path, self._station))
            time.sleep(0.02)

    def _require_own(self, ledger: Ledger) -> None:
        row = ledger.row(1)
        first = "" if row is None else row.sha256
        if not self._mark.exists():
            write_beside(self._mark, f"{first}\n".encode())
        elif self._mark.read_text(encoding="utf-8").strip() != first:
            raise LedgerError(
                f"{self._path}: expected the ledger that this station created, found another one. Restore the right "
                f"ledger, or delete {self._mark} to continue with this one."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
