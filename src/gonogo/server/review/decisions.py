"""What people decided: the reviews that stand and the blind checks, read from the ledger once and then kept up to date.

A page must not walk through every decision ever made, so only rows that are new since the last look are read.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gonogo.evaluate import Rate
from gonogo.ledger import REVIEW, Action, Ledger, Row, VerdictRecord, Where
from gonogo.schema import Label, State
from gonogo.server.ledger_pool import LedgerPool

BLIND_CHECK = "blind_check"
"""The action that answers a part which was shown again without saying so; it never changes the decision itself."""


@dataclass(frozen=True, kw_only=True)
class ReviewDecision:
    """One part and the review of it that stands."""

    seq: int
    """Row of the verdict."""
    row: int
    """Row of the decision."""
    at: datetime
    who: str
    label: Label
    defect: str | None
    state: State
    """What the inspector had said."""
    score: float | None
    part: str | None
    lot: str | None
    frames_sha256: tuple[str, ...]
    bundle_sha256: str | None


class Decisions:
    """Every standing decision, and how often each person agrees with earlier ones when asked again unknowingly."""

    def __init__(self, ledger_pool: LedgerPool) -> None:
        self._ledger_pool = ledger_pool
        self._reading = threading.Lock()
        self._seen = {REVIEW: 0, BLIND_CHECK: 0}
        self._standing: dict[int, ReviewDecision] = {}
        self._checks: dict[str, tuple[str, int, bool]] = {}

    def standing(self) -> Mapping[int, ReviewDecision]:
        """By the row of the verdict, in the order in which they were made."""
        return self.snapshot()[0]

    def snapshot(self) -> tuple[Mapping[int, ReviewDecision], int]:
        """What stands, and the last row that was taken into account."""
        with self._reading, self._ledger_pool.reading() as ledger:
            self._catch_up(ledger)
            return dict(self._standing), self._seen[REVIEW]

    def agreement(self) -> Mapping[str, Rate]:
        """Blind checks of each person, by name: how many agreed with the decision that stood, of how many."""
        counts: dict[str, list[bool]] = {}
        for who, _, agreed in self._read_checks().values():
            counts.setdefault(who, []).append(agreed)
        return {who: Rate(count=sum(found), of=len(found)) for who, found in sorted(counts.items())}

    def checked(self, who: str) -> frozenset[int]:
        """The rows that somebody was asked about again."""
        return frozenset(seq for person, seq, _ in self._read_checks().values() if person == who)

    def _read_checks(self) -> dict[str, tuple[str, int, bool]]:
        with self._reading, self._ledger_pool.reading() as ledger:
            self._catch_up(ledger)
            return dict(self._checks)

    def _catch_up(self, ledger: Ledger) -> None:
        for row in ledger.actions(Where(action=REVIEW), after=self._seen[REVIEW]):
            self._seen[REVIEW] = row.seq
            self._take(ledger, row)
        for row in ledger.actions(Where(action=BLIND_CHECK), after=self._seen[BLIND_CHECK]):
            self._seen[BLIND_CHECK] = row.seq
            said, about, ticket = row.record, row.record.about, str(row.record.details.get("ticket", row.seq))
            self._checks.pop(ticket, None)
            expected = said.details.get("expected")  # none: the decision was taken back while it was asked about
            if said.label is not None and about is not None and expected is not None:
                self._checks[ticket] = (said.who, about, said.label == expected)

    def _take(self, ledger: Ledger, row: Row[Action]) -> None:
        about, said = row.record.about, row.record
        if about is None:
            return
        self._standing.pop(about, None)
        verdict = ledger.row(about) if said.label is not None else None
        if verdict is None or said.label is None or not isinstance(verdict.record, VerdictRecord):
            return
        judged = verdict.record
        self._standing[about] = ReviewDecision(
            seq=about,
            row=row.seq,
            at=row.at,
            who=said.who,
            label=said.label,
            defect=said.defect,
            state=judged.state,
            score=judged.score,
            part=judged.part,
            lot=judged.lot,
            frames_sha256=tuple(view.frame_sha256 for view in judged.views if view.frame_sha256 is not None),
            bundle_sha256=judged.bundle_sha256,
        )
