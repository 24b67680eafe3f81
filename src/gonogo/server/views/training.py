"""Training runs: starting, watching, cancelling, the report, and putting an inspector to use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gonogo import bundle
from gonogo.errors import BundleError
from gonogo.evaluate import auroc_interval
from gonogo.schema import Label, OperatingPoint, State
from gonogo.server import pages
from gonogo.server.jobs import Job, Phase, Roi
from gonogo.server.language import N_, RefusedError
from gonogo.server.recipes import EFFORT_NAMES, Effort
from gonogo.server.services import Here, Me, RowNumber, Services, Visitor

PHASE_NAMES = {
    Phase.QUEUED: N_("Queued"),
    Phase.SPLITTING: N_("Splitting the pictures"),
    Phase.TRAINING: N_("Training"),
    Phase.JUDGING: N_("Judging the test pictures"),
    Phase.DONE: N_("Done"),
    Phase.FAILED: N_("Failed"),
    Phase.CANCELLED: N_("Stopped"),
}
_WORK = (Phase.SPLITTING, Phase.TRAINING, Phase.JUDGING)

Line = Annotated[str, Form(max_length=200)]


def training_page(request: Request, here: Here) -> Response:
    """All training runs, and the inspectors that can be put to use."""
    active = here.workspace.active_bundle()
    return pages.page(
        request,
        "training.html",
        jobs=here.jobs.all(),
        phases=PHASE_NAMES,
        bundles=[path.name for path in here.workspace.bundle_paths()],
        active=active.name if active else "",
    )


def start(
    here: Here,
    me: Me,
    name: str,
    inspector: Line,
    effort: Annotated[Effort, Form()] = Effort.STANDARD,
    weights: Line = "none",
    roi: Annotated[Roi, Form()] = "none",
) -> Response:
    """Begin a training run, or queue it."""
    here.datasets.root_of(name)
    job = here.jobs.add(dataset=name, name=inspector, effort=effort, weights=weights, roi=roi, who=me.name)
    return RedirectResponse(f"/training/{job.asked.number}", 303)


def job_page(request: Request, here: Here, me: Me, number: RowNumber) -> Response:
    """One run, live until it is over."""
    job = here.jobs.find(number)
    return pages.page(
        request,
        "job.html",
        job=job,
        piece=_piece(here, job, me),
        effort=EFFORT_NAMES[job.asked.effort],
        command=" ".join(job.asked.train_arguments(here.jobs.weights)),
    )


def state(here: Here, me: Me, number: RowNumber) -> Response:
    """How far a run is, as a piece of its page, and the end of its log."""
    job = here.jobs.find(number)
    return pages.answer(
        piece=_piece(here, job, me), log=job.log_tail(), phase=job.status.phase, over=job.status.phase.over
    )


def cancel(request: Request, here: Here, me: Me, number: RowNumber) -> Response:
    """End a run."""
    asked = here.jobs.find(number).asked
    here.book.act("training_cancelled", me.name, dataset=asked.dataset, bundle=asked.bundle, run=number)
    here.jobs.cancel(number)
    return pages.back(request, f"/training/{number}", pages.gettext_of(me)(N_("The training run is stopping.")))


def report(here: Here, number: RowNumber) -> Response:
    """The evaluation report, under a policy that runs nothing; see `Route.sandboxed`."""
    job = here.jobs.find(number)
    if not job.report.is_file():
        raise HTTPException(404)
    return FileResponse(job.report, media_type="text/html")


def deploy(request: Request, here: Here, me: Me, inspector: Line) -> Response:
    """Put an inspector to use; a station that follows ``active`` takes it."""
    path = here.workspace.bundles / inspector
    if path not in here.workspace.bundle_paths():
        raise RefusedError(N_("There is no inspector %(name)s."), name=inspector)
    opened = bundle.read(path)
    active = here.workspace.active_bundle()
    here.book.act(
        "deploy", me.name, bundle=inspector, bundle_sha256=opened.sha256, before=active.name if active else None
    )
    here.workspace.activate(inspector)
    return pages.back(request, pages.came_from(request), pages.gettext_of(me)(N_("The inspector is now in use.")))


def _piece(here: Services, job: Job, me: Visitor) -> str:
    active = here.workspace.active_bundle()
    made = here.workspace.bundles / job.asked.bundle
    evaluation = job.evaluation()
    found = None if evaluation is None else _Found.model_validate(evaluation)
    return pages.fill(
        me.language,
        "job/state.html",
        job=job,
        Phase=Phase,
        phases=PHASE_NAMES,
        steps=[(phase, PHASE_NAMES[phase], _reached(job.status.phase, phase)) for phase in _WORK],
        csrf=here.sessions.csrf(me.session) if me.session else "",
        progress=job.progress(),
        figures=[] if found is None else _figures(found),
        auroc=None if found is None else found.auroc,
        auroc_range=None
        if found is None or found.auroc is None
        else auroc_interval(found.auroc, found.parts_good, found.parts_bad),
        promise=_promise(made),
        made=made.is_dir(),
        in_use=active == made,
        active=active,
        ahead=sum(not other.status.phase.over and other.asked.number < job.asked.number for other in here.jobs.all()),
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One rate found on the test pictures."""

    title: str
    count: int
    of: int
    low: float | None
    high: float | None
    """Of the 95 % interval."""


class _Found(BaseModel):
    """The part of ``evaluation.json`` that is shown."""

    parts_good: int
    parts_bad: int
    auroc: float | None
    confusion: dict[Label, dict[State, int]]
    escape_rate_low: float | None
    escape_rate_high: float | None
    overkill_rate_low: float | None
    overkill_rate_high: float | None
    review_rate_low: float | None
    review_rate_high: float | None


def _figures(found: _Found) -> list[Figure]:
    good, bad = found.confusion[Label.GOOD], found.confusion[Label.BAD]
    return [
        Figure(
            title=N_("Bad parts passed"),
            count=bad[State.GO],
            of=found.parts_bad,
            low=found.escape_rate_low,
            high=found.escape_rate_high,
        ),
        Figure(
            title=N_("Good parts rejected"),
            count=good[State.NO_GO],
            of=found.parts_good,
            low=found.overkill_rate_low,
            high=found.overkill_rate_high,
        ),
        Figure(
            title=N_("Sent to a person"),
            count=good[State.REVIEW] + bad[State.REVIEW],
            of=found.parts_good + found.parts_bad,
            low=found.review_rate_low,
            high=found.review_rate_high,
        ),
    ]


def _promise(made: Path) -> OperatingPoint | None:
    try:
        return bundle.read(made).manifest.operating_point if made.is_dir() else None
    except BundleError:
        return None  # the page of inspectors says what is wrong with it


def _reached(now: Phase, step: Phase) -> str:
    if now is Phase.DONE:
        return "done"
    if now not in _WORK:
        return "open"
    return "done" if _WORK.index(step) < _WORK.index(now) else "now" if step is now else "open"
