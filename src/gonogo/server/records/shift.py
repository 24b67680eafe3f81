"""The shift report as an export: which shift of which day, in the server's time zone."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path

from gonogo.server.language import N_
from gonogo.station.shift_page import write_shift_page
from gonogo.station.shift_report import SHIFT_NAMES, Shifts, gather

WHOLE_DAY = "day"
SHIFTS = {
    WHOLE_DAY: N_("the whole day"),
    "early": N_("early, from 6:00"),
    "late": N_("late, from 14:00"),
    "night": N_("night, from 22:00"),
}
"""Names of the shifts for the page, which are those of `gonogo.station.shift_report`."""


def midnight(day: date) -> datetime:
    """The start of a day in the server's time zone."""
    return datetime.combine(day, time()).astimezone()


def shift_period(day: date, shift: str) -> tuple[datetime, datetime]:
    """Begin and end of a shift that begins on this day, or of the day."""
    if shift == WHOLE_DAY:
        return midnight(day), midnight(day + timedelta(days=1))
    starts = Shifts().starts_h
    number = SHIFT_NAMES.index(shift)
    begin = datetime.combine(day, time(starts[number])).astimezone()
    ends_on = day + timedelta(days=number == len(starts) - 1)
    return begin, datetime.combine(ends_on, time(starts[(number + 1) % len(starts)])).astimezone()


def write_shift(ledger: Path, out: Path, station: str, since: datetime | None, until: datetime | None) -> int:
    """Write the report and return the number of parts.

    Raises:
        InputError: the station judged no part in this period, or there are several stations and none is named.
    """
    zone = datetime.now().astimezone().tzinfo
    shifts = Shifts(zone=zone) if zone is not None else Shifts()
    period = gather(ledger, station=station or None, since=since, until=until, shifts=shifts)
    write_shift_page(period, ledger, out, shifts=shifts)
    return period.total.parts
