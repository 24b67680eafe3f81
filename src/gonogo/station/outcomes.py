"""The outcome of judging a part, before it is recorded, and the answer that a record becomes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from gonogo.files import disk_is_full
from gonogo.ledger import Row, VerdictRecord, View
from gonogo.schema import State
from gonogo.signing import Signature
from gonogo.station.cameras import CameraPicture
from gonogo.station.messages import Answer, Cause
from gonogo.station.models import LoadedBundle


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that is known about a part when its record is written."""

    state: State
    reason: str
    cause: Cause | None
    views: tuple[View, ...] = ()
    model: LoadedBundle | None = None
    late: bool = False
    acquired_at: datetime | None = None
    judged_at: datetime | None = None


def signature_details(signature: Signature | None) -> dict[str, JsonValue]:
    """Return what a row about a bundle says of its signature; nothing if none is required."""
    if signature is None:
        return {}
    signed = {"signed_by": signature.signer, "key_id": signature.key_id, "signed": signature.signed.isoformat()}
    return {**signed, "key_revoked": signature.revoked}


def answer_of(row: Row[VerdictRecord]) -> Answer:
    """Return the answer for a recorded verdict."""
    record, named = row.record, row.record.named
    return Answer(
        trigger_id=record.trigger_id,
        part=record.part,
        state=record.state,
        reason=record.reason,
        cause=None if record.cause is None else Cause(record.cause),
        score=record.score,
        kind=None if named is None else named.kind,
        kind_share=None if named is None else named.kind_share,
        measurements=tuple(found for view in record.views for found in view.measurements),
        notes=tuple(note for view in record.views for note in view.notes),
        row=row.seq,
    )


def stage_times(shots: list[CameraPicture], outcome: Outcome) -> dict[str, float]:
    """Return the time of each stage for the slowest camera, and the total time of the networks."""
    stages: dict[str, float] = {}
    for shot in shots:
        for name, duration in shot.timings_ms.items():
            stages[name] = max(stages.get(name, 0.0), duration)
    judged = [view.timings_ms["total"] for view in outcome.views if "total" in view.timings_ms]
    return {**stages, "judge": sum(judged)} if judged else stages


def sole_until(shots: list[CameraPicture]) -> float | None:
    """Return the time before which no other trigger may have come, or the pictures are ambiguous; see `Matched`."""
    found = [shot.acquired.sole_until_s for shot in shots if shot.acquired is not None]
    return max((moment for moment in found if moment is not None), default=None)


def ledger_cause(error: BaseException | None) -> Cause:
    """Return the cause of a ledger error: a full disk, or any other."""
    return Cause.DISK_FULL if disk_is_full(error) else Cause.LEDGER
