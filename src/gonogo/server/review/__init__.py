"""Reviewing: who gets which doubtful part, what they say of it, and how that becomes a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gonogo.server.database import Database
from gonogo.server.dataset_store import Datasets
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.review.decisions import BLIND_CHECK, Decisions, ReviewDecision
from gonogo.server.review.kind_keys import KindKeys
from gonogo.server.review.queue import Deal, GoneError, ReviewQueue, TakenError
from gonogo.server.review.reviewed_dataset import REVIEWED, Collector, Copied


@dataclass(frozen=True, kw_only=True)
class Review:
    """What the review page needs."""

    decisions: Decisions
    queue: ReviewQueue
    collector: Collector
    keys: KindKeys

    @classmethod
    def of(
        cls,
        database: Database,
        ledger_pool: LedgerPool,
        datasets: Datasets,
        *,
        now: Callable[[], float],
        same_product: Callable[[str | None], bool],
    ) -> Review:
        """For a workspace.

        Args:
            database: Keeps who has which part, and the number keys.
            ledger_pool: Holds parts and decisions.
            datasets: One of them receives the decided parts.
            now: The clock.
            same_product: Whether the part that a bundle judged, named by its hash, is like those of the line today.
        """
        decisions = Decisions(ledger_pool)
        return cls(
            decisions=decisions,
            queue=ReviewQueue(
                database, ledger_pool, decisions, now=now, comparable=lambda each: same_product(each.bundle_sha256)
            ),
            collector=Collector(ledger_pool, decisions, datasets),
            keys=KindKeys(database),
        )


__all__ = [
    "BLIND_CHECK",
    "REVIEWED",
    "Collector",
    "Copied",
    "Deal",
    "Decisions",
    "GoneError",
    "Review",
    "ReviewDecision",
    "ReviewQueue",
    "TakenError",
]
