"""Imports OpenVINO without its model converter, which is slow to import and adds telemetry.

Judging needs neither. The converter is imported on the first use of ``openvino.convert_model``.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_CONVERTER = "openvino.tools.ovc"


def _import_without_converter() -> None:
    """Import OpenVINO, unless it is already imported, with its converter blocked."""
    if "openvino" in sys.modules:
        return
    sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # makes the import fail
    try:
        openvino = importlib.import_module("openvino")
    finally:
        del sys.modules[_CONVERTER]
    openvino.__getattr__ = _on_demand  # type: ignore[method-assign]


def _on_demand(name: str) -> Any:
    if name == "convert_model":
        return importlib.import_module(_CONVERTER).convert_model
    raise AttributeError(f"module 'openvino' has no attribute {name!r}")


@contextmanager
def no_telemetry() -> Iterator[None]:
    """Convert models without sending telemetry, which the converter does unless it detects a CI environment."""
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before


_import_without_converter()

import openvino as ov  # noqa: E402

__all__ = ["no_telemetry", "ov"]
