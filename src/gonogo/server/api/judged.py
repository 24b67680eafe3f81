"""Judging one picture for a program: at most one verdict for each trigger, on record before it is given."""

from __future__ import annotations

import hashlib
import math
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

from gonogo.images import Photograph
from gonogo.inspector import Inspector
from gonogo.ledger import DuplicateTrigger, Row, VerdictRecord, View
from gonogo.line.messages import Cause
from gonogo.names import readable
from gonogo.schema import State, Verdict
from gonogo.server.api.judges import SUFFIX, Judge, Judges, decoded
from gonogo.server.api.problems import ApiError
from gonogo.server.ledger_pool import LedgerPool

STATION = "api"
"""Name of the station in the ledger's rows about pictures that programs sent."""
_KEY = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """One request to judge a picture."""

    data: bytes
    """The encoded picture."""
    program: str
    """Name of the program's key."""
    key: str
    """The ``Idempotency-Key``: names the trigger among those of the program."""
    inspector: str | None = None
    part: str | None = None
    lot: str | None = None

    @property
    def trigger_id(self) -> str:
        """Id of the trigger in the ledger. The key has no slash, so two programs never share one."""
        return f"{self.program}/{self.key}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Judged:
    """A recorded verdict."""

    row: Row[VerdictRecord]
    key: str
    repeated: bool
    """It was recorded by an earlier request with the same key; then there are no pictures."""
    verdict: Verdict | None = None
    inspector: Inspector | None = None
    photograph: Photograph | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the answer without pictures."""
        record, named = self.row.record, self.row.record.named
        view = record.views[0] if record.views else None
        return {
            "state": record.state.value,
            "score": record.score,
            "reason": record.reason,
            "kind": None if named is None else named.kind,
            "kind_share": None if named is None else named.kind_share,
            "box_xyxy": None if view is None or view.box_xyxy is None else list(view.box_xyxy),
            "zones": [] if view is None else [zone.model_dump(mode="json") for zone in view.zones],
            "measurements": [] if view is None else view.model_dump(mode="json")["measurements"],
            "notes": [] if view is None else list(view.notes),
            "go_below": record.go_below,
            "no_go_above": record.no_go_above,
            "inspector": None if record.bundle is None else Path(record.bundle).name.removesuffix(SUFFIX),
            "bundle_sha256": record.bundle_sha256,
            "part": record.part,
            "lot": record.lot,
            "key": self.key,
            "row": self.row.seq,
            "judged_at": None if record.judged_at is None else record.judged_at.isoformat(),
            "timings_ms": {name: round(value, 3) for name, value in record.timings_ms.items()},
            "repeated": self.repeated,
        }


def checked_key(found: str | None) -> str:
    """Return the ``Idempotency-Key``, or a new one if there is none.

    Raises:
        ApiError: it has other characters or is longer than allowed.
    """
    if found is None:
        return secrets.token_hex(16)
    if not _KEY.fullmatch(found):
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY,
            f"Idempotency-Key: expected 1 to 100 letters, digits and . _ : -, found {_shown(found)}.",
        )
    return found


def checked_name(name: str, found: str | None) -> str | None:
    """Return the name of a part or a lot; ``None`` if it is missing or empty.

    Raises:
        ApiError: it has control characters or is longer than allowed.
    """
    if not found:
        return None
    if not _NAME.fullmatch(found) or readable(found) != found:
        raise ApiError(
            HTTPStatus.UNPROCESSABLE_ENTITY, f"{name}: expected 1 to 200 printable characters, found {_shown(found)}."
        )
    return found


def judge_and_record(asked: Asked, judges: Judges, ledger_pool: LedgerPool) -> Judged:
    """Judge a picture and record the verdict, or return the one that is recorded under the same key.

    Raises:
        ApiError: there is no such inspector, or the key was used with another picture or inspector.
        ImageError: the picture cannot be decoded; nothing is recorded.
        LedgerError: the verdict could not be recorded, so it is not given.
    """
    with ledger_pool.reading() as ledger:
        stored = ledger.find(STATION, asked.trigger_id)
    if stored is not None:
        return _repeated(stored, asked)
    triggered_at = datetime.now(UTC)
    judge = judges.of(asked.inspector)
    photograph = decoded(asked.data, judge.inspector)
    with judge.lock:
        verdict = judge.inspector.inspect(photograph)
    frame_sha256 = ledger_pool.put_frame(asked.data)
    record = _record(asked, judge, verdict, frame_sha256, triggered_at)
    try:
        row = ledger_pool.append_verdict(record)
    except DuplicateTrigger as duplicate:  # another request with the same key was faster
        return _repeated(duplicate.row, asked)
    return Judged(
        row=row, key=asked.key, repeated=False, verdict=verdict, inspector=judge.inspector, photograph=photograph
    )


def _record(asked: Asked, judge: Judge, verdict: Verdict, frame_sha256: str, triggered_at: datetime) -> VerdictRecord:
    point, identity = judge.inspector.operating_point, verdict.identity
    return VerdictRecord(
        station=STATION,
        trigger_id=asked.trigger_id,
        part=asked.part or (None if identity is None else identity.name),
        lot=asked.lot or (None if identity is None else identity.lot),
        serial=None if identity is None else identity.serial,
        codes=() if identity is None else identity.codes,
        state=verdict.state,
        score=verdict.score,
        reason=readable(verdict.reason),
        cause=Cause.INSPECTOR.value if verdict.state is State.FAULT else None,
        go_below=None if point is None else _finite(point.go_below),
        no_go_above=None if point is None else _finite(point.no_go_above),
        bundle_sha256=judge.inspector.bundle_sha256,
        bundle=readable(str(judge.inspector.path)),
        device=judge.inspector.device.used,
        views=(View.of(verdict, frame_sha256=frame_sha256),),
        triggered_at=triggered_at,
        judged_at=datetime.now(UTC),
        timings_ms=dict(verdict.timings_ms),
    )


def _repeated(stored: Row[VerdictRecord], asked: Asked) -> Judged:
    record = stored.record
    digest = hashlib.sha256(asked.data).hexdigest()
    other = [what for what, wrong in (
        ("picture", digest not in [view.frame_sha256 for view in record.views]),
        ("inspector", asked.inspector is not None and asked.inspector != _inspector_of(record)),
        ("part", asked.part is not None and asked.part != record.part),
        ("lot", asked.lot is not None and asked.lot != record.lot),
    ) if wrong]  # fmt: skip
    if other:
        raise ApiError(
            HTTPStatus.CONFLICT,
            f"Idempotency-Key {asked.key}: expected the request that it was first used for (row {stored.seq}), found "
            f"another {' and '.join(other)}. Use a new key for each part.",
        )
    return Judged(row=stored, key=asked.key, repeated=True)


def _inspector_of(record: VerdictRecord) -> str | None:
    return None if record.bundle is None else Path(record.bundle).name.removesuffix(SUFFIX)


def _shown(found: str) -> str:
    return repr(found[:60].encode(errors="backslashreplace").decode())


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
