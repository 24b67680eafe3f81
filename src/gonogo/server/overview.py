"""The overview page: station, inspectors, data sets, parts waiting for review."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

from gonogo import bundle
from gonogo.errors import BundleError
from gonogo.ledger import Where
from gonogo.names import readable
from gonogo.schema import OperatingPoint, State
from gonogo.server import responses
from gonogo.server.access import ENGINEERS
from gonogo.server.auth.visitor import Me
from gonogo.server.catalogue import Catalogue
from gonogo.server.context import Use
from gonogo.server.dataset_store import Datasets
from gonogo.server.datasets.views import datasets_overview
from gonogo.server.first_steps import Progress, Standing, Step, first_steps
from gonogo.server.inspectors.bundles import untrusted
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.station.feed import Feed
from gonogo.server.stations.stations import Stations
from gonogo.server.training.jobs import Jobs
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One bundle of the workspace, or the reason why it cannot be read."""

    name: str
    active: bool
    sha256: str
    point: OperatingPoint | None
    problem: str


def overview(
    request: Request,
    feed: Use[Feed],
    ledger_pool: Use[LedgerPool],
    workspace: Use[Workspace],
    catalogue: Use[Catalogue],
    datasets: Use[Datasets],
    jobs: Use[Jobs],
    stations: Use[Stations],
    me: Me,
) -> Response:
    """The overview page."""
    snapshot = feed.read()
    with ledger_pool.reading() as ledger:
        waiting = ledger.count(Where(states=(State.REVIEW,), undecided=True))
    active = workspace.active_bundle()
    bundles = [_installed(path, path == active, workspace) for path in catalogue.listed()]
    steps: tuple[Step, ...] = ()
    if me.role in ENGINEERS:
        usable = [each for each in bundles if not each.problem]
        standing = Standing(
            datasets=[datasets_overview(datasets, name) for name in datasets.names()],
            jobs=jobs.all(),
            bundles=len(usable),
            in_use=any(each.active for each in usable),
            point=next((each.point for each in usable if each.active), None),
            judged=snapshot.last is not None,
            stations=len(stations.all()),
        )
        steps = first_steps(standing)
    return responses.page(
        request,
        "home.html",
        snapshot=snapshot,
        waiting=waiting,
        steps=[] if all(step.progress is Progress.DONE for step in steps) else steps,
        bundles=bundles + [_odd(path) for path in workspace.unusable_bundles()],
        datasets=sorted(path.name for path in workspace.datasets.iterdir() if path.is_dir()),
    )


def _odd(path: Path) -> Installed:
    why = "not a folder" if not path.is_dir() else "its name is not printable"
    return Installed(name=readable(path.name), active=False, sha256="", point=None, problem=f"Not a bundle: {why}.")


def _installed(path: Path, active: bool, workspace: Workspace) -> Installed:
    try:
        opened = bundle.read_bundle(path)
    except BundleError as error:
        return Installed(name=path.name, active=active, sha256="", point=None, problem=str(error))
    problem = untrusted(opened, replace(workspace.signatures, accept_revoked=True)) if active else ""
    return Installed(
        name=path.name, active=active, sha256=opened.sha256, point=opened.manifest.operating_point, problem=problem
    )
