"""Two inspectors side by side: the same parts, their figures, and the parts on which they differ."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.server.background_work import Worker
from gonogo.server.compare.comparing import Comparer
from gonogo.server.compare.pictures import InspectorPictures
from gonogo.server.dataset_store import Datasets
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.training.jobs import Jobs


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """Components of the Compare page."""

    comparer: Comparer
    pictures: InspectorPictures

    @classmethod
    def of(cls, ledger_pool: LedgerPool, datasets: Datasets, jobs: Jobs, worker: Worker) -> Comparing:
        """Create it for a workspace."""
        return cls(comparer=Comparer(ledger_pool, datasets, jobs, worker), pictures=InspectorPictures())


__all__ = ["Comparing"]
