"""Private signing keys of people, each encrypted under a passphrase that only its owner knows.

A key is encrypted with AES-256-GCM under 32 bytes that argon2id derives from the passphrase. Neither is stored, so
nobody else can sign: not the machine, and not an administrator, who can only revoke a key.
"""

from __future__ import annotations

import json
import secrets
import unicodedata
from dataclasses import dataclass

from gonogo.errors import InputError
from gonogo.server.auth.hashing import Hashing
from gonogo.server.database import Database
from gonogo.signing import SigningKey

SHORTEST_PASSPHRASE, LONGEST_PASSPHRASE = 12, 200
_MOST_COST = (64, 1 << 20, 64)  # a row that was tampered with takes at most 1 GiB


class WrongPassphraseError(InputError):
    """The passphrase does not open the key."""


@dataclass(frozen=True, kw_only=True)
class LockedKey:
    """A private key as it is stored."""

    key_id: str
    locked: bytes


class SigningKeys:
    """The private keys of a server; at most one for each person."""

    def __init__(self, database: Database, hashing: Hashing) -> None:
        self._database, self._hashing = database, hashing

    def of(self, user_id: int) -> LockedKey | None:
        """The key of a person; ``None`` without one."""
        found = self._database.run("SELECT key_id, locked FROM signing_keys WHERE user_id = ?", user_id)
        return LockedKey(key_id=found[0][0], locked=found[0][1]) if found else None

    def put(self, user_id: int, key: LockedKey) -> None:
        """Store a key in place of the person's earlier one."""
        self._database.run("INSERT OR REPLACE INTO signing_keys VALUES (?, ?, ?)", user_id, key.key_id, key.locked)

    def remove(self, user_id: int) -> None:
        """Delete the private key of a person: nothing can be signed with it any more."""
        self._database.run("DELETE FROM signing_keys WHERE user_id = ?", user_id)

    def lock(self, key: SigningKey, passphrase: str) -> LockedKey:
        """Encrypt a private key."""
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        salt, nonce, cost = secrets.token_bytes(16), secrets.token_bytes(12), self._hashing.cost
        under = self._hashing.derive(_secret(passphrase), salt, cost)
        box = AESGCM(under).encrypt(nonce, key.seed(), key.key_id.encode())
        stored = {"argon2id": cost, "salt": salt.hex(), "nonce": nonce.hex(), "box": box.hex()}
        return LockedKey(key_id=key.key_id, locked=json.dumps(stored).encode())

    def unlock(self, key: LockedKey, passphrase: str) -> SigningKey:
        """Decrypt a private key.

        Raises:
            WrongPassphraseError: the passphrase is wrong, or the row was changed.
        """
        from cryptography.exceptions import InvalidTag
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        try:
            stored = json.loads(key.locked)
            passes, memory_kib, threads = (min(int(a), b) for a, b in zip(stored["argon2id"], _MOST_COST, strict=True))
            salt, nonce, box = (bytes.fromhex(stored[name]) for name in ("salt", "nonce", "box"))
            under = self._hashing.derive(_secret(passphrase), salt, (passes, memory_kib, threads))
            opened = SigningKey.from_seed(AESGCM(under).decrypt(nonce, box, key.key_id.encode()))
        except (InvalidTag, ValueError, KeyError, TypeError) as error:
            raise WrongPassphraseError(f"the passphrase of key {key.key_id} is wrong. Type it again.") from error
        if opened.key_id != key.key_id:
            raise WrongPassphraseError(f"the private key is not that of {key.key_id}. Revoke it and make a new one.")
        return opened


def _secret(passphrase: str) -> bytes:
    return unicodedata.normalize("NFKC", passphrase)[:LONGEST_PASSPHRASE].encode(errors="surrogatepass")
