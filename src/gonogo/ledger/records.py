"""What the ledger records: verdicts, what people did, frames that were let go, and its own opening.

Every record is one canonical JSON object, the ``body`` of a row. The row's hash covers that text byte for byte, so what
is read back is what was hashed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, PlainSerializer, model_validator

from gonogo.config import Strict
from gonogo.schema import Label, State, Verdict

NO_HASH = "0" * 64
"""What the first row carries as the hash of the row before."""

_SEVERITY = (State.GO, State.REVIEW, State.NO_GO, State.FAULT)


def iso(moment: datetime) -> str:
    """UTC, ISO 8601 with microseconds: of equal length, so text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A station, a trigger, a part, a person: one line without control characters."""
Word: TypeAlias = Annotated[str, Field(max_length=60, pattern=r"^[a-z][a-z0-9_]*$")]
"""A name from a short list that the writing room keeps, such as a fault's cause."""
Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, lower-case hexadecimal."""
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Moment: TypeAlias = Annotated[
    AwareDatetime,
    AfterValidator(lambda moment: moment.astimezone(UTC)),
    PlainSerializer(iso, return_type=str, when_used="json"),
]
"""A time with its zone; kept and written as UTC."""


class RowKind(StrEnum):
    """What a row records."""

    OPENED = "opened"
    VERDICT = "verdict"
    ACTION = "action"
    TOMBSTONE = "tombstone"


class View(Strict):
    """One picture of a part, as it was judged."""

    name: Name = "main"
    """The camera or view."""
    frame_sha256: Digest | None
    """The stored frame; ``None`` where none arrived."""
    state: State
    """What the inspector said; ``fault`` where it was not asked, or could not judge."""
    score: Finite | None
    """``None`` where the inspector did not judge this picture."""
    reason: str
    kind: str | None = None
    """The likeliest defect kind, or that it is unlike any known kind; see `gonogo.schema.Verdict`."""
    kind_share: Finite | None = None
    box_xyxy: tuple[Finite, Finite, Finite, Finite] | None = None
    """The region that was judged, in frame pixels."""
    timings_ms: Mapping[str, Finite] = Field(default_factory=dict)

    @classmethod
    def of(cls, verdict: Verdict, *, frame_sha256: str | None, name: str = "main") -> Self:
        """What is kept of an inspector's verdict on one picture."""
        return cls(
            name=name,
            frame_sha256=frame_sha256,
            state=verdict.state,
            score=verdict.score,
            reason=verdict.reason,
            kind=verdict.kind,
            kind_share=verdict.kind_share,
            box_xyxy=None if verdict.box is None else verdict.box.xyxy,
            timings_ms=dict(verdict.timings_ms),
        )


class VerdictRecord(Strict):
    """The verdict on one part, from all its views together."""

    station: Name
    trigger_id: Name
    """Unique within the station, for ever."""
    part: Name | None = None
    lot: Name | None = None
    product: Name | None = None
    """What the line said was being made."""
    state: State
    """At least as severe as the worst of the views; see `worst_state`."""
    score: Finite | None
    """The highest score of the views; ``None`` where none was judged."""
    reason: str
    """One sentence a person can read."""
    cause: Word | None = None
    """What kind of fault this is (``camera_lost``, ``late``, ...): given for a fault, and only for a fault."""
    late: bool = False
    """Judged, but after its window had closed: recorded as a fault; the views keep what was judged."""
    go_below: Finite | None = None
    """The go threshold that applied; ``None``: nothing could pass."""
    no_go_above: Finite | None = None
    """The no-go threshold that applied; ``None``: nothing was rejected."""
    bundle_sha256: Digest | None = None
    """The exact inspector; ``None`` where none was loaded."""
    bundle: str | None = None
    """Where that inspector lay, so that replay finds it."""
    device: str = ""
    views: tuple[View, ...] = ()
    triggered_at: Moment
    acquired_at: Moment | None = None
    judged_at: Moment | None = None
    timings_ms: Mapping[str, Finite] = Field(default_factory=dict)

    @property
    def named(self) -> View | None:
        """The view that names the part's defect kind: of those that name one, the one with the highest score.

        ``None`` where none does, and for a go or a fault, whatever its views say.
        """
        if self.state not in (State.NO_GO, State.REVIEW):
            return None
        naming = (view for view in self.views if view.kind is not None and view.score is not None)
        return max(naming, key=lambda view: view.score or 0.0, default=None)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        states = [view.state for view in self.views]
        if states and _SEVERITY.index(self.state) < _SEVERITY.index(worst_state(states)):
            raise ValueError(f"expected the worst of the views, {worst_state(states)}, found {self.state}")
        scores = [view.score for view in self.views if view.score is not None]
        highest = max(scores, default=None)
        if self.score != highest:
            raise ValueError(f"expected the highest score of the views, {highest}, found {self.score}")
        if (self.state is State.FAULT) != (self.cause is not None):
            raise ValueError(f"expected a cause for a fault and for it alone, found {self.state} and {self.cause!r}")
        if self.late and self.state is not State.FAULT:
            raise ValueError(f"expected a late verdict to be a fault, found {self.state}")
        if self.state is State.GO and not all(view.frame_sha256 and view.score is not None for view in self.views):
            raise ValueError("expected every view of a go to be stored and judged")
        if self.state is State.GO and not self.views:
            raise ValueError("expected at least one judged view for a go, found none")
        return self


class Action(Strict):
    """Something a person or another program did: a fixed envelope around details of its own."""

    action: Word
    """``review``, ``label``, ``login``, ``deploy``, ``challenge``, ``operating_point``, ..."""
    who: Name
    about: int | None = Field(default=None, ge=1)
    """``seq`` of the row it concerns."""
    station: Name | None = None
    label: Label | None = None
    """What the person says of the part; ``None`` takes an earlier decision back."""
    defect: str | None = Field(default=None, min_length=1, max_length=200)
    """Defect kind of a part called bad."""
    details: Mapping[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_defects_of_bad_parts_only(self) -> Self:
        if self.defect is not None and self.label is not Label.BAD:
            raise ValueError(f"expected a defect kind for a part called bad only, found {self.defect!r}")
        return self


REVIEW = "review"
"""The action that decides a doubtful part; the latest one about a row counts."""


class Tombstone(Strict):
    """Stored frames that were deleted on purpose. Written before the files go."""

    frames_sha256: tuple[Digest, ...]
    policy: str
    """Why they may go, in words."""
    who: Name


class Opened(Strict):
    """The first row: makes every ledger's chain its own."""

    ledger: str
    """A random name."""
    format: int


Record: TypeAlias = VerdictRecord | Action | Tombstone | Opened
R = TypeVar("R", bound=Record, covariant=True)


@dataclass(frozen=True, kw_only=True)
class Row(Generic[R]):
    """One entry of the ledger."""

    seq: int
    """1, 2, 3, ... without gaps."""
    kind: RowKind
    at: datetime
    """When it was committed, UTC."""
    record: R
    body: str = field(repr=False)
    """The record as it is stored and hashed, in JSON."""
    previous: str
    """Hash of the row before."""
    sha256: str
    """Hash of this row; see `row_hash`."""


@dataclass(frozen=True, kw_only=True)
class ChainHead:
    """The end of the chain. Whoever keeps it elsewhere can prove later that nothing up to it was changed."""

    seq: int
    sha256: str


def worst_state(states: Iterable[State]) -> State:
    """The verdict on a part with these views: fault before no-go before review before go.

    Raises:
        ValueError: no states.
    """
    return max(states, key=_SEVERITY.index)


class _Body(Strict, Generic[R]):
    """What the ``body`` of a row holds."""

    at: Moment
    record: R


_BODIES: Mapping[RowKind, type[_Body[Any]]] = {
    RowKind.OPENED: _Body[Opened],
    RowKind.VERDICT: _Body[VerdictRecord],
    RowKind.ACTION: _Body[Action],
    RowKind.TOMBSTONE: _Body[Tombstone],
}


def body_of(record: Record, at: datetime) -> str:
    """The canonical JSON of a row: ``at``, its commit time, and ``record``; sorted keys, no spaces, UTF-8."""
    content = {"at": iso(at), "record": record.model_dump(mode="json")}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_of(kind: str, body: str | bytes) -> tuple[datetime, Record]:
    """Commit time and record of a row; the inverse of `body_of`.

    Raises:
        ValueError: an unknown kind, or not such a record (pydantic's ``ValidationError`` is one).
    """
    read = _BODIES[RowKind(kind)].model_validate_json(body)
    return read.at, read.record


def row_hash(previous: str, seq: int, kind: str, body: bytes) -> str:
    """SHA-256 over the hash of the row before, the number, the kind and the body, with a newline between each two."""
    return hashlib.sha256(f"{previous}\n{seq}\n{kind}\n".encode() + body).hexdigest()
