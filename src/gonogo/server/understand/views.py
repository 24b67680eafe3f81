"""The Understand page and the requests of its script."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import numpy as np
from fastapi import Request
from fastapi.responses import Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field

from gonogo.certification.shortfall import Shortfall, shortfalls
from gonogo.dataset import Dataset, Split
from gonogo.errors import DatasetError
from gonogo.operating_point import DEFAULT_RATE, Promise, missing_for_default
from gonogo.report import svg
from gonogo.schema import Label
from gonogo.server import responses
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.background_work import Worker
from gonogo.server.context import Use
from gonogo.server.inspectors import Inspectors, JudgedPictures, OpenBundle
from gonogo.server.language import N_, RefusedError, told, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.review import Review, ReviewDecision
from gonogo.server.signature_fields import UNSIGNED, SignatureFields
from gonogo.server.signatures import Signatures
from gonogo.server.station.feed import Feed
from gonogo.server.understand import Understanding
from gonogo.server.understand.drift_watch import ALARM_AT
from gonogo.server.understand.line import LinePart
from gonogo.server.understand.mistakes import (
    close_calls,
    escaped,
    finite,
    limit_actions,
    limits_periods,
    misjudged,
    pareto,
    rejected,
)
from gonogo.server.understand.tradeoff import Setting, Tradeoff, make_tradeoff, outcome

SVG_WORDS = (
    N_("go"),
    N_("to a person"),
    N_("no-go"),
    N_("score (higher is worse)"),
    N_("%(limit)g %%: %(rate).0f %% to review"),
    N_("this inspector: %(rate).0f %%"),
    N_("largest escape rate that is certified"),
    N_("parts sent to a person (estimated on val)"),
)
"""Texts of `gonogo.report.svg`, marked for translation."""
SIGN_NAMES = {
    "score": N_("Score"),
    "distance": N_("Distance from the training pictures"),
    "brightness": N_("Brightness"),
    "sharpness": N_("Sharpness"),
}

Share = Annotated[float, Field(gt=0, lt=1)]


class LimitsRequest(BaseModel):
    """Request body: the limits to certify."""

    model_config = ConfigDict(extra="forbid")

    max_escape: Share
    max_overkill: Share
    bad_share: Share
    bundle_sha256: Annotated[str, Field(max_length=64)] = ""
    """The bundle that the page showed; empty if unknown."""
    signature: SignatureFields = UNSIGNED


def understand_page(
    request: Request,
    feed: Use[Feed],
    inspectors: Use[Inspectors],
    ledger_pool: Use[LedgerPool],
    review: Use[Review],
    signatures: Use[Signatures],
    understanding: Use[Understanding],
    me: Me,
) -> Response:
    """The page with the results so far; the script requests the rest when it is computed."""
    _refresh(inspectors, understanding)
    opened, judged = inspectors.in_use(), inspectors.pictures()
    decisions = list(review.decisions.standing().values())
    with ledger_pool.reading() as ledger:
        done = limit_actions(ledger)
    return responses.page(
        request,
        "understand.html",
        opened=opened,
        judged=judged,
        **_promise_context(inspectors, opened, judged),
        **_slider_context(understanding, me.language, opened, judged),
        tables=_tables(opened, judged),
        calibrate=_calibrate_drawing(me.language, opened, judged),
        albums=_albums(opened, judged, decisions),
        **_decisions_context(decisions),
        agreement=review.decisions.agreement(),
        drift=_drift_piece(understanding, feed, inspectors, me.language),
        limits_periods=[] if opened is None else limits_periods(opened, done),
        limit_actions=done,
        signed=signatures.of_rows(done),
        offer=signatures.offer(me),
        tasks=inspectors.worker.busy(),
        failure=_failure(inspectors.worker, me.language),
        finite=finite,
    )


def setting(
    inspectors: Use[Inspectors],
    understanding: Use[Understanding],
    me: Me,
    escape: int | None = None,
    overkill: int | None = None,
    bad_share: float | None = None,
) -> Response:
    """The consequences of other limits as a page fragment; by default of the limits in force."""
    opened, judged = inspectors.in_use(), inspectors.pictures()
    if bad_share is not None and not 0 < bad_share < 1:
        raise RefusedError(N_("The share of bad parts must lie between 0 and 100 %%."))
    tradeoff = None if opened is None or judged is None else make_tradeoff(opened, judged, bad_share)
    if opened is None or tradeoff is None:
        return responses.answer(html="")
    row = tradeoff.escape_now if escape is None else escape
    column = tradeoff.overkill_now if overkill is None else overkill
    if not (0 <= row < len(tradeoff.escapes) and 0 <= column < len(tradeoff.overkills)):
        raise RefusedError(N_("There is no such setting."))
    line = understanding.line.parts(opened.family)
    return responses.answer(html=_setting_piece(me.language, tradeoff, row, column, line))


def apply(
    inspectors: Use[Inspectors],
    understanding: Use[Understanding],
    signatures: Use[Signatures],
    me: Me,
    body: LimitsRequest,
) -> Response:
    """Certify limits once and write them into the bundle as a new revision."""
    start_certification(inspectors, understanding, signatures, me, body)
    return responses.answer(done=True)


def start_certification(
    inspectors: Inspectors, understanding: Understanding, signatures: Signatures, me: Visitor, body: LimitsRequest
) -> None:
    """Start a certification of the inspector in use.

    Raises:
        RefusedError: its labelled pictures are not known, a certification is running, it is not the one that the page
            showed, or a signature is required and missing.
    """
    inspectors.refresh()
    opened, judged = inspectors.in_use(), inspectors.pictures()
    if opened is None or judged is None:
        why = N_("No trade-off curve is available yet.")
        raise RefusedError(why if opened is None or inspectors.worker.busy() else inspectors.why_unknown(opened))
    if body.bundle_sha256 and body.bundle_sha256 != opened.sha256:
        raise RefusedError(N_("%(name)s has changed since you opened the page. Look at it again."), name=opened.name)
    signer = signatures.signer(me, body.signature, about=f"limits of {opened.name}")
    understanding.certifier.start(
        opened, judged, signer, max_escape=body.max_escape, max_overkill=body.max_overkill, bad_share=body.bad_share
    )


def progress(feed: Use[Feed], inspectors: Use[Inspectors], understanding: Use[Understanding], me: Me) -> Response:
    """The progress of background work and the page fragments that it updates."""
    _refresh(inspectors, understanding)
    pieces = {"drift": _drift_piece(understanding, feed, inspectors, me.language)}
    translate = translations(me.language).gettext
    busy = [
        {"title": translate(task.title), "done": task.done, "total": task.total} for task in inspectors.worker.busy()
    ]
    return responses.answer(tasks=busy, pieces=pieces, failure=_failure(inspectors.worker, me.language))


def _refresh(inspectors: Inspectors, understanding: Understanding) -> None:
    """Compute missing or outdated results in the background."""
    inspectors.refresh()
    opened = inspectors.in_use()
    if opened is not None:
        understanding.drift.refresh(opened)


def _promise_context(
    inspectors: Inspectors, opened: OpenBundle | None, judged: JudgedPictures | None
) -> dict[str, Any]:
    """Template context: the current promise and the shortfall."""
    return {
        "unknown": "" if opened is None else inspectors.why_unknown(opened),
        "by_counts": partial(missing_for_default, joint=bool(opened and opened.point and opened.point.joint)),
        "usual_rate": DEFAULT_RATE,
        "lacking": _lacking(opened, judged),
    }


def _slider_context(
    understanding: Understanding, language: str, opened: OpenBundle | None, judged: JudgedPictures | None
) -> dict[str, Any]:
    """Template context: the slider and the setting in force."""
    tradeoff = None if opened is None or judged is None else make_tradeoff(opened, judged)
    if opened is None or tradeoff is None:
        return {"tradeoff": None, "setting": None}
    line = understanding.line.parts(opened.family)
    return {
        "tradeoff": tradeoff,
        "setting": _setting_piece(language, tradeoff, tradeoff.escape_now, tradeoff.overkill_now, line),
    }


def _decisions_context(decisions: list[ReviewDecision]) -> dict[str, Any]:
    """Template context: review decisions about parts of the line."""
    return {
        "kinds": pareto(decisions),
        "decided": len(decisions),
        "bad": sum(each.label is Label.BAD for each in decisions),
    }


def _setting_piece(language: str, tradeoff: Tradeoff, escape: int, overkill: int, line: list[LinePart]) -> Markup:
    say = translations(language).gettext
    chosen = tradeoff.setting(escape, overkill, line)
    scores = [part.score for part in line]
    mark = svg.PlotMark(
        x=chosen.point.escape.max_rate,
        y=chosen.review_rate,
        style="go" if chosen.point.escape.holds else "no_go",
    )
    title = say(N_("Review rate for each escape limit"))
    drawings = {
        "tradeoff": svg.tradeoff_curve(tradeoff.curve(overkill), mark, title=title, say=say),
        "val": svg.histogram(
            tradeoff.good,
            tradeoff.bad,
            chosen.limits,
            title=say(N_("Scores of the good and bad val parts")),
            say=say,
            also=scores,
        ),
        "line": _line_drawing(chosen, tradeoff, scores, say),
    }
    return responses.fill_template(
        language, "understand/setting.html", setting=chosen, tradeoff=tradeoff, drawings=drawings
    )


def _line_drawing(chosen: Setting, tradeoff: Tradeoff, scores: list[float], say: Callable[[str], str]) -> Markup | None:
    if not scores:
        return None
    title = say(N_("Scores of the last parts of the line"))
    return svg.histogram(
        np.array(scores), np.empty(0), chosen.limits, title=title, say=say, also=[*tradeoff.good, *tradeoff.bad]
    )


def _lacking(opened: OpenBundle | None, judged: JudgedPictures | None) -> list[Shortfall]:
    """Return the parts that the calibrate split lacks for the limits that were refused."""
    point = None if opened is None else opened.point
    if judged is None or point is None or (point.escape.holds and point.overkill.holds):
        return []
    asked = Promise(
        max_escape=point.escape.max_rate,
        max_overkill=point.overkill.max_rate,
        confidence=point.escape.confidence,
        joint=point.joint,
    )
    try:
        return shortfalls(Dataset.read(judged.root), asked)
    except DatasetError:
        return []  # it is being written


def _tables(opened: OpenBundle | None, judged: JudgedPictures | None) -> list[dict[str, Any]]:
    """Outcome tables of the limits in force for the calibrate and the test split."""
    if opened is None or judged is None:
        return []
    splits = {Split.CALIBRATE: N_("Calibration parts"), Split.TEST: N_("Test parts")}
    found = {name: judged.evaluation(opened.point, split) for split, name in splits.items()}
    return [{"name": name, "outcome": outcome(each)} for name, each in found.items() if each.parts]


def _calibrate_drawing(language: str, opened: OpenBundle | None, judged: JudgedPictures | None) -> Markup | None:
    if opened is None or judged is None:
        return None
    say = translations(language).gettext
    found = judged.evaluation(opened.point, Split.CALIBRATE)
    good, bad = found.scores(Label.GOOD), found.scores(Label.BAD)
    if not len(good) and not len(bad):
        return None
    title = say(N_("Scores of the good and bad calibration parts"))
    return svg.histogram(good, bad, opened.point, title=title, say=say)


def _albums(
    opened: OpenBundle | None, judged: JudgedPictures | None, decisions: list[ReviewDecision]
) -> list[dict[str, Any]]:
    """Albums of mistakes and close calls: title, base and parts."""
    found = [
        (N_("Passed, but a person says bad"), N_("of the passed parts that a person checked"), escaped(decisions)),
        (
            N_("Rejected, but a person says good"),
            N_("of the rejected parts that a person checked"),
            rejected(decisions),
        ),
    ]
    if opened is not None:
        bad, good = (close_calls(decisions, opened.family, label) for label in (Label.BAD, Label.GOOD))
        decided = N_("of the doubtful parts that were decided")
        found.append((N_("Doubtful and bad, lowest scores first"), decided, bad))
        found.append((N_("Doubtful and good, highest scores first"), decided, good))
    if opened is not None and judged is not None:
        bad, good = (misjudged(judged, opened.point, label) for label in (Label.BAD, Label.GOOD))
        found.append((N_("Bad test parts that would be passed"), N_("of the bad test parts"), bad))
        found.append((N_("Good test parts that would be rejected"), N_("of the good test parts"), good))
    return [{"title": title, "of": of, "album": album} for title, of, album in found if album.rate.of]


def _drift_piece(understanding: Understanding, feed: Feed, inspectors: Inspectors, language: str) -> Markup:
    opened = inspectors.in_use()
    watched = None if opened is None else understanding.drift.of(opened)
    station, say = feed.read().station, translations(language).gettext
    signs = []
    if watched is not None:
        for name, title in SIGN_NAMES.items():
            beyond = watched.beyond(name)
            described = f"{say(title)}: {say(N_('the last parts, oldest on the left, and the limits'))}"
            drawing = svg.sparkline(watched.values(name), [each.watch.limit for each in beyond], title=described)
            signs.append({"title": title, "beyond": beyond, "drawing": drawing})
    return responses.fill_template(
        language,
        "understand/drift.html",
        watched=watched,
        signs=signs,
        opened=opened,
        alarms=() if station is None else station.alarms,
        alarm_at=ALARM_AT,
        busy=bool(inspectors.worker.busy()),
    )


def _failure(worker: Worker, language: str) -> str:
    """Return the error of the latest failed task that a person started on this page."""
    task = worker.task("set")
    return "" if task is None or not task.failure else told(task.failure, language)
