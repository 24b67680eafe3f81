"""The shift leader's page: one self-contained HTML file about some time on one station."""

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
from gonogo.report import phrases, render_page, svg
from gonogo.report.pictures import data_uri, thumbnails
from gonogo.schema import State
from gonogo.station.messages import Cause
from gonogo.station.shift_report import NOTABLE, DefectCount, Event, Period, Shifts, ShiftTally

_SHOWN_PER_KIND, _LOTS_SHOWN, _EVENTS_SHOWN = 3, 8, 30

CAUSES = {
    Cause.CAMERA_LOST: "camera lost",
    Cause.NO_FRAME: "no picture came",
    Cause.UNMATCHED: "picture may be another part's",
    Cause.UNREADABLE: "picture unreadable",
    Cause.FROZEN: "camera frozen",
    Cause.DARK: "picture too dark",
    Cause.SATURATED: "picture overexposed",
    Cause.BLURRED: "picture blurred",
    Cause.WRONG_SIZE: "picture of the wrong size",
    Cause.MODEL: "no fitting bundle",
    Cause.INSPECTOR: "could not be judged",
    Cause.LATE: "too late for the line",
    Cause.OVERRUN: "too many parts waiting",
    Cause.PROCESS: "program restarted",
    Cause.LEDGER: "could not be recorded",
    Cause.DISK_FULL: "disk full",
    Cause.REUSED_ID: "id used for two parts",
    Cause.CHALLENGE: "test with a known bad part failed or overdue",
}
"""Causes as a shift leader calls them."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One bad part on the page."""

    row: Row[VerdictRecord]
    photograph: str
    heat: str


def write_shift_page(period: Period, ledger: Path, out: Path, *, shifts: Shifts | None = None) -> None:
    """Write the page.

    Args:
        period: What `gonogo.station.shift_report.gather` found.
        ledger: The ledger it was found in; pictures come from its frames, heat maps from the bundles it names.
        out: Where to write; replaced when it exists.
        shifts: Whose clock times are shown.

    Raises:
        InputError: the place cannot be written; nothing is left half-written.
    """
    gallery = _Gallery(FrameStore(frames_folder(ledger)))
    causes = [(CAUSES.get(Cause(cause), cause), count) for cause, count in period.faults.most_common()]
    page = render_page(
        "shift.html",
        period=period,
        headline=shift_headline(period),
        subline=shift_subline(period),
        warnings=shift_warnings(period),
        bars={tally.name: _bar(tally) for tally in (*period.shifts, *period.lots, *period.bundles)},
        lots=period.lots[:_LOTS_SHOWN],
        kinds=[(kind, share, gallery.pictures(kind.rows)) for kind, share in _cumulative(period)],
        causes=causes,
        events=period.events[:_EVENTS_SHOWN],
        cause_name=lambda cause: CAUSES.get(Cause(cause), cause),
        lasted=lasted,
        notable=NOTABLE,
        told=told,
        zone=(shifts or Shifts()).zone,
        State=State,
        Markup=Markup,
    )
    write_beside(out, page.encode())


def shift_headline(period: Period) -> str:
    """The one sentence."""
    total = period.total
    passed, share = total.states[State.GO], phrases.percent(total.first_pass)
    said = f"{passed:,} of {phrases.parts(total.parts)} passed at once ({share})"
    if not period.kinds:
        return f"{said}; no defect was confirmed by a person."
    return f"{said}; the most frequent defect was {period.kinds[0].name.replace('_', ' ')}."


def shift_subline(period: Period) -> str:
    """Who had to do what about the rest."""
    states, reviews = period.total.states, period.reviews
    text = (
        f"{phrases.parts(states[State.NO_GO])} rejected, {states[State.REVIEW]:,} sent to a person, "
        f"{states[State.FAULT]:,} not judged. "
    )
    if reviews.sent:
        text += (
            f"Of those sent to a person, {reviews.good:,} were good, {reviews.bad:,} bad; {reviews.open:,} are open. "
        )
    good = states[State.GO] + reviews.good + reviews.rejected_good
    if good > states[State.GO]:
        share = phrases.percent(good / period.total.parts)
        text += f"In the end {phrases.parts(good)} ({share}) had passed at once or been called good by a person."
    return text


def shift_warnings(period: Period) -> list[str]:
    """What a shift leader must know first."""
    found = []
    if period.broken:
        found.append(
            f"The record shows {period.broken} signs of tampering. Do not rely on these figures before "
            "gonogo ledger verify has told where they are."
        )
    failed = sum(each.record.details.get("passed") is not True for each in period.challenges)
    if failed:
        found.append(f"{failed} of {len(period.challenges)} tests with a known bad part failed.")
    if period.late_answers:
        found.append(
            f"{phrases.parts(period.late_answers)} were judged, but too late: the line was told fault. "
            "They can be put on the line again under a new trigger."
        )
    return found


def lasted(event: Event) -> str:
    """How long an event lasted, in words."""
    length = event.last - event.first
    if length < timedelta(minutes=1):
        return "a moment" if event.parts == 1 else "under a minute"
    minutes = round(length.total_seconds() / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes / 60:.1f} h"


def told(action: Action) -> str:
    """What an action's details say, shortened to what a reader needs."""
    details = action.details
    text = next((str(details[key]) for key in ("refused", "note", "reason", "why") if details.get(key)), "")
    after = details.get("after")
    return text or (f"now {str(after)[:12]}" if after else "")


class _Gallery:
    """Pictures of recorded parts, judged once more by the bundle that judged them, for their heat maps."""

    def __init__(self, frames: FrameStore) -> None:
        self._frames = frames
        self._inspectors: dict[str, Inspector | None] = {}

    def pictures(self, rows: tuple[Row[VerdictRecord], ...]) -> list[Picture]:
        """The worst few parts, those with the highest scores."""
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
            return None  # retention has let it go
        return Picture(row=row, photograph=data_uri(photograph), heat=data_uri(heat))

    def _inspector(self, bundle: str | None) -> Inspector | None:
        if bundle is None:
            return None
        if bundle not in self._inspectors:
            try:
                self._inspectors[bundle] = Inspector.load(bundle)
            except GonogoError:
                self._inspectors[bundle] = None  # gone or changed: the page does without its pictures
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
