"""``gonogo serve-key``: keys of the programs that may use a server; for the administrator of its machine."""

from __future__ import annotations

import contextlib
import getpass
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.cli.printed.server import KeyFacts
    from gonogo.server.auth.sessions import Sessions, Token
    from gonogo.server.database import Database
    from gonogo.server.ledger_pool import LedgerPool

app = typer.Typer(help="Keys of the programs that may use a server: add, list, revoke.", no_args_is_help=True)

_Workspace = Annotated[Path, typer.Argument(help="Workspace of the server; it may be running.")]
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("add")
def add_command(
    workspace: _Workspace,
    name: Annotated[str, typer.Argument(help="Name of the program; it stands in the ledger.")],
    role: Annotated[
        str, typer.Option(help="What it may do: operator (judge pictures), reviewer, engineer, auditor or admin.")
    ] = "operator",
    days: Annotated[int, typer.Option(min=1, max=366, help="Days until the key expires.")] = 366,
    as_json: _Json = False,
) -> None:
    """Make a key for a program, and print it. It is not stored and cannot be shown again."""
    from gonogo.errors import InputError
    from gonogo.server.access import Role

    if role not in list(Role):
        raise InputError(f"--role: expected {', '.join(Role)}, found {role!r}.")
    token, secret = made_key(workspace, name, role=role, days=days)
    if as_json:
        print_json({**_facts(token), "key": secret})
        return
    typer.echo(f"Key of {token.name} (number {token.id}, {token.role}), shown only once:\n{secret}")


def made_key(workspace: Path, name: str, *, role: str, days: int) -> tuple[Token, str]:
    """Make a key and record it; return its facts and its secret.

    Raises:
        InputError: there is no server's workspace, or the name is invalid or in use.
    """
    from gonogo.server.access import Role

    with _opened(workspace) as (database, sessions, ledger_pool):
        _require_new(sessions, name)
        with database.transaction():
            token, secret = sessions.issue(name, Role(role), days=days, created_by=_who())
            ledger_pool.act("token_issued", _who(), token=token.name, token_id=token.id, role=role, days=days)
    return token, secret


@app.command("list")
def list_command(workspace: _Workspace, as_json: _Json = False) -> None:
    """List the keys, without their secrets."""
    with _opened(workspace) as (_, sessions, _pool):
        tokens = sessions.tokens()
    if as_json:
        print_json([_facts(token) for token in tokens])
        return
    for token in tokens:
        facts = _facts(token)
        typer.echo(f"{token.id}  {token.name}  {token.role}  {facts['state']}, expires {facts['expires'][:10]}")
    if not tokens:
        typer.echo(f"No keys. Make one: gonogo serve-key add {workspace} NAME")


@app.command("revoke")
def revoke_command(
    workspace: _Workspace,
    number: Annotated[int, typer.Argument(min=1, help="Number of the key, as listed.")],
    as_json: _Json = False,
) -> None:
    """Revoke a key permanently; a running server refuses it at once."""
    with _opened(workspace) as (database, sessions, ledger_pool), database.transaction():
        token = sessions.revoke(number)
        ledger_pool.act("token_revoked", _who(), token=token.name, token_id=token.id)
    if as_json:
        print_json(_facts(token))
    else:
        typer.echo(f"Revoked the key of {token.name}.")


@contextlib.contextmanager
def _opened(root: Path) -> Iterator[tuple[Database, Sessions, LedgerPool]]:
    from gonogo.errors import InputError
    from gonogo.server.auth.sessions import Sessions
    from gonogo.server.backup import opened_workspace
    from gonogo.server.database import Database
    from gonogo.server.language import RefusedError
    from gonogo.server.ledger_pool import LedgerPool

    space = opened_workspace(root)
    with contextlib.ExitStack() as until_end:
        database = Database.open(space.database)
        until_end.callback(database.close)
        ledger_pool = LedgerPool.open(space.ledger)
        until_end.callback(ledger_pool.close)
        try:
            yield database, Sessions(database), ledger_pool
        except RefusedError as error:
            raise InputError(error.text("en")) from error


def _require_new(sessions: Sessions, name: str) -> None:
    """Refuse a second valid key with the same name: idempotency keys belong to a name."""
    from gonogo.errors import InputError

    for token in sessions.tokens("name = ? AND NOT revoked", name.strip()):
        if _facts(token)["state"] == "valid":
            raise InputError(
                f"{name}: expected a new name, found a valid key of this name (number {token.id}). "
                "Revoke it first: two programs with one name would share their Idempotency-Keys."
            )


def _facts(token: Token) -> KeyFacts:
    expires = datetime.fromtimestamp(token.expires_at, UTC)
    state: Literal["valid", "expired", "revoked"] = (
        "revoked" if token.revoked else "expired" if expires < datetime.now(UTC) else "valid"
    )
    return {
        "number": token.id,
        "name": token.name,
        "role": token.role,
        "created_by": token.created_by,
        "expires": expires.isoformat(timespec="seconds"),
        "state": state,
    }


def _who() -> str:
    try:
        return f"serve-key:{getpass.getuser()}"
    except (OSError, KeyError):
        return "serve-key"
