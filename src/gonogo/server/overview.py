"""The overview page: station, inspectors, data sets, parts waiting for review."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fastapi import Request
from fastapi.responses import Response

from gonogo import bundle
from gonogo.errors import BundleError
from gonogo.ledger import Where
from gonogo.names import readable
from gonogo.schema import OperatingPoint, State
from gonogo.server import responses
from gonogo.server.context import Use
from gonogo.server.ledger_pool import LedgerPool
from gonogo.server.station.feed import Feed
from gonogo.server.workspace import Workspace


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One bundle of the workspace, or the reason why it cannot be read."""

    name: str
    active: bool
    sha256: str
    point: OperatingPoint | None
    problem: str


def overview(request: Request, feed: Use[Feed], ledger_pool: Use[LedgerPool], workspace: Use[Workspace]) -> Response:
    """The overview page."""
    snapshot = feed.read()
    with ledger_pool.reading() as ledger:
        waiting = ledger.count(Where(states=(State.REVIEW,), undecided=True))
    active = workspace.active_bundle()
    return responses.page(
        request,
        "home.html",
        snapshot=snapshot,
        waiting=waiting,
        bundles=[_installed(path, path == active) for path in workspace.bundle_paths()]
        + [_odd(path) for path in workspace.unusable_bundles()],
        datasets=sorted(path.name for path in workspace.datasets.iterdir() if path.is_dir()),
    )


def _odd(path: Path) -> Installed:
    why = "not a folder" if not path.is_dir() else "its name is not printable"
    return Installed(name=readable(path.name), active=False, sha256="", point=None, problem=f"Not a bundle: {why}.")


def _installed(path: Path, active: bool) -> Installed:
    try:
        opened = bundle.read_bundle(path)
    except BundleError as error:
        return Installed(name=path.name, active=active, sha256="", point=None, problem=str(error))
    return Installed(
        name=path.name, active=active, sha256=opened.sha256, point=opened.manifest.operating_point, problem=""
    )
