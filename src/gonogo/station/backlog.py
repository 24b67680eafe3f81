"""The backlog: faults that were answered before they could be recorded, kept in a file until the ledger has them."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gonogo.line.messages import Cause, Trigger
from gonogo.names import escaped_name, readable

UNRECORDED = "unrecorded.jsonl"
"""Name of the backlog's file in the station's state folder; deleted when the backlog is empty."""
UNRECORDABLE = "unrecordable.jsonl"
"""Name of the file of faults that the ledger rejects, or whose recording crashed a worker; a person must read it."""
_MOST = 10_000
_MOST_DEATHS = 3  # workers killed from outside while they recorded the same fault


@dataclass(frozen=True, kw_only=True)
class Owed:
    """A fault that is still to be recorded."""

    trigger: Trigger
    cause: Cause
    reason: str
    answered: bool
    """The line has already received the fault as its answer."""


class Backlog:
    """A queue of faults with a copy on disk, so that a station that was killed still records what it answered.

    The file is not synced: it survives a crash of the process, but not of the machine. Beyond 10,000 faults only their
    number is kept (``lost``), so that memory use stays bounded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.trouble = ""
        """Why the copy on disk is incomplete; empty if it is complete."""
        self.lost = 0
        self._aside = path.with_name(UNRECORDABLE)
        self.set_aside = _count(self._aside)
        """Number of faults in the file `UNRECORDABLE`."""
        self._owed: deque[Owed] = deque()
        self._deaths: Counter[str] = Counter()
        """Number of workers that died while they recorded a fault, by trigger id."""
        self._unread = True
        """The file of an earlier run could not be read yet and must not be overwritten."""
        self._take_over()

    def __len__(self) -> int:
        return len(self._owed)

    def __iter__(self) -> Iterator[Owed]:
        return iter(self._owed)

    @property
    def alarms(self) -> list[str]:
        """Alarms about faults that are not recorded."""
        found = [self.trouble] if self.trouble else []
        if self.set_aside:
            found.append(f"{self.set_aside} faults cannot be recorded: see {self._aside}, then move the file away")
        return found

    def add(self, owed: Owed) -> bool:
        """Add a fault; return false if the backlog is full."""
        if len(self._owed) >= _MOST:
            self.lost += 1
            return False
        self._owed.append(owed)
        self._write(owed)
        return True

    def next(self) -> Owed | None:
        """Return the oldest fault, which stays in the queue until `done` is called."""
        return self._owed[0] if self._owed else None

    def done(self, *, recorded: bool) -> None:
        """Remove the oldest fault if it was recorded; otherwise move it to the end for another attempt."""
        owed = self._owed.popleft()
        if not recorded:
            self._owed.append(owed)
        elif not self._owed:
            self._forget()

    def is_deadly(self, *, crashed: bool) -> bool:
        """Count a worker that died while it recorded the oldest fault; return whether to stop retrying that fault."""
        trigger_id = self._owed[0].trigger.id
        self._deaths[trigger_id] += 1
        return crashed or self._deaths[trigger_id] >= _MOST_DEATHS

    def give_up(self) -> Owed:
        """Move the oldest fault to `UNRECORDABLE`: it cannot be recorded, or it crashed a worker."""
        owed = self._owed[0]
        self.set_aside += 1
        self._append(self._aside, owed)
        self.done(recorded=True)
        return owed

    def mend(self) -> None:
        """Rewrite the copy on disk if it is incomplete, for example after the disk was full."""
        if self._unread:
            self._take_over()
        if self._unread or not self.trouble:
            return
        try:
            text = "".join(f"{_line(owed)}\n" for owed in self._owed)
            partial = self._path.with_name(f".{self._path.name}.new")
            partial.write_text(text, encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"
            return
        self.trouble = ""
        if not self._owed:
            self._forget()

    def _take_over(self) -> None:
        try:
            self._owed.extendleft(reversed(_read(self._path)))
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"
        else:
            self._unread = False

    def _write(self, owed: Owed) -> None:
        self._append(self._path, owed)

    def _append(self, path: Path, owed: Owed) -> None:
        try:
            with path.open("a", encoding="utf-8") as file:
                # Start on a new line: a full disk may have cut off the previous one.
                file.write(f"\n{_line(owed)}\n")
        except OSError as error:
            self.trouble = f"{path}: {error.strerror or error}"

    def _forget(self) -> None:
        if self._unread:
            return
        try:
            self._path.unlink(missing_ok=True)
            self.trouble = ""
        except OSError as error:
            self.trouble = f"{self._path}: {error.strerror or error}"


def _line(owed: Owed) -> str:
    return json.dumps(
        {"trigger": owed.trigger.to_json(), "cause": owed.cause, "reason": owed.reason, "answered": owed.answered}
    )


def _read(path: Path) -> list[Owed]:
    """Read the backlog of an earlier run; a line that was cut off is skipped."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    found = []
    for line in filter(None, lines):
        try:
            found.append(_owed(json.loads(line)))
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _owed(values: dict[str, Any]) -> Owed:
    trigger = Trigger.from_json(values["trigger"])
    part, lot, product = (
        None if name is None else escaped_name(str(name)) for name in (trigger.part, trigger.lot, trigger.product)
    )
    return Owed(
        # Earlier versions accepted names that the ledger rejects; escape them so that the fault can be recorded.
        trigger=replace(trigger, id=escaped_name(str(trigger.id)), part=part, lot=lot, product=product),
        cause=Cause(values["cause"]),
        reason=readable(str(values["reason"])),
        answered=bool(values["answered"]),
    )


def _count(path: Path) -> int:
    try:
        return sum(1 for line in path.read_bytes().split(b"\n") if line)
    except OSError:
        return 0
