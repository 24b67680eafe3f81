"""Which extra brings which optional package, and the one line that says so where a package is missing."""

from __future__ import annotations

import importlib.util

from gonogo.errors import MissingExtraError

MODULES = {
    "nncf": ("train",),
    "safetensors": ("train",),
    "sklearn": ("train",),
    "torch": ("train",),
    "torchvision": ("train",),
    "apsw": ("line", "server"),
    "av": ("line",),
    "pyarrow": ("line",),
    "argon2": ("server",),
    "babel": ("server",),
    "fastapi": ("server",),
    "multipart": ("server",),
    "python_multipart": ("server",),
    "sse_starlette": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
    "onnxruntime": ("dev",),
    "onnxscript": ("dev",),
    "psutil": ("dev",),
}
"""The extras that bring a module, by its top-level name; the first is the usual one."""


def require(extra: str, *modules: str) -> None:
    """Check that optional modules can be imported, before a command begins its work.

    Raises:
        MissingExtraError: one cannot; names the extra.
    """
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise MissingExtraError(missing(module, extra))


def missing(module: str, extra: str) -> str:
    """What to do about a module that is not installed."""
    return f"this command needs {module}, which is not installed. Install it: pip install 'gonogo[{extra}]'"


def extra_of(module: str, command: str) -> str | None:
    """The extra to install for a missing module; ``None`` for one that no extra brings.

    Args:
        module: The missing module, with or without its submodules.
        command: The first word of the command, as some packages belong to several extras.
    """
    extras = MODULES.get(module.partition(".")[0])
    if extras is None:
        return None
    return "server" if command == "serve" and "server" in extras else extras[0]
