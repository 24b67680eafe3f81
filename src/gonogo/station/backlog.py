"""Faults that the line was told of before they could be recorded: kept in a file until the ledger has them."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gonogo.station.messages import Cause, Trigger

UNRECORDED = "unrecorded.jsonl"
"""The backlog's file in the station's state; gone when nothing is owed."""
_MOST = 10_000


@dataclass(frozen=True, kw_only=True)
class Owed:
    """A fault that is still to be recorded."""

    trigger: Trigger
    cause: Cause
    reason: str
    answered: bool
    """The line was told already."""


class Backlog:
    """A queue of faults with a copy on disk, so that a killed station still records what it has answered.

    Appended without a sync: it outlives the process, not the machine. Beyond 10,000 faults only their number is kept
    (``lost``), so that a line that never stops cannot fill the memory.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trouble = ""
        """Why the copy on disk is incomplete; empty where it is whole."""
        self.lost = 0
        self._owed: deque[Owed] = deque(_read(path))

    def __len__(self) -> int:
        return len(self._owed)

    def __iter__(self) -> Iterator[Owed]:
        return iter(self._owed)

    def add(self, owed: Owed) -> bool:
        """Owe one more record; false where there are too many."""
        if len(self._owed) >= _MOST:
            self.lost += 1
            return False
        self._owed.append(owed)
        self._write(owed)
        return True

    def next(self) -> Owed | None:
        """The oldest one; it stays until it is `done`."""
        return self._owed[0] if self._owed else None

    def done(self, *, recorded: bool) -> None:
        """The oldest one is on record, or goes to the end to be tried again."""
        owed = self._owed.popleft()
        if not recorded:
            self._owed.append(owed)
        elif not self._owed:
            self._forget()

    def _write(self, owed: Owed) -> None:
        line = json.dumps(
            {"trigger": owed.trigger.to_json(), "cause": owed.cause, "reason": owed.reason, "answered": owed.answered}
        )
        try:
            with self._path.open("a", encoding="utf-8") as file:
                # On a line of its own, whatever became of the one before: a full disk cuts lines off.
                file.write(f"\n{line}\n")
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"

    def _forget(self) -> None:
        try:
            self._path.unlink(missing_ok=True)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"


def _read(path: Path) -> list[Owed]:
    """What an earlier run still owed; a line that was cut off mid-write cannot be read, and is left out."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        found.append(
            Owed(
                trigger=Trigger.from_json(values["trigger"]),
                cause=Cause(values["cause"]),
                reason=values["reason"],
                answered=values["answered"],
            )
        )
    return found
