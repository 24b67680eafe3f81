"""What passes between the line, the gate and the worker: triggers in, answers out, as JSON lines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from gonogo.schema import State


class Cause(StrEnum):
    """Why a part is a fault. The first group comes from the camera, see `gonogo.capture.Trouble`."""

    CAMERA_LOST = "camera_lost"
    NO_FRAME = "no_frame"
    UNMATCHED = "unmatched"
    UNREADABLE = "unreadable"
    FROZEN = "frozen"
    DARK = "dark"
    SATURATED = "saturated"
    BLURRED = "blurred"
    WRONG_SIZE = "wrong_size"

    MODEL = "model"
    """No bundle is loaded, or not the one that was asked for."""
    INSPECTOR = "inspector"
    """The bundle could not judge the picture."""
    LATE = "late"
    """Not answered within the window."""
    OVERRUN = "overrun"
    """Too many parts were waiting already."""
    PROCESS = "process"
    """The worker died or stalled with the part in hand."""
    LEDGER = "ledger"
    """The verdict could not be recorded."""
    DISK_FULL = "disk_full"
    REUSED_ID = "reused_id"
    """The trigger's id was used before, for another part."""
    CHALLENGE = "challenge"
    """A known bad part was not rejected, or its test is overdue: nothing passes until a person acknowledges."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """One part has arrived and waits for its verdict."""

    id: str
    """Unique within the station, for ever; the same id again is the same part."""
    part: str | None = None
    lot: str | None = None
    product: str | None = None
    """What the line says is being made; must then be the bundle's name."""
    at: datetime
    """When it came, UTC."""
    due_s: float
    """When the answer must be out, on the machine's monotonic clock (shared by all processes until a restart)."""

    def unlike(self, *, part: str | None, lot: str | None, product: str | None) -> str:
        """How this trigger differs from an earlier one with its id; empty where it names nothing else."""
        before = {"part": part, "lot": lot, "product": product}
        now = {name: getattr(self, name) for name in before}
        differing = [
            f"{name} {before[name] or 'none'}, now {now[name]}"
            for name in before
            if now[name] is not None and now[name] != before[name]
        ]
        return f"id {self.id} was used before: {'; '.join(differing)}" if differing else ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trigger:
        """From what `to_json` gave."""
        return cls(**{**values, "at": datetime.fromisoformat(values["at"])})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What the line is told about one trigger."""

    trigger_id: str
    state: State
    reason: str
    cause: Cause | None = None
    """Given for a fault, and only for a fault."""
    part: str | None = None
    score: float | None = None
    kind: str | None = None
    """For a no-go or a review, where the bundle knows defect kinds: the likeliest one, or that it is unlike any."""
    kind_share: float | None = None
    row: int | None = None
    """The ledger's row that records it; ``None`` only for a fault that could not be recorded yet."""
    repeated: bool = False
    """This trigger had its verdict already; this is the stored one."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    sole_until_s: float | None = None
    """For the gate alone: the picture is this part's only where no other trigger came before this moment, monotonic."""

    def __post_init__(self) -> None:
        if (self.state is State.FAULT) != (self.cause is not None):
            raise ValueError(f"expected a cause for a fault and for nothing else, found {self.state}, {self.cause}")
        if self.row is None and self.state is not State.FAULT:
            raise ValueError(f"expected a recorded verdict, found {self.state} without a row")

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "sole_until_s"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Answer:
        """From what `to_json` gave."""
        cause = values["cause"]
        return cls(**{**values, "state": State(values["state"]), "cause": None if cause is None else Cause(cause)})

    def as_reused(self, trigger: Trigger, why: str) -> Answer:
        """The answer to a trigger whose id was used for another part, whose verdict this is."""
        return replace(self.as_fault(Cause.REUSED_ID, why), part=trigger.part, score=None, repeated=False)

    def as_fault(self, cause: Cause, reason: str) -> Answer:
        """The same trigger answered as a fault instead."""
        return replace(self, state=State.FAULT, cause=cause, reason=reason, kind=None, kind_share=None)


def fault(trigger: Trigger, cause: Cause, reason: str) -> Answer:
    """A fault that is not on record yet."""
    return Answer(trigger_id=trigger.id, part=trigger.part, state=State.FAULT, cause=cause, reason=reason)
