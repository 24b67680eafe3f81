"""The Understand page: trade-off curve, mistakes, drift, certification."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gonogo.server.background_work import Worker
from gonogo.server.dataset_store import Datasets
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.signatures import Signatures
from gonogo.server.training.jobs import Jobs
from gonogo.server.understand.certifying import Certifier
from gonogo.server.understand.drift_watch import DriftWatch
from gonogo.server.understand.line import Line


@dataclass(frozen=True, kw_only=True)
class Understanding:
    """Components of the Understand page, besides inspectors and review decisions."""

    line: Line
    drift: DriftWatch
    certifier: Certifier

    @classmethod
    def of(
        cls,
        ledger_pool: LedgerPool,
        signatures: Signatures,
        datasets: Datasets,
        jobs: Jobs,
        cache: Path,
        worker: Worker,
    ) -> Understanding:
        """Create it for a workspace; the drift state is cached in the folder ``cache``, which can be deleted."""
        line = Line(ledger_pool)
        return cls(
            line=line,
            drift=DriftWatch(ledger_pool, line, cache, worker),
            certifier=Certifier(ledger_pool, signatures, datasets, jobs, worker),
        )


__all__ = ["Understanding"]
