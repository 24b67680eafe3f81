"""The settings of this machine, from environment variables."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gonogo.errors import InputError

_PREFIX = "GONOGO_"


class Settings(BaseModel):
    """Settings of this machine, independent of the product; those not given are read from ``GONOGO_*`` variables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

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
    confine_decoding: bool = False
    """Decode every picture in a process with limits, also those of this machine's own files and cameras; see
    `gonogo.images.confined`. Pictures that come through pages, interfaces and imports always are."""
    progress_file: Path | None = None
    """File to which `gonogo.progress` writes its progress, for another process to read."""

    @model_validator(mode="before")
    @classmethod
    def _with_environment(cls, given: Mapping[str, Any]) -> dict[str, Any]:
        found = {name.upper(): value for name, value in os.environ.items()}
        variables = {name: f"{_PREFIX}{name.upper()}" for name in cls.model_fields}
        return {name: found[variable] for name, variable in variables.items() if variable in found} | dict(given)

    def on_cpu(self) -> Settings:
        """Return these settings with the CPU as device: bundles are made and certified there first."""
        return self.model_copy(update={"device": "CPU"})


def use_setting(name: str, value: str) -> None:
    """Change one of the settings, such as ``device``, for this process and those that it starts."""
    os.environ[f"{_PREFIX}{name.upper()}"] = value
    settings.cache_clear()


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
