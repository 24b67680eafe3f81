"""Reviewing: who gets which doubtful part, what they say of it, and how that becomes a data set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from gonogo.server.book import Book
from gonogo.server.datasets import Datasets
from gonogo.server.review.decisions import BLIND_CHECK, Decision, Decisions
from gonogo.server.review.desk import Deal, Desk, GoneError, TakenError
from gonogo.server.review.keys import KindKeys
from gonogo.server.review.reviewed import REVIEWED, Collector, Copied
from gonogo.server.store import Store


@dataclass(frozen=True, kw_only=True)
class Review:
    """One of each."""

    decisions: Decisions
    desk: Desk
    collector: Collector
    keys: KindKeys

    @classmethod
    def start(cls, store: Store, book: Book, datasets: Datasets, *, now: Callable[[], float]) -> Review:
        """Make them for a workspace."""
        decisions = Decisions(book)
        return cls(
            decisions=decisions,
            desk=Desk(store, book, decisions, now=now),
            collector=Collector(book, decisions, datasets),
            keys=KindKeys(store),
        )


__all__ = [
    "BLIND_CHECK",
    "REVIEWED",
    "Collector",
    "Copied",
    "Deal",
    "Decision",
    "Decisions",
    "Desk",
    "GoneError",
    "Review",
    "TakenError",
]
