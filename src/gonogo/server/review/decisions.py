"""Review decisions and blind checks, read from the ledger once and then updated incrementally.

Only new rows are read, so the cost of a page does not grow with the number of decisions.
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
"""The action that records a blind check; it never changes the decision."""


@dataclass(frozen=True, kw_only=True)
class ReviewDecision:
    """One part and its latest valid decision."""

    seq: int
    """Row of the verdict."""
    row: int
    """Row of the decision."""
    at: datetime
    who: str
    label: Label
    defect: str | None
    state: State
    """Verdict of the inspector."""
    score: float | None
    part: str | None
    lot: str | None
    frames_sha256: tuple[str, ...]
    bundle_sha256: str | None


class Decisions:
    """All valid decisions, and each person's agreement in blind checks."""

    def __init__(self, ledger_pool: LedgerPool) -> None:
        self._ledger_pool = ledger_pool
        self._reading = threading.Lock()
        self._seen = {REVIEW: 0, BLIND_CHECK: 0}
        self._standing: dict[int, ReviewDecision] = {}
        self._checks: dict[str, tuple[str, int, bool]] = {}

    def standing(self) -> Mapping[int, ReviewDecision]:
        """Return the valid decisions by verdict row, in the order in which they were made."""
        return self.snapshot()[0]

    def snapshot(self) -> tuple[Mapping[int, ReviewDecision], int]:
        """Return the valid decisions and the last row read."""
        with self._reading, self._ledger_pool.reading() as ledger:
            self._catch_up(ledger)
            return dict(self._standing), self._seen[REVIEW]

    def agreement(self) -> Mapping[str, Rate]:
        """Return each person's blind checks: the number that agreed with the valid decision, and the total."""
        counts: dict[str, list[bool]] = {}
        for who, _, agreed in self._read_checks().values():
            counts.setdefault(who, []).append(agreed)
        return {who: Rate(count=sum(found), of=len(found)) for who, found in sorted(counts.items())}

    def checked(self, who: str) -> frozenset[int]:
        """Return the rows that a person has answered in a blind check."""
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
            expected = said.details.get("expected")  # ``None`` if the decision was undone during the blind check
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
