"""The server's components: opened when an app is built, started and closed in its lifespan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from gonogo.server.api.judges import Judges
from gonogo.server.api.metrics import ServerMetrics
from gonogo.server.api.turns import Turns
from gonogo.server.auth.accounts import Accounts
from gonogo.server.auth.visits import Visits
from gonogo.server.background_work import Journal, Task, Worker
from gonogo.server.catalogue import Catalogue
from gonogo.server.compare import Comparing
from gonogo.server.database import Database
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets.plan import Plans
from gonogo.server.datasets.zone_trial import ZoneTrials
from gonogo.server.grid import Grid, warm
from gonogo.server.inspectors import Inspectors
from gonogo.server.label import Labelling
from gonogo.server.language import N_
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.options import Options
from gonogo.server.part_page.story import Stories
from gonogo.server.parts.pictures import PartPictures
from gonogo.server.products.station_file import StationFiles
from gonogo.server.records import Records
from gonogo.server.review import Review
from gonogo.server.shadow import Shadows
from gonogo.server.signatures import Signatures
from gonogo.server.sizes.measuring import SizeTrials
from gonogo.server.station.feed import Feed
from gonogo.server.stations.looking import Eyes
from gonogo.server.stations.previews import Previews
from gonogo.server.stations.stations import Stations
from gonogo.server.training.jobs import Jobs
from gonogo.server.understand import Understanding
from gonogo.server.work.board import Board
from gonogo.server.workspace import Workspace

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Components:
    """One instance of each component. A handler gets only the components it names: see `gonogo.server.context.Use`."""

    workspace: Workspace
    ledger_pool: LedgerPool
    accounts: Accounts
    signatures: Signatures
    worker: Worker
    journal: Journal
    board: Board
    datasets: Datasets
    zone_trials: ZoneTrials
    labelling: Labelling
    grid: Grid
    jobs: Jobs
    inspectors: Inspectors
    size_trials: SizeTrials
    station_files: StationFiles
    catalogue: Catalogue
    shadows: Shadows
    review: Review
    understanding: Understanding
    comparing: Comparing
    pictures: PartPictures
    records: Records
    stories: Stories
    feed: Feed
    stations: Stations
    previews: Previews
    eyes: Eyes
    judges: Judges
    turns: Turns
    visits: Visits
    plans: Plans
    metrics: ServerMetrics

    @classmethod
    def open(cls, workspace: Workspace, options: Options) -> Components:
        """Open the workspace's files; nothing runs before `start`."""
        database, ledger_pool = Database.open(workspace.database), LedgerPool.open(workspace.ledger)
        journal = Journal(database, now=options.now)
        worker = Worker(journal)
        datasets, jobs, cache = Datasets(workspace.datasets), Jobs(workspace), workspace.root / "cache"
        inspectors = Inspectors.of(workspace, datasets, jobs, cache, worker)
        accounts = Accounts.open(
            database, hasher=options.hasher, now=options.now, tls=options.tls, directory=options.directory
        )
        signatures = Signatures(workspace, ledger_pool, accounts)
        catalogue = Catalogue(workspace, ledger_pool, signatures)
        pictures = PartPictures(ledger_pool, workspace.bundle_paths)
        review = Review.of(database, ledger_pool, datasets, now=options.now, same_product=inspectors.same_product)
        records = Records.of(workspace, ledger_pool, datasets, review, journal, signatures)
        stations, previews = Stations(workspace, ledger_pool, signatures), Previews()
        return cls(
            workspace=workspace,
            ledger_pool=ledger_pool,
            accounts=accounts,
            signatures=signatures,
            worker=worker,
            journal=journal,
            board=Board((worker, records.worker), jobs, journal),
            datasets=datasets,
            zone_trials=ZoneTrials(datasets, worker),
            labelling=Labelling.of(database, datasets, jobs),
            grid=Grid.of(datasets, inspectors, cache),
            jobs=jobs,
            inspectors=inspectors,
            size_trials=SizeTrials(datasets, inspectors),
            station_files=StationFiles(workspace, signatures),
            catalogue=catalogue,
            shadows=Shadows(workspace, ledger_pool, catalogue),
            review=review,
            understanding=Understanding.of(ledger_pool, signatures, datasets, jobs, cache, worker),
            comparing=Comparing.of(ledger_pool, datasets, jobs, worker),
            pictures=pictures,
            records=records,
            stories=Stories(
                ledger_pool, records, review, inspectors, datasets, jobs, pictures, signatures, now=options.now
            ),
            feed=Feed(ledger_pool, workspace.station_state, stations, max_streams=options.max_streams),
            stations=stations,
            previews=previews,
            eyes=Eyes(stations, previews, ledger_pool),
            judges=Judges(workspace),
            turns=Turns(options.key_rate_per_s),
            plans=Plans(),
            visits=Visits(ledger_pool, rate_per_s=options.request_rate_per_s, audit_pictures=options.audit_pictures),
            metrics=ServerMetrics(workspace),
        )

    def of(self, kind: type[T]) -> T:
        """The component of this type."""
        return next(each for each in vars(self).values() if isinstance(each, kind))

    def start(self) -> None:
        """Start queued training runs and the stations that should run; fill the pages' caches in the background."""

        def read(task: Task) -> None:
            self.review.decisions.standing()
            self.understanding.line.parts(())
            self.stories.learned.uses(())
            self.shadows.warm()
            warm(self.grid, self.datasets)

        self.journal.begin()
        self.jobs.start_queued()
        self.shadows.resume()
        self.records.start()
        self.stations.start()
        self.worker.submit("warm", N_("Reading the ledger"), read)

    def close(self) -> None:
        """Stop background work and close the files. Training runs and stations continue."""
        self.stations.close()
        self.previews.close()
        self.worker.close()
        self.shadows.close()
        self.records.close()
        self.jobs.close()
        self.labelling.close()
        self.accounts.close()
        self.ledger_pool.close()
