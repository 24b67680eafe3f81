"""Understanding: what the bundle in use would do with other limits, where it errs, and whether the line has changed."""

from __future__ import annotations

from dataclasses import dataclass

from gonogo.server.book import Book
from gonogo.server.datasets import Datasets
from gonogo.server.insight.comparing import Comparer
from gonogo.server.insight.gauges import Gauge, Gauges
from gonogo.server.insight.known import Known, Library
from gonogo.server.insight.line import Line
from gonogo.server.insight.setting import Setter
from gonogo.server.insight.tasks import Task, Worker
from gonogo.server.insight.watching import Watchman
from gonogo.server.jobs import Jobs
from gonogo.server.language import N_
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Insight:
    """One of each."""

    workspace: Workspace
    jobs: Jobs
    gauges: Gauges
    taught: Library
    line: Line
    watchman: Watchman
    comparer: Comparer
    setter: Setter
    worker: Worker

    @classmethod
    def start(cls, workspace: Workspace, book: Book, datasets: Datasets, jobs: Jobs) -> Insight:
        """Make them for a workspace; what they work out is kept in its ``cache`` folder, which may be deleted."""
        worker, line, cache = Worker(), Line(book), workspace.root / "cache"
        return cls(
            workspace=workspace,
            jobs=jobs,
            gauges=Gauges(),
            taught=Library(datasets, jobs, cache, worker),
            line=line,
            watchman=Watchman(book, line, cache, worker),
            comparer=Comparer(book, datasets, jobs, worker),
            setter=Setter(book, datasets, jobs, worker),
            worker=worker,
        )

    def gauge(self) -> Gauge | None:
        """The bundle in use."""
        return self.gauges.open(self.workspace.active_bundle())

    def same_product(self, bundle_sha256: str | None) -> bool:
        """Whether the inspector in use, or another one that was trained on a data set of the same name, judged a part.

        Also where nothing is known of what judged it, or no inspector is in use.
        """
        gauge = self.gauge()
        if gauge is None or bundle_sha256 is None or bundle_sha256 in gauge.family:
            return True
        made_from = {job.asked.bundle: job.asked.dataset for job in self.jobs.all()}
        dataset = made_from.get(gauge.name)
        if dataset is None:
            return False
        for path in self.workspace.bundle_paths():
            other = self.gauges.open(path) if made_from.get(path.name) == dataset else None
            if other is not None and bundle_sha256 in other.family:
                return True
        return False

    def known(self) -> Known | None:
        """What is known of the pictures that the bundle in use was made from."""
        gauge = self.gauge()
        return None if gauge is None else self.taught.of(gauge)

    def why_unknown(self, gauge: Gauge) -> str:
        """Why no labelled pictures speak for a bundle, for people; marked with ``N_``."""
        made = [job.asked.dataset for job in self.jobs.all() if job.asked.bundle == gauge.name]
        if made and made[0] in self.taught.names():
            return N_(
                "Pictures or labels for training have changed since this inspector was trained, so no data set here "
                "is used for it: not for certifying, nor for examples, kinds or blind checks. Train again."
            )
        return N_(
            "No data set here holds exactly the pictures and labels that this inspector was trained on, so none is "
            "used for it: not for certifying, nor for examples, kinds or blind checks."
        )

    def close(self) -> None:
        """Stop working."""
        self.worker.close()


__all__ = ["Gauge", "Insight", "Known", "Task"]
