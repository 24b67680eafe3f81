"""Everything that is known about one judged part, gathered for its page."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from gonogo.errors import LedgerError
from gonogo.ledger import REVIEW, Action, Ledger, Row, Tombstone, VerdictRecord, Where
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors import Inspectors
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.part_page.learned import Learned, UsedIn
from gonogo.server.part_page.promise import Promise, Promises
from gonogo.server.parts.pictures import PartPictures
from gonogo.server.records import Records
from gonogo.server.records.chain import ChainReport, RowProof, prove_row
from gonogo.server.review import BLIND_CHECK, Review
from gonogo.server.signatures import Signatures, SignedChange
from gonogo.server.training.jobs import Jobs

MOST_ACTIONS = 200


@dataclass(frozen=True, kw_only=True)
class ShownView:
    """One picture of the part."""

    number: int
    name: str
    kept: bool
    """Whether the picture is stored."""
    intact: bool
    """Whether the bytes of the stored picture match the hash in the verdict."""
    deleted: Row[Tombstone] | None
    """The row that recorded its deletion by the retention policy."""


@dataclass(frozen=True, kw_only=True)
class Story:
    """What the page of a part shows."""

    row: Row[VerdictRecord]
    views: tuple[ShownView, ...]
    others: tuple[Row[VerdictRecord], ...]
    """Other verdicts on the same part, the newest first."""
    hidden: bool
    """Whether what people decided is left out, because the visitor has been asked about this part."""
    actions: tuple[Row[Action], ...]
    """What people did about it, oldest first."""
    decision: Row[Action] | None
    """The decision that is valid now."""
    promise: Promise | None
    signed: SignedChange | None
    """The signed row that put the limits into force that judged the part; ``None`` if they were not signed here."""
    used: UsedIn
    proof: RowProof
    chain: ChainReport | None
    """The latest verification of the whole chain."""
    head: int
    """The last row of the ledger."""

    @property
    def record(self) -> VerdictRecord:
        """The verdict."""
        return self.row.record

    @property
    def name(self) -> str:
        """Name or serial number of the part; empty if it has none."""
        return self.record.part or self.record.serial or ""


class Stories:
    """Gathers the story of a part."""

    def __init__(
        self,
        ledger_pool: LedgerPool,
        records: Records,
        review: Review,
        inspectors: Inspectors,
        datasets: Datasets,
        jobs: Jobs,
        pictures: PartPictures,
        signatures: Signatures,
        *,
        now: Callable[[], float],
    ) -> None:
        self._ledger_pool, self._records, self._review, self._now = ledger_pool, records, review, now
        self._signatures = signatures
        self._promises = Promises(inspectors.bundles, pictures)
        self.learned = Learned(datasets, jobs)

    def of(self, seq: int, who: str) -> Story | None:
        """Return the story of a row for a visitor; ``None`` if the row is not a verdict."""
        chain = self._records.chain.latest()
        with self._ledger_pool.reading() as ledger:
            row = ledger.row(seq)
            if row is None or not isinstance(row.record, VerdictRecord):
                return None
            verdict = Row(**{**vars(row), "record": row.record})
            hidden = self._review.queue.asked_about(who, seq)
            actions = [] if hidden else list(ledger.actions(Where(about=seq), limit=MOST_ACTIONS))
            return Story(
                row=verdict,
                views=tuple(self._view(ledger, row.record, number) for number in range(len(row.record.views))),
                others=self._others(ledger, verdict),
                hidden=hidden,
                actions=tuple(actions),
                decision=None if hidden else ledger.decision(seq),
                promise=self._promises.of(
                    row.record,
                    at=row.record.judged_at or row.at,
                    now=datetime.fromtimestamp(self._now(), UTC),
                ),
                signed=self._signatures.in_force(row.record.bundle_sha256),
                used=UsedIn(datasets=(), runs=()) if hidden else self.learned.uses(_frames(row.record)),
                proof=prove_row(ledger, row),
                chain=chain,
                head=ledger.head().seq,
            )

    def _view(self, ledger: Ledger, record: VerdictRecord, number: int) -> ShownView:
        view = record.views[number]
        kept = view.frame_sha256 is not None and ledger.frames.holds(view.frame_sha256)
        intact = False
        if kept:
            with contextlib.suppress(LedgerError):
                intact = bool(ledger.frames.read(str(view.frame_sha256)))
        gone = None
        if not kept and view.frame_sha256 is not None:
            seq = self._records.index.deleted_frame(view.frame_sha256)
            row = None if seq is None else ledger.row(seq)
            if row is not None and isinstance(row.record, Tombstone):
                gone = Row(**{**vars(row), "record": row.record})
        return ShownView(number=number, name=view.name, kept=kept, intact=intact, deleted=gone)

    def _others(self, ledger: Ledger, row: Row[VerdictRecord]) -> tuple[Row[VerdictRecord], ...]:
        name = row.record.part or row.record.serial
        if name is None:
            return ()
        numbers = self._records.index.rows_of_part(name, row.record.lot)
        found = (ledger.row(seq) for seq in numbers if seq != row.seq)
        return tuple(
            Row(**{**vars(each), "record": each.record})
            for each in found
            if each is not None and isinstance(each.record, VerdictRecord)
        )


def what_was_done(row: Row[Action]) -> str:
    """What an action did about a part: ``decided``, ``withdrawn``, ``checked``, ``check_withdrawn`` or ``other``."""
    said = row.record
    if said.action == REVIEW:
        return "withdrawn" if said.label is None else "decided"
    if said.action == BLIND_CHECK:
        return "check_withdrawn" if said.label is None else "checked"
    return "other"


def _frames(record: VerdictRecord) -> list[str]:
    return [view.frame_sha256 for view in record.views if view.frame_sha256 is not None]
