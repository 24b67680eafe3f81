"""The product recipe (strict, typed TOML) and the settings of this machine (environment variables)."""

from __future__ import annotations

from gonogo.config.checks import PictureHealth, Rule, Scale
from gonogo.config.machine import Settings, settings, use_setting
from gonogo.config.recipe import CELL_PX, Checks, Depth, PictureLimits, Recipe, ReducedBy, Reduction, Tiling
from gonogo.config.strict import Strict, read_toml
from gonogo.config.zones import (
    IDENTITY,
    REST,
    USUAL_SENSITIVITY,
    CodeFormat,
    CodeZone,
    IgnoreZone,
    InspectZone,
    PresenceZone,
    Then,
    Zone,
    ZoneFile,
    Zones,
    read_zones,
)

__all__ = [
    "CELL_PX",
    "IDENTITY",
    "REST",
    "USUAL_SENSITIVITY",
    "Checks",
    "CodeFormat",
    "CodeZone",
    "Depth",
    "IgnoreZone",
    "InspectZone",
    "PictureHealth",
    "PictureLimits",
    "PresenceZone",
    "Recipe",
    "ReducedBy",
    "Reduction",
    "Rule",
    "Scale",
    "Settings",
    "Strict",
    "Then",
    "Tiling",
    "Zone",
    "ZoneFile",
    "Zones",
    "read_toml",
    "read_zones",
    "settings",
    "use_setting",
]
