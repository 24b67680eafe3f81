"""Faults that the line was told of before they could be recorded: kept in a file until the ledger has them."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gonogo.names import escaped_name, readable
from gonogo.station.messages import Cause, Trigger

UNRECORDED = "unrecorded.jsonl"
"""The backlog's file in the station's state; gone when nothing is owed."""
UNRECORDABLE = "unrecordable.jsonl"
"""Beside it: faults that the ledger will never take, or whose recording ended a worker. Kept for a person."""
_MOST = 10_000
_MOST_DEATHS = 3  # of workers killed from outside that recorded the same fault


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
        self._aside = path.with_name(UNRECORDABLE)
        self.set_aside = _count(self._aside)
        """Faults that a person must look at, in the file beside this one."""
        self._owed: deque[Owed] = deque()
        self._deaths: Counter[str] = Counter()
        """Workers that died while they recorded a fault, by its trigger."""
        self._unread = True
        """The copy of an earlier run could not be read yet; it must not be written over."""
        self._take_over()

    def __len__(self) -> int:
        return len(self._owed)

    def __iter__(self) -> Iterator[Owed]:
        return iter(self._owed)

    @property
    def alarms(self) -> list[str]:
        """What a person must know of the faults that are not on record."""
        found = [self.trouble] if self.trouble else []
        if self.set_aside:
            found.append(f"{self.set_aside} faults cannot be recorded: read {self._aside}, then move it away")
        return found

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

    def is_deadly(self, *, crashed: bool) -> bool:
        """A worker died while it recorded the oldest one; whether that one must not be given to another."""
        trigger_id = self._owed[0].trigger.id
        self._deaths[trigger_id] += 1
        return crashed or self._deaths[trigger_id] >= _MOST_DEATHS

    def give_up(self) -> Owed:
        """Set the oldest one aside: it cannot be recorded, or a worker died of it."""
        owed = self._owed[0]
        self.set_aside += 1
        self._append(self._aside, owed)
        self.done(recorded=True)
        return owed

    def mend(self) -> None:
        """Write the copy on disk anew where it is incomplete, as the disk was full or gone."""
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
                # On a line of its own, whatever became of the one before: a full disk cuts lines off.
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
    """What an earlier run still owed; a line that was cut off mid-write cannot be read, and is left out."""
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
        # Whatever an earlier version let in must not keep the ledger from taking the fault.
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
