"""The records of a ledger: verdicts, actions, tombstones of deleted frames, and the opening record.

Each record is one canonical JSON object, the ``body`` of a row. The row's hash covers the exact bytes of that text.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

from pydantic import AfterValidator, AwareDatetime, Field, JsonValue, PlainSerializer, model_validator

from gonogo.config import Strict
from gonogo.schema import ItemCount, Label, Measurement, State, Verdict

NO_HASH = "0" * 64
"""The ``previous`` hash of the first row."""

_SEVERITY = (State.GO, State.REVIEW, State.NO_GO, State.FAULT)


def iso(moment: datetime) -> str:
    """Format a time in UTC, ISO 8601 with microseconds; the length is constant, so text order is time order."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""Name of a station, trigger, part or person: one line without control characters."""
Word: TypeAlias = Annotated[str, Field(max_length=60, pattern=r"^[a-z][a-z0-9_]*$")]
"""An identifier, such as the cause of a fault."""
Digest: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256, lower-case hexadecimal."""
Finite: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
Moment: TypeAlias = Annotated[
    AwareDatetime,
    AfterValidator(lambda moment: moment.astimezone(UTC)),
    PlainSerializer(iso, return_type=str, when_used="json"),
]
"""A time with a time zone, converted to UTC."""


class RowKind(StrEnum):
    """Kind of a row."""

    OPENED = "opened"
    VERDICT = "verdict"
    ACTION = "action"
    TOMBSTONE = "tombstone"


class ViewZone(Strict):
    """The judgement of one inspect zone of a picture, or of the rest of the part."""

    name: str
    score: Finite
    state: State
    """What the part would be if this zone alone decided."""


class View(Strict):
    """The verdict on one picture of a part."""

    name: Name = "main"
    """Name of the camera."""
    frame_sha256: Digest | None
    """SHA-256 of the stored frame; ``None`` if no picture came."""
    state: State
    """The inspector's verdict; ``fault`` if the picture was not judged."""
    score: Finite | None
    """``None`` if the inspector did not judge this picture."""
    reason: str
    kind: str | None = None
    """The most likely defect kind, or that it is unlike any known kind; see `gonogo.schema.Verdict`."""
    kind_share: Finite | None = None
    box_xyxy: tuple[Finite, Finite, Finite, Finite] | None = None
    """The region that was judged, in frame pixels."""
    zones: tuple[ViewZone, ...] = ()
    """The inspect zones and the rest; empty without inspect zones. The one with the highest score decides."""
    measurements: tuple[Measurement, ...] = ()
    """The defects in mm, the longest first, if the bundle measures."""
    counts: tuple[ItemCount, ...] = ()
    """The items of each presence zone."""
    notes: tuple[str, ...] = ()
    """What the rules found, one sentence each."""
    timings_ms: Mapping[str, Finite] = Field(default_factory=dict)

    @classmethod
    def of(cls, verdict: Verdict, *, frame_sha256: str | None, name: str = "main") -> Self:
        """Create the record of an inspector's verdict on one picture."""
        return cls(
            name=name,
            frame_sha256=frame_sha256,
            state=verdict.state,
            score=verdict.score,
            reason=verdict.reason,
            kind=verdict.kind,
            kind_share=verdict.kind_share,
            box_xyxy=None if verdict.box is None else verdict.box.xyxy,
            zones=tuple(ViewZone(name=zone.name, score=zone.score, state=zone.state) for zone in verdict.zones),
            measurements=verdict.measurements,
            counts=verdict.counts,
            notes=verdict.notes,
            timings_ms=dict(verdict.timings_ms),
        )


class VerdictRecord(Strict):
    """The verdict on one part, from the pictures of all cameras."""

    station: Name
    trigger_id: Name
    """Unique within the station, permanently."""
    part: Name | None = None
    lot: Name | None = None
    product: Name | None = None
    """The product that the line or the code on the part named, or that was selected."""
    selected_by: Word | None = None
    """What selected the product at a station for several: ``trigger``, ``code``, ``person`` or ``ledger``."""
    serial: Name | None = None
    """Serial number in the code on the part."""
    codes: tuple[str, ...] = ()
    """Texts of the codes on the part."""
    state: State
    """At least as severe as the worst of the views; see `worst_state`."""
    score: Finite | None
    """The highest score of the views; ``None`` if none was judged."""
    reason: str
    """One sentence that explains the verdict."""
    cause: Word | None = None
    """Cause of a fault (``camera_lost``, ``late``, ...); set if, and only if, the state is fault."""
    late: bool = False
    """Judged after the window closed: the part is a fault; the views keep their verdicts."""
    go_below: Finite | None = None
    """The go threshold at that time; ``None`` if no part could pass."""
    no_go_above: Finite | None = None
    """The no-go threshold at that time; ``None`` if no part was rejected."""
    bundle_sha256: Digest | None = None
    """SHA-256 of the bundle; ``None`` if none was loaded."""
    bundle: str | None = None
    """Path of the bundle, for replay."""
    device: str = ""
    views: tuple[View, ...] = ()
    triggered_at: Moment
    acquired_at: Moment | None = None
    judged_at: Moment | None = None
    timings_ms: Mapping[str, Finite] = Field(default_factory=dict)

    @property
    def named(self) -> View | None:
        """The view that names the part's defect kind: of those that name one, the one with the highest score.

        ``None`` if no view names one, and for a go or a fault.
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
            raise ValueError(
                f"expected a cause if and only if the state is fault, found {self.state} and {self.cause!r}"
            )
        if self.late and self.state is not State.FAULT:
            raise ValueError(f"expected a late verdict to be a fault, found {self.state}")
        if self.state is State.GO and not all(view.frame_sha256 and view.score is not None for view in self.views):
            raise ValueError("expected every view of a go to be stored and judged")
        if self.state is State.GO and not self.views:
            raise ValueError("expected at least one judged view for a go, found none")
        return self


class Action(Strict):
    """Something that a person or a program did, with free-form details."""

    action: Word
    """``review``, ``label``, ``login``, ``deploy``, ``challenge``, ``operating_point``, ..."""
    who: Name
    about: int | None = Field(default=None, ge=1)
    """``seq`` of the row that it refers to."""
    station: Name | None = None
    label: Label | None = None
    """The person's label for the part; ``None`` withdraws an earlier decision."""
    defect: str | None = Field(default=None, min_length=1, max_length=200)
    """Defect kind of a part labelled bad."""
    details: Mapping[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_defects_of_bad_parts_only(self) -> Self:
        if self.defect is not None and self.label is not Label.BAD:
            raise ValueError(f"expected a defect kind only for a part labelled bad, found {self.defect!r}")
        return self


REVIEW = "review"
"""The action that decides a part in review; the latest one about a row counts."""


class Tombstone(Strict):
    """Record of frames that were deleted by retention; written before the files are deleted."""

    frames_sha256: tuple[Digest, ...]
    policy: str
    """Text of the retention policy."""
    who: Name


class Opened(Strict):
    """The first row, which makes the chain of every ledger unique."""

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
    """Time of the commit, UTC."""
    record: R
    body: str = field(repr=False)
    """The record as it is stored and hashed, in JSON."""
    previous: str
    """Hash of the previous row."""
    sha256: str
    """Hash of this row; see `row_hash`."""


class StoredRow(NamedTuple):
    """The stored columns of a row, as the hash covers them."""

    seq: int
    kind: str
    body: str
    previous: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class ChainHead:
    """The last row of the chain. A copy kept elsewhere proves later that no row up to it was changed."""

    seq: int
    sha256: str


def worst_state(states: Iterable[State]) -> State:
    """Return the most severe state: fault before no-go before review before go.

    Raises:
        ValueError: there are no states.
    """
    return max(states, key=_SEVERITY.index)


class _Body(Strict, Generic[R]):
    """Contents of the ``body`` of a row."""

    at: Moment
    record: R


_BODIES: Mapping[RowKind, type[_Body[Any]]] = {
    RowKind.OPENED: _Body[Opened],
    RowKind.VERDICT: _Body[VerdictRecord],
    RowKind.ACTION: _Body[Action],
    RowKind.TOMBSTONE: _Body[Tombstone],
}


def body_of(record: Record, at: datetime) -> str:
    """Return the canonical JSON of a row: commit time ``at`` and ``record``; sorted keys, no spaces, UTF-8."""
    content = {"at": iso(at), "record": record.model_dump(mode="json")}
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def record_of(kind: str, body: str | bytes) -> tuple[datetime, Record]:
    """Return commit time and record of a row; the inverse of `body_of`.

    Raises:
        ValueError: the kind is unknown, or the body is invalid (pydantic's ``ValidationError`` is a subclass).
    """
    read = _BODIES[RowKind(kind)].model_validate_json(body)
    return read.at, read.record


def row_hash(previous: str, seq: int, kind: str, body: bytes) -> str:
    """Return the SHA-256 of previous hash, row number, kind and body, joined by newlines."""
    return hashlib.sha256(f"{previous}\n{seq}\n{kind}\n".encode() + body).hexdigest()
