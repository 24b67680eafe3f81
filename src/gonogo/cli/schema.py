"""``gonogo schema``: JSON Schemas of what commands print and export."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

_EXPORTS = ("ledger export",)
"""Commands without ``--json`` whose files have rows with a schema."""


def schema_command(
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND...", help="The command, for example: dataset check. [default: list them]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write the schemas of all commands to this folder.", show_default=False)
    ] = None,
) -> None:
    """Print the JSON Schema of a command's --json, or of the rows that it exports.

    A schema describes this version exactly; a later one may have further fields.
    """
    from gonogo.errors import InputError

    if out is not None:
        if command:
            raise InputError("--out: expected no COMMAND with it, since it writes all schemas. Leave one of them out.")
        typer.echo(f"Wrote {_write_all(out)} schemas to {out}")
        return
    if not command:
        for name in commands_with_schema():
            typer.echo(name)
        return
    typer.echo(schema_text(" ".join(command)), nl=False)


def commands_with_schema() -> list[str]:
    """Return the commands with ``--json`` and those that export rows, by the words after ``gonogo``."""
    from gonogo.cli import app
    from gonogo.cli.edge import program

    return sorted([*_with_json(program(app), ()), *_EXPORTS])


def schema_text(command: str) -> str:
    """Return the schema of one command, JSON with a newline at the end.

    Raises:
        InputError: there is no such command, or it prints no JSON.
        ModuleNotFoundError: the types of its result need an extra that is not installed.
    """
    from gonogo.cli.printed.build import schema_of
    from gonogo.cli.printed.table import printed_by
    from gonogo.errors import InputError

    if command not in commands_with_schema():
        raise InputError(f"expected a command with --json, found {command!r}. List them with: gonogo schema")
    printed = printed_by(command)
    assert printed is not None, "a test compares the table with the commands"
    option = "" if command in _EXPORTS else " --json"
    return json.dumps(schema_of(f"gonogo {command}{option}", printed), indent=1) + "\n"


def schema_file(command: str) -> str:
    """Return the name of the file of a command's schema."""
    return f"{command.replace(' ', '-')}.json"


def _write_all(out: Path) -> int:
    from gonogo.files import write_beside
    from gonogo.progress import track

    names = commands_with_schema()
    for name in track(names, "writing"):
        write_beside(out / schema_file(name), schema_text(name).encode())
    return len(names)


def _with_json(node: Any, path: tuple[str, ...]) -> Iterator[str]:
    for name, each in node.commands.items():
        if hasattr(each, "commands"):
            yield from _with_json(each, (*path, name))
        elif any("--json" in option.opts for option in each.params):
            yield " ".join((*path, name))
