"""The training pages: start, progress, cancel, report, deploy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import Form, Request
from fastapi.responses import FileResponse, RedirectResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from gonogo import bundle
from gonogo.dataset import Fractions
from gonogo.errors import BundleError
from gonogo.evaluate import auroc_interval
from gonogo.schema import Label, OperatingPoint, State
from gonogo.server import responses
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visitor import Me, Visitor
from gonogo.server.catalogue import Catalogue
from gonogo.server.context import RowNumber, Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signature_fields import SignatureForm
from gonogo.server.signatures import Offer, Signatures
from gonogo.server.training.jobs import Jobs, Phase, Roi, TrainingJob
from gonogo.server.training.presets import EFFORT_NAMES, Effort
from gonogo.server.workspace import Workspace
from gonogo.server.zone_file import require_fit

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


def training_page(request: Request, jobs: Use[Jobs]) -> Response:
    """The list of training runs."""
    return responses.page(request, "training.html", jobs=jobs.all(), phases=PHASE_NAMES)


def start(
    datasets: Use[Datasets],
    jobs: Use[Jobs],
    me: Me,
    name: str,
    inspector: Line,
    effort: Annotated[Effort, Form()] = Effort.STANDARD,
    weights: Line = "none",
    roi: Annotated[Roi, Form()] = "none",
    zones: Annotated[bool, Form()] = False,
    splits: Line = "",
) -> Response:
    """Queue a training run."""
    root = datasets.root_of(name)
    if splits:
        Fractions.parse(splits)
    if zones:
        require_fit(root, learned=roi == "learned")
    job = jobs.add(
        dataset=name,
        name=inspector,
        effort=effort,
        weights=weights,
        roi=roi,
        zones=zones,
        splits=splits,
        who=me.name,
    )
    return RedirectResponse(f"/training/{job.request.number}", 303)


def job_page(
    request: Request,
    accounts: Use[Accounts],
    jobs: Use[Jobs],
    workspace: Use[Workspace],
    signatures: Use[Signatures],
    me: Me,
    number: RowNumber,
) -> Response:
    """The page of one run, live until it ends."""
    job = jobs.find(number)
    return responses.page(
        request,
        "job.html",
        job=job,
        piece=_piece(workspace, jobs, job, me, _csrf(accounts, me), signatures.offer(me)),
        effort=EFFORT_NAMES[job.request.effort],
        command=" ".join(job.request.train_arguments(jobs.weights, workspace.datasets / job.request.dataset)),
    )


def state(
    accounts: Use[Accounts],
    jobs: Use[Jobs],
    workspace: Use[Workspace],
    signatures: Use[Signatures],
    me: Me,
    number: RowNumber,
) -> Response:
    """The progress of a run as a page fragment, and the end of its log."""
    job = jobs.find(number)
    return responses.answer(
        piece=_piece(workspace, jobs, job, me, _csrf(accounts, me), signatures.offer(me)),
        log=job.log_tail(),
        phase=job.status.phase,
        over=job.status.phase.over,
    )


def cancel(request: Request, jobs: Use[Jobs], ledger_pool: Use[LedgerPool], me: Me, number: RowNumber) -> Response:
    """Cancel a run."""
    asked = jobs.find(number).request
    ledger_pool.act("training_cancelled", me.name, dataset=asked.dataset, bundle=asked.bundle, run=number)
    jobs.cancel(number)
    return responses.back(request, f"/training/{number}", responses.gettext_of(me)(N_("The training run is stopping.")))


def training_report(jobs: Use[Jobs], number: RowNumber) -> Response:
    """The evaluation report, with scripts disabled; see `Route.sandboxed`."""
    job = jobs.find(number)
    if not job.report.is_file():
        raise HTTPException(404)
    return FileResponse(job.report, media_type="text/html")


def deploy(
    request: Request,
    catalogue: Use[Catalogue],
    signatures: Use[Signatures],
    me: Me,
    inspector: Line,
    signature: SignatureForm,
    bundle_sha256: Line = "",
) -> Response:
    """Deploy an inspector; a station that follows ``active`` switches to it."""
    signer = signatures.signer(me, signature, about=f"deploy {inspector}")
    catalogue.deploy(inspector, signer, seen_sha256=bundle_sha256)
    return responses.back(
        request, responses.came_from(request), responses.gettext_of(me)(N_("The inspector is now in use."))
    )


def _csrf(accounts: Accounts, me: Visitor) -> str:
    return accounts.sessions.csrf(me.session) if me.session else ""


def _piece(workspace: Workspace, jobs: Jobs, job: TrainingJob, me: Visitor, csrf: str, offer: Offer) -> str:
    active = workspace.active_bundle()
    made = workspace.bundles / job.request.bundle
    evaluation = job.evaluation()
    found = None if evaluation is None else _Found.model_validate(evaluation)
    return responses.fill_template(
        me.language,
        "job/state.html",
        job=job,
        Phase=Phase,
        phases=PHASE_NAMES,
        steps=[(phase, PHASE_NAMES[phase], _reached(job.status.phase, phase)) for phase in _WORK],
        csrf=csrf,
        progress=job.progress(),
        left=partial(responses.time_left, me.language),
        figures=[] if found is None else _figures(found),
        auroc=None if found is None else found.auroc,
        auroc_range=None
        if found is None or found.auroc is None
        else auroc_interval(found.auroc, found.parts_good, found.parts_bad),
        promise=_promise(made),
        made=made.is_dir(),
        in_use=active == made,
        active=active,
        offer=offer,
        ahead=_ahead(jobs, job),
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One rate on the test split."""

    title: str
    count: int
    of: int
    low: float | None
    high: float | None
    """Lower end of the 95 % confidence interval."""


class _Found(BaseModel):
    """The fields of ``evaluation.json`` that the page shows."""

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


def _ahead(jobs: Jobs, job: TrainingJob) -> int:
    """How many runs come before one that waits."""
    waiting = [other.request.number for other in jobs.queue()]
    return waiting.index(job.request.number) if job.request.number in waiting else 0


def _promise(made: Path) -> OperatingPoint | None:
    try:
        return bundle.read_bundle(made).manifest.operating_point if made.is_dir() else None
    except BundleError:
        return None  # the overview shows what is wrong with it


def _reached(now: Phase, step: Phase) -> str:
    if now is Phase.DONE:
        return "done"
    if now not in _WORK:
        return "open"
    return "done" if _WORK.index(step) < _WORK.index(now) else "now" if step is now else "open"
