"""Write docs/api.md, the public API, from the code: ``make docs-api``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

PAGE = Path(__file__).with_name("api.md")
MODULES = (
    "gonogo",
    "gonogo.inspector",
    "gonogo.schema",
    "gonogo.errors",
    "gonogo.dataset",
    "gonogo.workflow",
    "gonogo.certification",
    "gonogo.operating_point",
    "gonogo.evaluate",
    "gonogo.drift",
    "gonogo.bundle",
    "gonogo.images",
    "gonogo.look",
    "gonogo.roi",
    "gonogo.synthetic",
    "gonogo.ledger",
    "gonogo.station",
    "gonogo.capture",
    "gonogo.msa",
    "gonogo.testing",
)
_HEAD = """# The public API

Written by `make docs-api` from the code: what each package exports, with its signature and the first sentence of its
docstring. The [glossary](glossary.md) defines the words, [the architecture](architecture.md) shows which package
imports which.
"""
_LONGEST = 110


def api_text() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *(line for name in MODULES for line in _module(name))])


def _module(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    yield f"## {name}\n"
    yield f"{_first_sentence(module)}\n"
    yield from (_entry(public, getattr(module, public)) for public in _public_names(module))
    yield ""


def _public_names(module: Any) -> list[str]:
    """``__all__``; without it, the public names that the module itself defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    return sorted(names, key=str.lower)


def _entry(name: str, value: Any) -> str:
    if inspect.isclass(value):
        methods = [f"    - `{each}{_signature(method)}`: {_first_sentence(method)}" for each, method in _methods(value)]
        return "\n".join([f"- {_kind(value)} `{name}`: {_first_sentence(value)}", *methods])
    if inspect.isroutine(value):
        return f"- `{name}{_signature(value)}`: {_first_sentence(value)}"
    if isinstance(value, (int, float, str)):
        return f"- `{name} = {value!r}`"
    return f"- `{name}`"


def _kind(value: type) -> str:
    if issubclass(value, BaseException):
        return "exception"
    return "enumeration" if issubclass(value, Enum) else "class"


def _methods(value: type) -> Iterator[tuple[str, Any]]:
    """The public methods that a class itself defines, constructors such as ``load`` among them."""
    for name, member in vars(value).items():
        function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
        if not name.startswith("_") and inspect.isfunction(function) and function.__doc__:
            yield name, function


def _signature(function: Any) -> str:
    """The parameters as they are written in the code, without ``self``; only their names where that is long."""
    signature = inspect.signature(function)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    text = str(signature.replace(parameters=parameters)).replace("'", "")
    text = re.sub(r"<(?:function )?[\w.]*?(?:<(\w+)>|(\w+))(?: object)? at 0x\w+>", r"\1\2", text)
    text = re.sub(r"<(\w+)\.(\w+): [^>]*>", r"\1.\2", text)
    if len(text) <= _LONGEST:
        return text
    names = [each.name if each.kind is not each.VAR_KEYWORD else f"**{each.name}" for each in parameters]
    keyword_only = next((i for i, each in enumerate(parameters) if each.kind is each.KEYWORD_ONLY), None)
    if keyword_only is not None:
        names.insert(keyword_only, "*")
    return f"({', '.join(names)})"


def _first_sentence(value: Any) -> str:
    text = inspect.getdoc(value) or ""
    paragraph = " ".join(text.split("\n\n")[0].split())
    return paragraph.replace("``", "`")


def main() -> int:
    """Write the page."""
    PAGE.write_text(api_text(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
