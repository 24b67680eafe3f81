"""The command line as a whole: its entries, and docs/cli.md, which describes every command and every option."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import gonogo
from tests import command_kit as kit

DOCS = Path(__file__).parents[1] / "docs"
ENTRIES = [
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
]


def documented() -> dict[str, set[str]]:
    """The terms under each heading of a command: its options, and its arguments."""
    text = (DOCS / "cli.md").read_text("utf-8").partition("## Commands\n")[2]
    pieces = re.split(r"^#{3,4} (gonogo.*)$", text, flags=re.MULTILINE)[1:]
    return {
        heading: {
            word
            for term in re.findall(r"^- `([^`]*)`:", body, flags=re.MULTILINE)
            for word in re.findall(r"--[a-z0-9-]+", term) or [term]
        }
        for heading, body in zip(pieces[::2], pieces[1::2], strict=True)
    }


def offered() -> dict[str, set[str]]:
    """The options that each command takes."""
    found: dict[str, set[str]] = {}
    for words, command in [*kit.groups(), *kit.commands()]:
        options = [each for each in command.params if not kit.is_argument(each)]
        found[" ".join(("gonogo", *words))] = {
            word for each in options for word in (*each.opts, *each.secondary_opts) if word.startswith("--")
        }
    return found


def test_every_command_and_every_option_is_documented_and_nothing_else() -> None:
    told = {path: {word for word in terms if word.startswith("--")} for path, terms in documented().items()}
    assert told == offered(), "docs/cli.md does not describe this program: run make docs-cli"


def test_every_argument_is_documented() -> None:
    told = documented()
    for words, command in kit.commands():
        arguments = [each for each in command.params if kit.is_argument(each)]
        terms = [term for term in told[" ".join(("gonogo", *words))] if not term.startswith("--")]
        assert len(terms) == len(arguments), words


def test_the_described_commands_are_what_the_program_says_of_itself() -> None:
    text = (DOCS / "cli.md").read_text("utf-8")
    written = runpy.run_path(str(DOCS / "make_cli.py"))["commands_text"]()
    assert text.endswith(written), "docs/cli.md is not up to date: run make docs-cli"


def test_the_program_lists_its_entries_in_the_order_in_which_a_user_meets_them() -> None:
    listed = kit.help_of([]).partition("Commands:\n")[2]
    names = [line.split()[0] for line in listed.splitlines() if line.strip()]
    assert names[: len(ENTRIES)] == ENTRIES
    assert len(ENTRIES) <= 13


def test_the_version_is_printed() -> None:
    ended = kit.run_here(["--version"])
    assert (ended.code, ended.out) == (0, f"gonogo {gonogo.__version__}\n")
