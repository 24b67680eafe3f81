"""Recipes and settings: strict, typed, read once at the edge and handed down."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gonogo.errors import InputError

_PREFIX = "GONOGO_"

Reduction: TypeAlias = Literal[1, 2, 4, 8]
"""A picture is judged at this fraction of its width and height: JPEG can be unpacked at these at once."""


class Strict(BaseModel):
    """Base of everything read from a file: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Limits(Strict):
    """What a picture may cost before it is decoded."""

    max_pixels: int = Field(default=64_000_000, gt=0)
    """Width times height; 64 megapixels hold any area-scan camera in use."""
    max_decoded_bytes: int = Field(default=512_000_000, gt=0)
    """Memory for the decoded samples at their full depth and channel count."""
    max_file_bytes: int = Field(default=256_000_000, gt=0)


class Recipe(Strict):
    """How one product is inspected; part of every bundle."""

    size_wh: tuple[Annotated[int, Field(ge=32, le=2048)], Annotated[int, Field(ge=32, le=2048)]] = Field(
        default=(224, 224), strict=False
    )
    """What the region of interest is resized to, width then height, in pixels."""
    roi: Literal["none", "fixed", "classical", "learned"] = "none"
    """How the region of interest is found, see ``roi.toml`` in the bundle; ``none`` judges the whole picture."""
    reduction: Reduction = 1
    """What a picture is divided by before anything looks at it, where the region stays large enough."""
    limits: Limits = Limits()


class Settings(BaseModel):
    """What belongs to this machine, not to the product: read from ``GONOGO_*`` environment variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    names = {name: _PREFIX + name.upper() for name in Settings.model_fields}
    given = {name: os.environ[variable] for name, variable in names.items() if variable in os.environ}
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        variable = names[str(first["loc"][0])]
        raise InputError(f"{variable}: {first['msg']}, found {first['input']!r}. Correct or unset it.") from error
