"""Many stations: bundles come from the release server, in stages, and every station is seen in one place.

The release server publishes signed releases on a *shelf*, a folder that stations pull from. A new bundle first judges
silently beside the one in use (shadow), then answers on a few stations (canary), then on all. The roll-out stops by
itself if too many parts are newly go; only a person moves it forward, and only if the evidence allows it. See
``docs/fleet.md``.
"""

from gonogo.fleet.agent import Agent, agent_command, shadow_command
from gonogo.fleet.evidence import EvidenceReader, LedgerFile, Place
from gonogo.fleet.release_server import Judgement, ReleaseServer, judgement_of, promise_of
from gonogo.fleet.releases import RUNNING, Assignment, Release, Stage, Terms, assignment_of
from gonogo.fleet.requalification import Due, Limits, Trigger, declare_fit, due
from gonogo.fleet.rollout import FOLLOWS, Decision, Event, Evidence, Verdict, decide, following
from gonogo.fleet.settling import Flip, flips_to_settle, settle
from gonogo.fleet.shelf import Shelf
from gonogo.fleet.status import HealthReport, StationReport, ask_station, fleet_status

__all__ = [
    "FOLLOWS",
    "RUNNING",
    "Agent",
    "Assignment",
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
    "Shelf",
    "Stage",
    "StationReport",
    "Terms",
    "Trigger",
    "Verdict",
    "agent_command",
    "ask_station",
    "assignment_of",
    "decide",
    "declare_fit",
    "due",
    "fleet_status",
    "flips_to_settle",
    "following",
    "judgement_of",
    "promise_of",
    "settle",
    "shadow_command",
]
