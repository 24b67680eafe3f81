"""The review page: doubtful parts, one after the other, one key for each decision."""

from __future__ import annotations

import math
from typing import Annotated, Any

from fastapi import BackgroundTasks, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo import images
from gonogo.heatmap import HeatScale, overlay
from gonogo.images.geometry import scaled
from gonogo.ledger import VerdictRecord, Where
from gonogo.schema import Box, Label, State, Verdict
from gonogo.server import pages
from gonogo.server.datasets import LONGEST_KIND
from gonogo.server.insight.known import Near
from gonogo.server.language import N_, RefusedError
from gonogo.server.pictures import reduced
from gonogo.server.review import REVIEWED, GoneError, TakenError
from gonogo.server.review.keys import MOST_KINDS
from gonogo.server.services import Here, Me, Services

NEIGHBOURS = 6
_THUMB_PX = 320
_NO_SCALE = HeatScale(cold=0.0, hot=1.0)
_DRAWN = {Label.GOOD: State.GO, Label.BAD: State.NO_GO}

Ticket = Annotated[str, Field(max_length=64)]
Kind = Annotated[str, Field(min_length=1, max_length=LONGEST_KIND, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Wish(BaseModel):
    """Which parts a page has, and how many more it wants."""

    model_config = ConfigDict(extra="forbid")

    want: int = Field(ge=0, le=8)
    holding: list[Ticket] = Field(default_factory=list, max_length=100)


class Said(BaseModel):
    """A decision."""

    model_config = ConfigDict(extra="forbid")

    ticket: Ticket
    label: Label
    defect: Kind | None = None
    ms: int | None = Field(default=None, ge=0, le=86_400_000)
    """How long the part was looked at."""


class TakenBack(BaseModel):
    """A decision that was a mistake."""

    model_config = ConfigDict(extra="forbid")

    ticket: Ticket


def review_page(request: Request, here: Here, background: BackgroundTasks) -> Response:
    """The desk; its script fetches the parts."""
    here.insight.known()  # worked out by the time it is asked for
    background.add_task(here.review.collector.run)
    return pages.page(
        request,
        "review.html",
        kinds=_kinds(here),
        waiting=_waiting(here),
        collected=here.review.collector.count(),
        reviewed=REVIEWED,
        targets=[name for name in here.datasets.names() if name != REVIEWED],
    )


def deal(here: Here, me: Me, body: Wish, background: BackgroundTasks) -> Response:
    """Hand out parts, and keep those that the page has from going to others."""
    background.add_task(here.review.collector.run)
    deals, lost = here.review.desk.deal(me.name, want=body.want, holding=body.holding)
    items = []
    with here.book.reading() as ledger:
        for each in deals:
            row = ledger.row(each.seq)
            if row is not None and isinstance(row.record, VerdictRecord):
                items.append(_item(each.ticket, row.record, me.language))
    return pages.answer(items=items, lost=lost, waiting=_waiting(here))


def decide(here: Here, me: Me, body: Said, background: BackgroundTasks) -> Response:
    """Take a decision into the ledger, and soon after into the data set."""
    if body.defect is not None and body.label is not Label.BAD:
        raise RefusedError(N_("Only a bad part can have a kind of defect."))
    try:
        here.review.desk.decide(me.name, body.ticket, body.label, body.defect, took_ms=body.ms)
    except (TakenError, GoneError) as error:
        return _conflict(error, me.language)
    background.add_task(here.review.collector.run)
    return pages.answer(done=True)


def take_back(here: Here, me: Me, body: TakenBack, background: BackgroundTasks) -> Response:
    """Undo a decision of one's own."""
    try:
        here.review.desk.take_back(me.name, body.ticket)
    except (TakenError, GoneError) as error:
        return _conflict(error, me.language)
    background.add_task(here.review.collector.run)
    return pages.answer(done=True)


def picture(here: Here, me: Me, ticket: str, view: int = 0, heat: bool = False, width: int = 960) -> Response:
    """A view of a part that this person has; by its ticket, so that nothing tells a blind check from a new part."""
    drawn = here.pictures.jpeg(_dealt(here, me.name, ticket), view=view, heat=heat, width=width)
    if drawn is None:
        raise HTTPException(404)
    return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


def nearest(here: Here, me: Me, ticket: str) -> Response:
    """The labelled pictures that the part resembles most, as a piece of the page."""
    record = _dealt(here, me.name, ticket)
    gauge, found, note = here.insight.gauge(), [], ""
    known = None if gauge is None else here.insight.taught.of(gauge)
    if gauge is None:
        note = N_("No inspector is in use.")
    elif known is None:
        busy = here.insight.worker.busy()
        note = (
            N_("The labelled pictures are being looked through. Examples come later.")
            if busy
            else here.insight.why_unknown(gauge)
        )
    elif record.bundle_sha256 not in gauge.family:
        note = N_("This part was judged by a different inspector from the one in use.")
    else:
        found = _near(here, record)
        note = "" if found else N_("This part cannot be compared: its picture or its inspector is gone.")
    piece = pages.fill(me.language, "review/nearest.html", found=found, note=note, known=known, digits=_digits(found))
    return pages.answer(html=piece, later=known is None and bool(here.insight.worker.busy()))


def taught_picture(here: Here, number: int) -> Response:
    """One of the labelled pictures, small, its part outlined in the colour of its label."""
    known = here.insight.known()
    if known is None or not 0 <= number < len(known.pictures):
        raise HTTPException(404)
    shown = known.pictures[number]
    small, factor = reduced(images.load_confined(known.root / shown.file), _THUMB_PX)
    region = None if shown.box_xyxy is None else scaled(Box.from_xyxy(shown.box_xyxy), factor, factor)
    verdict = Verdict(state=_DRAWN[shown.label], score=shown.score, reason="", region=region)
    drawn = images.encode_jpeg(overlay(small, verdict, _NO_SCALE), quality=85)
    return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


def copy_reviewed(request: Request, here: Here, me: Me, dataset: Annotated[str, Form(max_length=64)]) -> Response:
    """Add the reviewed pictures to the training part of another data set."""
    here.review.collector.run(at_once=True)
    if not here.review.collector.there():
        raise RefusedError(N_("Nothing decided yet."))
    if dataset == REVIEWED:
        raise RefusedError(N_("Choose another data set."))
    here.datasets.root_of(dataset)
    here.book.act("reviewed_copied", me.name, dataset=dataset)
    copied = here.review.collector.copy_into(dataset)
    told = pages.gettext_of(me)(
        N_(
            "Pictures added: %(added)s. Already there: %(there)s. "
            "Held back, because their parts validate, calibrate or test the set: %(held_back)s."
        )
    )
    values = {"added": copied.added, "there": copied.there, "held_back": copied.held_back}
    answer: RedirectResponse = pages.back(request, "/review", told % values)
    return answer


def _dealt(here: Services, who: str, ticket: str) -> VerdictRecord:
    try:
        found = here.review.desk.find(who, ticket)
    except GoneError as error:
        raise HTTPException(404) from error
    with here.book.reading() as ledger:
        row = ledger.row(found.seq)
    if row is None or not isinstance(row.record, VerdictRecord):
        raise HTTPException(404)
    return row.record


def _item(ticket: str, record: VerdictRecord, language: str) -> dict[str, Any]:
    views = [number for number, view in enumerate(record.views) if view.frame_sha256 is not None]
    return {
        "ticket": ticket,
        "part": record.part or "",
        "views": views,
        "facts": pages.fill(language, "review/facts.html", record=record, ruler=_ruler(record)),
    }


def _ruler(record: VerdictRecord) -> dict[str, float] | None:
    """Where the score lies between the limits, on a ruler from 0 to 100 on which the limits stand at 20 and 80."""
    low, high, score = record.go_below, record.no_go_above, record.score
    if low is None or high is None or score is None or high <= low:
        return None
    place = 20.0 + 60.0 * (score - low) / (high - low)
    return {"go": 20.0, "no_go": 80.0, "score": round(min(98.0, max(2.0, place)), 1)}


def _near(here: Services, record: VerdictRecord) -> list[Near]:
    known = here.insight.known()
    judged = [number for number, view in enumerate(record.views) if view.score is not None]
    if known is None or not judged:
        return []
    worst = max(judged, key=lambda number: record.views[number].score or 0.0)
    verdict = here.pictures.judged(record, view=worst)
    if verdict is None or verdict.feature_vector is None:
        return []
    return known.nearest(verdict.feature_vector, NEIGHBOURS, not_part=record.part)


def _digits(found: list[Near]) -> int:
    """Decimals that tell the smallest distance from 0: some networks put all parts close together."""
    least = min((near.distance for near in found), default=1.0)
    return min(8, 1 - math.floor(math.log10(max(least, 1e-9))))


def _kinds(here: Services) -> list[str]:
    """What number keys stand for: the kinds of the data set that the inspector was trained on, then others in use.

    No other data set supplies any. Of decisions, those about parts of the same product do.
    """
    gauge, known = here.insight.gauge(), here.insight.known()
    if gauge is None:
        return _named(here)[:MOST_KINDS]
    if known is None and here.insight.worker.busy():
        return here.review.keys.kept(gauge.graph)  # a key that got its meaning now might have another one in a minute
    if known is None:
        return here.review.keys.extend(gauge.graph, "", listed=(), others=_named(here))
    name = known.dataset
    listed = here.datasets.listed_kinds(name) if name in here.datasets.names() else []
    used = sorted({picture.defect for picture in known.pictures if picture.defect})
    return here.review.keys.extend(gauge.graph, name, listed=listed, others=[*used, *_named(here)])


def _named(here: Services) -> list[str]:
    decisions = [each for each in here.review.decisions.standing().values() if each.defect]
    return sorted({each.defect for each in decisions if each.defect and here.review.desk.comparable(each)})


def _waiting(here: Services) -> int:
    with here.book.reading() as ledger:
        return ledger.count(Where(states=(State.REVIEW,), undecided=True))


def _conflict(error: RefusedError, language: str) -> Response:
    return JSONResponse({"message": error.text(language)}, 409)
