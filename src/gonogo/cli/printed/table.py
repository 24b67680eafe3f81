"""Finds the type that a command prints; a module is imported once one of its commands is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from gonogo.cli.printed.build import Printed

_MODULES = {
    **dict.fromkeys(("dataset", "roi", "zones", "presence"), "dataset"),
    **dict.fromkeys(("bundle", "station", "fleet", "ledger"), ""),
    **dict.fromkeys(("serve-key", "workspace"), "server"),
    **dict.fromkeys(("station msa", "station grr"), "msa"),
    **dict.fromkeys(("ledger migrate", "ledger forward", "ledger chains"), "centre"),
}
"""Modules by the first word of a command or by all its words; empty: of that name. All others: ``judging``."""


def printed_by(command: str) -> Printed | None:
    """Return what ``gonogo COMMAND --json`` prints, or what a row of the file holds that it exports.

    Args:
        command: The words after ``gonogo``, for example ``dataset check``.

    Raises:
        ModuleNotFoundError: the command's extra is not installed.
    """
    first = command.partition(" ")[0]
    module = _MODULES.get(command, _MODULES.get(first, "judging")) or first
    table: Mapping[str, Printed] = import_module(f"gonogo.cli.printed.{module}").PRINTED
    return table.get(command)
