"""Slowing down whoever guesses passwords: by account, whether it exists or not, and by address."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable

from gonogo.server.store import Store

ACCOUNT_FREE, ADDRESS_FREE = 5, 20
"""Failures that cost nothing. A plant's terminals often share one address."""
FIRST_BLOCK_S, LONGEST_BLOCK_S = 15.0, 900.0
FORGET_AFTER_S = 3600.0


class Throttle:
    """After so many failures in a row each further one doubles the wait, up to a quarter of an hour."""

    def __init__(self, store: Store, *, now: Callable[[], float] = time.time) -> None:
        self._store, self._now = store, now

    def wait_s(self, account: str, address: str) -> float:
        """How long no login is looked at for this account from this address; 0: go ahead."""
        now = self._now()
        keys = [key for key, _ in _subjects(account, address)]
        found = self._store.run("SELECT max(blocked_until) FROM throttle WHERE subject IN (?, ?)", *keys)
        return max(0.0, (found[0][0] or 0.0) - now)

    def failed(self, account: str, address: str) -> None:
        """Count one failure."""
        now = self._now()
        with self._store.transaction():
            self._store.run("DELETE FROM throttle WHERE last_at < ?", now - FORGET_AFTER_S)
            for key, free in _subjects(account, address):
                found = self._store.run("SELECT failures FROM throttle WHERE subject = ?", key)
                failures = (found[0][0] if found else 0) + 1
                over = failures - free
                block_s = 0.0 if over < 0 else min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2.0 ** min(over, 10))
                self._store.run(
                    "INSERT INTO throttle VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE SET "
                    "failures = excluded.failures, last_at = excluded.last_at, blocked_until = excluded.blocked_until",
                    key, failures, now, now + block_s,
                )  # fmt: skip

    def succeeded(self, account: str, address: str) -> None:
        """Forget the account's failures. Those of the address stay: one good login buys no further guesses."""
        account_key = _subjects(account, address)[0][0]
        self._store.run("DELETE FROM throttle WHERE subject = ?", account_key)


def _subjects(account: str, address: str) -> tuple[tuple[bytes, int], tuple[bytes, int]]:
    # Hashed, so that whatever is typed into the name field takes 32 bytes.
    named = f"account:{account.strip().casefold()}", f"address:{address}"
    account_key, address_key = (hashlib.sha256(name.encode()).digest() for name in named)
    return (account_key, ACCOUNT_FREE), (address_key, ADDRESS_FREE)
