"""All stations and roll-outs: what ``gonogo fleet status`` says, for the ledger and the releases of the workspace."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request
from fastapi.responses import Response

from gonogo.config import settings
from gonogo.errors import GonogoError
from gonogo.fleet import Judgement, LedgerFile, ReleaseServer, Shelf, Stage, Trigger, Verdict, ask_station, fleet_status
from gonogo.server import responses
from gonogo.server.context import Use
from gonogo.server.language import N_
from gonogo.server.workspace import Workspace

STAGES = {
    Stage.SHADOW: N_("judges silently"),
    Stage.CANARY: N_("answers on canary stations"),
    Stage.DONE: N_("in use everywhere"),
    Stage.STOPPED: N_("stopped"),
    Stage.ROLLED_BACK: N_("rolled back"),
}
VERDICTS = {
    Verdict.STOP: N_("must be stopped"),
    Verdict.READY: N_("may be promoted by a person"),
    Verdict.WAIT: N_("not enough evidence yet"),
}
DUE = {
    Trigger.NEVER: N_("not declared fit yet"),
    Trigger.BUNDLE: N_("another inspector"),
    Trigger.SETTINGS: N_("camera settings changed"),
    Trigger.DRIFT: N_("scores drift"),
    Trigger.PARTS: N_("many parts since then"),
    Trigger.TIME: N_("long ago"),
    Trigger.CLOCK: N_("the clock was set back"),
}
HEALTH = {
    "running": N_("running"),
    "held": N_("held"),
    "starting": N_("starting"),
    "down": N_("down"),
    "stopped": N_("stopped"),
    "silent": N_("silent"),
    "unknown": N_("not asked"),
}


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """One channel, or why its release cannot be read."""

    channel: str
    judged: Judgement | None = None
    problem: str = ""


def fleet_page(request: Request, workspace: Use[Workspace]) -> Response:
    """All stations with rows in the ledger, and every roll-out of the workspace's releases."""
    place, shelf = LedgerFile(path=workspace.ledger), Shelf(workspace.root / "releases")
    own = ask_station(str(workspace.station_state))
    asked = {} if own.station == str(workspace.station_state) else {own.station: own}
    return responses.page(
        request,
        "fleet.html",
        stations=fleet_status([place], health=asked, shelf=shelf),
        rollouts=[_rollout(shelf, channel, place) for channel in shelf.channels()],
        stages=STAGES,
        verdicts=VERDICTS,
        reasons=DUE,
        healths=HEALTH,
    )


def _rollout(shelf: Shelf, channel: str, place: LedgerFile) -> Rollout:
    server = ReleaseServer(
        shelf=shelf, channel=channel, trust_store=settings().trust_store, ledger=place.path, places=(place,)
    )
    try:
        return Rollout(channel=channel, judged=server.judge())
    except GonogoError as error:
        return Rollout(channel=channel, problem=str(error))
