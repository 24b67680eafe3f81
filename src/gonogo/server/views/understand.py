"""The understand page: what the limits promise, what others would, where the gauge errs, and what has changed."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError
from gonogo.operate.planning import Shortfall, shortfalls
from gonogo.operating_point import DEFAULT_RATE, Promise, missing_for_default
from gonogo.report import svg
from gonogo.schema import Label
from gonogo.server import pages
from gonogo.server.insight import Gauge, Known, watching
from gonogo.server.insight.limits import Dial, Setting, make_dial, outcome
from gonogo.server.insight.line import LinePart
from gonogo.server.insight.mistakes import close_calls, doings, eras, escaped, finite, misjudged, pareto, rejected
from gonogo.server.insight.sparks import spark
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.review import Decision
from gonogo.server.services import Here, Me, Services

SVG_WORDS = (
    N_("go"),
    N_("to a person"),
    N_("no-go"),
    N_("score (higher is worse)"),
    N_("%(limit)g %%: %(rate).0f %% to review"),
    N_("this gauge: %(rate).0f %%"),
    N_("largest escape rate that is certified"),
    N_("parts sent to a person (estimated on val)"),
)
"""What `gonogo.report.svg` writes into its drawings, marked for translation."""
SIGN_NAMES = {
    "score": N_("Score"),
    "distance": N_("Distance from the training pictures"),
    "brightness": N_("Brightness"),
    "sharpness": N_("Sharpness"),
}

Share = Annotated[float, Field(gt=0, lt=1)]


class Limits(BaseModel):
    """The limits that somebody wants to be certified."""

    model_config = ConfigDict(extra="forbid")

    max_escape: Share
    max_overkill: Share
    bad_share: Share


class Couple(BaseModel):
    """Two bundles to compare, by name."""

    model_config = ConfigDict(extra="forbid")

    first: Annotated[str, Field(max_length=200)]
    second: Annotated[str, Field(max_length=200)]
    dataset: Annotated[str, Field(max_length=64)] = ""
    """Compare on its test pictures and those without a split; empty: on the reviewed parts."""


def understand_page(request: Request, here: Here, me: Me, second: str = "") -> Response:
    """Everything that is known now; the rest is worked out and the script asks for it."""
    gauge, known = here.insight.gauge(), here.insight.known()
    decisions = list(here.review.decisions.standing().values())
    dial = None if gauge is None or known is None else make_dial(gauge, known)
    line = [] if gauge is None else here.insight.line.parts(gauge.family)
    with here.book.reading() as ledger:
        done = doings(ledger)
    return pages.page(
        request,
        "understand.html",
        gauge=gauge,
        known=known,
        unknown="" if gauge is None else here.insight.why_unknown(gauge),
        by_counts=partial(missing_for_default, joint=bool(gauge and gauge.point and gauge.point.joint)),
        usual_rate=DEFAULT_RATE,
        lacking=_lacking(gauge, known),
        dial=dial,
        setting=None if dial is None else _setting_piece(me.language, dial, dial.escape_now, dial.overkill_now, line),
        tables=_tables(gauge, known),
        calibrate=_calibrate_drawing(me.language, gauge, known),
        albums=_albums(gauge, known, decisions),
        kinds=pareto(decisions),
        decided=len(decisions),
        bad=sum(each.label is Label.BAD for each in decisions),
        agreement=here.review.decisions.agreement(),
        drift=_drift_piece(here, me.language, gauge),
        compared=_compared_piece(here, me.language),
        bundles=[path.name for path in here.workspace.bundle_paths()],
        eras=[] if gauge is None else eras(gauge, done),
        doings=done,
        tasks=here.insight.worker.busy(),
        failure=_failure(here, me.language),
        held_out=here.insight.comparer.held_out(),
        second=second,
        finite=finite,
    )


def setting(
    here: Here, me: Me, escape: int | None = None, overkill: int | None = None, bad_share: float | None = None
) -> Response:
    """What other limits would lead to, as a piece of the page; those in force where none are named."""
    gauge, known = here.insight.gauge(), here.insight.known()
    if bad_share is not None and not 0 < bad_share < 1:
        raise RefusedError(N_("The share of bad parts must lie between 0 and 100 %%."))
    dial = None if gauge is None or known is None else make_dial(gauge, known, bad_share)
    if gauge is None or dial is None:
        return pages.answer(html="")
    row = dial.escape_now if escape is None else escape
    column = dial.overkill_now if overkill is None else overkill
    if not (0 <= row < len(dial.escapes) and 0 <= column < len(dial.overkills)):
        raise RefusedError(N_("There is no such setting."))
    return pages.answer(html=_setting_piece(me.language, dial, row, column, here.insight.line.parts(gauge.family)))


def apply(here: Here, me: Me, body: Limits) -> Response:
    """Certify these limits once, and put them into the bundle as a new revision."""
    gauge, known = here.insight.gauge(), here.insight.known()
    if gauge is None or known is None:
        why = N_("There is nothing to choose from yet.")
        raise RefusedError(why if gauge is None or here.insight.worker.busy() else here.insight.why_unknown(gauge))
    here.insight.setter.start(
        gauge, known, me.name, max_escape=body.max_escape, max_overkill=body.max_overkill, bad_share=body.bad_share
    )
    return pages.answer(done=True)


def compare(here: Here, me: Me, body: Couple) -> Response:
    """Let two bundles judge the same parts."""
    paths = {path.name: path for path in here.workspace.bundle_paths()}
    first, second = (here.insight.gauges.open(paths.get(name)) for name in (body.first, body.second))
    if first is None or second is None or first.path == second.path:
        raise RefusedError(N_("Choose two different inspectors."))
    decisions = [each for each in here.review.decisions.standing().values() if each.frames_sha256]
    here.insight.comparer.start(first, second, dataset=body.dataset, decisions=decisions)
    return pages.answer(done=True)


def progress(here: Here, me: Me) -> Response:
    """How far the work in the background is, and the pieces that it changes."""
    gauge = here.insight.gauge()
    here.insight.known()
    pieces = {"drift": _drift_piece(here, me.language, gauge), "compared": _compared_piece(here, me.language)}
    told = translations(me.language).gettext
    busy = [{"title": told(task.title), "done": task.done, "total": task.total} for task in here.insight.worker.busy()]
    return pages.answer(tasks=busy, pieces=pieces, failure=_failure(here, me.language))


def _setting_piece(language: str, dial: Dial, escape: int, overkill: int, line: list[LinePart]) -> Markup:
    say = translations(language).gettext
    chosen = dial.setting(escape, overkill, line)
    scores = [part.score for part in line]
    mark = svg.Mark(
        x=chosen.point.escape.max_rate,
        y=chosen.review_rate,
        style="go" if chosen.point.escape.holds else "no_go",
    )
    title = say(N_("How many parts go to a person for each escape limit"))
    drawings = {
        "dial": svg.dial(dial.curve(overkill), mark, title=title, say=say),
        "val": svg.histogram(
            dial.good,
            dial.bad,
            chosen.limits,
            title=say(N_("Scores of the good and bad val parts")),
            say=say,
            also=scores,
        ),
        "line": _line_drawing(chosen, dial, scores, say),
    }
    return pages.fill(language, "understand/setting.html", setting=chosen, dial=dial, drawings=drawings)


def _line_drawing(chosen: Setting, dial: Dial, scores: list[float], say: Callable[[str], str]) -> Markup | None:
    if not scores:
        return None
    title = say(N_("Scores of the last parts of the line"))
    return svg.histogram(
        np.array(scores), np.empty(0), chosen.limits, title=title, say=say, also=[*dial.good, *dial.bad]
    )


def _lacking(gauge: Gauge | None, known: Known | None) -> list[Shortfall]:
    """What the calibrate split lacks for the limits that were refused."""
    point = None if gauge is None else gauge.point
    if known is None or point is None or (point.escape.holds and point.overkill.holds):
        return []
    asked = Promise(
        max_escape=point.escape.max_rate,
        max_overkill=point.overkill.max_rate,
        confidence=point.escape.confidence,
        joint=point.joint,
    )
    try:
        return shortfalls(Dataset.read(known.root), asked)
    except DatasetError:
        return []  # it is being changed


def _tables(gauge: Gauge | None, known: Known | None) -> list[dict[str, Any]]:
    """What the limits in force make of the parts that certified them, and of those that only test them."""
    if gauge is None or known is None:
        return []
    splits = {Split.CALIBRATE: N_("Calibration parts"), Split.TEST: N_("Test parts")}
    found = {name: known.evaluation(gauge.point, split) for split, name in splits.items()}
    return [{"name": name, "outcome": outcome(each)} for name, each in found.items() if each.parts]


def _calibrate_drawing(language: str, gauge: Gauge | None, known: Known | None) -> Markup | None:
    if gauge is None or known is None:
        return None
    say = translations(language).gettext
    found = known.evaluation(gauge.point, Split.CALIBRATE)
    good, bad = found.scores(Label.GOOD), found.scores(Label.BAD)
    if not len(good) and not len(bad):
        return None
    title = say(N_("Scores of the good and bad calibration parts"))
    return svg.histogram(good, bad, gauge.point, title=title, say=say)


def _albums(gauge: Gauge | None, known: Known | None, decisions: list[Decision]) -> list[dict[str, Any]]:
    """Mistakes and close calls: what they are, of what, and the parts."""
    found = [
        (N_("Passed, but a person says bad"), N_("of the passed parts that a person looked at"), escaped(decisions)),
        (
            N_("Rejected, but a person says good"),
            N_("of the rejected parts that a person looked at"),
            rejected(decisions),
        ),
    ]
    if gauge is not None:
        bad, good = (close_calls(decisions, gauge.family, label) for label in (Label.BAD, Label.GOOD))
        decided = N_("of the doubtful parts that were decided")
        found.append((N_("Doubtful and bad, lowest scores first"), decided, bad))
        found.append((N_("Doubtful and good, highest scores first"), decided, good))
    if gauge is not None and known is not None:
        bad, good = (misjudged(known, gauge.point, label) for label in (Label.BAD, Label.GOOD))
        found.append((N_("Bad test parts that would be passed"), N_("of the bad test parts"), bad))
        found.append((N_("Good test parts that would be rejected"), N_("of the good test parts"), good))
    return [{"title": title, "of": of, "album": album} for title, of, album in found if album.rate.of]


def _drift_piece(here: Services, language: str, gauge: Gauge | None) -> Markup:
    watched = None if gauge is None else here.insight.watchman.of(gauge)
    station = here.feed.read().station
    signs = []
    if watched is not None:
        for name, title in SIGN_NAMES.items():
            beyond = watched.beyond(name)
            limits = [each.watch.limit for each in beyond]
            signs.append({"title": title, "beyond": beyond, "spark": spark(watched.values(name), limits)})
    return pages.fill(
        language,
        "understand/drift.html",
        watched=watched,
        signs=signs,
        gauge=gauge,
        alarms=() if station is None else station.alarms,
        alarm_at=watching.ALARM_AT,
        busy=bool(here.insight.worker.busy()),
    )


def _compared_piece(here: Services, language: str) -> Markup:
    return pages.fill(language, "understand/compared.html", compared=here.insight.comparer.last())


def _failure(here: Services, language: str) -> str:
    """What went wrong last, of what people asked for here."""
    for key in ("set", "compare"):
        task = here.insight.worker.task(key)
        if task is not None and task.failure:
            return task.failure.text(language) if isinstance(task.failure, RefusedError) else task.failure
    return ""
