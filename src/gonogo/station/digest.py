"""The text of the mail at the end of a shift, with the figures of the shift report."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from gonogo.errors import InputError, LedgerError
from gonogo.results.digest import Compose, DigestText
from gonogo.schema import State
from gonogo.station.shift_report import NOTABLE, Period, gather

_MOST_LINES = 20


def composer(ledger: Path, station: str, zone: str) -> Compose:
    """Return the function that says what happened in a shift; see `gonogo.results.digest.Compose`."""
    local = ZoneInfo(zone)

    def compose(since: datetime, until: datetime) -> DigestText | None:
        try:
            period = gather(ledger, station=station, since=since, until=until)
        except LedgerError:
            raise
        except InputError:  # no part was judged
            return None
        return digest_of(period, local)

    return compose


def digest_of(period: Period, zone: ZoneInfo) -> DigestText:
    """Return the mail of a period, in local time of a zone."""
    counts, total = period.total.states, period.total
    since, until = period.since.astimezone(zone), period.until.astimezone(zone)
    failed = [each for each in period.challenges if each.record.details.get("passed") is not True]
    alarm = bool(failed or period.broken or counts[State.FAULT])
    span = f"{since:%Y-%m-%d %H:%M} to {until:%H:%M}"
    subject = (
        f"{period.station}, {span}: {total.parts:,} parts, {counts[State.NO_GO]:,} no-go{', ALARM' if alarm else ''}"
    )
    lines = [
        f"Station {period.station}, {span} ({zone.key})",
        "",
        f"parts    {total.parts:8,d}",
        *(f"{state.value:8s} {counts[state]:8,d}{_share(counts[state], total.parts)}" for state in State),
        f"reviewed {period.reviews.decided:8,d}  ({period.reviews.open:,} still wait)",
        "",
        f"Challenge parts: {len(period.challenges):,} tests, {len(failed):,} escapes",
        *_listed([f"  ESCAPE {each.at.astimezone(zone):%H:%M} {each.record.details.get('reason')}" for each in failed]),
        *_section("Defects of reviewed parts", [f"  {kind.count:6,d} {kind.name}" for kind in period.kinds]),
        *_section(
            "Faults",
            [
                f"  {each.first.astimezone(zone):%H:%M} {each.parts:,} parts: {each.cause} ({each.reason})"
                for each in period.events
            ],
        ),
        *_section(
            "Events",
            [
                f"  {each.at.astimezone(zone):%H:%M} {NOTABLE[each.record.action]} ({each.record.who})"
                for each in period.notable
            ],
        ),
        *_section(
            "Lots, lowest first-pass yield first",
            [f"  {lot.name}: {lot.parts:,} parts, {lot.first_pass or 0:.1%} go" for lot in period.lots],
        ),
        "",
        f"Answers that came too late: {period.late_answers:,}",
        "Ledger: intact" if not period.broken else f"Ledger: {period.broken:,} SIGNS OF TAMPERING",
        f"Last row {period.head_seq:,}, {period.head_sha256}",
    ]
    return DigestText(subject=subject, body="\n".join(lines) + "\n")


def _share(count: int, parts: int) -> str:
    return f"  {count / parts:7.2%}" if parts else ""


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *_listed(lines)] if lines else []


def _listed(lines: list[str]) -> list[str]:
    more = len(lines) - _MOST_LINES
    return lines if more <= 0 else [*lines[:_MOST_LINES], f"  and {more:,} more; see the shift report"]
