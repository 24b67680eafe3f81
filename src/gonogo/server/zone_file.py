"""``zones.toml`` of a data set: read, checked and saved for the zones page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gonogo.config import PresenceZone, Zone, ZoneFile
from gonogo.config.zones import DrawnOn
from gonogo.files import parse_toml
from gonogo.server.drawn_file import DrawnFile, RowProblem, Saved, WrongRowsError
from gonogo.server.language import N_, RefusedError
from gonogo.server.ledger_pool import LedgerPool

ZONES = "zones.toml"
_FIELDS = {
    "name": N_(
        "A name has 1 to 40 letters, digits, spaces, dots or hyphens, starts with a letter or digit, is not rest."
    ),
    "polygon": N_("A zone has 3 to 200 corners, none further from the part than the part is large."),
    "sensitivity": N_("The sensitivity is a share between 0 and 0.5, such as 0.05."),
    "formats": N_("Choose at least one kind of code."),
    "pattern": N_(
        "The text is a regular expression of 1 to 300 characters. Its named groups are part, lot, product or serial."
    ),
}
_TWICE = N_("Another zone has this name.")
_HEAD = "# Drawn on the zones page of this data set. Saving there keeps presence zones, but not comments.\n"


class DrawnZone(BaseModel):
    """A zone as the page sends it; `ZoneFile` checks its values."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["ignore", "inspect", "code"]
    name: Annotated[str, Field(max_length=400)]
    polygon: Annotated[list[tuple[float, float]], Field(max_length=2000)]
    """Corners in part coordinates."""
    sensitivity: float | None = None
    """Of an inspect zone; ``None`` for the usual one."""
    formats: Annotated[list[str], Field(max_length=50)] | None = None
    """Of a code zone, like the following; ``None`` for the usual ones."""
    pattern: Annotated[str, Field(max_length=1000)] | None = None
    unreadable: Literal["fault", "review"] | None = None

    def as_table(self) -> dict[str, object]:
        """The zone's table in TOML."""
        fields = {"ignore": (), "inspect": ("sensitivity",), "code": ("formats", "pattern", "unreadable")}[self.kind]
        more = {field: value for field in fields if (value := getattr(self, field)) is not None}
        return {"kind": self.kind, "name": self.name.strip(), "polygon": self.polygon, **more}


class ZonesRequest(BaseModel):
    """Request body: all zones that are edited on the page."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    digest: Annotated[str, Field(max_length=64)]
    """`Saved.digest` of the file that the page shows."""
    drawn_on: DrawnOn
    zones: Annotated[list[DrawnZone], Field(max_length=100)]


def save_zones(root: Path, said: ZonesRequest, who: str, ledger_pool: LedgerPool) -> Saved[ZoneFile]:
    """Save the zones of a data set, with those that the page keeps. Saving the same again changes nothing.

    Raises:
        ChangedFileError: another version was saved since the page was loaded.
        WrongRowsError: values are wrong.
        RefusedError: the file is malformed, or there are too many zones.
        LedgerError: the change could not be recorded and was not saved.
    """
    return ZONE_FILE.save(
        root,
        seen=said.digest,
        change=lambda before: checked_zones(said, before),
        told=lambda after: {"zones": [f"{zone.name} ({zone.kind})" for zone in after.zones]},
        who=who,
        ledger_pool=ledger_pool,
    )


def kept_zones(file: ZoneFile) -> tuple[Zone, ...]:
    """The zones that the page shows and keeps: their templates are made by ``gonogo presence learn``."""
    return tuple(zone for zone in file.zones if isinstance(zone, PresenceZone))


def require_fit(root: Path, *, learned: bool) -> None:
    """Raise if zones cannot be used with a region: they move with the part only where it is found as it was drawn.

    Args:
        root: Folder of the data set.
        learned: Whether the part is found by a learned region; otherwise the whole picture is inspected.

    Raises:
        RefusedError: says what to choose.
    """
    file = ZONE_FILE.readable(root).content
    if not file.zones or file.drawn_on is None:
        return
    if file.drawn_on == "part" and not learned:
        raise RefusedError(
            N_("The zones were drawn on the boxed part: inspect that area, or draw them on the whole picture.")
        )
    if file.drawn_on == "picture" and learned:
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


def checked_zones(said: ZonesRequest, before: ZoneFile) -> ZoneFile:
    """Return the zones of a request, and those of the file that the page keeps.

    Raises:
        WrongRowsError: values are wrong.
        RefusedError: there are too many zones.
    """
    kept = kept_zones(before)
    problems, names = [], {zone.name for zone in kept}
    for row, zone in enumerate(said.zones):
        if zone.name.strip() in names:
            problems.append(RowProblem(row=row, field="name", message=_TWICE))
        names.add(zone.name.strip())
    drawn: list[Zone] = []
    for row, zone in enumerate(said.zones):
        try:
            drawn.extend(ZoneFile.model_validate({"zones": [zone.as_table()]}).zones)
        except ValidationError as error:
            wrong = {str(key) for each in error.errors() for key in each["loc"]} & set(_FIELDS) or {"name"}
            problems += [RowProblem(row=row, field=field, message=_FIELDS[field]) for field in sorted(wrong)]
    if problems:
        raise WrongRowsError(problems)
    try:
        return ZoneFile(zones=(*kept, *drawn), drawn_on=said.drawn_on)
    except ValidationError as error:
        raise RefusedError(N_("There are more zones than a part can have: delete some.")) from error


ZONE_FILE: Final = DrawnFile(
    name=ZONES, empty=ZoneFile(zones=()), as_toml=as_toml, example="gonogo zones example", event="zones"
)
