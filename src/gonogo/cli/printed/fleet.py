"""What ``gonogo fleet`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.cli.printed.build import Document, Printed, combined
from gonogo.fleet import Release, StationReport
from gonogo.fleet.rollout import Decision, Evidence
from gonogo.fleet.settling import Flip

ReleaseJson = combined("ReleaseJson", Release, {"rollout": str})


class JudgementJson(Document):
    """The latest release of a channel, its evidence, and what that says."""

    release: Release
    rollout: str
    evidence: Evidence
    decision: Decision


StationRow = combined("StationRow", StationReport, {"yield": float | None})


class FleetStatus(Document):
    """Every station, and every roll-out."""

    stations: list[StationRow]  # type: ignore[valid-type]
    rollouts: list[JudgementJson]


FleetFlips = list[Flip]


class FleetSettle(Document):
    """A decision on a part."""

    row: int
    """Row of the decision."""
    about: int
    label: str


class FleetQualified(Document):
    """The record that a station is fit."""

    row: int
    bundle_sha256: str | None
    """Bundle of its last verdict; ``null`` before the first."""
    settings_sha256: str
    """Of its cameras."""
    note: str


PRINTED: Mapping[str, Printed] = {
    "fleet start": Printed(type=ReleaseJson),
    "fleet status": Printed(type=FleetStatus),
    "fleet flips": Printed(type=FleetFlips),
    "fleet settle": Printed(type=FleetSettle),
    "fleet promote": Printed(type=JudgementJson),
    "fleet stop": Printed(type=JudgementJson),
    "fleet rollback": Printed(type=JudgementJson),
    "fleet watch": Printed(type=JudgementJson, lines=True),
    "fleet qualified": Printed(type=FleetQualified),
}
