"""The journal of what people asked for, in the server's database."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gonogo.server.background_work.asked import Asked, WorkKind, WorkState
from gonogo.server.database import Database
from gonogo.server.language import RefusedError

KEPT = 500
"""Number of entries that are kept."""
_FIELDS = "number, kind, who, about, arguments, asked_at, state, ended_at, failure"


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the journal."""

    number: int
    asked: Asked
    asked_at: float
    """Seconds since 1970."""
    state: WorkState
    ended_at: float | None
    failure: RefusedError | str
    """Why it failed; empty if it did not."""


class Journal:
    """Keeps what people asked for and what has become of it."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def add(self, asked: Asked) -> int:
        """Keep a task that waits; returns its number."""
        with self._database.transaction():
            self._database.run(
                "INSERT INTO work (kind, who, about, arguments, asked_at, state) VALUES (?, ?, ?, ?, ?, ?)",
                asked.kind.value, asked.who, asked.about, json.dumps(dict(asked.arguments)), self._now(),
                WorkState.WAITING.value,
            )  # fmt: skip
            ((number,),) = self._database.run("SELECT max(number) FROM work")
            self._database.run("DELETE FROM work WHERE number <= ?", number - KEPT)
        return int(number)

    def set_state(self, number: int, state: WorkState, failure: RefusedError | str = "") -> None:
        """Keep what has become of it."""
        said = [failure.message, failure.values] if isinstance(failure, RefusedError) else failure
        ended = None if state in (WorkState.WAITING, WorkState.RUNNING) else self._now()
        self._database.run(
            "UPDATE work SET state = ?, ended_at = ?, failure = ? WHERE number = ?",
            state.value, ended, json.dumps(said), number,
        )  # fmt: skip

    def begin(self) -> int:
        """Called when the server starts: what an earlier one left waiting or running was interrupted; returns how many.

        The time of the interruption is not known, so the time of the start is kept.
        """
        return self._database.changed(
            "UPDATE work SET state = ?, ended_at = ? WHERE state IN (?, ?)",
            WorkState.INTERRUPTED.value, self._now(), WorkState.WAITING.value, WorkState.RUNNING.value,
        )  # fmt: skip

    def find(self, number: int) -> Entry | None:
        """The entry with this number; ``None`` if there is none."""
        rows = self._database.run(f"SELECT {_FIELDS} FROM work WHERE number = ?", number)
        return _entry(rows[0]) if rows else None

    def in_state(self, *states: WorkState, limit: int = 100) -> list[Entry]:
        """Entries in one of these states, the latest first."""
        rows = self._database.run(
            f"SELECT {_FIELDS} FROM work WHERE state IN ({', '.join('?' * len(states))}) "
            "ORDER BY coalesce(ended_at, asked_at) DESC, number DESC LIMIT ?",
            *(state.value for state in states), limit,
        )  # fmt: skip
        return [_entry(row) for row in rows]


def _entry(row: tuple[Any, ...]) -> Entry:
    number, kind, who, about, arguments, asked_at, state, ended_at, failure = row
    said = json.loads(failure) if failure else ""
    return Entry(
        number=number,
        asked=Asked(kind=WorkKind(kind), who=who, about=about, arguments=json.loads(arguments)),
        asked_at=asked_at,
        state=WorkState(state),
        ended_at=ended_at,
        failure=RefusedError(said[0], **said[1]) if isinstance(said, list) else said,
    )
