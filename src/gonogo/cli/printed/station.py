"""What ``gonogo station`` prints."""

from __future__ import annotations

from collections.abc import Mapping

from gonogo.cli.printed.build import Document, Printed
from gonogo.line.state import AdapterState, Health
from gonogo.schema import State
from gonogo.station.checking import CheckFinding
from gonogo.station.forwarder import LinkState
from gonogo.station.messages import BundleReport
from gonogo.station.outbox import DestinationState
from gonogo.station.reject import TrackingState

StationCheck = list[CheckFinding]


class LatestAnswer(Document):
    """One of the last answers."""

    trigger_id: str
    part: str | None
    state: State
    cause: str | None
    reason: str
    score: float | None
    row: int | None
    """Row of the ledger."""
    repeated: bool
    at: str
    total_ms: float


class StageTimes(Document):
    """Duration of one stage."""

    p50_ms: float
    p99_ms: float


class StationStatus(Document):
    """The status of a station."""

    station: str
    health: Health
    alive: bool
    """Whether it still runs: its ``beat`` is recent."""
    beat: str
    since: str
    pid: int
    worker_pid: int | None
    alarms: list[str]
    faulting: str
    """Why every part is a fault; empty if parts are judged."""
    answers: dict[State, int]
    faults: dict[str, int]
    """By cause."""
    events: dict[str, int]
    waiting: int
    unrecorded: int
    stages: dict[str, StageTimes]
    latest: list[LatestAnswer]
    """The newest first."""
    bundles: list[BundleReport]
    products: list[str]
    product: str | None
    selected_by: str | None
    resident_mb: int | None
    pictures: dict[str, dict[str, int]]
    challenge_due: str | None
    challenge_passed: str | None
    ledger: str
    free_mb: int
    centre: LinkState | None
    adapters: list[AdapterState]
    results: list[DestinationState]
    tracking: TrackingState | None


PRINTED: Mapping[str, Printed] = {
    "station check": Printed(type=StationCheck),
    "station status": Printed(type=StationStatus),
}
