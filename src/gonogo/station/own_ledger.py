"""The ledger of one station: opened anew where it failed, and never silently another one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from gonogo.errors import LedgerError
from gonogo.files import write_beside
from gonogo.ledger import Ledger

Opener = Callable[[Path, bool], Ledger]
"""Opens the ledger at a path; makes one where it is told to and there is none."""


def open_ledger(path: Path, create: bool) -> Ledger:
    """The ledger as a station needs it: whoever holds it for longer than a second costs parts their verdict."""
    return Ledger.open(path, create=create, timeout_s=1.0)


class OwnLedger:
    """Knows the ledger that the station began by its first row, also after a restart.

    A disk that is not mounted must make every part a fault, not begin a second ledger in its place: that one would
    know none of the verdicts that were given already.
    """

    def __init__(self, path: Path, state_dir: Path, opener: Opener = open_ledger) -> None:
        self._path = path
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
                unless_own.pop_all()
            self._ledger, self._opened_as = ledger, _identity(self._path)
        return self._ledger

    def forget(self) -> None:
        """After a failure the file is opened anew: its disk may be back, or another."""
        ledger, self._ledger = self._ledger, None
        if ledger is not None:
            with contextlib.suppress(Exception):  # it failed already; what matters is that it is opened anew
                ledger.close()

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
