"""The outcome of judging a part, before it is recorded, and the answer that a record becomes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from pydantic import JsonValue

from gonogo.files import disk_is_full, free_bytes
from gonogo.ledger import Action, Row, VerdictRecord, View
from gonogo.line.messages import Answer, Cause, Trigger
from gonogo.names import readable
from gonogo.schema import PartIdentity, State
from gonogo.signing import Signature
from gonogo.station.cameras import CameraPicture
from gonogo.station.models import LoadedBundle, Swap
from gonogo.station.settings import StationSettings, cameras_digest


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Everything that is known about a part when its record is written."""

    state: State
    reason: str
    cause: Cause | None
    views: tuple[View, ...] = ()
    model: LoadedBundle | None = None
    product: str | None = None
    """The product that it was judged as; ``None`` if it was not judged."""
    selected_by: str | None = None
    identity: PartIdentity | None = None
    """What the codes on the part say; ``None`` if it has none."""

    def part_of(self, trigger: Trigger) -> str | None:
        """Return the name of the part, from its trigger or its code."""
        return trigger.part or (None if self.identity is None else self.identity.name)

    late: bool = False
    acquired_at: datetime | None = None
    judged_at: datetime | None = None


def signature_details(signature: Signature | None) -> dict[str, JsonValue]:
    """Return what a row about a bundle says of its signature; nothing if none is required."""
    if signature is None:
        return {}
    signed = {"signed_by": signature.signer, "key_id": signature.key_id, "signed": signature.signed.isoformat()}
    return {**signed, "key_revoked": signature.revoked}


def record_of(trigger: Trigger, outcome: Outcome, *, station: str, timings_ms: Mapping[str, float]) -> VerdictRecord:
    """Return the record of a part; what its code says completes what its trigger names."""
    model, identity = outcome.model, outcome.identity or PartIdentity()
    return VerdictRecord(
        station=station,
        trigger_id=trigger.id,
        part=trigger.part or identity.name,
        lot=trigger.lot or identity.lot,
        product=trigger.product or outcome.product or identity.product,
        selected_by=outcome.selected_by,
        serial=identity.serial,
        codes=identity.codes,
        state=outcome.state,
        score=max((view.score for view in outcome.views if view.score is not None), default=None),
        reason=readable(outcome.reason),
        cause=None if outcome.cause is None else outcome.cause.value,
        late=outcome.late,
        go_below=None if model is None else model.go_below,
        no_go_above=None if model is None else model.no_go_above,
        bundle_sha256=None if model is None else model.sha256,
        bundle=None if model is None else readable(str(model.path)),
        device="" if model is None else model.device,
        views=outcome.views,
        triggered_at=trigger.at,
        acquired_at=outcome.acquired_at,
        judged_at=outcome.judged_at,
        timings_ms=timings_ms,
    )


def swap_action(swap: Swap, settings: StationSettings, *, at_start: bool) -> Action:
    """Return the action that records that a bundle was loaded or refused."""
    action = "bundle_refused" if swap.refused else "started" if at_start else "bundle_swapped"
    details: dict[str, JsonValue] = {
        "before": swap.before,
        "after": swap.after,
        "refused": readable(swap.refused),
        **signature_details(swap.signature),
    }
    if at_start:
        details["settings_sha256"] = cameras_digest(settings)
    return Action(action=action, who=settings.station, details=details)


def answer_of(row: Row[VerdictRecord]) -> Answer:
    """Return the answer for a recorded verdict."""
    record, named = row.record, row.record.named
    return Answer(
        trigger_id=record.trigger_id,
        part=record.part,
        lot=record.lot,
        product=record.product,
        selected_by=record.selected_by,
        serial=record.serial,
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


def without_space(settings: StationSettings) -> str:
    """Say that too little disk space is left for the ledger; empty if there is enough."""
    free = free_bytes(settings.ledger.parent)
    if free >= settings.min_free_mb * 1_000_000:
        return ""
    return f"{free / 1e6:,.0f} MB of disk space left, {settings.min_free_mb:,} MB needed (min_free_mb)"


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
