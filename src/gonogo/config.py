"""The product recipe (strict, typed TOML) and the settings of this machine (environment variables)."""

from __future__ import annotations

import functools
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text

_PREFIX = "GONOGO_"

Reduction: TypeAlias = Literal[1, 2, 4, 8]
"""Divisor of the picture's width and height; a JPEG decoder can apply these directly."""

ReducedBy: TypeAlias = Literal["decoder", "mean"]
"""How a picture is reduced, see `Recipe.reduced_by`."""

CELL_PX = 16
"""Pixels per cell of a window's heat map, along both axes."""


class Strict(BaseModel):
    """Base of all models that are read from a file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=Strict)


def read_toml(path: Path, model: type[Model], *, example: str) -> Model:
    """Read a TOML file into a strict model.

    Args:
        path: The file.
        model: The model to validate against.
        example: The command that prints an example file, for the error message when the file is missing.

    Raises:
        InputError: The file is missing or not TOML, a key is unknown, a type is wrong, or a value is out of range;
            the message names the file, the key, what was expected and what was found.
    """
    try:
        return model.model_validate(parse_toml(read_text(path, most_bytes=MOST_SETTINGS_BYTES)))
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}: expected TOML ({error}). Correct the line.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Start from: {example}") from error
    except ValidationError as error:
        raise InputError(f"{path}: {_first_problem(error, model)}. Correct the file.") from error


def _first_problem(error: ValidationError, model: type[Strict]) -> str:
    """Describe the first problem: the key, what was expected and what was found."""
    first = error.errors()[0]
    where = [str(each) for each in first["loc"]]
    if first["type"] == "extra_forbidden":
        section: Any = model
        for name in where[:-1]:
            field = getattr(section, "model_fields", {}).get(name)
            section = None if field is None else field.annotation
        known = ", ".join(getattr(section, "model_fields", ()))
        return f"{'.'.join(where)}: unknown key{f', expected one of {known}' if known else ''}"
    if first["type"] == "model_type":
        return f"{'.'.join(where)}: expected a table, found {first['input']!r}"
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{'.'.join(where)}: {expected}, found {first['input']!r}"


class PictureLimits(Strict):
    """Largest pictures that are decoded."""

    max_pixels: int = Field(default=64_000_000, gt=0)
    """Width times height; 64 megapixels are enough for any area-scan camera in use."""
    max_decoded_bytes: int = Field(default=512_000_000, gt=0)
    """Memory for the decoded samples at their full bit depth and channel count."""
    max_file_bytes: int = Field(default=256_000_000, gt=0)


class Tiling(Strict):
    """How a region is cut into windows; each window has the recipe's ``size_wh`` and is judged at full resolution."""

    overlap_px: int = Field(default=64, ge=0, le=1024, multiple_of=CELL_PX)
    """Neighbouring windows overlap by at least this many pixels along each axis; a defect up to this long lies
    completely inside one window."""


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


class InspectZone(_Zone):
    """An area that is judged by a scale of its own, such as leads that are judged more strictly than the body."""

    kind: Literal["inspect"]


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


Zone: TypeAlias = Annotated[IgnoreZone | InspectZone | PresenceZone, Field(discriminator="kind")]


class Scale(Strict):
    """``[scale]``: how large a pixel is, from ``gonogo roi calibrate``; one camera at one distance."""

    mm_per_px: float = Field(gt=0, allow_inf_nan=False)
    """Millimetres per pixel of the full-size picture, at the middle of the calibrated target."""
    relative_error: float = Field(ge=0, lt=1)
    """95 % of the lengths on the calibrated target were wrong by at most this share."""
    homography: tuple[float, float, float, float, float, float, float, float, float] | None = Field(
        default=None, strict=False
    )
    """For a tilted camera: row by row, the 3 x 3 matrix from pixels to millimetres in the plane of the target."""
    size_wh: tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]] = Field(strict=False)
    """Full size of the calibrated picture; parts in pictures of another size are not measured."""
    target: str = Field(default="", max_length=200)
    """What was calibrated on, for the reader."""


class Rule(Strict):
    """``[[rules]]``: a limit on the size of a defect, in addition to the certified score; see `gonogo.measure`.

    A rule never makes a verdict better. A defect whose size may exceed the limit, counting its measurement error, goes
    to review; with ``then = "no_go"``, one that certainly exceeds it is rejected.
    """

    name: str = Field(pattern=r"^[^\W_][\w .-]{0,39}$")
    zone: str | None = None
    """Only defects whose middle lies in this zone."""
    kind: str | None = None
    """Only if this is the likeliest defect kind of the part; for bundles that name kinds."""
    longer_than_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    wider_than_mm: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    larger_than_mm2: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    then: Then = "review"

    @model_validator(mode="after")
    def _has_one_limit(self) -> Rule:
        if sum(limit is not None for limit in (self.longer_than_mm, self.wider_than_mm, self.larger_than_mm2)) != 1:
            raise ValueError("expected one of longer_than_mm, wider_than_mm and larger_than_mm2")
        if self.then == "no_go" and self.kind is not None:  # a go has no kind, so the rule would depend on thresholds
            raise ValueError("expected no kind for a rule that rejects, because a go has none")
        return self


class PictureHealth(Strict):
    """``[health]``: pictures that must not be judged. The defaults catch gross failures only."""

    darkest: float = Field(default=40.0, ge=0, le=255)
    """Smallest grey value of the brightest 1 % of the pixels."""
    saturated: float = Field(default=0.25, ge=0, le=1)
    """Largest share of pixels that are white in every channel."""
    sharpness: float = Field(default=0.1, ge=0)
    """Smallest edge strength relative to contrast, see `gonogo.images.health`; 0 turns the check off."""
    contrast: float = Field(default=0.0, ge=0, le=128)
    """Smallest standard deviation of the grey values: a covered lens shows nothing; 0 turns the check off."""


class Recipe(Strict):
    """How one product is inspected; part of every bundle."""

    size_wh: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = Field(
        default=(224, 224), strict=False
    )
    """Network input, width then height, in pixels: the region of interest is resized to it, or cut into windows of
    this size with ``tiling``."""
    roi: Literal["none", "fixed", "classical", "learned"] = "none"
    """How the region of interest is found; details are in the bundle's ``roi.toml``. ``none`` judges the whole
    picture."""
    reduction: Reduction = 1
    """Divisor of the picture's width and height, applied before anything else."""
    reduced_by: ReducedBy = "decoder"
    """How pictures are reduced. ``decoder`` reduces a JPEG during decoding, which is fast but accepts encoded pictures
    only; ``mean`` decodes every picture at full size and averages its pixels, so raw frames give the same result."""
    tiling: Tiling | None = None
    """Judge the region in overlapping windows of ``size_wh`` pixels; ``None`` resizes the whole region to that size."""
    zones: tuple[Zone, ...] = Field(default=(), max_length=50, strict=False)
    """Areas inside the part, ``[[zones]]`` in TOML."""
    scale: Scale | None = None
    """How large a pixel is; ``None`` if defects are not measured."""
    rules: tuple[Rule, ...] = Field(default=(), max_length=50, strict=False)
    """Limits on the sizes of defects, ``[[rules]]`` in TOML."""
    health: PictureHealth | None = None
    """Pictures outside these limits are not judged; ``None`` judges every picture."""
    limits: PictureLimits = PictureLimits()

    @property
    def presence_zones(self) -> tuple[PresenceZone, ...]:
        """The zones whose items are counted."""
        return tuple(zone for zone in self.zones if isinstance(zone, PresenceZone))

    @property
    def encoded_only(self) -> bool:
        """Whether raw frames are refused, because a JPEG decoder's reduction differs from averaging the pixels."""
        return self.reduction > 1 and self.reduced_by == "decoder"

    @model_validator(mode="after")
    def _zones_have_names_of_their_own(self) -> Recipe:
        names = [zone.name for zone in self.zones]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"zones: expected a different name for each, found {twice[0]!r} twice")
        return self

    @model_validator(mode="after")
    def _rules_can_be_applied(self) -> Recipe:
        names, zones = [rule.name for rule in self.rules], {zone.name for zone in self.zones}
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: expected a different name for each, found {twice[0]!r} twice")
        if self.rules and self.scale is None:
            raise ValueError("rules: expected a [scale] in mm, found none: gonogo roi calibrate")
        if unknown := [rule.zone for rule in self.rules if rule.zone is not None and rule.zone not in zones]:
            raise ValueError(f"rules: expected the name of a zone ({', '.join(sorted(zones))}), found {unknown[0]!r}")
        return self

    @model_validator(mode="after")
    def _windows_are_made_of_cells(self) -> Recipe:
        if self.tiling is not None and (
            any(side % CELL_PX for side in self.size_wh) or 2 * self.tiling.overlap_px > min(self.size_wh)
        ):
            raise ValueError(
                f"tiling: expected windows of whole cells of {CELL_PX} pixels, at least twice their overlap, "
                f"found {self.size_wh[0]} x {self.size_wh[1]} with {self.tiling.overlap_px}"
            )
        return self


class Checks(Strict):
    """``checks.toml``: what a bundle checks besides the score; ``gonogo bundle checks`` puts it into the recipe."""

    scale: Scale | None = None
    rules: tuple[Rule, ...] = Field(default=(), max_length=50, strict=False)
    zones: tuple[PresenceZone, ...] = Field(default=(), max_length=50, strict=False)
    """Presence zones; other zones change what the network sees, so they belong to training."""
    health: PictureHealth | None = None

    @classmethod
    def of(cls, recipe: Recipe) -> Checks:
        """The checks of a recipe."""
        return cls(scale=recipe.scale, rules=recipe.rules, zones=recipe.presence_zones, health=recipe.health)

    def within(self, recipe: Recipe) -> Recipe:
        """Return a recipe with these checks instead of its own.

        Raises:
            InputError: They do not fit the recipe: a rule has no scale, or names a zone that does not exist.
        """
        others = tuple(zone for zone in recipe.zones if not isinstance(zone, PresenceZone))
        update = {"scale": self.scale, "rules": self.rules, "zones": (*others, *self.zones), "health": self.health}
        try:
            return Recipe.model_validate({**dict(recipe), **update})
        except ValidationError as error:
            raise InputError(f"the checks do not fit the bundle: {_first_problem(error, Recipe)}.") from error


class Settings(BaseSettings):
    """Settings of this machine, independent of the product; read from ``GONOGO_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    cache_dir: Path = Path.home() / ".cache" / "gonogo"
    """Folder for compiled graphs and downloaded weights; safe to delete."""
    key_file: Path = Path.home() / ".config" / "gonogo" / "cache.key"
    """File with the key that authenticates compiled graphs; created on first use, readable by this user only; safe to
    delete."""
    device: str = "CPU"
    """Device that bundles judge on, see `gonogo.devices.device_name`; the commands' ``--device``."""
    threads: int = Field(default=0, ge=0)
    """Number of inference threads; 0 lets OpenVINO choose."""
    require_signature: bool = False
    """Judge only with bundles that are signed with a key in the trust store."""
    trust_store: Path = Path.home() / ".config" / "gonogo" / "trust.json"
    """File with the trusted public keys; see ``gonogo bundle keys``."""
    progress_file: Path | None = None
    """File to which `gonogo.progress` writes its progress, for another process to read."""

    def on_cpu(self) -> Settings:
        """Return these settings with the CPU as device: bundles are made and certified there first."""
        return self.model_copy(update={"device": "CPU"})


@functools.cache
def settings() -> Settings:
    """Return the settings of this process, read on first use.

    Raises:
        InputError: A variable has an invalid value.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"{_PREFIX}{first['loc'][0]}".upper()
        raise InputError(f"{variable}: {first['msg']}, found {first['input']!r}. Correct or unset it.") from error
