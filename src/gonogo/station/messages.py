"""What passes between the line, the supervisor and the worker.

The line sends a `Trigger` and receives an `Answer`. Supervisor and worker talk in JSON lines: each line is an envelope
with the `VERSION` of this protocol and one message, a frozen dataclass told apart by its ``kind``. `ToWorker` and
`ToSupervisor` are all the messages there are; anything else is a `MessageError`.
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
from gonogo.schema import State

VERSION = 1
"""Of the messages between supervisor and worker; raise it with every change of one."""


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
    """For the supervisor alone: the picture is this part's only where no other trigger came before this moment,
    monotonic."""

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


class MessageError(GonogoError):
    """A line from the other process is no message of this version."""


class _Message:
    """Base of the messages: no unknown fields."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")


@dataclass(frozen=True, kw_only=True)
class JudgePart(_Message):
    """Job: judge this part. Answered with `PartJudged`."""

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
    """The line has had this fault as its answer already."""


@dataclass(frozen=True, kw_only=True)
class RecordNote(_Message):
    """Job: record something that happened at the station. Answered with `NoteHandled`."""

    kind: Literal["record_note"] = "record_note"
    action: str
    details: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Housekeep(_Message):
    """Job: do what is due between parts. Answered with `Reported`."""

    kind: Literal["housekeep"] = "housekeep"


@dataclass(frozen=True, kw_only=True)
class ExpectPicture(_Message):
    """Notice: a trigger has come, whose picture may arrive from now on. Not answered."""

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
    """One bundle of a worker."""

    name: str | None
    """``None`` where no bundle is loaded."""
    sha256: str | None
    path: str | None
    trouble: str
    """Why no bundle, or not the newest one, is loaded; empty where all is well."""


@dataclass(frozen=True, kw_only=True)
class WorkerReport:
    """The state of a worker."""

    bundles: tuple[BundleReport, ...] = ()
    pictures: dict[str, dict[str, int]] = field(default_factory=dict)
    """Leftover pictures of each view by reason, and how many wait."""
    troubles: tuple[str, ...] = ()
    """Why every part is a fault at present; empty where parts are judged."""
    held: str = ""
    """Why nothing may pass until a person acknowledges; empty where parts may pass."""
    challenge_due: datetime | None = None
    challenge_passed: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class Ready(_Message):
    """The worker has started and takes jobs."""

    kind: Literal["ready"] = "ready"
    report: WorkerReport


@dataclass(frozen=True, kw_only=True)
class PartJudged(_Message):
    """Answers `JudgePart`."""

    kind: Literal["part_judged"] = "part_judged"
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class FaultRecorded(_Message):
    """Answers `RecordFault`; an answer without a row says that the ledger failed and may be tried again."""

    kind: Literal["fault_recorded"] = "fault_recorded"
    answer: Answer


@dataclass(frozen=True, kw_only=True)
class FaultUnrecordable(_Message):
    """Answers `RecordFault`: the ledger will never take this fault."""

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
    """The worker ends because of an error."""

    kind: Literal["dying"] = "dying"
    reason: str


Notice: TypeAlias = ExpectPicture | PartFaulted
"""Handled at once, even while a part is judged."""
Job: TypeAlias = JudgePart | RecordFault | RecordNote | Housekeep
"""Done in turn; each has one answer."""
ToWorker: TypeAlias = Job | Notice
ToSupervisor: TypeAlias = Ready | PartJudged | FaultRecorded | FaultUnrecordable | NoteHandled | Reported | Dying

MessageT = TypeVar("MessageT")


@dataclass(frozen=True, kw_only=True)
class _Envelope(_Message, Generic[MessageT]):
    version: Literal[1]
    message: MessageT


_FOR_WORKER = TypeAdapter(_Envelope[Annotated[ToWorker, Field(discriminator="kind")]])
_FOR_SUPERVISOR = TypeAdapter(_Envelope[Annotated[ToSupervisor, Field(discriminator="kind")]])


def encode(message: ToWorker | ToSupervisor) -> str:
    """One message as a JSON line, line end included."""
    return json.dumps(_encodable({"version": VERSION, "message": asdict(message)})) + "\n"


def decode_for_worker(line: str) -> ToWorker:
    """The message in a line from the supervisor.

    Raises:
        MessageError: another version, an unknown kind, or not a message at all.
    """
    return _decode(_FOR_WORKER, line)


def decode_for_supervisor(line: str) -> ToSupervisor:
    """The message in a line from the worker.

    Raises:
        MessageError: another version, an unknown kind, or not a message at all.
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
    """Plain JSON values; lone surrogates, which no UTF-8 stream takes, as backslash escapes."""
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
