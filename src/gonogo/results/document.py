"""The documents that other systems receive: one for each verdict, one for each decision of a person.

The same row always gives the same bytes, so a receiver may keep any one of several copies. ``docs/schemas`` holds the
JSON Schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter

from gonogo.config import Strict
from gonogo.ledger import REVIEW, Action, Row, VerdictRecord, View
from gonogo.ledger.records import Digest, Finite, Moment, Name, Word
from gonogo.schema import Label, State

ResultId: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9]{1,64}-[0-9]{1,19}$")]
"""``<ledger>-<row>``: unique for ever, and safe as part of a file name, a key or a header."""


_DESCRIBED = ConfigDict(use_attribute_docstrings=True, json_schema_serialization_defaults_required=True)


class Result(Strict):
    """The verdict on one part, as other systems receive it."""

    model_config = _DESCRIBED

    type: Literal["verdict"] = "verdict"
    format: Literal[1] = 1
    """Version of this document; new optional fields do not change it."""
    result_id: ResultId
    """Identifies this result everywhere and permanently: keep each only once."""
    station: Name
    trigger_id: Name
    """Unique within the station."""
    part: Name | None
    lot: Name | None
    product: Name | None
    serial: Name | None
    """Serial number in the code on the part."""
    codes: tuple[str, ...]
    """Texts of the codes on the part."""
    state: State
    """``go``, ``no_go``, ``review``, or ``fault``: the part could not be judged in time."""
    reason: str
    """One sentence that explains the verdict."""
    cause: Word | None
    """Cause of a fault, such as ``camera_lost``; set if, and only if, the state is fault."""
    late: bool
    """Judged after the window closed: the part is a fault."""
    score: Finite | None
    """Higher is worse; ``None`` if no picture was judged."""
    go_below: Finite | None
    """The go threshold; ``None`` if no part could pass."""
    no_go_above: Finite | None
    """The no-go threshold; ``None`` if no part was rejected."""
    kind: str | None
    """The most likely defect kind of a part that is not go; ``None`` if none is named."""
    kind_share: Finite | None
    views: tuple[View, ...]
    """One entry for each camera, with its measurements in mm, counted items, zones and notes."""
    device: str
    timings_ms: Mapping[str, Finite]
    triggered_at: Moment
    acquired_at: Moment | None
    judged_at: Moment | None
    recorded_at: Moment
    """Time of the row's commit."""
    ledger: str
    """Random name of the ledger."""
    row: int = Field(ge=1)
    """Number of the row in the ledger; ascending at a station."""
    row_sha256: Digest
    """Hash of the row, with which an auditor finds it in the ledger."""
    bundle_sha256: Digest | None
    """SHA-256 of the bundle that judged; ``None`` if none was loaded."""


class Decision(Strict):
    """A person's decision on a part, as other systems receive it; the latest about a result is valid."""

    model_config = _DESCRIBED

    type: Literal["decision"] = "decision"
    format: Literal[1] = 1
    result_id: ResultId
    """Identifies this decision, not the result that it is about."""
    about: ResultId
    """``result_id`` of the verdict."""
    station: Name
    trigger_id: Name
    part: Name | None
    lot: Name | None
    who: Name
    label: Label | None
    """``good`` or ``bad``; ``None`` withdraws the earlier decision."""
    defect: str | None
    """Defect kind of a part labelled bad."""
    decided_at: Moment
    ledger: str
    row: int = Field(ge=1)
    row_sha256: Digest


Document: TypeAlias = Result | Decision
_ADAPTER: TypeAdapter[Document] = TypeAdapter(Annotated[Document, Field(discriminator="type")])


def result_id(ledger: str, seq: int) -> str:
    """Return the identity of a result: the random name of its ledger and the number of its row."""
    return f"{ledger}-{seq}"


def document_of(row: Row[VerdictRecord], ledger: str) -> Result:
    """Return the document of a verdict.

    Args:
        row: The verdict's row.
        ledger: Random name of the ledger, which its first row holds.
    """
    record, named = row.record, row.record.named
    return Result(
        result_id=result_id(ledger, row.seq),
        **{name: getattr(record, name) for name in _SHARED},
        kind=None if named is None else named.kind,
        kind_share=None if named is None else named.kind_share,
        recorded_at=row.at,
        ledger=ledger,
        row=row.seq,
        row_sha256=row.sha256,
    )


_SHARED = tuple(name for name in Result.model_fields if name in VerdictRecord.model_fields)


def decision_of(row: Row[Action], verdict: Row[VerdictRecord], ledger: str) -> Decision:
    """Return the document of a person's decision on a part.

    Args:
        row: The decision's row: an action named `gonogo.ledger.REVIEW`.
        verdict: The row that it is about.
        ledger: Random name of the ledger.
    """
    assert row.record.action == REVIEW, "only reviews are decisions"
    return Decision(
        result_id=result_id(ledger, row.seq),
        about=result_id(ledger, verdict.seq),
        station=verdict.record.station,
        trigger_id=verdict.record.trigger_id,
        part=verdict.record.part,
        lot=verdict.record.lot,
        who=row.record.who,
        label=row.record.label,
        defect=row.record.defect,
        decided_at=row.at,
        ledger=ledger,
        row=row.seq,
        row_sha256=row.sha256,
    )


def content_of(document: Document) -> bytes:
    """Return a document as JSON in UTF-8; the same row always gives the same bytes."""
    return document.model_dump_json().encode()


def read_document(content: bytes | str) -> Document:
    """Read and validate a document; the inverse of `content_of`.

    Raises:
        ValueError: it is not a document of this format.
    """
    return _ADAPTER.validate_json(content)


def moment_of(document: Document) -> datetime:
    """Return when a document's row was committed."""
    return document.recorded_at if isinstance(document, Result) else document.decided_at


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of the documents; a later version may have further optional fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "gonogo result",
        **_open(_ADAPTER.json_schema(mode="serialization")),
    }


def _open(schema: Any) -> Any:
    """Return a schema that accepts unknown fields."""
    if isinstance(schema, list):
        return [_open(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _open(value) for key, value in schema.items() if key != "additionalProperties" or value is not False}
