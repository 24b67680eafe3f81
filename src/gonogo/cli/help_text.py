"""How ``--help`` orders commands and groups options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

OPTIONS = "Options"
"""Heading of options without a section."""
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
    "fleet",
    "ledger",
    "serve",
)
RENAMED = {
    "operate": "certify",
    "quantize": "bundle quantize",
    "distill": "bundle distill",
    "cascade": "bundle cascade",
    "learn": "bundle learn",
    "graph": "bundle graph",
    "replay": "ledger replay",
    "synth": "dataset synth",
    "gauge": "station msa",
}
"""Commands of 0.1.0 and their names since 0.2.0; see docs/versions.md."""


class Entries(TyperGroup):
    """The program's commands, in the order in which a user needs them."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands, the everyday ones first."""
        rest = [name for name in self.commands if name not in _ENTRIES]
        return [*_ENTRIES, *rest]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find a command; one that was renamed is refused with its new name."""
        if args and args[0] in RENAMED and args[0] not in self.commands:
            ctx.fail(f"'{args[0]}' is now 'gonogo {RENAMED[args[0]]}'.")
        return super().resolve_command(ctx, args)


class SectionedCommand(TyperCommand):
    """A command whose help groups the options by their ``rich_help_panel``, as plain text."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options under their headings, in the order of the signature."""
        for heading, parameters in sections(self.get_params(ctx)).items():
            records = [record for each in parameters if (record := each.get_help_record(ctx)) is not None]
            with formatter.section(heading):
                formatter.write_dl(records)


def sections(parameters: Sequence[Any]) -> dict[str, list[Any]]:
    """Group a command's parameters by the heading that they are listed under."""
    found: dict[str, list[Any]] = {}
    for each in parameters:
        heading = "Arguments" if each.param_type_name == "argument" else each.rich_help_panel or OPTIONS
        found.setdefault(heading, []).append(each)
    return found
