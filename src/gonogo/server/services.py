"""What every handler may use: the workspace, the people, the ledger, the live feed; and who is asking."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

import argon2
from fastapi import Depends, Request
from pydantic import Field

from gonogo.server.access import Role
from gonogo.server.book import Book
from gonogo.server.datasets import Datasets
from gonogo.server.doubt import Doubts
from gonogo.server.feed import Feed
from gonogo.server.insight import Insight, Task
from gonogo.server.jobs import Jobs
from gonogo.server.labels import Rows
from gonogo.server.language import N_
from gonogo.server.people import People, User
from gonogo.server.photos import Photos
from gonogo.server.pictures import Pictures
from gonogo.server.preferences import Preferences
from gonogo.server.proposals import Proposals
from gonogo.server.review import Review
from gonogo.server.sessions import Sessions
from gonogo.server.store import Store
from gonogo.server.throttle import Throttle
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server is run."""

    names: tuple[str, ...] = ()
    """Host names it answers to, besides addresses, ``localhost`` and this machine's own name."""
    tls: bool = False
    """Whether it is reached by https: cookies are then sent by https alone."""
    max_streams: int = 64
    """Live pages open at once."""
    hasher: argon2.PasswordHasher = field(default_factory=argon2.PasswordHasher)
    now: Callable[[], float] = time.time

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names in the Host header that are taken, in lower case."""
        own = socket.gethostname().lower()
        return frozenset({"localhost", own, socket.getfqdn().lower(), f"{own}.local", *map(str.lower, self.names)})


@dataclass(frozen=True, kw_only=True)
class Services:
    """One of each, made once for each app."""

    workspace: Workspace
    options: Options
    store: Store
    people: People
    sessions: Sessions
    throttle: Throttle
    book: Book
    feed: Feed
    pictures: Pictures
    preferences: Preferences
    datasets: Datasets
    rows: Rows
    review: Review
    insight: Insight
    photos: Photos
    jobs: Jobs
    doubts: Doubts
    proposals: Proposals

    @classmethod
    def start(cls, workspace: Workspace, options: Options) -> Services:
        """Open the workspace's files."""
        store = Store(workspace.database)
        book = Book(workspace.ledger)
        datasets, jobs = Datasets(workspace.datasets), Jobs(workspace)
        jobs.tend()
        insight = Insight.start(workspace, book, datasets, jobs)
        review = Review.start(store, book, datasets, now=options.now)
        review.desk.comparable = lambda decision: insight.same_product(decision.bundle_sha256)
        return cls(
            workspace=workspace,
            options=options,
            store=store,
            people=People(store, hasher=options.hasher, now=options.now),
            sessions=Sessions(store, now=options.now),
            throttle=Throttle(store, now=options.now),
            book=book,
            feed=Feed(book, workspace.station_state, max_streams=options.max_streams),
            pictures=Pictures(book, workspace.bundle_paths),
            preferences=Preferences(store),
            datasets=datasets,
            rows=Rows(),
            review=review,
            insight=insight,
            photos=Photos(),
            jobs=jobs,
            doubts=Doubts(datasets, jobs.trained_on),
            proposals=Proposals(datasets, jobs.trained_on),
        )

    def warm_up(self) -> None:
        """Read in the background what pages keep in memory, so that the first visitor need not wait for it."""

        def read(task: Task) -> None:
            self.review.decisions.standing()
            self.insight.line.parts(())

        self.insight.worker.submit("warm", N_("Reading the ledger"), read)

    def close(self) -> None:
        """Close the files. A training run goes on."""
        self.insight.close()
        self.jobs.close()
        self.doubts.close()
        self.proposals.close()
        self.people.close()
        self.book.close()
        self.store.close()


@dataclass(frozen=True, kw_only=True)
class Visitor:
    """Who is asking, and in which language they are answered."""

    name: str
    """``""`` before login."""
    role: Role | None
    """``None`` before login."""
    language: str
    theme: str
    """``light``, ``dark``, or ``auto``: as the browser likes."""
    user: User | None = None
    """The person; ``None`` for a program and before login."""
    session: str | None = None
    """The session's secret, from the cookie."""


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def _visitor(request: Request) -> Visitor:
    found: Visitor = request.state.visitor
    return found


RowNumber = Annotated[int, Field(ge=0, lt=2**63)]
"""A row's number in a database, as an argument of a handler: SQLite holds none that is larger."""
Here = Annotated[Services, Depends(_services)]
"""The services, as an argument of a handler."""
Me = Annotated[Visitor, Depends(_visitor)]
"""Who is asking, as an argument of a handler."""
