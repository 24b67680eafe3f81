"""The ledger, shared by the server's threads: readers from a pool, one writer behind a lock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from gonogo.ledger import Action, Ledger, Row
from gonogo.schema import Label

_IDLE_READERS = 8


class LedgerPool:
    """Reads the ledger and writes down what people do. Build it with `open`."""

    def __init__(self, path: Path, writer: Ledger) -> None:
        self.path = path
        self._writer = writer
        self._writing = threading.Lock()
        self._readers: queue.LifoQueue[Ledger] = queue.LifoQueue(maxsize=_IDLE_READERS)

    @classmethod
    def open(cls, path: Path) -> LedgerPool:
        """Open a ledger for reading and writing; a missing one is made.

        Raises:
            LedgerError: it cannot be opened.
        """
        return cls(path, Ledger.open(path))

    @contextmanager
    def reading(self) -> Iterator[Ledger]:
        """A read-only ledger for one thread to use while the block runs."""
        try:
            ledger = self._readers.get_nowait()
        except queue.Empty:
            ledger = Ledger.open(self.path, read_only=True)
        try:
            yield ledger
        finally:
            try:
                self._readers.put_nowait(ledger)
            except queue.Full:
                ledger.close()

    def act(
        self,
        action: str,
        who: str,
        *,
        about: int | None = None,
        label: Label | None = None,
        defect: str | None = None,
        **details: JsonValue,
    ) -> Row[Action]:
        """Write down that somebody did something; on the disk when this returns.

        Args:
            action: One word, such as ``login``.
            who: The person's or token's name; unprintable characters are replaced.
            about: The row it concerns.
            label: What they say of the part.
            defect: Its kind, where they call it bad.
            details: Anything else worth keeping; never a secret.

        Raises:
            LedgerError: it could not be recorded, so it must not be done.
        """
        name = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in who)[:200] or "?"
        record = Action(action=action, who=name, about=about, label=label, defect=defect, details=details)
        with self._writing:
            return self._writer.append_action(record)

    def close(self) -> None:
        """Close every connection."""
        with self._writing:
            self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()
