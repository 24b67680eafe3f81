"""Many stations: bundles come from the release server, in stages, and every station is seen in one place.

The release server publishes signed releases on a *shelf*, a folder that stations pull from. A new bundle first judges
silently beside the one in use (shadow), then answers on a few stations (canary), then on all. The roll-out stops by
itself if too many parts are newly go; only a person moves it forward, and only if the evidence allows it. See
``docs/fleet.md``.
"""

from gonogo.fleet.agent import Agent, agent_command, shadow_command
from gonogo.fleet.evidence import CRASHED, EvidenceReader, LedgerFile, Place, SeenPart
from gonogo.fleet.release_server import MOVED, Judgement, ReleaseServer, judgement_of, promise_of
from gonogo.fleet.releases import RUNNING, Assignment, Release, Stage, Terms, assignment_of, first_release
from gonogo.fleet.remaining import Remaining, parts_needed_in_all, remaining
from gonogo.fleet.requalification import Due, Limits, Trigger, declare_fit, due
from gonogo.fleet.rollout import FOLLOWS, Decision, Event, Evidence, Verdict, decide, following
from gonogo.fleet.settling import Flip, flips_to_settle, settle
from gonogo.fleet.shadow import SILENT_JUDGE, BesideJob, Watched
from gonogo.fleet.shelf import Shelf
from gonogo.fleet.status import HealthReport, StationReport, ask_station, fleet_status

__all__ = [
    "CRASHED",
    "FOLLOWS",
    "MOVED",
    "RUNNING",
    "SILENT_JUDGE",
    "Agent",
    "Assignment",
    "BesideJob",
    "Decision",
    "Due",
    "Event",
    "Evidence",
    "EvidenceReader",
    "Flip",
    "HealthReport",
    "Judgement",
    "LedgerFile",
    "Limits",
    "Place",
    "Release",
    "ReleaseServer",
    "Remaining",
    "SeenPart",
    "Shelf",
    "Stage",
    "StationReport",
    "Terms",
    "Trigger",
    "Verdict",
    "Watched",
    "agent_command",
    "ask_station",
    "assignment_of",
    "decide",
    "declare_fit",
    "due",
    "first_release",
    "fleet_status",
    "flips_to_settle",
    "following",
    "judgement_of",
    "parts_needed_in_all",
    "promise_of",
    "remaining",
    "settle",
    "shadow_command",
]
