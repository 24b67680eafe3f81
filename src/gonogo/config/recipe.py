"""The recipe: how one product is inspected."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError, model_validator

from gonogo.config.checks import PictureHealth, Rule, Scale
from gonogo.config.strict import Strict, first_problem
from gonogo.config.zones import CodeZone, PresenceZone, Zones, require_own_names
from gonogo.errors import InputError

Reduction: TypeAlias = Literal[1, 2, 4, 8]
"""Divisor of the picture's width and height; a JPEG decoder can apply these directly."""

ReducedBy: TypeAlias = Literal["decoder", "mean"]
"""How a picture is reduced, see `Recipe.reduced_by`."""

CELL_PX = 16
"""Pixels per cell of a window's heat map, along both axes."""


class PictureLimits(Strict):
    """Largest pictures that are decoded."""

    max_pixels: int = Field(default=64_000_000, gt=0)
    """Width times height; 64 megapixels are enough for any area-scan camera in use."""
    max_decoded_bytes: int = Field(default=512_000_000, gt=0)
    """Memory for the decoded samples at their full bit depth and channel count."""
    max_file_bytes: int = Field(default=256_000_000, gt=0)


class Depth(Strict):
    """How the counts of a 16-bit grey picture become the 256 grey values that are judged, for every picture alike."""

    black: int = Field(ge=0, le=65_535)
    """Raw count that becomes 0, as do all smaller ones."""
    white: int = Field(ge=0, le=65_535)
    """Raw count that becomes 255, as do all larger ones."""

    @model_validator(mode="after")
    def _black_is_below_white(self) -> Depth:
        if self.black >= self.white:
            raise ValueError(f"white: expected more than black ({self.black}), found {self.white}")
        return self


class Tiling(Strict):
    """How a region is cut into windows; each window has the recipe's ``size_wh`` and is judged at full resolution."""

    overlap_px: int = Field(default=64, ge=0, le=1024, multiple_of=CELL_PX)
    """Neighbouring windows overlap by at least this many pixels along each axis; a defect up to this long lies
    completely inside one window."""


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
    depth: Depth | None = None
    """Levels of 16-bit grey pictures, which are then the only ones that are judged; ``None`` takes pictures of 8 bits,
    and of deeper ones the upper byte."""
    zones: Zones = ()
    """Areas inside the part, ``[[zones]]`` in TOML."""
    scale: Scale | None = None
    """How large a pixel is; ``None`` if defects are not measured."""
    rules: tuple[Rule, ...] = Field(default=(), max_length=50, strict=False)
    """Limits on the sizes of defects, ``[[rules]]`` in TOML."""
    health: PictureHealth | None = None
    """Pictures outside these limits are not judged; ``None`` judges every picture."""
    limits: PictureLimits = PictureLimits()

    @property
    def code_zones(self) -> tuple[CodeZone, ...]:
        """The zones whose codes name the part."""
        return tuple(zone for zone in self.zones if isinstance(zone, CodeZone))

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
        require_own_names(self.zones)
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
            raise InputError(f"the checks do not fit the bundle: {first_problem(error, Recipe)}.") from error
