"""The records of the ledger on the pages: search, the proof of the chain, exports."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.server.background_work import Journal, Task, Worker
from gonogo.server.dataset_store import Datasets
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.records.chain import ChainCheck
from gonogo.server.records.exports import Exports
from gonogo.server.records.row_index import AT_ONCE, RowIndex
from gonogo.server.review import Review
from gonogo.server.signatures import Signatures
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Records:
    """Components of the pages about parts, the audit log and exports."""

    index: RowIndex
    chain: ChainCheck
    exports: Exports
    worker: Worker
    """Their own: an export does not wait for pictures that are being judged."""

    @classmethod
    def of(
        cls,
        workspace: Workspace,
        ledger_pool: LedgerPool,
        datasets: Datasets,
        review: Review,
        journal: Journal,
        signatures: Signatures,
    ) -> Records:
        """Create it for a workspace; index and exports are in its ``cache`` folder, which can be deleted."""
        cache, worker = workspace.root / "cache", Worker(journal)
        index = RowIndex(cache / "rows.db", ledger_pool)
        return cls(
            index=index,
            chain=ChainCheck(ledger_pool, worker),
            exports=Exports(
                cache / "exports",
                worker,
                workspace=workspace,
                ledger_pool=ledger_pool,
                index=index,
                datasets=datasets,
                decisions=review.decisions,
                signatures=signatures,
            ),
            worker=worker,
        )

    def refresh(self) -> int:
        """Read new rows of the ledger into the index, many of them in the background.

        Returns:
            How many rows are not searchable yet.
        """
        left = self.index.update(most=AT_ONCE)
        if left:
            self.start()
        return left

    def start(self) -> None:
        """Bring the index up to date in the background."""

        def read(task: Task) -> None:
            self.index.update(step=task.step)

        self.worker.submit("index", N_("Reading the ledger"), read)

    def close(self) -> None:
        """Stop what is running and close the files."""
        self.worker.close()
        self.index.close()
