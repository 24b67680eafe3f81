"""OpenVINO without its model converter, which is slow to import and brings its telemetry.

A judgement has no use for either. Who asks for ``openvino.convert_model`` gets it, imported then.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

_CONVERTER = "openvino.tools.ovc"


def _import_lean() -> None:
    """Import OpenVINO, unless somebody has; it passes over a converter that cannot be imported."""
    if "openvino" in sys.modules:
        return
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # what the import system takes for "not to be had"
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]
    openvino.__getattr__ = _on_demand  # type: ignore[method-assign]


def _on_demand(name: str) -> Any:
    if name == "convert_model":
        return importlib.import_module(_CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")


_import_lean()

import openvino as ov  # noqa: E402

__all__ = ["ov"]
