"""The ledger of one station: opened anew where it failed, and never silently another one."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

from gonogo.errors import LedgerError
from gonogo.files import write_beside
from gonogo.ledger import Ledger

_PATIENCE_S = 0.5

Opener = Callable[[Path, bool], Ledger]
"""Opens the ledger at a path; makes one where it is told to and there is none."""


def open_ledger(path: Path, create: bool) -> Ledger:
    """The ledger as a station needs it: whoever holds it for longer than a second costs parts their verdict."""
    return Ledger.open(path, create=create, timeout_s=1.0)


def station_lock(path: Path, station: str) -> Path:
    """The file beside a ledger that the station of this name holds while it runs."""
    path = path.resolve()
    return path.with_name(f".{path.name}.{station}.lock")


def same_name(path: Path, station: str) -> str:
    """What to do about two stations with one name."""
    return f"{path}: another station named {station} writes to this ledger. Stop it, or give one of them another name."


class LedgerHandle:
    """Knows the ledger that the station began by its first row, also after a restart.

    A disk that is not mounted must make every part a fault, not begin a second ledger in its place: that one would
    know none of the verdicts that were given already.
    """

    def __init__(
        self, path: Path, state_dir: Path, opener: Opener = open_ledger, *, station: str | None = None
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            path: The ledger.
            state_dir: Where the station remembers which one it is.
            opener: How it is opened.
            station: Hold the ledger for the station of this name; ``None`` holds it for none, to look at it.
        """
        self._path = path
        self._station = station
        self._lock: IO[bytes] | None = None
        self._mark = state_dir / f"{path.name}.first"
        self._opener = opener
        self._ledger: Ledger | None = None
        self._opened_as: tuple[int, int] | None = None

    def open(self) -> Ledger:
        """The ledger that lies at its place now: writing on into a file that was moved away would lose every row.

        Raises:
            LedgerError: it is gone, cannot be read, or is another one.
            InputError: the station's state cannot be written.
        """
        if self._ledger is not None and _identity(self._path) != self._opened_as:
            self.forget()
        if self._ledger is None:
            ledger = self._opener(self._path, not self._mark.exists())
            with contextlib.ExitStack() as unless_own:
                unless_own.callback(ledger.close)  # one that is not ours must not stay open
                self._require_own(ledger)
                self._hold()
                unless_own.pop_all()
            self._ledger, self._opened_as = ledger, _identity(self._path)
        return self._ledger

    def forget(self) -> None:
        """After a failure the file is opened anew: its disk may be back, or another."""
        ledger, self._ledger = self._ledger, None
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()
        if ledger is not None:
            with contextlib.suppress(Exception):  # it failed already; what matters is that it is opened anew
                ledger.close()

    def _hold(self) -> None:
        """Keep another station of the same name off the ledger, whatever its state folder."""
        if self._station is None:
            return
        place = station_lock(self._path, self._station)
        try:
            self._lock = place.open("ab")
        except OSError as error:
            raise LedgerError(f"{place}: expected a writable file, found {error}. Make its folder writable.") from error
        until_s = time.monotonic() + _PATIENCE_S  # a worker that was killed may take a moment to end
        while True:
            try:
                fcntl.lockf(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # gone with the process, and not inherited
            except OSError as error:
                if time.monotonic() < until_s:
                    time.sleep(0.02)
                    continue
                self._lock.close()
                self._lock = None
                raise LedgerError(same_name(self._path, self._station)) from error
            return

    def _require_own(self, ledger: Ledger) -> None:
        row = ledger.row(1)
        first = "" if row is None else row.sha256
        if not self._mark.exists():
            write_beside(self._mark, f"{first}\n".encode())
        elif self._mark.read_text(encoding="utf-8").strip() != first:
            raise LedgerError(
                f"{self._path}: expected the ledger that this station began, found another one. Put the right one "
                f"there; to go on with this one instead, delete {self._mark}."
            )


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
