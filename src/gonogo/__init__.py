"""A go/no-go gauge for photographs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gonogo.inspector import Inspector as Inspector
    from gonogo.schema import Verdict as Verdict

__version__ = "0.2.0"
__all__ = ["Inspector", "Verdict", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that ``import gonogo`` is fast and does not import OpenVINO.
    if name == "Inspector":
        from gonogo.inspector import Inspector

        return Inspector
    if name == "Verdict":
        from gonogo.schema import Verdict

        return Verdict
    raise AttributeError(f"module 'gonogo' has no attribute {name!r}")
