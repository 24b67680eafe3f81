"""Key pairs: the private key in a file that only its owner may open, the public key in a line of text."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular, read_text
from gonogo.names import clean_name

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SCHEME = "gonogo-ed25519"
_LINE = re.compile(rf"{_SCHEME} ([0-9a-f]{{64}}) (\S.*)")


@dataclass(frozen=True, kw_only=True)
class PublicKey:
    """A public key and the name of its owner, as its owner wrote it."""

    key: str
    """32 bytes, lower-case hexadecimal."""
    name: str

    @property
    def key_id(self) -> str:
        """Short name of the key, see `key_id_of`."""
        return key_id_of(self.key)

    @property
    def line(self) -> str:
        """The line of text in a file ``NAME.pub``."""
        return f"{_SCHEME} {self.key} {self.name}\n"


@dataclass(frozen=True, kw_only=True)
class SigningKey:
    """An opened private key."""

    public: str
    """Public key, lower-case hexadecimal."""
    private: Ed25519PrivateKey = field(repr=False)

    @property
    def key_id(self) -> str:
        """Short name of the key, see `key_id_of`."""
        return key_id_of(self.public)

    def sign(self, data: bytes) -> str:
        """Return the Ed25519 signature (RFC 8032) of data, 64 bytes in hexadecimal."""
        return self.private.sign(data).hex()

    @classmethod
    def new(cls) -> SigningKey:
        """Make a key, which is nowhere but in memory."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.generate()
        return cls(public=_public_of(private), private=private)

    @classmethod
    def from_seed(cls, seed: bytes) -> SigningKey:
        """Open a key from its 32 secret bytes, see `seed`."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(public=_public_of(private), private=private)

    def seed(self) -> bytes:
        """The 32 secret bytes; whoever has them can sign."""
        return self.private.private_bytes_raw()


def key_id_of(public: str) -> str:
    """Short name of a public key: the first 16 hexadecimal digits of its SHA-256. It names a key, it proves nothing."""
    return fingerprint_of(public)[:16]


def fingerprint_of(public: str) -> str:
    """SHA-256 of a public key, 64 hexadecimal digits, to be compared by people."""
    return hashlib.sha256(bytes.fromhex(public)).hexdigest()


def make_key_pair(path: Path, name: str, *, passphrase: str = "") -> tuple[SigningKey, Path]:
    """Create a key pair: the private key at ``path`` with mode 0600 (PKCS #8, PEM), the public one beside it.

    Args:
        path: The private key's file, which must not exist; the public key gets the suffix ``.pub``.
        name: Name of the owner.
        passphrase: Encrypts the private key; empty stores it readable for this user.

    Returns:
        The key, and the file of the public key.

    Raises:
        InputError: the name is no name, or a file exists or cannot be written.
    """
    from cryptography.hazmat.primitives import serialization

    try:
        clean_name(name)
    except ValueError as error:
        raise InputError(f"name of the key: {error}.") from error
    key = SigningKey.new()
    hidden: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        hidden = serialization.BestAvailableEncryption(passphrase.encode())
    pem = key.private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, hidden)
    beside = path.with_name(f"{path.name}.pub")
    _write_new(path, pem, mode=0o600)
    try:
        _write_new(beside, PublicKey(key=key.public, name=name).line.encode(), mode=0o644)
    except InputError:
        path.unlink()  # half a pair is of no use
        raise
    return key, beside


def open_signing_key(path: Path, *, passphrase: str = "") -> SigningKey:
    """Open a private key.

    Raises:
        InputError: the file is missing, readable for others, or not an Ed25519 key, or the passphrase is wrong.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        data = read_regular(path, most_bytes=MOST_SETTINGS_BYTES, private=True)
    except OSError as error:
        raise InputError(
            f"{path}: expected a private key that only this user may open (mode 0600), found a file that cannot be "
            f"used ({error.strerror or error}). Make one with: gonogo bundle keys make"
        ) from error
    try:
        private = load_pem_private_key(data, passphrase.encode() or None)
    except TypeError as error:  # one of passphrase and encryption is missing
        raise InputError(f"{path}: {_about_passphrase(passphrase)}") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InputError(f"{path}: no private key, or another passphrase. Name the file made by gonogo.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InputError(f"{path}: expected an Ed25519 key, found another kind. Name the file made by gonogo.")
    return SigningKey(public=_public_of(private), private=private)


def read_public_key(path: Path) -> PublicKey:
    """Read a public key.

    Raises:
        InputError: the file is missing or holds no public key.
    """
    try:
        text = read_text(path, most_bytes=MOST_SETTINGS_BYTES).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a public key (NAME.pub), found a file that cannot be read ({error})."
        ) from (error)
    found = _LINE.fullmatch(text)
    try:
        if found is not None:
            return PublicKey(key=found[1], name=clean_name(found[2]))
    except ValueError:
        pass
    raise InputError(f"{path}: expected a public key, one line that begins with {_SCHEME}, found something else.")


def _about_passphrase(given: str) -> str:
    if given:
        return "this key has no passphrase. Omit it."
    return "this key has a passphrase. Set it in GONOGO_KEY_PASSPHRASE, or run the command in a terminal."


def _public_of(private: Ed25519PrivateKey) -> str:
    return private.public_key().public_bytes_raw().hex()


def _write_new(path: Path, data: bytes, *, mode: int) -> None:
    """Write a file that must not exist, never readable for others before it has its mode."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(handle)
    except OSError as error:
        raise InputError(f"{path}: cannot be created ({error.strerror or error}). Choose another name.") from error
