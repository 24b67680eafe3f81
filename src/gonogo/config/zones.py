"""Zones: areas inside the part, in part coordinates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator, model_validator

from gonogo.config.strict import Strict, read_toml

Corner: TypeAlias = tuple[
    Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)], Annotated[float, Field(ge=-1, le=2, allow_inf_nan=False)]
]


class _Zone(Strict):
    """An area inside the part. It moves with the part, because its corners are in part coordinates."""

    name: str = Field(pattern=r"^[^\W_][\w .-]{0,39}$")
    """Name on pages, overlays and in records; unique within the recipe."""
    polygon: tuple[Annotated[Corner, Field(strict=False)], ...] = Field(min_length=3, max_length=200, strict=False)
    """Corners ``(x, y)`` in part coordinates: (0, 0) is the top left and (1, 1) the bottom right corner of the located
    part without its margin (`gonogo.schema.Located`), or of the whole picture if the recipe has no search. The margin
    lies outside 0 to 1. Pixels whose centre lies inside the polygon (even-odd rule) belong to the zone."""


class IgnoreZone(_Zone):
    """What changes from part to part and means nothing, such as a serial number: blanked before the network."""

    kind: Literal["ignore"]


REST = "rest"
"""Name of the zone of everything that lies in no inspect zone and in no ignore zone, if there are inspect zones."""
USUAL_SENSITIVITY = 0.05


class InspectZone(_Zone):
    """An area that is judged by a scale of its own, such as leads that are judged more strictly than the body."""

    kind: Literal["inspect"]
    sensitivity: float = Field(default=USUAL_SENSITIVITY, gt=0, lt=0.5)
    """Share of good parts that score above zero in this zone; larger is stricter. The rest of the part has
    `USUAL_SENSITIVITY`. The part's score is the highest score of its zones, so a stricter zone decides more often."""

    @model_validator(mode="after")
    def _is_not_the_rest(self) -> InspectZone:
        if self.name.lower() == REST:
            raise ValueError(f"name: expected another name than {REST!r}, which means everything in no zone")
        return self


CodeFormat: TypeAlias = Literal[
    "DataMatrix", "QRCode", "MicroQRCode", "Aztec", "PDF417", "Code128", "Code39", "Code93", "Codabar", "ITF",
    "EAN13", "EAN8", "UPCA", "UPCE",
]  # fmt: skip
"""A kind of code."""
IDENTITY = ("part", "lot", "product", "serial")
"""What a code can say about a part: the named groups of its pattern."""


class CodeZone(_Zone):
    """A code that names the part, see `gonogo.codes`. It changes from part to part, so it is blanked like an
    `IgnoreZone` before the network."""

    kind: Literal["code"]
    formats: tuple[CodeFormat, ...] = Field(
        default=("DataMatrix", "QRCode", "Code128"), min_length=1, max_length=14, strict=False
    )
    """Kinds of code that are read here; fewer are faster and read less by mistake. Code39, Codabar and ITF have no
    checksum of their own: give them a pattern."""
    pattern: str = Field(default="(?P<part>.+)", min_length=1, max_length=300)
    """Regular expression that the whole text must match. Its named groups part, lot, product and serial are what the
    code says; a code that does not match counts as unreadable."""
    unreadable: Literal["fault", "review"] = "fault"
    """Verdict on a part whose code cannot be read; a part that is worse anyway stays so."""

    @field_validator("pattern")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            groups = set(re.compile(value).groupindex)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"expected a regular expression ({error})") from error
        if others := sorted(groups - set(IDENTITY)):
            raise ValueError(f"expected named groups from {', '.join(IDENTITY)}, found {', '.join(others)}")
        return value


Then: TypeAlias = Literal["review", "no_go"]
"""What a rule leads to. ``no_go`` is in force only if the bundle was certified with the rule; until then it is
``review``."""


class PresenceZone(_Zone):
    """Items that must be there, such as four screws; see `gonogo.presence`. The network judges these pixels, too."""

    kind: Literal["presence"]
    count: int = Field(ge=1, le=200)
    """Number of items; fewer and more both fail."""
    template: str = Field(min_length=1, max_length=200_000, repr=False)
    """One good item as a PNG file in base64; its opaque pixels are compared. ``gonogo presence learn`` writes it."""
    cut_wh: tuple[Annotated[int, Field(ge=8, le=8192)], Annotated[int, Field(ge=8, le=8192)]] = Field(strict=False)
    """Width and height of the zone in pixels of the picture that the template was cut from."""
    correlation: float = Field(default=0.7, gt=0, lt=1)
    """Smallest normalised correlation with the template."""
    colour: float = Field(default=25.0, gt=0, le=400)
    """Largest distance of the mean colours, CIE 1976 (Delta E*ab); 400 turns the check off."""
    turn_deg: float = Field(default=10.0, ge=0, le=180)
    """Items are searched turned by up to this angle either way; 180 finds screw heads at any angle."""
    scale: float = Field(default=0.05, ge=0, le=0.3)
    """Items are searched larger and smaller by up to this share."""
    then: Then = "review"


Zone: TypeAlias = Annotated[IgnoreZone | InspectZone | CodeZone | PresenceZone, Field(discriminator="kind")]
Zones: TypeAlias = Annotated[tuple[Zone, ...], Field(max_length=50, strict=False)]
DrawnOn: TypeAlias = Literal["part", "picture"]
"""What part coordinates were relative to when zones were drawn: the part that was found, or the whole picture."""


class ZoneFile(Strict):
    """``zones.toml``: the zones of a product, drawn on one good picture."""

    zones: Zones
    drawn_on: DrawnOn | None = None
    """What the zones page of the server drew them on; it trains only with a region that fits."""

    @model_validator(mode="after")
    def _zones_have_names_of_their_own(self) -> ZoneFile:
        require_own_names(self.zones)
        return self


def read_zones(path: Path) -> tuple[Zone, ...]:
    """Read ``zones.toml``.

    Raises:
        InputError: see `read_toml`.
    """
    return read_toml(path, ZoneFile, example="gonogo zones example").zones


def require_own_names(zones: tuple[Zone, ...]) -> None:
    """Refuse zones of one name.

    Raises:
        ValueError: a name is there twice.
    """
    names = [zone.name for zone in zones]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"zones: expected a different name for each, found {twice[0]!r} twice")
