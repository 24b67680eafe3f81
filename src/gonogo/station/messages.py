"""Messages between the line, the supervisor and the worker.

The line sends a `Trigger` and receives an `Answer`. Supervisor and worker exchange JSON lines: each line is an envelope
with the protocol `VERSION` and one message, a frozen dataclass with a ``kind``. `ToWorker` and `ToSupervisor` are the
unions of all messages; anything else raises a `MessageError`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from gonogo.errors import GonogoError
from gonogo.names import readable
from gonogo.schema import Measurement, State

VERSION = 3
"""Version of the protocol between supervisor and worker; increase it with every change of a message."""


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
    """What selected the product: ``trigger``, ``code``, ``person``, or ``ledger`` after a restart."""
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


class MessageError(GonogoError):
    """A line from the other process is not a message of this version."""


class _Message:
    """Base class of the messages: unknown fields are refused."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class JudgePart(_Message):
    """Job: judge a part. Answered with `PartJudged`."""

    kind: Literal["judge_part"] = "judge_part"
    trigger: Trigger


@dataclass(frozen=True, kw_only=True)
class RecordFault(_Message):
    """Job: record a fault that the supervisor raised. Answered with `FaultRecorded` or `FaultUnrecordable`."""

    kind: Literal["record_fault"] = "record_fault"
    trigger: Trigger
    cause: Cause
    reason: str
    answered: bool
    """The line has already received this fault as its answer."""


@dataclass(frozen=True, kw_only=True)
class RecordNote(_Message):
    """Job: record something that happened at the station. Answered with `NoteHandled`."""

    kind: Literal["record_note"] = "record_note"
    action: str
    details: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Housekeep(_Message):
    """Job: do the work between parts. Answered with `Reported`."""

    kind: Literal["housekeep"] = "housekeep"


@dataclass(frozen=True, kw_only=True)
class ExpectPicture(_Message):
    """Notice: a trigger came, so its picture may arrive from now on. Not answered."""

    kind: Literal["expect_picture"] = "expect_picture"
    trigger_id: str
    came_s: float
    """Monotonic."""


@dataclass(frozen=True, kw_only=True)
class PartFaulted(_Message):
    """Notice: a part was answered ``fault``, so its picture may be left over. Not answered."""

    kind: Literal["part_faulted"] = "part_faulted"
    at_s: float
    """Monotonic."""


@dataclass(frozen=True, kw_only=True)
class BundleReport:
    """State of one bundle of a worker."""

    name: str | None
    """``None`` if no bundle is loaded."""
    sha256: str | None
    path: str | None
    trouble: str
    """Why no bundle, or not the newest one, is loaded; empty if the newest one is loaded."""
    device: str | None = None
    """The device it judges on, and why it is not the one that was asked for; ``None`` if no bundle is loaded."""
    fell_back: bool = False
    """Whether it judges on another device than the one that was asked for."""
    product: str | None = None
    """The product that it judges; ``None`` at a station for one product."""
    expiry: str = ""
    """That the certificate has expired, or will soon; empty otherwise."""


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """The state of a worker."""

    bundles: tuple[BundleReport, ...] = ()
    pictures: dict[str, dict[str, int]] = field(default_factory=dict)
    """Number of leftover pictures of each camera by reason, and of waiting ones."""
    troubles: tuple[str, ...] = ()
    """Why every part is a fault at present; empty if parts are judged."""
    warnings: tuple[str, ...] = ()
    """What a person should know although parts are judged."""
    held: str = ""
    """Why no part may pass until a person acknowledges; empty if parts may pass."""
    product: str | None = None
    """The selected product; ``None`` at a station for one product, and before the first selection."""
    selected_by: str | None = None
    """What selected it, see `Answer`."""
    resident_mb: int | None = None
    """Memory of the worker, if the station has several products."""
    challenge_due: datetime | None = None
    challenge_passed: datetime | None = None
    acknowledged_stop: str = ""
    """Id of the stop of the line that a person has acknowledged last; empty if none."""


@dataclass(frozen=True, kw_only=True)
class Ready(_Message):
    """The worker has started and accepts jobs."""

    kind: Literal["ready"] = "ready"
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class PartJudged(_Message):
    """Answers `JudgePart`."""

    kind: Literal["part_judged"] = "part_judged"
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class FaultRecorded(_Message):
    """Answers `RecordFault`; an answer without a row means that the ledger failed and the job may be retried."""

    kind: Literal["fault_recorded"] = "fault_recorded"
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class FaultUnrecordable(_Message):
    """Answers `RecordFault`: the ledger rejects this fault permanently."""

    kind: Literal["fault_unrecordable"] = "fault_unrecordable"
    reason: str


@dataclass(frozen=True, kw_only=True)
class NoteHandled(_Message):
    """Answers `RecordNote`."""

    kind: Literal["note_handled"] = "note_handled"
    retry: bool
    """The ledger failed; send the note again later."""


@dataclass(frozen=True, kw_only=True)
class Reported(_Message):
    """Answers `Housekeep`."""

    kind: Literal["reported"] = "reported"
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class Dying(_Message):
    """The worker exits because of an error."""

    kind: Literal["dying"] = "dying"
    reason: str


Notice: TypeAlias = ExpectPicture | PartFaulted
"""Handled at once, even while a part is judged."""
Job: TypeAlias = JudgePart | RecordFault | RecordNote | Housekeep
"""Processed in order; each has one answer."""
ToWorker: TypeAlias = Job | Notice
ToSupervisor: TypeAlias = Ready | PartJudged | FaultRecorded | FaultUnrecordable | NoteHandled | Reported | Dying

MessageT = TypeVar("MessageT")


@dataclass(frozen=True, kw_only=True)
class _Envelope(_Message, Generic[MessageT]):
    version: Literal[3]
    message: MessageT


_FOR_WORKER = TypeAdapter(_Envelope[Annotated[ToWorker, Field(discriminator="kind")]])
_FOR_SUPERVISOR = TypeAdapter(_Envelope[Annotated[ToSupervisor, Field(discriminator="kind")]])


def encode(message: ToWorker | ToSupervisor) -> str:
    """Encode a message as a JSON line with a newline."""
    return json.dumps(_encodable({"version": VERSION, "message": asdict(message)})) + "\n"


def decode_for_worker(line: str) -> ToWorker:
    """Decode a line from the supervisor.

    Raises:
        MessageError: the line has another version or an unknown kind, or is not a message.
    """
    return _decode(_FOR_WORKER, line)


def decode_for_supervisor(line: str) -> ToSupervisor:
    """Decode a line from the worker.

    Raises:
        MessageError: the line has another version or an unknown kind, or is not a message.
    """
    return _decode(_FOR_SUPERVISOR, line)


def _decode(adapter: TypeAdapter[_Envelope[MessageT]], line: str) -> MessageT:
    try:
        return adapter.validate_json(line).message
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise MessageError(
            f"expected a message of version {VERSION}, found {readable(line.strip())[:200]!r} ({why}). "
            "Supervisor and worker must come from the same installation: restart the station."
        ) from error


def _encodable(value: Any) -> Any:
    """Convert to plain JSON values; lone surrogates, which UTF-8 cannot encode, become backslash escapes."""
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case datetime():
            return value.isoformat()
        case dict():
            return {str(key): _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return [_encodable(each) for each in value]
        case _:
            return value
