"""What the line and the station say to each other: a `Trigger` comes in, an `Answer` goes out."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol, TypedDict

from gonogo.files import parse_json
from gonogo.names import readable
from gonogo.schema import Measurement, State


class Cause(StrEnum):
    """Cause of a fault. The first group comes from the camera, see `gonogo.capture.Trouble`."""

    CAMERA_LOST = "camera_lost"
    NO_FRAME = "no_frame"
    UNMATCHED = "unmatched"
    UNREADABLE = "unreadable"
    FROZEN = "frozen"
    DARK = "dark"
    SATURATED = "saturated"
    BLURRED = "blurred"
    BLOCKED = "blocked"
    WRONG_SIZE = "wrong_size"

    MODEL = "model"
    """No bundle is loaded, or it is not the one for the line's product."""
    INSPECTOR = "inspector"
    """The bundle could not judge the picture."""
    CODE = "code"
    """The code on the part cannot be read, or contradicts the trigger."""
    LATE = "late"
    """Not answered within the window."""
    OVERRUN = "overrun"
    """The queue was full."""
    PROCESS = "process"
    """The worker died or stalled while it judged the part."""
    LEDGER = "ledger"
    """The verdict could not be recorded."""
    DISK_FULL = "disk_full"
    REUSED_ID = "reused_id"
    """The trigger's id was already used for another part."""
    CHALLENGE = "challenge"
    """A challenge part was not rejected, or a test is overdue: no part passes until a person acknowledges."""
    LINE_STOPPED = "line_stopped"
    """A part that had to be rejected may have passed the gate: no part passes until a person acknowledges."""


@dataclass(frozen=True, kw_only=True)
class Trigger:
    """A part has arrived and waits for its verdict."""

    id: str
    """Unique within the station, permanently: the same id means the same part."""
    part: str | None = None
    lot: str | None = None
    product: str | None = None
    """The product that the line makes; if given, it must be one of ``[products]``, or equal the bundle's name."""
    at: datetime
    """Time of arrival, UTC."""
    due_s: float
    """Deadline of the answer on the machine's monotonic clock, which all processes share until a reboot."""

    def unlike(self, *, part: str | None, lot: str | None, product: str | None) -> str:
        """Describe how this trigger differs from an earlier one with the same id; empty if it does not."""
        before = {"part": part, "lot": lot, "product": product}
        now = {name: getattr(self, name) for name in before}
        differing = [
            f"{name} {before[name] or 'none'}, now {now[name]}"
            for name in before
            if now[name] is not None and now[name] != before[name]
        ]
        return f"id {self.id} was already used: {'; '.join(differing)}" if differing else ""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {**asdict(self), "at": self.at.isoformat()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Trigger:
        """Create an object from the result of `to_json`."""
        return cls(**{**values, "at": datetime.fromisoformat(values["at"])})


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer to one trigger, for the line."""

    trigger_id: str
    state: State
    reason: str
    cause: Cause | None = None
    """Set if, and only if, the answer is a fault."""
    part: str | None = None
    lot: str | None = None
    product: str | None = None
    """The product that the part was judged as, or that the trigger named."""
    selected_by: str | None = None
    """What selected the product: ``trigger``, ``code``, ``person``, ``line``, or ``ledger`` after a restart."""
    serial: str | None = None
    """Serial number in the code on the part."""
    score: float | None = None
    kind: str | None = None
    """For a no-go or a review, if the bundle knows defect kinds: the most likely kind, or that it is unlike any."""
    kind_share: float | None = None
    measurements: tuple[Measurement, ...] = ()
    """The defects in mm, the longest first, if the bundle measures."""
    notes: tuple[str, ...] = ()
    """What the rules found, one sentence each; a go may have notes."""
    row: int | None = None
    """Number of the ledger row with the record; ``None`` only for a fault that could not be recorded yet."""
    repeated: bool = False
    """The trigger already had a verdict, and this is the stored one."""
    timings_ms: dict[str, float] = field(default_factory=dict)
    sole_until_s: float | None = None
    """For the supervisor only: the picture belongs to this part only if no other trigger came before this monotonic
    time."""

    def __post_init__(self) -> None:
        if (self.state is State.FAULT) != (self.cause is not None):
            raise ValueError(f"expected a cause for a fault and for nothing else, found {self.state}, {self.cause}")
        if self.row is None and self.state is not State.FAULT:
            raise ValueError(f"expected a recorded verdict, found {self.state} without a row")

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "sole_until_s"}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Answer:
        """Create an object from the result of `to_json`."""
        cause = values["cause"]
        return cls(
            **{
                **values,
                "state": State(values["state"]),
                "cause": None if cause is None else Cause(cause),
                "measurements": tuple(Measurement(**each) for each in values.get("measurements", ())),
                "notes": tuple(values.get("notes", ())),
            }
        )

    def as_reused(self, trigger: Trigger, why: str) -> Answer:
        """Return the fault for a trigger that reuses the id of another part, whose answer this is."""
        return replace(self.as_fault(Cause.REUSED_ID, why), part=trigger.part, score=None, repeated=False)

    def as_fault(self, cause: Cause, reason: str) -> Answer:
        """Return a copy of this answer as a fault."""
        nothing: dict[str, Any] = {"kind": None, "kind_share": None, "measurements": (), "notes": ()}
        return replace(self, state=State.FAULT, cause=cause, reason=reason, **nothing)


def fault(trigger: Trigger, cause: Cause, reason: str) -> Answer:
    """Return the answer for a fault that is not recorded yet."""
    return Answer(
        trigger_id=trigger.id,
        part=trigger.part,
        lot=trigger.lot,
        product=trigger.product,
        state=State.FAULT,
        cause=cause,
        reason=reason,
    )


class Submit(Protocol):
    """Signature of `Supervisor.submit` for trigger sources."""

    def __call__(
        self,
        trigger_id: str,
        *,
        part: str | None = None,
        lot: str | None = None,
        product: str | None = None,
        count: int | None = None,
    ) -> None:
        """Submit the trigger of a part that has arrived."""


class TriggerValues(TypedDict, total=False):
    """The fields of a trigger besides its id."""

    part: str
    lot: str
    product: str
    count: int


def parse_trigger(text: str) -> tuple[str, TriggerValues]:
    """Parse a trigger id, or a JSON object with ``id`` and optional ``part``, ``lot``, ``product`` and ``count``.

    Returns:
        The id, and the other fields that were given.

    Raises:
        ValueError: the text is neither; the message says why.
    """
    if not text.startswith("{"):
        return text, {}
    values = parse_json(text)
    unknown = sorted(set(values) - {"id", "part", "lot", "product", "count"})
    if unknown or not isinstance(values.get("id"), str):
        raise ValueError(
            f"expected id and optionally part, lot, product and count, found {readable(', '.join(unknown)) or 'no id'}"
        )
    given = {key: value for key, value in values.items() if value is not None}
    count = given.pop("count", None)
    if not all(isinstance(value, str) for value in given.values()):
        raise ValueError("expected text in every field but count")
    if count is not None and (type(count) is not int or count < 0):
        raise ValueError(f"expected a count of the line, 0 or more, found {readable(str(count))[:40]}")
    trigger_id = given.pop("id")
    found: TriggerValues = {**given} if count is None else {**given, "count": count}  # type: ignore[typeddict-item]
    return trigger_id, found
