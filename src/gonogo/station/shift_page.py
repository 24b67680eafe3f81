"""The shift report: one self-contained HTML page about a period of time on one station."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from markupsafe import Markup

from gonogo.errors import GonogoError
from gonogo.files import write_beside
from gonogo.inspector import Inspector
from gonogo.ledger import Action, FrameStore, Row, VerdictRecord
from gonogo.ledger.frames import frames_folder
from gonogo.line.messages import Cause
from gonogo.report import phrases, render_page, svg
from gonogo.report.pictures import data_uri, thumbnails
from gonogo.schema import State
from gonogo.station.changeover import SELECTED
from gonogo.station.shift_report import NOTABLE, DefectCount, Event, Period, Shifts, ShiftTally

_SHOWN_PER_KIND, _LOTS_SHOWN, _EVENTS_SHOWN = 3, 8, 30

CAUSES = {
    Cause.CAMERA_LOST: "camera lost",
    Cause.NO_FRAME: "no picture came",
    Cause.UNMATCHED: "picture may show another part",
    Cause.UNREADABLE: "picture unreadable",
    Cause.FROZEN: "camera frozen",
    Cause.DARK: "picture too dark",
    Cause.SATURATED: "picture overexposed",
    Cause.BLOCKED: "picture empty, lens covered",
    Cause.BLURRED: "picture blurred",
    Cause.WRONG_SIZE: "picture of the wrong size",
    Cause.MODEL: "no suitable bundle",
    Cause.INSPECTOR: "could not be judged",
    Cause.LATE: "too late for the line",
    Cause.OVERRUN: "too many parts waiting",
    Cause.PROCESS: "worker process restarted",
    Cause.LEDGER: "could not be recorded",
    Cause.DISK_FULL: "disk full",
    Cause.REUSED_ID: "id used for two parts",
    Cause.CODE: "code unreadable or contradictory",
    Cause.CHALLENGE: "challenge test failed or overdue",
}
"""Descriptions of the causes on the page."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One bad part on the page."""

    row: Row[VerdictRecord]
    photograph: str
    heat: str


def write_shift_page(period: Period, ledger: Path, out: Path, *, shifts: Shifts | None = None) -> None:
    """Write the page.

    Args:
        period: The result of `gonogo.station.shift_report.gather`.
        ledger: The ledger that was read; pictures come from its frames, heat maps from the bundles in its rows.
        out: The file to write; an existing one is replaced.
        shifts: The shifts, whose time zone is used on the page.

    Raises:
        InputError: the file cannot be written; no partial file is left.
    """
    gallery = _Gallery(FrameStore(frames_folder(ledger)))
    causes = [(CAUSES.get(Cause(cause), cause), count) for cause, count in period.faults.most_common()]
    page = render_page(
        "shift.html",
        period=period,
        headline=shift_headline(period),
        subline=shift_subline(period),
        warnings=shift_warnings(period),
        bars={tally.name: _bar(tally) for tally in (*period.shifts, *period.products, *period.lots, *period.bundles)},
        lots=period.lots[:_LOTS_SHOWN],
        kinds=[(kind, share, gallery.pictures(kind.rows)) for kind, share in _cumulative(period)],
        causes=causes,
        events=period.events[:_EVENTS_SHOWN],
        cause_name=lambda cause: CAUSES.get(Cause(cause), cause),
        lasted=lasted,
        notable=NOTABLE,
        describe_action=describe_action,
        zone=(shifts or Shifts()).zone,
        State=State,
        Markup=Markup,
    )
    write_beside(out, page.encode())


def shift_headline(period: Period) -> str:
    """Return the headline of the page."""
    total = period.total
    passed, share = total.states[State.GO], phrases.percent(total.first_pass)
    text = f"{passed:,} of {phrases.parts(total.parts)} passed at once ({share})"
    if not period.kinds:
        return f"{text}; no defect was confirmed in a review."
    return f"{text}; the most frequent defect was {period.kinds[0].name.replace('_', ' ')}."


def shift_subline(period: Period) -> str:
    """Return the sentence about rejected, reviewed and faulty parts."""
    states, reviews = period.total.states, period.reviews
    text = (
        f"{phrases.parts(states[State.NO_GO])} rejected, {states[State.REVIEW]:,} sent to review, "
        f"{states[State.FAULT]:,} not judged. "
    )
    if reviews.sent:
        text += f"Of those sent to review, {reviews.good:,} were good, {reviews.bad:,} bad; {reviews.open:,} are open. "
    good = states[State.GO] + reviews.good + reviews.rejected_good
    if good > states[State.GO]:
        share = phrases.percent(good / period.total.parts)
        text += f"In total {phrases.parts(good)} ({share}) passed at once or were labelled good in a review."
    return text


def shift_warnings(period: Period) -> list[str]:
    """Return the warnings at the top of the page."""
    found = []
    if period.broken:
        found.append(
            f"The ledger shows {period.broken} signs of tampering. Do not rely on these figures; locate the changes "
            "with: gonogo ledger verify"
        )
    failed = sum(each.record.details.get("passed") is not True for each in period.challenges)
    if failed:
        found.append(f"{failed} of {len(period.challenges)} tests with a challenge part failed.")
    if period.late_answers:
        found.append(
            f"{phrases.parts(period.late_answers)} were judged too late: the line received fault. "
            "These parts can be inspected again with a new trigger."
        )
    return found


def lasted(event: Event) -> str:
    """Return the duration of an event as text."""
    length = event.last - event.first
    if length < timedelta(minutes=1):
        return "a moment" if event.parts == 1 else "under a minute"
    minutes = round(length.total_seconds() / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def describe_action(action: Action) -> str:
    """Return the part of an action's details that a reader needs."""
    details = action.details
    text = next((str(details[key]) for key in ("refused", "note", "reason", "why") if details.get(key)), "")
    if action.action == SELECTED:
        return f"from {details.get('from') or 'none'} to {details.get('to')}"
    after = details.get("after")
    return text or (f"now {str(after)[:12]}" if after else "")


class _Gallery:
    """Pictures of recorded parts, judged again by their bundle to get the heat maps."""

    def __init__(self, frames: FrameStore) -> None:
        self._frames = frames
        self._inspectors: dict[str, Inspector | None] = {}

    def pictures(self, rows: tuple[Row[VerdictRecord], ...]) -> list[Picture]:
        """Return the parts with the highest scores."""
        ranked = sorted(rows, key=lambda row: -(row.record.score or 0.0))
        found = (self._picture(row) for row in ranked)
        shown = []
        for picture in found:
            if picture is not None:
                shown.append(picture)
            if len(shown) == _SHOWN_PER_KIND:
                break
        return shown

    def _picture(self, row: Row[VerdictRecord]) -> Picture | None:
        view = max(row.record.views, key=lambda view: view.score or 0.0, default=None)
        inspector = self._inspector(row.record.bundle)
        if view is None or view.frame_sha256 is None or inspector is None:
            return None
        try:
            shown = self._frames.photograph(view.frame_sha256)
            photograph, heat = thumbnails(shown.frame, inspector.inspect(shown), None, inspector.heat_scale)
        except GonogoError:
            return None  # the frame was deleted by retention
        return Picture(row=row, photograph=data_uri(photograph), heat=data_uri(heat))

    def _inspector(self, bundle: str | None) -> Inspector | None:
        if bundle is None:
            return None
        if bundle not in self._inspectors:
            try:
                self._inspectors[bundle] = Inspector.load(bundle)
            except GonogoError:
                self._inspectors[bundle] = None  # missing or changed: the page omits its pictures
        return self._inspectors[bundle]


def _cumulative(period: Period) -> list[tuple[DefectCount, float]]:
    whole, so_far, found = sum(kind.count for kind in period.kinds), 0, []
    for kind in period.kinds:
        so_far += kind.count
        found.append((kind, so_far / whole))
    return found


def _bar(tally: ShiftTally) -> Markup:
    order = (State.GO, State.REVIEW, State.NO_GO, State.FAULT)
    return svg.stacked_bar(
        [
            svg.Segment(count=tally.states[state], style=f"is-{state.value}", name=phrases.STATE_NAMES[state])
            for state in order
        ]
    )
