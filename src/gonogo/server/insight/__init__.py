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
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Insight:
    """One of each."""

    workspace: Workspace
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
            gauges=Gauges(),
            taught=Library(datasets, cache, worker),
            line=line,
            watchman=Watchman(book, line, cache, worker),
            comparer=Comparer(book, datasets, jobs, worker),
            setter=Setter(book, datasets, worker),
            worker=worker,
        )

    def gauge(self) -> Gauge | None:
        """The bundle in use."""
        return self.gauges.open(self.workspace.active_bundle())

    def known(self) -> Known | None:
        """What is known of the pictures that the bundle in use was made from."""
        gauge = self.gauge()
        return None if gauge is None else self.taught.of(gauge)

    def close(self) -> None:
        """Stop working."""
        self.worker.close()


__all__ = ["Gauge", "Insight", "Known", "Task"]
