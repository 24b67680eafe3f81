"""Cache of the latest parts of the line; each visit reads only new rows."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from gonogo.schema import State
from gonogo.server.ledger_pool import LedgerPool

RECENT = 1000
"""Number of parts kept."""


@dataclass(frozen=True, kw_only=True)
class LinePart:
    """The fields of a verdict that the pages need."""

    seq: int
    state: State
    score: float
    frame_sha256: str
    """Score of the view with the highest score."""
    bundle_sha256: str


class Line:
    """The last `RECENT` judged parts."""

    def __init__(self, ledger_pool: LedgerPool) -> None:
        self._ledger_pool = ledger_pool
        self._reading = threading.Lock()
        self._seen = 0
        self._parts: deque[LinePart] = deque(maxlen=RECENT)

    def parts(self, family: Collection[str], *, after: int = 0) -> list[LinePart]:
        """Return the parts judged by any revision of a bundle, oldest first.

        Args:
            family: Hashes of the bundle's revisions.
            after: Return only rows with a higher number.
        """
        with self._reading:
            self._catch_up()
            return [part for part in self._parts if part.bundle_sha256 in family and part.seq > after]

    def _catch_up(self) -> None:
        with self._ledger_pool.reading() as ledger:
            rows = list(ledger.verdicts(after=self._seen, newest_first=True, limit=RECENT))
        for row in reversed(rows):
            self._seen = row.seq
            judged = [view for view in row.record.views if view.score is not None and view.frame_sha256 is not None]
            if row.record.state is State.FAULT or row.record.bundle_sha256 is None or not judged:
                continue
            worst = max(judged, key=lambda view: view.score or 0.0)
            assert worst.score is not None, "chosen by it"
            part = LinePart(
                seq=row.seq,
                state=row.record.state,
                score=worst.score,
                frame_sha256=str(worst.frame_sha256),
                bundle_sha256=row.record.bundle_sha256,
            )
            self._parts.append(part)
