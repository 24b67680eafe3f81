"""The server's components: opened when an app is built, started and closed in its lifespan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gonogo.server.auth.accounts import Accounts
from gonogo.server.background_work import Task, Worker
from gonogo.server.database import Database
from gonogo.server.dataset_store import Datasets
from gonogo.server.inspectors import Inspectors
from gonogo.server.label import Labelling
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.options import Options
from gonogo.server.parts.pictures import PartPictures
from gonogo.server.review import Review
from gonogo.server.station.feed import Feed
from gonogo.server.training.jobs import Jobs
from gonogo.server.understand import Understanding
from gonogo.server.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Components:
    """One instance of each component. A handler gets only the components it names: see `gonogo.server.context.Use`."""

    workspace: Workspace
    ledger_pool: LedgerPool
    accounts: Accounts
    worker: Worker
    datasets: Datasets
    labelling: Labelling
    jobs: Jobs
    inspectors: Inspectors
    review: Review
    understanding: Understanding
    pictures: PartPictures
    feed: Feed

    @classmethod
    def open(cls, workspace: Workspace, options: Options) -> Components:
        """Open the workspace's files; nothing runs before `start`."""
        database, ledger_pool, worker = Database.open(workspace.database), LedgerPool.open(workspace.ledger), Worker()
        datasets, jobs, cache = Datasets(workspace.datasets), Jobs(workspace), workspace.root / "cache"
        inspectors = Inspectors.of(workspace, datasets, jobs, cache, worker)
        return cls(
            workspace=workspace,
            ledger_pool=ledger_pool,
            accounts=Accounts.open(database, hasher=options.hasher, now=options.now, tls=options.tls),
            worker=worker,
            datasets=datasets,
            labelling=Labelling.of(database, datasets, jobs),
            jobs=jobs,
            inspectors=inspectors,
            review=Review.of(database, ledger_pool, datasets, now=options.now, same_product=inspectors.same_product),
            understanding=Understanding.of(ledger_pool, datasets, jobs, cache, worker),
            pictures=PartPictures(ledger_pool, workspace.bundle_paths),
            feed=Feed(ledger_pool, workspace.station_state, max_streams=options.max_streams),
        )

    def of(self, kind: type[T]) -> T:
        """The component of this type."""
        return next(each for each in vars(self).values() if isinstance(each, kind))

    def start(self) -> None:
        """Start queued training runs, and fill the in-memory caches of the pages in the background."""

        def read(task: Task) -> None:
            self.review.decisions.standing()
            self.understanding.line.parts(())

        self.jobs.start_queued()
        self.worker.submit("warm", N_("Reading the ledger"), read)

    def close(self) -> None:
        """Stop background work and close the files. A training run continues."""
        self.worker.close()
        self.jobs.close()
        self.labelling.close()
        self.accounts.close()
        self.ledger_pool.close()
