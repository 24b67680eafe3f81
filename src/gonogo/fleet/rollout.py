"""The roll-out: its stages, and what the evidence allows or demands. Pure functions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from gonogo.errors import UnfitError
from gonogo.fleet.releases import RUNNING, Release, Stage, Terms
from gonogo.operating_point import as_percent, confidence_sequence


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What one stage of a roll-out has shown so far. Every part counts once, whatever the number of its pictures."""

    parts: int = 0
    """Parts that both bundles judged."""
    live: int = 0
    """Those of them that the candidate answered, on canary stations."""
    flips: int = 0
    """Parts that the candidate judged go and the old bundle no-go or review."""
    bad_flips: int = 0
    """Flips that a person called bad."""
    unsettled: int = 0
    """Flips that no person has decided yet, or too few people."""
    settled: int = 0
    """Parts that people have decided, flips or not."""
    live_escapes: int = 0
    """Bad flips that the candidate answered, on canary stations."""
    stricter: int = 0
    """Parts that the old bundle judged go and the candidate did not."""
    faults: int = 0
    """Parts that the old bundle judged and the candidate could not."""
    challenges_passed: int = 0
    """Known bad parts of challenge tests that the candidate judged go."""
    crashes: int = 0
    """Crashes of the process that judges silently."""
    dropped: int = 0
    """Parts that were not judged silently, because the process was behind."""


class Verdict(StrEnum):
    """What the evidence says."""

    STOP = "stop"
    """The roll-out must be stopped; needs no person."""
    READY = "ready"
    """A person may promote the candidate to the next stage."""
    WAIT = "wait"
    """Neither yet."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the evidence says, and why."""

    verdict: Verdict
    reasons: tuple[str, ...]
    """Why to stop or what is missing, one sentence each; empty if ready."""
    flips: tuple[float, float]
    """Bounds of the rate of flips; see `confidence_sequence`."""
    bad_flips: tuple[float, float]
    """Bounds of the rate of bad flips: the lower one without undecided flips, the upper one with all of them as bad."""


def decide(stage: Stage, evidence: Evidence, terms: Terms, *, promised: bool) -> Decision:
    """Decide on a stage of a roll-out.

    The bounds hold at every number of parts at once, so this may be asked at any time and as often as wanted: a
    candidate whose rates are within the terms is stopped by them with probability at most ``alpha``, and one whose rate
    of bad flips exceeds the terms ever becomes ready with probability at most ``alpha / 2``. Flips that are decided
    late do not harm: they are left out of the lower bound and count as bad in the upper one.

    Args:
        stage: The present stage.
        evidence: What it has shown.
        terms: The terms of the roll-out.
        promised: Whether the candidate's own certificate promises anything about escapes.
    """
    delta, parts = terms.alpha / 2, evidence.parts
    flips = confidence_sequence(evidence.flips, parts, delta=delta, around=terms.max_flips)
    around = terms.max_bad_flips
    low, _ = confidence_sequence(evidence.bad_flips, parts, delta=delta, around=around)
    _, high = confidence_sequence(evidence.bad_flips + evidence.unsettled, parts, delta=delta, around=around)
    stops = _stops(evidence, terms, flips[0], low) if stage in RUNNING else []
    missing = _missing(stage, evidence, terms, high, promised=promised)
    verdict = Verdict.STOP if stops else Verdict.WAIT if missing else Verdict.READY
    return Decision(verdict=verdict, reasons=tuple(stops or missing), flips=flips, bad_flips=(low, high))


def _stops(evidence: Evidence, terms: Terms, flips: float, bad_flips: float) -> list[str]:
    found = []
    if evidence.challenges_passed:
        found.append(f"The candidate judged {evidence.challenges_passed} known bad parts go.")
    if bad_flips > terms.max_bad_flips:
        found.append(
            f"At least {bad_flips:.3%} of the parts are bad and newly go ({evidence.bad_flips} of {evidence.parts:,} "
            f"so far), at most {as_percent(terms.max_bad_flips)} are allowed."
        )
    if flips > terms.max_flips:
        found.append(
            f"At least {flips:.2%} of the parts are newly go ({evidence.flips} of {evidence.parts:,} so far), at most "
            f"{as_percent(terms.max_flips)} are allowed."
        )
    if evidence.crashes > terms.max_crashes:
        found.append(f"The candidate crashed its process {evidence.crashes} times.")
    return found


def _missing(stage: Stage, evidence: Evidence, terms: Terms, bad_flips: float, *, promised: bool) -> list[str]:
    if stage not in RUNNING:
        return ["No roll-out is running."]
    found = []
    if not promised:
        found.append("The candidate has no certificate of its own about escapes. Certify it, then start again.")
    if bad_flips > terms.max_bad_flips:
        undecided = f", {evidence.unsettled} flips are undecided" if evidence.unsettled else ""
        found.append(
            f"It is shown for at most {as_percent(bad_flips)} of the parts that they are bad and newly go, "
            f"{as_percent(terms.max_bad_flips)} is needed ({evidence.parts:,} parts so far{undecided})."
        )
    if evidence.settled < terms.min_settled:
        found.append(f"People have decided {evidence.settled} of the {terms.min_settled} parts that are needed.")
    if stage is Stage.CANARY and evidence.live < terms.min_live:
        found.append(f"The candidate has answered {evidence.live} of the {terms.min_live} parts that are needed.")
    return found


# --- the stages


class Event(StrEnum):
    """What moves a roll-out."""

    START = "start"
    PROMOTE = "promote"
    STOP = "stop"
    ROLL_BACK = "rollback"


FOLLOWS: dict[tuple[Stage, Event], Stage] = {
    (Stage.SHADOW, Event.PROMOTE): Stage.CANARY,
    (Stage.CANARY, Event.PROMOTE): Stage.DONE,
    **{(stage, Event.STOP): Stage.STOPPED for stage in RUNNING},
    **{(stage, Event.ROLL_BACK): Stage.STOPPED for stage in RUNNING},
    **{(stage, Event.START): Stage.SHADOW for stage in Stage if stage not in RUNNING},
    **{(stage, Event.ROLL_BACK): Stage.ROLLED_BACK for stage in Stage if stage not in RUNNING},
}
"""Every move that there is; all others are refused."""


def following(release: Release, event: Event, *, who: str, why: str, made: datetime, **changes: Any) -> Release:
    """Return the release that an event leads to.

    Args:
        release: The latest release.
        event: What happens.
        who: Person or program.
        why: Reason.
        made: Time, for people.
        changes: For `Event.START` the candidate and its terms; for `Event.ROLL_BACK` ``bundle_sha256`` for another
            bundle than the previous one.

    Raises:
        UnfitError: the stage has no such move, or there is nothing to roll back to.
    """
    stage = FOLLOWS.get((release.stage, event))
    if stage is None:
        allowed = " or ".join(each for before, each in FOLLOWS if before is release.stage)
        raise UnfitError(
            f"channel {release.channel}: expected {allowed} in stage {release.stage} (release {release.sequence}), "
            f"found {event}. See: gonogo fleet status"
        )
    moved: dict[str, Any] = {"sequence": release.sequence + 1, "stage": stage, "who": who, "why": why, "made": made}
    match stage:
        case Stage.SHADOW:
            moved |= {"started": release.sequence + 1}
        case Stage.DONE:
            moved |= {"bundle_sha256": release.candidate_sha256, "previous_sha256": release.bundle_sha256}
        case Stage.ROLLED_BACK:
            moved |= {"bundle_sha256": release.previous_sha256, "previous_sha256": None, "started": moved["sequence"]}
    if stage not in RUNNING:
        moved |= {"candidate_sha256": None}
    values = {**release.model_dump(), **moved, **changes}
    if values["bundle_sha256"] is None:
        raise UnfitError(f"channel {release.channel}: there is no earlier bundle to roll back to. Name one with: --to")
    return Release.model_validate(values)
