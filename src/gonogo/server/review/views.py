"""The review page and the requests of its script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import BackgroundTasks, Form, Request
from fastapi.responses import JSONResponse, RedirectResponse, Response
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo import images
from gonogo.dataset.levels import levels_of
from gonogo.heatmap import HeatScale, overlay
from gonogo.images.geometry import scaled_region
from gonogo.ledger import VerdictRecord, Where
from gonogo.schema import Box, Label, State, Verdict
from gonogo.server import responses
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.dataset_store import LONGEST_KIND, Datasets
from gonogo.server.inspectors import Inspectors, JudgedPictures, Neighbour
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.parts.facts import ruler
from gonogo.server.parts.pictures import PartPictures, smaller_picture
from gonogo.server.review import REVIEWED, GoneError, Review, TakenError
from gonogo.server.review.kind_keys import MOST_KINDS

NEIGHBOURS = 6
_THUMB_PX = 320
_NO_SCALE = HeatScale(cold=0.0, hot=1.0)
_DRAWN = {Label.GOOD: State.GO, Label.BAD: State.NO_GO}

Ticket = Annotated[str, Field(max_length=64)]
Kind = Annotated[str, Field(min_length=1, max_length=LONGEST_KIND, pattern=r"^[^\x00-\x1f\x7f]+$")]


class DealRequest(BaseModel):
    """Request body: the parts that a page has, and how many more it wants."""

    model_config = ConfigDict(extra="forbid")

    want: int = Field(ge=0, le=8)
    holding: list[Ticket] = Field(default_factory=list, max_length=100)


class DecisionRequest(BaseModel):
    """Request body: a decision."""

    model_config = ConfigDict(extra="forbid")

    ticket: Ticket
    label: Label
    defect: Kind | None = None
    ms: int | None = Field(default=None, ge=0, le=86_400_000)
    """Time that the part was shown."""


class UndoRequest(BaseModel):
    """Request body: a decision to undo."""

    model_config = ConfigDict(extra="forbid")

    ticket: Ticket


def review_page(
    request: Request,
    datasets: Use[Datasets],
    inspectors: Use[Inspectors],
    ledger_pool: Use[LedgerPool],
    review: Use[Review],
    background: BackgroundTasks,
) -> Response:
    """The HTML page; its script fetches the parts."""
    inspectors.refresh()
    offered = _kinds(datasets, inspectors, review)
    background.add_task(review.collector.run)
    return responses.page(
        request,
        "review.html",
        kinds=offered.kinds,
        kinds_later=offered.later,
        waiting=_waiting(ledger_pool),
        collected=review.collector.count(),
        reviewed=REVIEWED,
        targets=[name for name in datasets.names() if name != REVIEWED],
    )


def kinds(datasets: Use[Datasets], inspectors: Use[Inspectors], review: Use[Review]) -> Response:
    """Meaning of the number keys; the script asks again while ``later`` is true."""
    inspectors.refresh()
    offered = _kinds(datasets, inspectors, review)
    return responses.answer(kinds=offered.kinds, later=offered.later)


def deal(
    ledger_pool: Use[LedgerPool], review: Use[Review], me: Me, body: DealRequest, background: BackgroundTasks
) -> Response:
    """Assign parts, and renew those that the page has."""
    background.add_task(review.collector.run)
    deals, lost = review.queue.deal(me.name, want=body.want, holding=body.holding)
    items = []
    with ledger_pool.reading() as ledger:
        for each in deals:
            row = ledger.row(each.seq)
            if row is not None and isinstance(row.record, VerdictRecord):
                items.append(_item(each.ticket, row.record, me.language))
    return responses.answer(items=items, lost=lost, waiting=_waiting(ledger_pool))


def decide(review: Use[Review], me: Me, body: DecisionRequest, background: BackgroundTasks) -> Response:
    """Record a decision in the ledger and, soon after, in the data set."""
    if body.defect is not None and body.label is not Label.BAD:
        raise RefusedError(N_("Only a bad part can have a kind of defect."))
    try:
        review.queue.decide(me.name, body.ticket, body.label, body.defect, took_ms=body.ms)
    except (TakenError, GoneError) as error:
        return _conflict(error, me.language)
    background.add_task(review.collector.run)
    return responses.answer(done=True)


def take_back(review: Use[Review], me: Me, body: UndoRequest, background: BackgroundTasks) -> Response:
    """Undo one of the person's own decisions."""
    try:
        review.queue.take_back(me.name, body.ticket)
    except (TakenError, GoneError) as error:
        return _conflict(error, me.language)
    background.add_task(review.collector.run)
    return responses.answer(done=True)


def reviewed_picture(
    ledger_pool: Use[LedgerPool],
    pictures: Use[PartPictures],
    review: Use[Review],
    me: Me,
    ticket: str,
    view: int = 0,
    heat: bool = False,
    width: int = 960,
) -> Response:
    """A view of an assigned part, addressed by ticket, so that a blind check looks like a new part."""
    drawn = pictures.jpeg(_dealt(ledger_pool, review, me.name, ticket), view=view, heat=heat, width=width)
    if drawn is None:
        raise HTTPException(404)
    return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


def nearest(
    inspectors: Use[Inspectors],
    ledger_pool: Use[LedgerPool],
    pictures: Use[PartPictures],
    review: Use[Review],
    me: Me,
    ticket: str,
) -> Response:
    """The most similar labelled pictures, as a fragment of the page."""
    record = _dealt(ledger_pool, review, me.name, ticket)
    inspectors.refresh()
    opened, judged, busy = inspectors.in_use(), inspectors.pictures(), bool(inspectors.worker.busy())
    found: list[Neighbour] = []
    if opened is None:
        note = N_("No inspector is in use.")
    elif judged is None and busy:
        note = N_("The labelled pictures are being judged. Examples will follow.")
    elif judged is None:
        note = inspectors.why_unknown(opened)
    elif record.bundle_sha256 not in opened.family:
        note = N_("This part was judged by a different inspector from the one in use.")
    else:
        found = _near(judged, pictures, record)
        note = "" if found else N_("This part cannot be compared: its picture or its inspector is gone.")
    piece = responses.fill_template(
        me.language, "review/nearest.html", found=found, note=note, judged=judged, digits=_digits(found)
    )
    return responses.answer(html=piece, later=judged is None and busy)


def judged_picture(inspectors: Use[Inspectors], number: int) -> Response:
    """A small labelled picture with its part outlined in the colour of its label."""
    judged = inspectors.pictures()
    if judged is None or not 0 <= number < len(judged.pictures):
        raise HTTPException(404)
    shown = judged.pictures[number]
    path = judged.root / shown.file
    small, factor = smaller_picture(images.load_confined(path, depth=levels_of(path)), _THUMB_PX)
    region = None if shown.box_xyxy is None else scaled_region(Box.from_xyxy(shown.box_xyxy), factor, factor)
    verdict = Verdict(state=_DRAWN[shown.label], score=shown.score, reason="", region=region)
    drawn = images.encode_jpeg(overlay(small, verdict, _NO_SCALE), quality=85)
    return Response(drawn, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


def copy_reviewed(
    request: Request,
    datasets: Use[Datasets],
    ledger_pool: Use[LedgerPool],
    review: Use[Review],
    me: Me,
    dataset: Annotated[str, Form(max_length=64)],
) -> Response:
    """Copy the reviewed pictures into the train split of another data set."""
    review.collector.run(at_once=True)
    if not review.collector.there():
        raise RefusedError(N_("Nothing decided yet."))
    if dataset == REVIEWED:
        raise RefusedError(N_("Choose another data set."))
    datasets.root_of(dataset)
    ledger_pool.act("reviewed_copied", me.name, dataset=dataset)
    copied = review.collector.copy_into(dataset, who=me.name)
    message = responses.gettext_of(me)(
        N_(
            "Pictures added: %(added)s. Already there: %(there)s. "
            "Not added, because their parts are in the val, calibrate or test split: %(held_back)s."
        )
    )
    values = {"added": copied.added, "there": copied.there, "held_back": copied.held_back}
    answer: RedirectResponse = responses.back(request, "/review", message % values)
    return answer


def _dealt(ledger_pool: LedgerPool, review: Review, who: str, ticket: str) -> VerdictRecord:
    try:
        found = review.queue.find(who, ticket)
    except GoneError as error:
        raise HTTPException(404) from error
    with ledger_pool.reading() as ledger:
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
        "facts": responses.fill_template(
            language, "review/facts.html", record=record, ruler=ruler(record), ticket=ticket
        ),
    }


def _near(judged: JudgedPictures, pictures: PartPictures, record: VerdictRecord) -> list[Neighbour]:
    scored = [number for number, view in enumerate(record.views) if view.score is not None]
    if not scored:
        return []
    worst = max(scored, key=lambda number: record.views[number].score or 0.0)
    verdict = pictures.judged(record, view=worst)
    if verdict is None or verdict.feature_vector is None:
        return []
    return judged.nearest(verdict.feature_vector, NEIGHBOURS, not_part=record.part)


def _digits(found: list[Neighbour]) -> int:
    """Number of decimals that show the smallest distance as nonzero: some networks give small distances."""
    least = min((near.distance for near in found), default=1.0)
    return min(8, 1 - math.floor(math.log10(max(least, 1e-9))))


@dataclass(frozen=True, kw_only=True)
class _OfferedKinds:
    """Meaning of the number keys."""

    kinds: list[str]
    later: bool
    """Whether more kinds may follow, because the labelled pictures are still being judged."""


def _kinds(datasets: Datasets, inspectors: Inspectors, review: Review) -> _OfferedKinds:
    """The kinds of the inspector's training data set, then others in use.

    Kinds in use come from decisions about the same product, never from other data sets.
    """
    opened, judged = inspectors.in_use(), inspectors.pictures()
    if opened is None:
        return _OfferedKinds(kinds=_named(review)[:MOST_KINDS], later=False)
    if judged is None and inspectors.worker.busy():
        # A key assigned now could change its meaning in a minute.
        return _OfferedKinds(kinds=review.keys.kept(opened.graph), later=True)
    name, listed, used = "", [], []
    if judged is not None:
        name = judged.dataset
        listed = datasets.listed_kinds(name) if name in datasets.names() else []
        used = sorted({picture.defect for picture in judged.pictures if picture.defect})
    found = review.keys.extend(opened.graph, name, listed=listed, others=[*used, *_named(review)])
    return _OfferedKinds(kinds=found, later=False)


def _named(review: Review) -> list[str]:
    decisions = [each for each in review.decisions.standing().values() if each.defect]
    return sorted({each.defect for each in decisions if each.defect and review.queue.comparable(each)})


def _waiting(ledger_pool: LedgerPool) -> int:
    with ledger_pool.reading() as ledger:
        return ledger.count(Where(states=(State.REVIEW,), undecided=True))


def _conflict(error: RefusedError, language: str) -> Response:
    return JSONResponse({"message": error.text(language)}, 409)
