"""The order of the commands, and of the options of a long command, in ``--help``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

OPTIONS = "Options"
"""Heading of the options that name no section of their own."""
_ENTRIES = (
    "demo",
    "dataset",
    "roi",
    "train",
    "certify",
    "evaluate",
    "qualify",
    "inspect",
    "bundle",
    "station",
    "ledger",
    "serve",
)


class Entries(TyperGroup):
    """The program's commands, in the order in which a user meets them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands, the everyday ones first."""
        rest = [name for name in self.commands if name not in _ENTRIES]
        return [*_ENTRIES, *rest]


class SectionedCommand(TyperCommand):
    """A command whose help lists its options by section: the ``rich_help_panel`` of each, as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options under their headings, in the order of the signature."""
        for heading, parameters in sections(self.get_params(ctx)).items():
            records = [record for each in parameters if (record := each.get_help_record(ctx)) is not None]
            with formatter.section(heading):
                formatter.write_dl(records)


def sections(parameters: Sequence[Any]) -> dict[str, list[Any]]:
    """Parameters of a command by the heading they stand under."""
    found: dict[str, list[Any]] = {}
    for each in parameters:
        heading = "Arguments" if each.param_type_name == "argument" else each.rich_help_panel or OPTIONS
        found.setdefault(heading, []).append(each)
    return found
