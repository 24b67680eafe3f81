"""The Compare page and the requests of its script."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from markupsafe import Markup
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from gonogo import images
from gonogo.images import Photograph
from gonogo.ledger import VerdictRecord
from gonogo.schema import OperatingPoint
from gonogo.server import responses
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.visitor import Me
from gonogo.server.catalogue import Catalogue
from gonogo.server.compare import Comparing
from gonogo.server.compare.comparing import InspectorComparison, Thresholds
from gonogo.server.context import RowNumber, Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors import Inspectors, OpenBundle
from gonogo.server.language import N_, RefusedError, translations
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.positions import Positions, positions
from gonogo.server.review import Review

SHOWN = 24
"""Most parts in the list of disagreements."""
Name = Annotated[str, Field(max_length=200)]


class Couple(BaseModel):
    """Query of the page: two inspectors, and the pictures."""

    model_config = ConfigDict(extra="forbid")

    a: Name = ""
    b: Name = ""
    on: Annotated[str | None, Field(max_length=64)] = None
    """The data set; empty for the parts that people reviewed; the best choice if absent."""


class Sliders(Couple):
    """Query of the fragment: the same, and the positions of the sliders."""

    a_go: int | None = None
    a_no_go: int | None = None
    b_go: int | None = None
    b_no_go: int | None = None


@dataclass(frozen=True, kw_only=True)
class Side:
    """The sliders of one inspector."""

    opened: OpenBundle
    go: Positions
    no_go: Positions

    @classmethod
    def of(cls, found: InspectorComparison, *, second: bool) -> Side:
        """Return the sliders of one side of a comparison."""
        opened, scores = (found.second if second else found.first), found.scores(second=second)
        point = opened.point
        go_now, no_go_now = (-math.inf, math.inf) if point is None else (point.go_below, point.no_go_above)
        return cls(opened=opened, go=positions(scores, go_now), no_go=positions(scores, no_go_now))

    def at(self, go: int | None, no_go: int | None) -> Thresholds:
        """The thresholds at two positions; go wins where they cross."""
        below = self.go.at(go)
        return Thresholds(go_below=below, no_go_above=max(below, self.no_go.at(no_go)))

    @property
    def point(self) -> OperatingPoint | None:
        """The operating point in force."""
        return self.opened.point


def compare_page(
    request: Request,
    inspectors: Use[Inspectors],
    catalogue: Use[Catalogue],
    comparing: Use[Comparing],
    review: Use[Review],
    me: Me,
    couple: Annotated[Couple, Query()],
) -> Response:
    """Two inspectors on the same parts, or the form that starts the comparison."""
    names = [path.name for path in catalogue.listed()]
    names += [name for name in (couple.a, couple.b) if name and name not in names]  # archived, but asked for
    active = inspectors.in_use()
    a = couple.a or (active.name if active is not None else next(iter(names), ""))
    b = couple.b or next((name for name in names if name != a), a)
    choices, decided = comparing.comparer.choices(), len(review.decisions.standing())
    on = _preferred(choices, decided) if couple.on is None else couple.on
    first, second = (_open(inspectors, name) for name in (a, b))
    found = None if first is None or second is None else comparing.comparer.of(first, second, on)
    task = (
        None
        if first is None or second is None
        else inspectors.worker.task(("compare", first.sha256, second.sha256, on))
    )
    return responses.page(
        request,
        "compare.html",
        names=names,
        a=a,
        b=b,
        on=on,
        choices=choices,
        decided=decided,
        found=found,
        sides=[] if found is None else [Side.of(found, second=each) for each in (False, True)],
        task=None if task is None or task.over else task,
        failure=_failure(task, me.language),
        piece="" if found is None else _piece(me.language, found, Sliders(a=a, b=b, on=on)),
        may=me.role in ENGINEERS,
    )


def start(
    inspectors: Use[Inspectors],
    comparing: Use[Comparing],
    review: Use[Review],
    me: Me,
    a: Annotated[str, Form(max_length=200)],
    b: Annotated[str, Form(max_length=200)],
    on: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Judge the same parts with both inspectors, in the background."""
    start_comparison(inspectors, comparing, review, me.name, Couple(a=a, b=b, on=on))
    return RedirectResponse(f"/compare?{urlencode({'a': a, 'b': b, 'on': on})}", 303)


def start_comparison(inspectors: Inspectors, comparing: Comparing, review: Review, who: str, couple: Couple) -> None:
    """Start a comparison of two inspectors.

    Raises:
        RefusedError: there are no two such inspectors, or no parts.
    """
    first, second = (_open(inspectors, name) for name in (couple.a, couple.b))
    if first is None or second is None:
        raise RefusedError(N_("There is no inspector %(name)s."), name=couple.b if second is None else couple.a)
    decisions = [each for each in review.decisions.standing().values() if each.frames_sha256]
    comparing.comparer.start(first, second, dataset=couple.on or "", decisions=decisions, who=who)


def state(inspectors: Use[Inspectors], couple: Annotated[Couple, Query()]) -> Response:
    """How far a comparison is."""
    first, second = (_open(inspectors, name) for name in (couple.a, couple.b))
    task = (
        None
        if first is None or second is None
        else inspectors.worker.task(("compare", first.sha256, second.sha256, couple.on or ""))
    )
    return responses.answer(
        over=task is None or task.over, done=0 if task is None else task.done, total=0 if task is None else task.total
    )


def setting(
    inspectors: Use[Inspectors], comparing: Use[Comparing], me: Me, sliders: Annotated[Sliders, Query()]
) -> Response:
    """The figures with other thresholds, as a page fragment."""
    first, second = (_open(inspectors, name) for name in (sliders.a, sliders.b))
    found = None if first is None or second is None else comparing.comparer.of(first, second, sliders.on or "")
    if found is None:
        raise RefusedError(N_("These two were not compared yet, or one of them has changed. Compare them again."))
    return responses.answer(html=_piece(me.language, found, sliders))


def picture(
    inspectors: Use[Inspectors],
    datasets: Use[Datasets],
    comparing: Use[Comparing],
    ledger_pool: Use[LedgerPool],
    by: str,
    seq: RowNumber | None = None,
    dataset: str = "",
    file: str = "",
) -> Response:
    """A picture with the heat map of one inspector: of a part of the line, or one that a comparison has judged."""
    opened = _open(inspectors, by)
    if opened is None:
        raise HTTPException(404)
    if seq is not None:
        photograph, name = _of_the_line(ledger_pool, seq)
    elif comparing.comparer.judged(opened.sha256, dataset, file):
        path = datasets.read(dataset).root / file
        if not path.is_file():
            raise HTTPException(404)
        photograph = Photograph(images.read_bytes(path, limits=opened.manifest.recipe.limits), name=file)
        name = f"{dataset}/{file}/{path.stat().st_mtime_ns}"
    else:
        raise HTTPException(404)
    data = comparing.pictures.jpeg(opened, photograph, name)
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=300"})


def _of_the_line(ledger_pool: LedgerPool, seq: int) -> tuple[Photograph, str]:
    """The stored frame with the highest score of a part."""
    with ledger_pool.reading() as ledger:
        row = ledger.row(seq)
        views = row.record.views if row is not None and isinstance(row.record, VerdictRecord) else ()
        kept = [each for each in views if each.frame_sha256 is not None and ledger.frames.holds(each.frame_sha256)]
        if not kept:
            raise HTTPException(404)
        worst = max(kept, key=lambda each: -math.inf if each.score is None else each.score)
        return ledger.frames.photograph(str(worst.frame_sha256)), str(worst.frame_sha256)


def _open(inspectors: Inspectors, name: str) -> OpenBundle | None:
    paths = {path.name: path for path in inspectors.workspace.bundle_paths()}
    return inspectors.bundles.open(paths.get(name))


def _preferred(choices: dict[str, tuple[int, bool]], decided: int) -> str:
    """The data set with the most pictures held out; the reviewed parts if there is none."""
    held_out = [(count, name) for name, (count, apart) in choices.items() if apart]
    if held_out:
        return max(held_out)[1]
    return "" if decided else next(iter(choices), "")


def _piece(language: str, found: InspectorComparison, sliders: Sliders) -> Markup:
    sides = [Side.of(found, second=each) for each in (False, True)]
    first = sides[0].at(sliders.a_go, sliders.a_no_go)
    second = sides[1].at(sliders.b_go, sliders.b_no_go)
    own = (sides[0].at(None, None), sides[1].at(None, None)) == (first, second)
    return responses.fill_template(
        language,
        "compare/compared.html",
        compared=found if own else found.at(first, second),
        chosen=(first, second),
        own=own,
        most=SHOWN,
    )


def _failure(task: Any, language: str) -> str:
    """Why a comparison ended without a result."""
    if task is None or not task.failure:
        return ""
    found = task.failure
    return found.text(language) if isinstance(found, RefusedError) else translations(language).gettext(str(found))
