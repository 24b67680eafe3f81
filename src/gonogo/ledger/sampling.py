"""Random samples of production: a schedule in the ledger commits to which parts are drawn, before they are judged.

The hash of the schedule's row is the seed, and a part is drawn by this seed and the hash of its own row. So the draw
cannot be chosen afterwards, does not look at the verdict, needs nothing of the station, and anyone who has the ledger
can repeat it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Set
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from gonogo.errors import InputError
from gonogo.ledger.queries import Where
from gonogo.ledger.records import Action, Row, VerdictRecord
from gonogo.schema import State

if TYPE_CHECKING:
    from gonogo.ledger.store import Ledger

SCHEDULED = "sample_scheduled"
"""The action that starts a sample."""
EVALUATED = "sample_evaluated"
"""The action with the result of a sample."""
_CHALLENGE = "challenge"


@dataclass(frozen=True, kw_only=True)
class SampleSchedule:
    """One part in ``one_in`` of those after this row, regardless of the verdict, until ``parts`` are drawn."""

    name: str
    one_in: int
    parts: int
    """Planned size. It is fixed in advance, so that nobody can stop when the result looks good."""
    most_bad: float
    """Largest share of bad parts among accepted ones that the sample shall confirm."""
    row: int
    row_sha256: str
    at: datetime


def drawn(seed: str, row_sha256: str, one_in: int) -> bool:
    """Whether a row is drawn: SHA-256 of seed and row hash, as a number, is divisible by ``one_in``."""
    digest = hashlib.sha256(f"{seed}\n{row_sha256}".encode()).digest()
    return int.from_bytes(digest, "big") % one_in == 0


def schedule_sample(ledger: Ledger, name: str, *, one_in: int, parts: int, most_bad: float, who: str) -> SampleSchedule:
    """Start a sample.

    Raises:
        InputError: The name is taken, or a number is out of range.
        LedgerError: It cannot be recorded.
    """
    if one_in < 1 or parts < 1 or not 0.0 < most_bad < 1.0:
        raise InputError(
            f"sample {name}: expected one part in at least 1, at least 1 part, and a share between 0 and 1; found "
            f"{one_in}, {parts} and {most_bad}."
        )
    if any(each.name == name for each in schedules(ledger)):
        raise InputError(f"sample {name}: the ledger has a sample of this name already. Choose another name.")
    details: dict[str, JsonValue] = {"name": name, "one_in": one_in, "parts": parts, "most_bad": most_bad}
    return _schedule(ledger.append_action(Action(action=SCHEDULED, who=who, details=details)))


def schedules(ledger: Ledger) -> list[SampleSchedule]:
    """Return the samples of a ledger, the oldest first."""
    return [_schedule(row) for row in ledger.actions(Where(action=SCHEDULED))]


def find_schedule(ledger: Ledger, name: str) -> SampleSchedule:
    """Return a sample by its name.

    Raises:
        InputError: There is none.
    """
    known = schedules(ledger)
    found = next((each for each in known if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in known) or "none"
        raise InputError(f"sample {name}: expected one of the samples in {ledger.name} ({names}).")
    return found


def sampled_parts(
    ledger: Ledger, schedule: SampleSchedule, *, bundles: Set[str] | None = None
) -> Iterator[Row[VerdictRecord]]:
    """Yield the drawn parts in the order of their rows, at most as many as planned.

    Faults are no part of the population: they were not judged, and never pass. Neither are challenge parts.

    Args:
        ledger: The ledger with the schedule.
        schedule: The sample.
        bundles: Only parts judged by bundles with these SHA-256.
    """
    tests = {row.record.about for row in ledger.actions(Where(action=_CHALLENGE))}
    found = 0
    for row in ledger.verdicts(after=schedule.row):
        if row.record.state is State.FAULT or row.seq in tests:
            continue
        if bundles is not None and row.record.bundle_sha256 not in bundles:
            continue
        if drawn(schedule.row_sha256, row.sha256, schedule.one_in):
            yield row
            found += 1
            if found == schedule.parts:
                return


def _schedule(row: Row[Action]) -> SampleSchedule:
    said = row.record.details
    try:
        return SampleSchedule(
            name=str(said["name"]),
            one_in=int(str(said["one_in"])),
            parts=int(str(said["parts"])),
            most_bad=float(str(said["most_bad"])),
            row=row.seq,
            row_sha256=row.sha256,
            at=row.at,
        )
    except (KeyError, ValueError) as error:
        raise InputError(f"row {row.seq}: not the schedule of a sample ({error}). Schedule another one.") from error
