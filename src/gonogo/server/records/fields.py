"""Search fields from a page's address or form, and the search that they mean."""

from __future__ import annotations

from datetime import date, datetime, timedelta

from gonogo.schema import State
from gonogo.server.language import N_, RefusedError
from gonogo.server.records.shift import midnight

LONGEST = 200
"""Longer texts are cut."""


def day_of(text: str) -> date | None:
    """Parse a day as a date field sends it; ``None`` for an empty field.

    Raises:
        RefusedError: it is no day.
    """
    if not text.strip():
        return None
    try:
        return date.fromisoformat(text.strip()[:LONGEST])
    except ValueError as error:
        raise RefusedError(N_("Expected a day such as 2026-01-31, found %(text)s."), text=text[:20]) from error


def period_of(since: str, until: str) -> tuple[datetime | None, datetime | None]:
    """Begin and end of a period from its first and last day, in the server's time zone.

    Raises:
        RefusedError: one of them is no day, or the last day is before the first.
    """
    first, last = day_of(since), day_of(until)
    if first is not None and last is not None and last < first:
        raise RefusedError(N_("The last day is before the first one."))
    try:
        begin = None if first is None else midnight(first)
        end = None if last is None else midnight(last + timedelta(days=1))
        for moment in (begin, end):
            if moment is not None:
                moment.timestamp()
    except (OverflowError, ValueError, OSError) as error:
        raise RefusedError(N_("Choose days between 1970 and 2100.")) from error
    return begin, end


def state_of(verdict: str) -> State | None:
    """Parse a verdict; ``None`` for an empty or unknown one."""
    return State(verdict) if verdict in State.__members__.values() else None


def cut(text: str) -> str:
    """Shorten a text of a visitor, and remove what cannot be stored."""
    return text.encode("utf-8", "replace").decode()[:LONGEST].strip()
