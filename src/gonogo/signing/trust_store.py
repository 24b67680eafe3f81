"""The trust store: the public keys that this machine believes, and those that it no longer believes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, Field, ValidationError, field_validator

from gonogo import locks
from gonogo.config import Strict
from gonogo.errors import InputError, SignatureError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular, write_beside
from gonogo.names import clean_name
from gonogo.signing.keys import PublicKey, key_id_of


class Use(StrEnum):
    """What a key may sign."""

    BUNDLE = "bundle"
    """Bundles: this inspector may judge."""
    RELEASE = "release"
    """Releases: which signed bundle a station uses. Such a key alone brings no new bundle anywhere."""


class TrustedKey(Strict):
    """One key of a trust store."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    key: str = Field(pattern="^[0-9a-f]{64}$")
    uses: tuple[Use, ...] = Field(min_length=1)
    added: AwareDatetime
    revoked: AwareDatetime | None = None
    """Once set, nothing that the key signed is accepted, whenever it was signed: its holder states that time."""
    why: str = ""
    """Reason of the revocation."""

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        return clean_name(value)

    @property
    def key_id(self) -> str:
        """Short name of the key."""
        return key_id_of(self.key)


class TrustStore(Strict):
    """The contents of a trust store. It has no key twice; a revoked key stays, so that it cannot be added again."""

    format: int = Field(default=1, ge=1, le=1)
    keys: tuple[TrustedKey, ...] = ()

    def find(self, key_id: str) -> TrustedKey | None:
        """Return the key with this short name, revoked or not."""
        return next((each for each in self.keys if each.key_id == key_id), None)


def read_trust_store(path: Path) -> TrustStore:
    """Read a trust store.

    Raises:
        SignatureError: the file is missing or malformed, or has no key: then nothing can be verified, so nothing is
            trusted.
    """
    store = _read(path)
    if store is None or not store.keys:
        found = "no such file" if store is None else "none"
        raise SignatureError(
            f"{path}: expected the keys that this machine trusts, found {found}. No signature can be verified, so no "
            f"bundle is accepted. Add a key with: gonogo bundle keys add KEY.pub --store {path}"
        )
    return store


def add_key(path: Path, public: PublicKey, uses: tuple[Use, ...], *, now: datetime) -> TrustedKey:
    """Add a key to a trust store, which is created if it does not exist.

    Raises:
        InputError: the store has this key, or another one of this name; or it cannot be written.
        SignatureError: the store is malformed.
    """
    added = TrustedKey(name=public.name, key=public.key, uses=uses, added=now)
    with _changing(path) as store:
        known = store.find(added.key_id)
        if known is not None:
            state = "revoked" if known.revoked else "trusted"
            raise InputError(f"{path}: this key ({known.key_id}, {known.name}) is already {state}. Make a new one.")
        if any(each.name == added.name and each.revoked is None for each in store.keys):
            raise InputError(
                f"{path}: {added.name} already has a key. Revoke that one first, or make this one under another name."
            )
        _write(path, store.model_copy(update={"keys": (*store.keys, added)}))
    return added


def revoke_key(path: Path, key: str, *, why: str, now: datetime) -> TrustedKey:
    """Revoke a key for good, given its short name or the name of its owner.

    Raises:
        InputError: no trusted key is called that, or the store cannot be written.
        SignatureError: the store is missing, malformed or empty.
    """
    read_trust_store(path)
    with _changing(path) as store:
        chosen = [each for each in store.keys if key in (each.key_id, each.name) and each.revoked is None]
        if len(chosen) != 1:
            names = ", ".join(f"{each.key_id} ({each.name})" for each in store.keys if each.revoked is None) or "none"
            raise InputError(f"{path}: expected one of the trusted keys, {names}; found {key!r}.")
        revoked = chosen[0].model_copy(update={"revoked": now, "why": why})
        keys = tuple(revoked if each.key == revoked.key else each for each in store.keys)
        _write(path, store.model_copy(update={"keys": keys}))
    return revoked


@contextlib.contextmanager
def _changing(path: Path) -> Iterator[TrustStore]:
    """Hold a lock, so that of two changes at once none is lost."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f".{path.name}.lock").open("ab")
    except OSError as error:
        raise InputError(f"{path}: cannot be changed ({error.strerror or error}). Choose another place.") from error
    with lock:
        locks.lock(lock)
        yield _read(path) or TrustStore()


def _read(path: Path) -> TrustStore | None:
    try:
        return TrustStore.model_validate_json(read_regular(path, most_bytes=MOST_SETTINGS_BYTES))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SignatureError(f"{path}: the trust store cannot be read ({error.strerror or error}).") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise SignatureError(
            f"{path}: not a trust store ({where}: {first['msg']}). Restore it from a copy; until then no signature can "
            "be verified."
        ) from error


def _write(path: Path, store: TrustStore) -> None:
    write_beside(path, store.model_dump_json(indent=1).encode() + b"\n")
