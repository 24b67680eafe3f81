"""ROI configs: how a product's region of interest is found, as a strict TOML file."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import tomli_w
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from gonogo.config import Strict
from gonogo.errors import RecipeError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_text, write_beside
from gonogo.roi.steps import Step, require_mask

Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Aspect = Annotated[float, Field(ge=1, allow_inf_nan=False)]
FIXED_MARGIN = 0.05
"""The article's margin (Deka and Mittal, 2018)."""

Pixels = Annotated[float, Field(allow_inf_nan=False)]


class ClassicalConfig(Strict):
    """Steps that turn a reduced picture into a mask, and the criteria that select the part in it.

    Order: reduce, steps, regions, shape, expected range (of the grown shape), choice, refinement at full size, growth,
    margin.
    """

    method: Literal["classical"] = "classical"
    side_px: int = Field(default=320, ge=32, le=2048)
    """Long side of the reduced picture; smaller frames are not enlarged. All step sizes are in its pixels."""
    regions: Literal["contours", "components"] = "contours"
    """How a region's area is measured: everything inside its outline, or the number of its pixels."""
    choose: Literal["largest", "most-rectangular", "nearest"] = "largest"
    """How the part is chosen among the regions in the expected range: by area, by the share of its rectangle that it
    fills, or by its distance from ``target_xy``."""
    target_xy: tuple[Share, Share] = Field(default=(0.5, 0.5), strict=False)
    """Expected position of the part, as shares of the frame's width and height."""
    shape: Literal["box", "quad"] = "quad"
    """Axis-parallel box, or rotated rectangle of smallest area (a box is then computed as well)."""
    grow_long: float = Field(default=0.0, ge=-0.4, le=2, allow_inf_nan=False)
    """How far the part extends beyond the region at each end of its long axis, as a share of that length. For example,
    a chip's leads extend beyond the dark body that a threshold finds. Negative values shrink the region."""
    grow_short: float = Field(default=0.0, ge=-0.4, le=2, allow_inf_nan=False)
    """The same along its short axis."""
    area: tuple[Share, Share] = Field(default=(0.001, 1.0), strict=False)
    """Expected range: smallest and largest area of the grown shape, as shares of the frame's area."""
    aspect: tuple[Aspect, Aspect] = Field(default=(1.0, 20.0), strict=False)
    """Expected range: smallest and largest ratio of the long to the short side."""
    refine_band: float = Field(default=0.0, ge=0, le=0.25, allow_inf_nan=False)
    """Search distance for each edge at full size, in both directions, as a share of the short side; 0 disables the
    refinement."""
    margin: Share = FIXED_MARGIN
    """How far the inspected region reaches beyond the part on every side, as a share of its size along that axis."""
    steps: tuple[Step, ...] = Field(strict=False)

    @field_validator("steps")
    @classmethod
    def _lead_to_a_mask(cls, value: tuple[Step, ...]) -> tuple[Step, ...]:
        require_mask(value)
        return value

    @model_validator(mode="after")
    def _ranges_are_in_order(self) -> ClassicalConfig:
        for name in ("area", "aspect"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: expected [least, greatest], found [{low}, {high}]")
        return self


class FixedConfig(Strict):
    """The same box in every frame, for parts in a fixture."""

    method: Literal["fixed"] = "fixed"
    box_xyxy: tuple[Pixels, Pixels, Pixels, Pixels] = Field(strict=False)
    """Left, top, right and bottom edge in frame pixels."""
    margin: Share = FIXED_MARGIN

    @field_validator("box_xyxy")
    @classmethod
    def _has_an_area(cls, value: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        if not (0 <= value[0] < value[2] and 0 <= value[1] < value[3]):
            raise ValueError("expected left < right and top < bottom, none of them negative")
        return value


class LearnedConfig(Strict):
    """A network that locates the part, in ``roi.xml`` beside the ROI config; written by training."""

    method: Literal["learned"] = "learned"
    size_wh: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = Field(strict=False)
    """Network input, width then height, in pixels; the whole picture is resized to it."""
    turned: bool
    """Whether the part is rectified by its rotated rectangle instead of cropped by its box."""
    least_presence: Share = 0.5
    """Pictures are refused if the probability that they show exactly one part is below this."""
    closer_below: Share = 0.0
    """A part that covers less of the picture than this along its longer axis is located again, in a closer view.
    Unless this is 0, each pass also runs on the mirror image, and the two results are averaged."""
    area: tuple[Share, Share] = Field(strict=False)
    """Expected range: smallest and largest area of the part, as shares of the frame's area."""
    aspect: tuple[Aspect, Aspect] = Field(strict=False)
    """Expected range: smallest and largest ratio of the long to the short side."""
    margin: Share = FIXED_MARGIN
    """How far the inspected region reaches beyond the part on every side, as a share of its size along that axis."""
    margin_miss_rate: Share | None = None
    """The region contains the whole part with a probability of at least one minus this (see `gonogo.roi.margin`);
    ``None`` if the margin is not certified."""
    margin_parts: int = Field(default=0, ge=0)
    """Number of calibration parts behind the margin."""


RoiConfig: TypeAlias = ClassicalConfig | FixedConfig | LearnedConfig

_RECIPE: TypeAdapter[RoiConfig] = TypeAdapter(
    Annotated[RoiConfig, Field(discriminator="method")], config=ConfigDict(defer_build=True)
)


def read_roi_config(path: str | Path) -> RoiConfig:
    """Read an ROI config.

    Raises:
        RecipeError: The file is missing or not TOML, a key or step is unknown, a value is out of range, or two steps do
            not fit together; the message names the key, what was found and what was expected.
    """
    path = Path(path)
    try:
        text = read_text(path, most_bytes=MOST_SETTINGS_BYTES)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: expected an ROI config in TOML; the file cannot be read ({error}).") from error
    return parse_roi_config(text, name=str(path))


def parse_roi_config(text: str, *, name: str = "ROI config") -> RoiConfig:
    """Parse an ROI config from TOML text; see `read_roi_config`."""
    try:
        return _RECIPE.validate_python(parse_toml(text))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{name}: expected TOML ({error}). Correct the line.") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"][1:])) or "method"
        found = "" if isinstance(first["input"], dict | list) else f", found {first['input']!r}"
        raise RecipeError(f"{name}: {key}: {first['msg']}{found}. Correct the ROI config.") from error


def write_roi_config(path: str | Path, recipe: RoiConfig, *, comment: str = "") -> None:
    """Write an ROI config as TOML with all values; `read_roi_config` restores an equal config.

    Args:
        path: The file to write.
        recipe: The ROI config.
        comment: Comment lines for the top of the file, such as the data it was tuned on.

    Raises:
        InputError: The folder is not writable.
    """
    write_beside(Path(path), roi_config_as_toml(recipe, comment=comment).encode())


def roi_config_as_toml(recipe: RoiConfig, *, comment: str = "") -> str:
    """Return an ROI config as TOML text."""
    head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
    return head + tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))  # TOML has no null
