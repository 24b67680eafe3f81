"""``gonogo bundle keys`` and ``gonogo bundle sign``: who vouches for a bundle, and whom this machine trusts."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gonogo.cli.output import print_json

if TYPE_CHECKING:
    from gonogo.bundle import Bundle
    from gonogo.signing import SigningKey, TrustedKey

app = typer.Typer(help="Keys that sign bundles and releases: make, list, add, revoke.", no_args_is_help=True)

_PASSPHRASE = "GONOGO_KEY_PASSPHRASE"
KeyOption = Annotated[
    Path, typer.Option(help=f"Private key of the signer; its passphrase comes from {_PASSPHRASE} or the terminal.")
]
StoreOption = Annotated[
    Path | None, typer.Option(help="Trust store. [default: GONOGO_TRUST_STORE, or that of this user]")
]
_Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("make")
def make_command(
    name: Annotated[str, typer.Argument(help="Name of the person or program that will sign with the key.")],
    out: Annotated[Path, typer.Option(help="File of the private key; the public key gets the suffix .pub.")],
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Leave the private key unencrypted, for unattended programs.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Make a key pair. The private key has mode 0600 and a passphrase; give away the public one only."""
    from gonogo.errors import InputError
    from gonogo.signing import make_key_pair

    passphrase = "" if no_passphrase else _ask_passphrase(twice=True)
    if not passphrase and not no_passphrase:
        raise InputError(f"expected a passphrase, found none. Set {_PASSPHRASE}, or pass --no-passphrase.")
    key, public = make_key_pair(out, name, passphrase=passphrase)
    if as_json:
        print_json({"key_id": key.key_id, "private": str(out), "public": str(public)})
        return
    typer.echo(f"Wrote {out} (keep it secret) and {public}: key {key.key_id}.")
    typer.echo(f"Next, on each machine that shall trust it: gonogo bundle keys add {public}")


@app.command("list")
def list_command(store: StoreOption = None, as_json: _Json = False) -> None:
    """List the keys that this machine trusts, and the revoked ones."""
    from gonogo.signing import read_trust_store

    place = chosen_store(store)
    keys = read_trust_store(place).keys
    if as_json:
        print_json({"store": str(place), "keys": [_as_json(each) for each in keys]})
        return
    for each in keys:
        state = "trusted" if each.revoked is None else f"revoked {each.revoked:%Y-%m-%d} {each.why}".rstrip()
        typer.echo(f"{each.key_id}  {'+'.join(each.uses):15s} {each.name}: {state}")


@app.command("add")
def add_command(
    public: Annotated[Path, typer.Argument(help="Public key, NAME.pub.", metavar="KEY.PUB")],
    use: Annotated[
        list[str] | None, typer.Option(help="What it may sign: bundle or release; may be repeated. [default: bundle]")
    ] = None,
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Trust a key. Compare its short name with its owner by another way than the one the file came by."""
    from gonogo.errors import InputError
    from gonogo.signing import Use, add_key, read_public_key

    unknown = set(use or ()) - set(Use)
    if unknown:
        raise InputError(f"--use: expected {' or '.join(Use)}, found {', '.join(sorted(unknown))}.")
    uses = tuple(each for each in Use if each in (use or (Use.BUNDLE,)))
    place = chosen_store(store)
    added = add_key(place, read_public_key(public), uses, now=datetime.now(UTC))
    _tell(added, f"{place}: trusts key {added.key_id} of {added.name} for {' and '.join(uses)}.", as_json=as_json)


@app.command("revoke")
def revoke_command(
    key: Annotated[str, typer.Argument(help="Short name of the key, or name of its owner.")],
    why: Annotated[str, typer.Option(help="Reason, shown wherever the key is refused.")] = "",
    store: StoreOption = None,
    as_json: _Json = False,
) -> None:
    """Stop trusting a key, for good. What it signed is refused from now on; a bundle in use stays, with an alarm."""
    from gonogo.signing import revoke_key

    place = chosen_store(store)
    revoked = revoke_key(place, key, why=why, now=datetime.now(UTC))
    _tell(revoked, f"{place}: key {revoked.key_id} of {revoked.name} is revoked.", as_json=as_json)


def sign_command(
    bundle: Annotated[Path, typer.Argument(help="Bundle to sign.", metavar="BUNDLE")],
    key: KeyOption,
    as_json: _Json = False,
) -> None:
    """Sign a bundle. Its files and its identity do not change; certifying or training again removes the signature."""
    from gonogo.bundle import read_bundle
    from gonogo.signing import sign_bundle

    opened = read_bundle(bundle)
    signing_key = open_key(key)
    statement = sign_bundle(opened, signing_key, now=datetime.now(UTC))
    if as_json:
        print_json({"bundle": str(bundle), "key_id": signing_key.key_id, **statement.model_dump(mode="json")})
        return
    typer.echo(f"Signed {bundle} ({opened.sha256[:16]}) with key {signing_key.key_id}.")


def open_key(path: Path) -> SigningKey:
    """Open a private key; ask for its passphrase in a terminal if the environment does not have it."""
    from gonogo.errors import InputError
    from gonogo.signing import open_signing_key

    try:
        return open_signing_key(path, passphrase=os.environ.get(_PASSPHRASE, ""))
    except InputError as error:
        if "has a passphrase" not in str(error) or not sys.stdin.isatty():
            raise
    return open_signing_key(path, passphrase=_ask_passphrase(twice=False))


def say_unsigned(before: Bundle, after: Bundle | None) -> None:
    """Say on standard error that a signature was removed, or does not cover the new bundle."""
    from gonogo.signing import without_signature

    sentence = "" if after is None else without_signature(before, after)
    if sentence:
        typer.echo(sentence, err=True)


def _ask_passphrase(*, twice: bool) -> str:
    given = os.environ.get(_PASSPHRASE, "")
    if given or not sys.stdin.isatty():
        return given
    return str(typer.prompt("Passphrase", hide_input=True, confirmation_prompt=twice, err=True))


def chosen_store(given: Path | None) -> Path:
    """Return the trust store that was named, or that of this machine."""
    from gonogo.config import settings

    return settings().trust_store if given is None else given


def _tell(key: TrustedKey, sentence: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_as_json(key))
    else:
        typer.echo(sentence)


def _as_json(key: TrustedKey) -> dict[str, Any]:
    return {"key_id": key.key_id, **key.model_dump(mode="json")}
