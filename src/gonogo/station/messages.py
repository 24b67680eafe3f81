"""Messages between the supervisor and the worker.

They exchange JSON lines: each line is an envelope with the protocol `VERSION` and one message, a frozen dataclass with
a ``kind``. `ToWorker` and `ToSupervisor` are the unions of all messages; anything else raises a `MessageError`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from gonogo.errors import GonogoError
from gonogo.line.messages import Answer, Cause, Trigger
from gonogo.names import readable

VERSION = 3
"""Version of the protocol between supervisor and worker; increase it with every change of a message."""

REQUESTED = "product_requested"
"""Action of a person or the line that selects a product, see `gonogo.station.changeover`."""


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
