"""The settings of this machine, from environment variables."""

from __future__ import annotations

import functools
from pathlib import Path

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from gonogo.errors import InputError

_PREFIX = "GONOGO_"


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
