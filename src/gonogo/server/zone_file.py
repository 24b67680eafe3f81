"""``zones.toml`` of a data set: read, checked and saved for the zones page."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from gonogo.config import IgnoreZone, InspectZone, Zone, ZoneFile
from gonogo.config.strict import read_toml
from gonogo.config.zones import DrawnOn
from gonogo.dataset import locked
from gonogo.errors import GonogoError, InputError
from gonogo.files import parse_toml, write_beside
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool

ZONES = "zones.toml"
BEFORE = "zones.before.toml"
"""The file as it was before the last save, with its comments."""
_FIELDS = {
    "name": N_(
        "A name has 1 to 40 letters, digits, spaces, dots or hyphens, starts with a letter or digit, is not rest."
    ),
    "polygon": N_("A zone has 3 to 200 corners, none further from the part than the part is large."),
    "sensitivity": N_("The sensitivity is a share between 0 and 0.5, such as 0.05."),
}
_TWICE = N_("Another zone has this name.")
_HEAD = "# Drawn on the zones page of this data set. Saving there keeps code and presence zones, but not comments.\n"


class DrawnZone(BaseModel):
    """A zone as the page sends it; `ZoneFile` checks its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ignore", "inspect"]
    name: Annotated[str, Field(max_length=400)]
    polygon: Annotated[list[tuple[float, float]], Field(max_length=2000)]
    """Corners in part coordinates."""
    sensitivity: float | None = None
    """Of an inspect zone; ``None`` for the usual one."""

    def as_table(self) -> dict[str, object]:
        """The zone's table in TOML."""
        more = {} if self.kind == "ignore" or self.sensitivity is None else {"sensitivity": self.sensitivity}
        return {"kind": self.kind, "name": self.name.strip(), "polygon": self.polygon, **more}


class ZonesRequest(BaseModel):
    """Request body: all zones that are edited on the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Annotated[str, Field(max_length=64)]
    """`SavedZones.digest` of the file that the page shows."""
    drawn_on: DrawnOn
    zones: Annotated[list[DrawnZone], Field(max_length=100)]


@dataclass(frozen=True, kw_only=True)
class SavedZones:
    """What a data set's ``zones.toml`` holds."""

    zones: tuple[Zone, ...] = ()
    drawn_on: DrawnOn | None = None
    digest: str = ""
    """SHA-256 of the file; empty if there is none."""
    problem: str = ""
    """Why the file cannot be used."""

    @classmethod
    def read(cls, root: Path) -> SavedZones:
        """Read the zones of a data set; a malformed file is reported in ``problem``."""
        path = root / ZONES
        if not path.is_file():
            return cls()
        try:
            digest = _digest(path.read_bytes())  # before the zones, so that a change in between is a conflict
            found = read_toml(path, ZoneFile, example="gonogo zones example")
        except (InputError, OSError) as error:
            return cls(problem=str(error))
        return cls(zones=found.zones, drawn_on=found.drawn_on, digest=digest)

    @property
    def kept(self) -> tuple[Zone, ...]:
        """The zones that the page shows and keeps: those with more than a name, a polygon and a sensitivity."""
        return tuple(zone for zone in self.zones if not isinstance(zone, (IgnoreZone, InspectZone)))


@dataclass(frozen=True, kw_only=True)
class ZoneProblem:
    """A wrong value of one zone of the request."""

    row: int
    field: str
    message: str
    """English; translated by the page."""


class WrongZonesError(GonogoError):
    """Zones of the request are wrong; nothing was saved."""

    def __init__(self, problems: Sequence[ZoneProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(f"expected zones that can be saved, found {len(problems)} wrong values: correct them.")


class ChangedZonesError(GonogoError):
    """The file has changed since the page was loaded; nothing was saved."""

    def __init__(self) -> None:
        super().__init__(f"{ZONES}: was changed in the meantime. Load the page again.")


def save_zones(root: Path, said: ZonesRequest, who: str, ledger_pool: LedgerPool) -> SavedZones:
    """Save the zones of a data set: first in the ledger, then in the file. Saving the same again changes nothing.

    Raises:
        ChangedZonesError: another version was saved since the page was loaded.
        WrongZonesError: values are wrong.
        RefusedError: the file is malformed, or there are too many zones.
        LedgerError: the change could not be recorded and was not saved.
    """
    with locked(root):
        before = SavedZones.read(root)
        if before.problem:
            raise RefusedError(N_("zones.toml cannot be read: %(problem)s"), problem=before.problem)
        if before.digest != said.digest:
            raise ChangedZonesError
        after = _checked(said, before.kept)
        data = as_toml(after)
        if (after.zones, after.drawn_on) == (before.zones, before.drawn_on) and before.digest:
            return before
        names: list[JsonValue] = [f"{zone.name} ({zone.kind})" for zone in after.zones]
        ledger_pool.act("zones", who, dataset=root.name, zones=names, zones_sha256=_digest(data), before=before.digest)
        if before.digest:
            write_beside(root / BEFORE, (root / ZONES).read_bytes())
        write_beside(root / ZONES, data)
    return SavedZones(zones=after.zones, drawn_on=after.drawn_on, digest=_digest(data))


def require_fit(saved: SavedZones, *, learned: bool) -> None:
    """Raise if zones cannot be used with a region: they move with the part only where it is found as it was drawn.

    Args:
        saved: The zones of the data set.
        learned: Whether the part is found by a learned region; otherwise the whole picture is inspected.

    Raises:
        RefusedError: says what to choose.
    """
    if saved.problem:
        raise RefusedError(N_("zones.toml cannot be read: %(problem)s"), problem=saved.problem)
    if not saved.zones or saved.drawn_on is None:
        return
    if saved.drawn_on == "part" and not learned:
        raise RefusedError(
            N_("The zones were drawn on the boxed part: inspect that area, or draw them on the whole picture.")
        )
    if saved.drawn_on == "picture" and learned:
        raise RefusedError(
            N_("The zones were drawn on the whole picture: inspect that area, or draw them on the boxed part.")
        )


def as_toml(file: ZoneFile) -> bytes:
    """The content of ``zones.toml``, with one line for each polygon; values that were not given are left out."""
    lines = [_HEAD, f'drawn_on = "{file.drawn_on}"\n' if file.drawn_on else "", "" if file.zones else "zones = []\n"]
    for zone in file.zones:
        lines.append("\n[[zones]]\n")
        for key, value in zone.model_dump(mode="json", exclude_unset=True).items():
            lines.append(f"{key} = {json.dumps(value)}\n" if isinstance(value, list) else tomli_w.dumps({key: value}))
    text = "".join(lines)
    assert ZoneFile.model_validate(parse_toml(text)) == file, "what is written must be what is read"
    return text.encode()


def _checked(said: ZonesRequest, kept: tuple[Zone, ...]) -> ZoneFile:
    problems, names = [], {zone.name for zone in kept}
    for row, zone in enumerate(said.zones):
        if zone.name.strip() in names:
            problems.append(ZoneProblem(row=row, field="name", message=_TWICE))
        names.add(zone.name.strip())
    drawn: list[Zone] = []
    for row, zone in enumerate(said.zones):
        try:
            drawn.extend(ZoneFile.model_validate({"zones": [zone.as_table()]}).zones)
        except ValidationError as error:
            wrong = {str(key) for each in error.errors() for key in each["loc"]} & set(_FIELDS) or {"name"}
            problems += [ZoneProblem(row=row, field=field, message=_FIELDS[field]) for field in sorted(wrong)]
    if problems:
        raise WrongZonesError(problems)
    try:
        return ZoneFile(zones=(*kept, *drawn), drawn_on=said.drawn_on)
    except ValidationError as error:
        raise RefusedError(N_("There are more zones than a part can have: delete some.")) from error


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
