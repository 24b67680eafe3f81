"""What a station tells the line about itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """Overall state of a station."""

    STARTING = "starting"
    RUNNING = "running"
    HELD = "held"
    """Running, but no part may pass until a person acknowledges."""
    DOWN = "down"
    """The worker is dead and may not be restarted yet: every part is a fault."""
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True)
class LineState:
    """Snapshot of a station for the line."""

    station: str
    health: Health
    faulting: str
    """Why every part is a fault although the worker runs; empty if parts are judged."""
    product: str | None
    """The selected product, or the name of the only bundle; ``None`` before it is known."""
    products: tuple[str, ...]
    """The products that can be selected; empty at a station for one product."""
    bundle_sha256: str | None
    """The bundle that judges the selected product, of the first camera."""
    answers: Mapping[str, int]
    """Number of answers by state since the station started."""

    @property
    def ready(self) -> bool:
        """Whether a part that arrives now would be judged. A held station judges, but lets no part pass."""
        return self.health in (Health.RUNNING, Health.HELD) and not self.faulting

    @property
    def why_not_ready(self) -> str:
        """Why a part that arrives now would be a fault; empty if it would be judged."""
        return "" if self.ready else self.faulting or f"the station is {self.health.value}"


@dataclass(frozen=True, kw_only=True)
class AdapterState:
    """State of one adapter, for the status and the metrics."""

    name: str
    kind: str
    connected: bool
    """Whether the adapter listens, or is connected to its peer."""
    trouble: str
    """Why it is not connected, or what its peer does wrong; empty if all is well."""
    triggers: int
    """Number of triggers that came through it."""
    delivered: int
    """Number of answers that its peer took."""
    undelivered: int
    """Number of answers that did not reach its peer in time."""
    refused: int
    """Number of messages that were no triggers."""
