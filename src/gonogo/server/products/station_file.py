"""``[products]`` of a ``station.toml``: read, changed and written back; everything else in the file stays as it is."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_text, write_beside
from gonogo.server.language import N_, RefusedError
from gonogo.server.signatures import Signatures, Signer
from gonogo.server.workspace import Workspace
from gonogo.station.settings import StationSettings, parse_settings
from gonogo.station.status import read_station_status

STATION = "station.toml"
BEFORE = "station.before.toml"
"""The file as it was before the last change of its products."""
_TABLE = re.compile(r"^\s*\[")
_PRODUCTS = re.compile(r"^\s*\[\s*products\s*(\.[^\]]*)?\]")
_BUNDLE = re.compile(r"^\s*bundle\s*=")

Products = dict[str, dict[str, Path]]
"""The bundle of each product for each camera, as paths; the order gives the numbers."""


@dataclass(frozen=True, kw_only=True)
class StationFile:
    """One ``station.toml``, as it was read."""

    key: str
    """Empty for the station at the top of the workspace, otherwise the name of its folder in ``stations``."""
    path: Path
    text: str = ""
    settings: StationSettings | None = None
    problem: str = ""
    """Why the file cannot be used."""

    @property
    def digest(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def name(self) -> str:
        """The station's name."""
        return self.key if self.settings is None else self.settings.station

    @property
    def products(self) -> Products:
        """The bundle of each product for each camera."""
        if self.settings is None or not self.settings.products:
            return {}
        cameras = [each.name for each in self.settings.cameras]
        sources = self.settings.sources()
        return {str(name): dict(zip(cameras, places, strict=True)) for name, places in sources.items()}

    @property
    def status(self) -> dict[str, Any] | None:
        """The station's last status; ``None`` if it never ran."""
        return None if self.settings is None else read_station_status(self.settings.state_dir)

    @property
    def runs(self) -> bool:
        """Whether the station runs now."""
        status = self.status
        return status is not None and bool(status["alive"])


class StationFiles:
    """The settings of the stations of a workspace."""

    def __init__(self, workspace: Workspace, signatures: Signatures) -> None:
        self._root, self._signatures = workspace.root, signatures
        self._lock = threading.Lock()

    def all(self) -> list[StationFile]:
        """Every station, the one at the top of the workspace first."""
        top, others = self._root / STATION, sorted((self._root / "stations").glob(f"*/{STATION}"))
        found = [_read("", top)] if top.is_file() else []
        return found + [_read(path.parent.name, path) for path in others]

    def find(self, key: str) -> StationFile:
        """Return one station by its key.

        Raises:
            RefusedError: there is none.
        """
        for each in self.all():
            if each.key == key:
                return each
        raise RefusedError(N_("There is no station %(name)s."), name=key[:64] or STATION)

    def change(self, key: str, digest: str, products: Products, *, signer: Signer) -> StationFile:
        """Replace the products of a station that does not run: first in the ledger, then in its file.

        Args:
            key: The station.
            digest: `StationFile.digest` of the file that the change was made from.
            products: All products, in the order of their numbers.
            signer: The person.

        Raises:
            RefusedError: the station runs, its file was changed meanwhile, or the products cannot be used.
            LedgerError: the change could not be recorded and was not made.
        """
        with self._lock:
            before = self.find(key)
            if before.settings is None:
                raise RefusedError(N_("%(file)s cannot be read: %(problem)s"), file=STATION, problem=before.problem)
            if before.digest != digest:
                raise RefusedError(N_("The products were changed in the meantime. Look at them, then try again."))
            if before.runs:
                raise RefusedError(
                    N_("The station %(name)s is running. Stop it first: it reads its products when it starts."),
                    name=before.name,
                )
            text = with_products(before.text, _table(products, before.path.parent))
            after = _checked(before, text, products)
            listed: dict[str, Any] = {
                name: {camera: str(path) for camera, path in bundles.items()} for name, bundles in products.items()
            }
            self._signatures.act(
                signer,
                "products",
                of_station=before.name,
                products=listed,
                order=list(products),
                settings_sha256=after.digest,
                before=before.digest,
            )
            write_beside(before.path.with_name(BEFORE), before.text.encode())
            write_beside(before.path, text.encode())
        return after


def with_products(text: str, table: Mapping[str, object]) -> str:
    """Replace ``[products]`` in the text of a ``station.toml``; ``bundle``, whose place it takes, is removed.

    Comments between the old products are lost, all others stay.
    """
    block = tomli_w.dumps({"products": table})
    kept: list[str] = []
    remarks: list[str] = []  # after the last product: they belong to the table that follows
    inside = in_products = False
    at: int | None = None
    for line in text.splitlines(keepends=True):
        if _TABLE.match(line):
            inside, in_products = True, bool(_PRODUCTS.match(line))
            if in_products and at is None:
                at = len(kept)
            kept += [] if in_products else remarks
            remarks = []
        elif in_products:
            remarks = [*remarks, line] if not line.strip() or line.lstrip().startswith("#") else []
        if not in_products and (inside or not _BUNDLE.match(line)):
            kept.append(line)
    if at is None:
        return f"{''.join(kept).rstrip()}\n\n{block}"
    rest = "".join(kept[at:]).lstrip("\n")
    return "".join(kept[:at]) + block + (f"\n{rest}" if rest else "")


def _read(key: str, path: Path) -> StationFile:
    try:
        text = read_text(path, most_bytes=MOST_SETTINGS_BYTES)
        return StationFile(key=key, path=path, text=text, settings=parse_settings(text, folder=path.parent))
    except (OSError, UnicodeDecodeError, InputError) as error:
        return StationFile(key=key, path=path, problem=str(error))


def _table(products: Products, folder: Path) -> dict[str, object]:
    table: dict[str, object] = {}
    for name, bundles in products.items():
        places = {camera: _relative(path, folder) for camera, path in bundles.items()}
        table[name] = next(iter(places.values())) if len(set(places.values())) == 1 else places
    return table


def _relative(path: Path, folder: Path) -> str:
    """The path as the file should name it: relative if both are in one workspace, so that it can be moved."""
    for up, parent in enumerate((folder, *list(folder.parents)[:2])):
        if path.is_relative_to(parent):
            return "../" * up + path.relative_to(parent).as_posix()
    return str(path)


def _checked(before: StationFile, text: str, products: Products) -> StationFile:
    """Read the new text, and make sure that nothing but the products has changed."""
    try:
        settings = parse_settings(text, folder=before.path.parent)
    except InputError as error:
        raise RefusedError(N_("These products cannot be used: %(why)s"), why=str(error)) from error
    after = StationFile(key=before.key, path=before.path, text=text, settings=settings)
    assert before.settings is not None, "checked by the caller"
    bare: dict[str, object] = {"products": {}, "bundle": None}
    found = {name: {camera: path.resolve() for camera, path in each.items()} for name, each in after.products.items()}
    wanted = {name: {camera: path.resolve() for camera, path in each.items()} for name, each in products.items()}
    same = before.settings.model_copy(update=bare) == settings.model_copy(update=bare)
    if not same or found != wanted or list(found) != list(wanted):
        raise RefusedError(N_("This station.toml cannot be edited here without changing more. Edit it by hand."))
    return after
