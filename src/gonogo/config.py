"""Recipes and settings: strict, typed, read once at the edge and handed down."""

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
"""A picture is judged at this fraction of its width and height: JPEG can be unpacked at these at once."""

ReducedBy: TypeAlias = Literal["decoder", "mean"]
"""What reduces a picture, see `Recipe.reduced_by`."""

CELL_PX = 16
"""Pixels per cell of the map of a window, along both axes."""


class Strict(BaseModel):
    """Base of everything read from a file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


Model = TypeVar("Model", bound=Strict)


def read_toml(path: Path, model: type[Model], *, example: str) -> Model:
    """Read a TOML file into a strict model.

    Args:
        path: The file.
        model: What it holds.
        example: The command that prints a file to start from, for the message where there is none.

    Raises:
        InputError: missing, not TOML, an unknown key, a wrong type, or a value out of range; names the file, the key,
            what was expected and what was found.
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
    """Key, what was expected and what was found, of the first thing that is wrong."""
    first = error.errors()[0]
    where = [str(each) for each in first["loc"]]
    if first["type"] == "extra_forbidden":
        section: Any = model
        for name in where[:-1]:
            section = section.model_fields[name].annotation
        return f"{'.'.join(where)}: unknown key, expected one of {', '.join(section.model_fields)}"
    if first["type"] == "model_type":
        return f"{'.'.join(where)}: expected a table, found {first['input']!r}"
    expected = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{'.'.join(where)}: {expected}, found {first['input']!r}"


class PictureLimits(Strict):
    """What a picture may cost before it is decoded."""

    max_pixels: int = Field(default=64_000_000, gt=0)
    """Width times height; 64 megapixels hold any area-scan camera in use."""
    max_decoded_bytes: int = Field(default=512_000_000, gt=0)
    """Memory for the decoded samples at their full depth and channel count."""
    max_file_bytes: int = Field(default=256_000_000, gt=0)


class Tiling(Strict):
    """How a region is cut into windows: each is as large as the recipe's ``size_wh``, without being made smaller."""

    overlap_px: int = Field(default=64, ge=0, le=1024, multiple_of=CELL_PX)
    """Neighbouring windows share at least this many pixels along each axis: a defect this long lies wholly in one."""


class Recipe(Strict):
    """How one product is inspected; part of every bundle."""

    size_wh: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = Field(
        default=(224, 224), strict=False
    )
    """What the region of interest is resized to, or with ``tiling`` a window of it; width then height, in pixels."""
    roi: Literal["none", "fixed", "classical", "learned"] = "none"
    """How the region of interest is found, see ``roi.toml`` in the bundle; ``none`` judges the whole picture."""
    reduction: Reduction = 1
    """What a picture is divided by before anything looks at it, where the region stays large enough."""
    reduced_by: ReducedBy = "decoder"
    """Where pictures are reduced: ``decoder`` reduces a JPEG while it is unpacked, which is fast and takes encoded
    pictures only; ``mean`` unpacks every picture whole and averages its pixels, so that raw frames are judged alike."""
    tiling: Tiling | None = None
    """Judge the region in overlapping windows of ``size_wh`` pixels; ``None`` resizes it to them as a whole."""
    limits: PictureLimits = PictureLimits()

    @property
    def encoded_only(self) -> bool:
        """Whether raw frames are refused: a decoder reduces a JPEG otherwise than an average over its pixels."""
        return self.reduction > 1 and self.reduced_by == "decoder"

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


class Settings(BaseSettings):
    """What belongs to this machine, not to the product: read from ``GONOGO_*`` environment variables."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="forbid")

    cache_dir: Path = Path.home() / ".cache" / "gonogo"
    """Compiled graphs and downloaded weights; safe to delete."""
    key_file: Path = Path.home() / ".config" / "gonogo" / "cache.key"
    """Vouches for the compiled graphs; made on first use, for this user's eyes only; safe to delete."""
    device: str = "CPU"
    """OpenVINO device name."""
    threads: int = Field(default=0, ge=0)
    """Inference threads; 0 leaves it to OpenVINO."""
    progress_file: Path | None = None
    """Where `gonogo.progress` says how far it is, for whoever waits in another process."""


@functools.cache
def settings() -> Settings:
    """The settings of this process, read on first use.

    Raises:
        InputError: a variable holds what it may not.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        variable = f"{_PREFIX}{first['loc'][0]}".upper()
        raise InputError(f"{variable}: {first['msg']}, found {first['input']!r}. Correct or unset it.") from error
