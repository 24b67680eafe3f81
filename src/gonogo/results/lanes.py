"""Lanes: each destination runs in a thread of its own, until it is stopped, whatever it meets."""

from __future__ import annotations

import dataclasses
import json
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from gonogo.errors import GonogoError, InputError

_FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 60.0
_STATUS_EVERY_S = 1.0
_STOPPING_S = 2.0


@dataclass(frozen=True, kw_only=True)
class LaneState:
    """How far one destination is."""

    name: str
    kind: str
    at: datetime
    lag_rows: int
    """Rows that it does not have."""
    lag_s: float
    """Age of the oldest of them, in seconds."""
    seq: int
    """Last row that was delivered or need not be."""
    delivered: int
    """Results delivered since the start."""
    skipped: int = 0
    """Results that it called malformed and that were skipped, as its settings allow, since the start."""
    pictures_missing: int = 0
    """Pictures that could not be delivered because they are missing or damaged here."""
    trouble: str = ""
    """Why nothing is delivered at present; empty if all is well."""
    refused: bool = False
    """Whether a person must look: the receiver refuses, or another ledger is in place."""


class Lane(Protocol):
    """Something that delivers results, step by step."""

    def step(self) -> bool:
        """Deliver the next results; return whether more wait."""

    def state(self) -> LaneState:
        """Return how far it is."""

    def close(self) -> None:
        """Forget what is open; the next step begins anew."""

    def finish(self) -> None:
        """Write what must be kept, and close."""


def run_lane(lane: Lane, stop: threading.Event, say: Callable[[LaneState], None], *, every_s: float) -> None:
    """Deliver until ``stop`` is set; failures are told by ``say`` and tried again, with growing pauses for ever.

    After a refusal the pause is long at once: only a person can change the answer.
    """
    pause_s = _FIRST_PAUSE_S
    while not stop.is_set():
        try:
            while lane.step() and not stop.is_set():
                say(lane.state())
                pause_s = _FIRST_PAUSE_S
            say(lane.state())
            pause_s = _FIRST_PAUSE_S
            stop.wait(every_s)
        except Exception as error:  # noqa: BLE001  thread edge: one destination must not end the others, nor itself
            trouble = str(error) if isinstance(error, GonogoError) else f"{type(error).__name__}: {error}"
            refused = is_refusal(error)
            say(dataclasses.replace(lane.state(), trouble=trouble, refused=refused))
            lane.close()
            pause_s = LONGEST_PAUSE_S if refused else pause_s
            stop.wait(random.uniform(0.5, 1.0) * pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
    try:
        lane.finish()
    except GonogoError as error:  # what is not written now is delivered again
        say(dataclasses.replace(lane.state(), trouble=str(error)))


def is_refusal(error: Exception) -> bool:
    """Whether an error needs a person: the receiver refuses, the settings are wrong, or the ledger was replaced."""
    return bool(getattr(error, "refused", False)) or type(error) is InputError


def run_lanes(
    lanes: Sequence[tuple[Lane, float]], stop: threading.Event, status: Path | None, say: Callable[[LaneState], None]
) -> None:
    """Run every lane in its thread until ``stop`` is set.

    Args:
        lanes: Each with the interval between two looks for new rows, in seconds.
        stop: Ends all.
        status: File for the state of all, as JSON, replaced every second.
        say: Called from this thread with each state whose trouble has changed.
    """
    states: dict[str, LaneState] = {}

    def keep(state: LaneState) -> None:
        states[state.name] = state

    threads = [
        threading.Thread(target=run_lane, args=(lane, stop, keep), kwargs={"every_s": every_s}, daemon=True)
        for lane, every_s in lanes
    ]
    for thread in threads:
        thread.start()
    said: dict[str, str] = {}
    while True:
        ending = stop.wait(_STATUS_EVERY_S)
        if ending:
            for thread in threads:
                thread.join(_STOPPING_S)
        for state in list(states.values()):
            if state.trouble != said.get(state.name, ""):
                said[state.name] = state.trouble
                say(state)
        if status is not None:
            write_status(status, list(states.values()))
        if ending:
            return


def write_status(path: Path, states: Sequence[LaneState]) -> None:
    """Replace the file with the state of every destination, without a flush, which would delay the line.

    A full disk is no reason to end: readers see that the file is old.
    """
    text = json.dumps({state.name: dataclasses.asdict(state) | {"at": state.at.isoformat()} for state in states})
    partial = path.with_name(f".{path.name}.new")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
