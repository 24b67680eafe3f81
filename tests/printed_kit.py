"""Compares every document that a command prints with ``--json`` in this process with the command's schema."""

from __future__ import annotations

import functools
import inspect
import json
from typing import Any

import jsonschema
from typer._click.globals import get_current_context

from gonogo.cli.printed.build import schema_of
from gonogo.cli.printed.table import printed_by


@functools.cache
def validator(command: str) -> Any:
    """Return the validator of what a command prints."""
    printed = printed_by(command)
    assert printed is not None, f"gonogo {command!r} --json has no type in gonogo.cli.printed"
    return jsonschema.Draft202012Validator(schema_of(f"gonogo {command} --json", printed))


def faults(command: str, text: str) -> list[str]:
    """Say where a document differs from the schema of its command."""
    content = json.loads(text, parse_constant=_refuse)
    return [f"{error.json_path}: {error.message[:500]}" for error in validator(command).iter_errors(content)]


def compare_with_schema(text: str) -> None:
    """Compare a document with the schema of the running command."""
    context = get_current_context(silent=True)
    if context is None or not context.params.get("as_json"):
        return
    command = _names()[inspect.unwrap(context.command.callback)]
    found = faults(command, text)
    assert not found, f"gonogo {command} --json differs from its schema:\n" + "\n".join(found) + f"\n{text[:2000]}"


@functools.cache
def _names() -> dict[object, str]:
    """Commands by the function that runs them, also where a test calls a group of commands alone."""
    from tests.command_kit import commands

    return {inspect.unwrap(each.callback): " ".join(words) for words, each in commands()}


def _refuse(number: str) -> None:
    raise AssertionError(f"{number} is no JSON")
