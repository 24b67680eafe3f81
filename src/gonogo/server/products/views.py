"""The page Products and its forms."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from fastapi import Form, Query, Request
from fastapi.responses import Response

from gonogo.config import CodeZone, Recipe
from gonogo.server import responses
from gonogo.server.access import ENGINEERS, OPERATORS
from gonogo.server.auth.visitor import Me
from gonogo.server.context import Use
from gonogo.server.inspectors import Inspectors, OpenBundle
from gonogo.server.language import N_, RefusedError
from gonogo.server.products.station_file import STATION, Products, StationFile, StationFiles
from gonogo.server.signature_fields import UNSIGNED, SignatureForm
from gonogo.server.signatures import Signatures
from gonogo.server.training.jobs import Jobs
from gonogo.server.workspace import Workspace

_NAME = re.compile(r"[^\W_]([\w .-]{0,58}\w)?")
IN_USE = "active"
"""The pointer to the inspector in use, as a bundle of a product."""

Line = Annotated[str, Form(max_length=200)]


@dataclass(frozen=True, kw_only=True)
class Judge:
    """What judges a product with one camera."""

    camera: str
    choice: str
    """As the form names it: the folder of a bundle of this workspace, or the whole path."""
    path: Path
    opened: OpenBundle | None
    """``None`` if the bundle is missing or cannot be opened."""
    dataset: str
    """The data set of this workspace that it was trained on; empty if that is unknown."""

    @property
    def recipe(self) -> Recipe:
        """Zones, codes and sizes that are sealed into it."""
        return Recipe() if self.opened is None else self.opened.manifest.recipe

    @property
    def plain_zones(self) -> list[str]:
        """Names of the zones without a code."""
        return [zone.name for zone in self.recipe.zones if not isinstance(zone, CodeZone)]


@dataclass(frozen=True, kw_only=True)
class Product:
    """One row of the page."""

    number: int
    name: str
    judges: tuple[Judge, ...]
    selected: bool
    """Whether the station makes it now."""
    selectable: bool
    """Whether the running station has it."""


def products_page(
    request: Request,
    files: Use[StationFiles],
    inspectors: Use[Inspectors],
    jobs: Use[Jobs],
    signatures: Use[Signatures],
    me: Me,
    station: Annotated[str, Query(max_length=64)] = "",
) -> Response:
    """The products of one station; with several stations, one is chosen."""
    found = files.all()
    shown = next((each for each in found if each.key == station), found[0] if found else None)
    status = None if shown is None else shown.status
    running = status is not None and bool(status["alive"])
    return responses.page(
        request,
        "products.html",
        stations=found,
        shown=shown,
        running=running,
        products=[] if shown is None else _rows(shown, inspectors, jobs),
        single=_single(shown, inspectors, jobs),
        cameras=[] if shown is None or shown.settings is None else [each.name for each in shown.settings.cameras],
        adapters=_own_numbers(shown),
        choices=[path.name for path in inspectors.workspace.bundle_paths()],
        in_use=IN_USE,
        edits=me.role in ENGINEERS,
        offer=signatures.offer(me),
        selects=me.role in OPERATORS and running,
    )


def change_products(
    request: Request,
    files: Use[StationFiles],
    workspace: Use[Workspace],
    signatures: Use[Signatures],
    me: Me,
    signature: SignatureForm,
    action: Annotated[Literal["name", "add", "set", "up", "down", "delete"], Form()],
    station: Line = "",
    digest: Annotated[str, Form(max_length=64)] = "",
    product: Line = "",
    name: Line = "",
    bundle: Annotated[list[str], Form(max_length=200)] = [],  # noqa: B006  FastAPI copies it
) -> Response:
    """Add, edit, move or delete a product of a station that does not run."""
    file = files.find(station)
    if file.settings is None:
        raise RefusedError(N_("%(file)s cannot be read: %(problem)s"), file=STATION, problem=file.problem)
    products = file.products
    if action != "add" and action != "name" and product not in products:
        raise RefusedError(N_("The station has no product %(name)s."), name=product)
    if action == "name":
        products = {_free(name, products): dict(zip(*_judging(file), strict=True))}
    elif action == "add":
        products[_free(name, products)] = _bundles(file, workspace, bundle)
    elif action == "set":
        new = product if name.strip() == product else _free(name, products)
        chosen = _bundles(file, workspace, bundle)
        products = {
            new if each == product else each: chosen if each == product else products[each] for each in products
        }
    elif action == "delete":
        del products[product]
        if not products:
            raise RefusedError(N_("A station makes at least one product. Add another one first."))
    else:
        products = _moved(products, product, -1 if action == "up" else 1)
    asked = signature if signatures.required else UNSIGNED  # the forms offer no signature that is not required
    signer = signatures.signer(me, asked, about=f"products of {file.name}")
    files.change(station, digest, products, signer=signer)
    done = responses.gettext_of(me)(N_("Saved. The station takes it over when it starts."))
    return responses.back(request, f"/products?station={station}" if station else "/products", done)


def _free(name: str, products: Products) -> str:
    name = name.strip()
    if not _NAME.fullmatch(name):
        raise RefusedError(N_("A product has 1 to 60 letters, digits, spaces, dots, hyphens or underscores."))
    if name in products:
        raise RefusedError(N_("The station already has a product %(name)s."), name=name)
    return name


def _judging(file: StationFile) -> tuple[list[str], list[Path]]:
    """The cameras of a station for one product, and their bundles."""
    assert file.settings is not None, "checked by the caller"
    if file.settings.products:
        raise RefusedError(N_("The products were changed in the meantime. Look at them, then try again."))
    return [each.name for each in file.settings.cameras], list(file.settings.sources()[None])


def _bundles(file: StationFile, workspace: Workspace, chosen: list[str]) -> dict[str, Path]:
    """The chosen bundle of each camera: one of the workspace, or a path that the station already has."""
    assert file.settings is not None, "checked by the caller"
    cameras = [each.name for each in file.settings.cameras]
    known = {path.name: path for path in workspace.bundle_paths()} | {IN_USE: workspace.root / IN_USE}
    known |= {str(path): path for each in file.products.values() for path in each.values()}
    if len(chosen) != len(cameras) or any(each not in known for each in chosen):
        raise RefusedError(N_("Choose an inspector for each camera."))
    return {camera: known[each] for camera, each in zip(cameras, chosen, strict=True)}


def _moved(products: Products, product: str, by: int) -> Products:
    names = list(products)
    at = names.index(product)
    to = min(max(at + by, 0), len(names) - 1)
    names[at], names[to] = names[to], names[at]
    return {name: products[name] for name in names}


def _rows(file: StationFile, inspectors: Inspectors, jobs: Jobs) -> list[Product]:
    status = file.status or {}
    alive = bool(status.get("alive"))
    return [
        Product(
            number=number,
            name=name,
            judges=tuple(_judge(camera, path, inspectors, jobs) for camera, path in bundles.items()),
            selected=alive and status.get("product") == name,
            selectable=alive and name in status.get("products", ()),
        )
        for number, (name, bundles) in enumerate(file.products.items(), start=1)
    ]


def _single(file: StationFile | None, inspectors: Inspectors, jobs: Jobs) -> list[Judge]:
    """What judges at a station for one product."""
    if file is None or file.settings is None or file.settings.products:
        return []
    cameras, paths = _judging(file)
    return [_judge(camera, path, inspectors, jobs) for camera, path in zip(cameras, paths, strict=True)]


def _judge(camera: str, path: Path, inspectors: Inspectors, jobs: Jobs) -> Judge:
    real, workspace = _pointed_at(path), inspectors.workspace
    made = {job.request.bundle: job.request.dataset for job in reversed(jobs.all())}
    own = real.parent == workspace.bundles
    choice = path.name if path.parent == workspace.bundles or path == workspace.root / IN_USE else str(path)
    return Judge(
        camera=camera,
        choice=choice,
        path=real,
        opened=inspectors.bundles.open(real),
        dataset=made.get(real.name, "") if own else "",
    )


def _pointed_at(path: Path) -> Path:
    """The bundle that a path means: a folder, a link to one, or a text file with its path."""
    if path.is_file():
        return path.parent / path.read_text("utf-8", errors="replace").strip()[:4096]
    return path.resolve() if path.is_symlink() else path


def _own_numbers(file: StationFile | None) -> list[tuple[str, tuple[str, ...]]]:
    """Adapters that number the products by themselves."""
    if file is None or file.settings is None:
        return []
    found = [(each.name, tuple(getattr(each, "products", ()))) for each in file.settings.adapters]
    return [(name, products) for name, products in found if products]
