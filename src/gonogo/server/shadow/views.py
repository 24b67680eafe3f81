"""The page of a trial in shadow mode: start, stop, evidence, switch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Form, Request
from fastapi.responses import Response
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from gonogo.bundle import MANIFEST
from gonogo.certification.planning import LineRate
from gonogo.config import settings
from gonogo.errors import GonogoError
from gonogo.fleet import (
    RUNNING,
    EvidenceReader,
    Judgement,
    LedgerFile,
    ReleaseServer,
    Remaining,
    SeenPart,
    Shelf,
    Stage,
    Terms,
    Verdict,
    parts_needed_in_all,
    remaining,
)
from gonogo.ledger import REVIEW, VerdictRecord
from gonogo.manifest import Manifest
from gonogo.operating_point import from_json
from gonogo.schema import Label, OperatingPoint
from gonogo.server import responses
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.visitor import Me
from gonogo.server.catalogue import Catalogue
from gonogo.server.context import RowNumber, Use
from gonogo.server.datasets.plan import line_rate
from gonogo.server.inspectors import Inspectors
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.positions import Positions
from gonogo.server.shadow.figures import SHOWN, ComparedPart, ShadowSetting, compared_parts, setting_of, slider
from gonogo.server.shadow.trials import LOCAL, Shadows, Trial, every_part_to_a_person
from gonogo.server.signature_fields import SignatureForm
from gonogo.server.signatures import Signatures
from gonogo.server.station.feed import Feed
from gonogo.server.workspace import Workspace

LIMITS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
"""Offered limits of bad parts that newly pass, as a share of all parts."""
STAGES = {
    Stage.SHADOW: N_("judges silently"),
    Stage.CANARY: N_("answers on canary stations"),
    Stage.DONE: N_("in use"),
    Stage.STOPPED: N_("stopped"),
    Stage.ROLLED_BACK: N_("rolled back"),
}
Line = Annotated[str, Form(max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows of one trial or roll-out."""

    channel: str
    """`LOCAL`, or the channel of a roll-out."""
    candidate: str
    """Name of the candidate in this workspace; empty if it is not here."""
    point: OperatingPoint | None
    """The candidate's operating point."""
    judgement: Judgement
    parts: tuple[ComparedPart, ...]
    running: bool

    @property
    def positions(self) -> Positions:
        """Positions of the slider."""
        return slider(self.parts, self.point)

    @property
    def missing(self) -> Remaining:
        """What is missing before the switch."""
        found = self.judgement
        return remaining(found.release.stage, found.evidence, found.release.terms)


def shadow_page(
    request: Request,
    shadows: Use[Shadows],
    catalogue: Use[Catalogue],
    inspectors: Use[Inspectors],
    workspace: Use[Workspace],
    ledger_pool: Use[LedgerPool],
    feed: Use[Feed],
    signatures: Use[Signatures],
    me: Me,
    channel: str = LOCAL,
    candidate: str = "",
) -> Response:
    """The running trial with its evidence, or the form that starts one."""
    trial = shadows.latest() if channel == LOCAL else None
    shown = _shown(shadows, workspace, inspectors, trial, channel)
    with ledger_pool.reading() as ledger:
        rate = line_rate(ledger, feed.now())
    active = inspectors.in_use()
    return responses.page(
        request,
        "shadow.html",
        trial=trial,
        shown=shown,
        setting=None if shown is None else _piece(me.language, shown, None, may=me.role in ENGINEERS),
        warning=shadows.changed(trial) if trial is not None and trial.running else "",
        log=shadows.log() if trial is not None and trial.running else "",
        days=None if shown is None else _days(shown.missing, rate),
        follows=shadows.follows_releases(),
        active=active,
        people=active is not None and every_part_to_a_person(active.point),
        choices=[path.name for path in catalogue.listed() if active is None or path != active.path],
        chosen=candidate,
        limits=[_limit(rate, limit) for limit in LIMITS],
        stages=STAGES,
        Verdict=Verdict,
        may=me.role in ENGINEERS,
        local=channel == LOCAL,
        offer=signatures.offer(me),
    )


def setting(
    shadows: Use[Shadows],
    inspectors: Use[Inspectors],
    workspace: Use[Workspace],
    me: Me,
    channel: str = LOCAL,
    position: int | None = None,
) -> Response:
    """What another threshold of the candidate would have meant, as a page fragment."""
    trial = shadows.latest() if channel == LOCAL else None
    shown = _shown(shadows, workspace, inspectors, trial, channel)
    if shown is None:
        return responses.answer(html="")
    return responses.answer(html=_piece(me.language, shown, position, may=me.role in ENGINEERS))


def start(
    request: Request,
    shadows: Use[Shadows],
    me: Me,
    candidate: Line,
    max_bad_flips: Annotated[float, Form(gt=0, lt=1)] = 0.001,
    max_flips: Annotated[float, Form(gt=0, lt=100)] = 5.0,
    min_settled: Annotated[int, Form(ge=1, le=100_000)] = 20,
    people: Annotated[int, Form(ge=1, le=5)] = 1,
) -> Response:
    """Let an inspector judge silently; ``max_flips`` is in percent."""
    terms = Terms(max_bad_flips=max_bad_flips, max_flips=max_flips / 100, min_settled=min_settled, people=people)
    shadows.start(candidate, terms, me.name)
    return responses.back(request, "/shadow", responses.gettext_of(me)(N_("It judges silently from the next part on.")))


def stop(request: Request, shadows: Use[Shadows], me: Me, why: Annotated[str, Form(max_length=2000)] = "") -> Response:
    """Stop the running trial."""
    shadows.stop(me.name, why)
    return responses.back(request, "/shadow", responses.gettext_of(me)(N_("It no longer judges silently.")))


def switch(
    request: Request,
    shadows: Use[Shadows],
    signatures: Use[Signatures],
    me: Me,
    candidate_sha256: Line,
    signature: SignatureForm,
) -> Response:
    """Deploy the candidate, if the evidence allows it."""
    shadows.switch(signatures.signer(me, signature, about="deploy the candidate"), candidate_sha256)
    return responses.back(request, "/shadow", responses.gettext_of(me)(N_("The inspector is now in use.")))


class Settling(BaseModel):
    """Request body: what a part is."""

    model_config = ConfigDict(extra="forbid")

    seq: RowNumber
    label: Label


def settle(ledger_pool: Use[LedgerPool], me: Me, body: Settling) -> Response:
    """Say what a part is: the same record as that of the review page and of ``gonogo fleet settle``."""
    with ledger_pool.reading() as ledger:
        row = ledger.row(body.seq)
    if row is None or not isinstance(row.record, VerdictRecord):
        raise RefusedError(N_("There is no part in row %(seq)s."), seq=body.seq)
    ledger_pool.act(REVIEW, me.name, about=body.seq, label=body.label, settled=True)
    return responses.answer(done=True)


def _shown(
    shadows: Shadows, workspace: Workspace, inspectors: Inspectors, trial: Trial | None, channel: str
) -> Shown | None:
    """Collect what is known of the workspace's own trial, or of a roll-out."""
    if channel != LOCAL:
        return _rollout(workspace, inspectors, channel)
    if trial is None:
        return None
    found = shadows.standing(trial)
    return Shown(
        channel=LOCAL,
        candidate=trial.candidate if (workspace.bundles / trial.candidate).is_dir() else "",
        point=_point(inspectors, workspace, trial.candidate, str(trial.release.candidate_sha256)),
        judgement=found.judgement,
        parts=compared_parts(found.parts),
        running=trial.running,
    )


def _rollout(workspace: Workspace, inspectors: Inspectors, channel: str) -> Shown:
    shelf, place = Shelf(workspace.root / "releases"), LedgerFile(path=workspace.ledger)
    if channel not in shelf.channels():
        raise HTTPException(404)
    server = ReleaseServer(
        shelf=shelf, channel=channel, trust_store=settings().trust_store, ledger=place.path, places=(place,)
    )
    found = server.judge()
    parts: tuple[SeenPart, ...] = ()
    sha256 = found.release.candidate_sha256 or found.release.bundle_sha256
    if found.release.stage in RUNNING:
        reader = EvidenceReader((place,), found.release)
        reader.read()
        parts = reader.parts()
    here = next((path.name for path in workspace.bundle_paths() if _is(inspectors, path.name, workspace, sha256)), "")
    return Shown(
        channel=channel,
        candidate=here,
        point=_point_on_shelf(shelf, sha256),
        judgement=found,
        parts=compared_parts(parts),
        running=found.release.stage in RUNNING,
    )


def _is(inspectors: Inspectors, name: str, workspace: Workspace, sha256: str) -> bool:
    opened = inspectors.bundles.open(workspace.bundles / name)
    return opened is not None and opened.sha256 == sha256


def _point(inspectors: Inspectors, workspace: Workspace, name: str, sha256: str) -> OperatingPoint | None:
    """The candidate's operating point at the start: that of its bundle, or of an earlier revision of it."""
    opened = inspectors.bundles.open(workspace.bundles / name)
    if opened is None or opened.sha256 == sha256:
        return None if opened is None else opened.point
    return next(
        (from_json(each.operating_point) for each in opened.manifest.revisions if each.bundle_sha256 == sha256), None
    )


def _point_on_shelf(shelf: Shelf, sha256: str) -> OperatingPoint | None:
    data = shelf.file(sha256, MANIFEST)
    if data is None:
        return None
    try:
        return Manifest.model_validate_json(data).operating_point
    except (ValueError, GonogoError):
        return None


def _piece(language: str, shown: Shown, position: int | None, *, may: bool) -> Any:
    found: ShadowSetting = setting_of(shown.parts, shown.point, shown.positions.at(position))
    return responses.fill_template(
        language, "shadow/setting.html", setting=found, shown=shown, most=SHOWN, may=may, Label=Label
    )


def _days(missing: Remaining, rate: LineRate | None) -> float | None:
    """Days in which the line makes the parts that are missing."""
    return None if rate is None else rate.days_for(missing.parts)


def _limit(rate: LineRate | None, limit: float) -> dict[str, Any]:
    parts = parts_needed_in_all(Terms(max_bad_flips=limit))
    return {"rate": limit, "parts": parts, "days": None if rate is None else rate.days_for(parts)}
