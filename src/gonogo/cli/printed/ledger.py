"""What ``gonogo ledger`` prints and exports."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, NotRequired

from gonogo.cli.printed.build import Document, Printed, combined
from gonogo.ledger import Action, Opened, Tombstone, VerdictRecord
from gonogo.ledger.capacity import Need
from gonogo.ledger.records import RowKind
from gonogo.ledger.verifying import Flaw
from gonogo.replay import Gap
from gonogo.results.lanes import LaneState
from gonogo.schema import State


class _Row(Document):
    seq: int
    """1, 2, 3, ... without gaps."""
    previous: str
    """Hash of the previous row."""
    sha256: str
    at: datetime
    """Time of the commit, UTC."""


class VerdictRow(_Row):
    """The verdict on a part."""

    kind: Literal[RowKind.VERDICT]
    record: VerdictRecord


class ActionRow(_Row):
    """Something that a person or a program did."""

    kind: Literal[RowKind.ACTION]
    record: Action


class TombstoneRow(_Row):
    """Frames that were deleted by retention."""

    kind: Literal[RowKind.TOMBSTONE]
    record: Tombstone


class OpenedRow(_Row):
    """The first row."""

    kind: Literal[RowKind.OPENED]
    record: Opened


LedgerList = VerdictRow | ActionRow | TombstoneRow | OpenedRow


class _About(Document):
    actions: list[ActionRow]
    """Actions that refer to the row."""


class ShownVerdict(VerdictRow, _About):
    """A verdict, with what was done about it."""


class ShownAction(ActionRow, _About):
    """An action, with what was done about it."""


class ShownTombstone(TombstoneRow, _About):
    """A tombstone, with what was done about it."""


class ShownOpened(OpenedRow, _About):
    """The first row, with what was done about it."""


LedgerShow = ShownVerdict | ShownAction | ShownTombstone | ShownOpened


class LedgerVerify(Document):
    """One sign of tampering or damage; nothing is printed for an intact ledger."""

    flaw: Flaw
    seq: int | None
    what: str
    chain: NotRequired[str]
    """Name of the chain, at a centre."""


class _Part(Document):
    seq: int
    station: str
    trigger_id: str
    part: str | None
    lot: str | None


class ReplaySkipped(_Part):
    """A part whose frames are missing or changed."""

    skipped: Gap
    why: str


class ReplayChanged(_Part):
    """A part with another verdict, or another score with the same bundle."""

    same_bundle: bool
    state_before: State
    state_after: State
    score_before: float | None
    score_after: float | None


class ReplaySummary(Document):
    """The last line."""

    summary: bool
    parts: int
    same_bundle: int
    unequal: int
    """Parts whose score with the same bundle is not bit-equal."""
    changed: int
    changes: dict[str, int]
    skipped: dict[str, int]
    last_seq: int
    other_processors: NotRequired[dict[str, int]]
    """With ``--engine ray``: parts by kind of processor, where it is not that of this machine."""


LedgerReplay = ReplayChanged | ReplaySkipped | ReplaySummary


class SampleRow(Document):
    """One random sample of production."""

    name: str
    row: int
    """Row of its schedule, the seed."""
    at: str
    one_in: int
    parts: int
    most_bad: float
    drawn: int


class LedgerSample(Document):
    """The samples of a ledger."""

    ledger: str
    samples: list[SampleRow]


LedgerPublish = combined("LedgerPublish", LaneState)
LedgerCapacity = combined("LedgerCapacity", Need, {"price_per_month": float})


class ExportedRow(Document):
    """One row of an exported table, in the order of its columns.

    In CSV every cell is text and an absent one is empty: times are UTC, ISO 8601 with microseconds, ``late`` is
    ``True`` or ``False``, and text that a spreadsheet would run as a formula has an apostrophe before it. In Parquet,
    times are timestamps in microseconds, UTC.
    """

    seq: int
    at: datetime
    triggered_at: datetime | None
    acquired_at: datetime | None
    judged_at: datetime | None
    kind: RowKind
    station: str | None
    trigger_id: str | None
    part: str | None
    lot: str | None
    state: State | None
    cause: str | None
    reason: str | None
    bundle_sha256: str | None
    device: str | None
    score: float | None
    go_below: float | None
    no_go_above: float | None
    late: bool | None
    action: str | None
    who: str | None
    about: int | None
    label: str | None
    defect: str | None
    body: str
    """The whole record as it was hashed, JSON."""
    previous: str
    sha256: str


PRINTED: Mapping[str, Printed] = {
    "ledger list": Printed(type=LedgerList, lines=True, stored=True),
    "ledger show": Printed(type=LedgerShow, stored=True),
    "ledger verify": Printed(type=LedgerVerify, lines=True),
    "ledger replay": Printed(type=LedgerReplay, lines=True),
    "ledger sample": Printed(type=LedgerSample),
    "ledger publish": Printed(type=LedgerPublish, lines=True),
    "ledger capacity": Printed(type=LedgerCapacity),
    "ledger export": Printed(type=ExportedRow, lines=True),
}
