"""Review of doubtful parts: queue, decisions, and the data set made from them."""

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
    """Components of the review page."""

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
        """Create it for a workspace.

        Args:
            database: Stores assignments and number keys.
            ledger_pool: The ledger with parts and decisions.
            datasets: The data sets; one of them collects the decided parts.
            now: The clock.
            same_product: Whether a part judged by the bundle with this hash shows the current product.
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
