"""The overview: what runs here, what waits for somebody, where to go."""

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
from gonogo.server import pages
from gonogo.server.services import Here


@dataclass(frozen=True, kw_only=True)
class Installed:
    """One bundle of the workspace, as far as it can be read."""

    name: str
    active: bool
    sha256: str
    point: OperatingPoint | None
    problem: str


def overview(request: Request, here: Here) -> Response:
    """The first page after login."""
    snapshot = here.feed.read()
    with here.book.reading() as ledger:
        waiting = ledger.count(Where(states=(State.REVIEW,), undecided=True))
    active = here.workspace.active_bundle()
    return pages.page(
        request,
        "home.html",
        snapshot=snapshot,
        waiting=waiting,
        bundles=[_installed(path, path == active) for path in here.workspace.bundle_paths()]
        + [_odd(path) for path in here.workspace.odd_bundles()],
        datasets=sorted(path.name for path in here.workspace.datasets.iterdir() if path.is_dir()),
    )


def _odd(path: Path) -> Installed:
    told = "not a folder" if not path.is_dir() else "its name is no line of text"
    return Installed(name=readable(path.name), active=False, sha256="", point=None, problem=f"Not a bundle: {told}.")


def _installed(path: Path, active: bool) -> Installed:
    try:
        opened = bundle.read(path)
    except BundleError as error:
        return Installed(name=path.name, active=active, sha256="", point=None, problem=str(error))
    return Installed(
        name=path.name, active=active, sha256=opened.sha256, point=opened.manifest.operating_point, problem=""
    )
