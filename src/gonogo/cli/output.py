"""Prints the documents of ``--json``; `gonogo.cli.printed` holds their types."""

from __future__ import annotations

import json
from collections.abc import Callable

import typer


def print_json(
    content: object,
    *,
    indent: int | None = None,
    ensure_ascii: bool = True,
    allow_nan: bool = True,
    default: Callable[[object], object] | None = None,
) -> None:
    """Print one document as JSON; the options are those of `json.dumps`."""
    write_line(json.dumps(content, indent=indent, ensure_ascii=ensure_ascii, allow_nan=allow_nan, default=default))


def write_line(text: str) -> None:
    """Print the text of a document; tests compare it here with the schema of the command that runs."""
    typer.echo(text)
