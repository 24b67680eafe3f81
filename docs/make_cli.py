"""Write the commands and options of docs/cli.md from the program's own help: ``make docs-cli``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from typer.main import get_command

from gonogo.cli import app
from gonogo.cli.help_text import OPTIONS, sections
from gonogo.cli.schema import commands_with_schema, schema_file

PAGE = Path(__file__).with_name("cli.md")
MARK = "## Commands\n"
_HEAD = "From here on, this page is written by `make docs-cli`.\n"


def commands_text() -> str:
    """Every command with its arguments and options, as Markdown."""
    program = get_command(app)
    return "\n".join([MARK, _HEAD, *_described(program, typer.Context(program, info_name="gonogo"))])


def _described(command: Any, context: Any, *, heading: str = "###") -> Iterator[str]:
    """Heading, synopsis, text and parameters of a command, then its subcommands."""
    yield f"{heading} {context.command_path}\n"
    yield f"```text\n{_synopsis(command, context)}\n```\n"
    yield from (f"{' '.join(paragraph.split())}\n" for paragraph in command.help.split("\n\n"))
    for title, parameters in sections(command.params).items():
        if title not in ("Arguments", OPTIONS):
            yield f"{title}:\n"
        yield "\n".join(_item(each, context) for each in parameters) + "\n"
    name = context.command_path.partition(" ")[2]
    if name in commands_with_schema():
        what = "--json" if any("--json" in each.opts for each in command.params) else "a row"
        yield f"Schema of `{what}`: [{schema_file(name)}](schemas/cli/{schema_file(name)})\n"
    if hasattr(command, "commands"):
        below = {name: command.commands[name] for name in command.list_commands(context)}
        yield (
            "\n".join(
                f"- {_link(f'{context.command_path} {name}')}: {_first_line(each)}" for name, each in below.items()
            )
            + "\n"
        )
        for name, each in below.items():
            inner = typer.Context(each, parent=context, info_name=name)
            yield from _described(each, inner, heading="###" if context.parent is None else "####")


def _link(path: str) -> str:
    return f"[`{path}`](#{path.replace(' ', '-')})"


def _first_line(command: Any) -> str:
    return " ".join(command.help.split("\n\n")[0].split())


def _synopsis(command: Any, context: Any) -> str:
    arguments = [_term(each, context) for each in command.params if each.param_type_name == "argument"]
    required = [_term(each, context) for each in command.params if each.param_type_name == "option" and each.required]
    rest = ["COMMAND ..."] if hasattr(command, "commands") else []
    return " ".join([context.command_path, *arguments, *required, "[OPTIONS]", *rest])


def _item(parameter: Any, context: Any) -> str:
    _, text = parameter.get_help_record(context)
    return f"- `{_term(parameter, context)}`: {' '.join(text.split())}"


def _term(parameter: Any, context: Any) -> str:
    """``--out <path>`` or ``PHOTOS...``."""
    term, _ = parameter.get_help_record(context)
    if parameter.param_type_name == "option":
        return str(term)
    name = term.partition(" <")[0].upper()
    return f"{name}..." if parameter.nargs == -1 else name


def main() -> int:
    """Replace what follows the heading."""
    before, _, _ = PAGE.read_text("utf-8").partition(MARK)
    PAGE.write_text(before + commands_text(), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
