"""The ledger, shared by the server's threads: a pool of readers and one writer behind a lock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import JsonValue

from gonogo.ledger import Action, Ledger, Row, VerdictRecord
from gonogo.schema import Label

_IDLE_READERS = 8
REACH = 20_000
"""Number of the latest rows in which a live page looks for the parts of one station: no index leads to them, so a
station that was quiet while others judged a million parts would take long to search for."""


class LedgerPool:
    """Reads the ledger and records people's actions. Create it with `open`."""

    def __init__(self, path: Path, writer: Ledger) -> None:
        self.path = path
        self._writer = writer
        self._writing = threading.Lock()
        self._readers: queue.LifoQueue[Ledger] = queue.LifoQueue(maxsize=_IDLE_READERS)

    @classmethod
    def open(cls, path: Path) -> LedgerPool:
        """Open a ledger for reading and writing; create it if it is missing.

        Raises:
            LedgerError: it cannot be opened.
        """
        return cls(path, Ledger.open(path))

    @contextmanager
    def reading(self) -> Iterator[Ledger]:
        """Provide a read-only ledger to one thread for the duration of the block."""
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
        """Record an action; it is on disk when this returns.

        Args:
            action: One word, such as ``login``.
            who: The person's or token's name; unprintable characters are replaced.
            about: The ledger row that it concerns.
            label: The decision about the part.
            defect: The kind of defect of a bad part.
            details: Further details; never a secret.

        Raises:
            LedgerError: the action could not be recorded and must not be carried out.
        """
        name = "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in who)[:200] or "?"
        return self.append(Action(action=action, who=name, about=about, label=label, defect=defect, details=details))

    def append(self, action: Action) -> Row[Action]:
        """Record an action, such as one that concerns a station; see `act`."""
        with self._writing:
            return self._writer.append_action(action)

    def put_frame(self, data: bytes) -> str:
        """Store the bytes of a picture; return the SHA-256 that a record names. On disk when this returns.

        Raises:
            LedgerError: the disk is full or not writable.
        """
        return self._writer.frames.put(data)

    def append_verdict(self, record: VerdictRecord) -> Row[VerdictRecord]:
        """Record a verdict; it is on disk when this returns.

        Raises:
            DuplicateTrigger: the trigger already has a verdict.
            LedgerError: the verdict could not be recorded and must not be given.
        """
        with self._writing:
            return self._writer.append_verdict(record)

    def close(self) -> None:
        """Close every connection."""
        with self._writing:
            self._writer.close()
        while not self._readers.empty():
            self._readers.get_nowait().close()
