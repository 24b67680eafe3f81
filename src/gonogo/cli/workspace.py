"""``gonogo workspace``: backup, restore and lost passwords; for the administrator of the server's machine."""

from __future__ import annotations

import contextlib
import dataclasses
import getpass
from pathlib import Path
from typing import Annotated

import typer

from gonogo.cli.output import print_json

app = typer.Typer(
    help="The workspace of a server: back it up, restore it, let an administrator in again.", no_args_is_help=True
)

_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_Workspace = Annotated[Path, typer.Argument(help="Workspace of the server; it may be running.")]


@app.command("backup")
def backup_command(
    workspace: _Workspace,
    to: Annotated[Path, typer.Option(help="The file to write; it holds secrets, and only this user may read it.")],
    as_json: _Json = False,
) -> None:
    """Write a workspace to one file: data sets, inspectors, ledger, frames, people, settings."""
    from gonogo.server.backup import back_up

    made = back_up(workspace, to, who=_who())
    _print_notes(made.notes)
    if as_json:
        print_json(dataclasses.asdict(made) | {"file": str(made.file)})
        return
    typer.echo(f"Wrote {made.files:,} files, {made.bytes / 1e6:,.1f} MB, to {made.file}. Keep it on another machine.")


@app.command("restore")
def restore_command(
    backup: Annotated[Path, typer.Argument(help="A file that gonogo workspace backup wrote.")],
    to: Annotated[Path, typer.Option(help="Folder of the workspace; it must not exist.")],
    as_json: _Json = False,
) -> None:
    """Write the workspace of a backup to a new folder; check every byte and the ledger's chain.

    Everybody is logged out. Exit code 1: it is restored as it was, and its ledger already had signs of tampering.
    """
    from gonogo.errors import UnfitError
    from gonogo.server.backup import restore

    done = restore(backup, to, who=_who())
    _print_notes(done.notes)
    if as_json:
        print_json(dataclasses.asdict(done) | {"workspace": str(done.workspace)})
    else:
        typer.echo(
            f"Restored {done.files:,} files, {done.bytes / 1e6:,.1f} MB, of {done.made_at} to {done.workspace}. "
            "Keys and people are those of that time: look through them."
        )
    if done.findings:
        raise UnfitError(
            f"{done.workspace}: the ledger in the backup has {len(done.findings)} signs of tampering or damage, the "
            f"first: {done.findings[0]}. Look at an earlier backup: gonogo ledger verify."
        )


@app.command("password")
def password_command(
    workspace: _Workspace,
    name: Annotated[str, typer.Argument(help="Name of the person, such as admin.")] = "admin",
    as_json: _Json = False,
) -> None:
    """Print a new one-time password for a person, end their sessions, and unlock them. It stands in the ledger."""
    from gonogo.server.recovery import recovered_password

    password = recovered_password(workspace, name, who=_who())
    if as_json:
        print_json({"name": name, "one_time_password": password})
        return
    typer.echo(f"One-time password of {name}: {password}\nIt is shown only once and must be changed at the next login.")


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        typer.echo(f"note: {note}", err=True)


def _who() -> str:
    with contextlib.suppress(OSError, KeyError):
        return f"workspace:{getpass.getuser()}"
    return "workspace"
