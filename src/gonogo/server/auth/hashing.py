"""Password hashing in a small separate pool, so that logins never block the threads and cores that pages need."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from argon2.low_level import hash_secret_raw

from gonogo.errors import GonogoError

WORKERS = 1
"""argon2 uses 64 MiB and several threads per password: a single hash keeps two cores busy."""
MAX_TURNS, MAX_TURNS_KNOWN = 8, 16
"""Maximum concurrent requests that hash or wait; the second number includes known devices and sessions."""
_NICENESS = 10


class BusyError(GonogoError):
    """Too many requests are waiting for a password hash."""


class Hashing:
    """argon2id behind a bounded queue."""

    def __init__(self, hasher: argon2.PasswordHasher) -> None:
        self._hasher = hasher
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="hashing", initializer=_yield_to_pages)
        self._turns, self._lock = 0, threading.Lock()

    @contextmanager
    def turn(self, *, known: bool = False) -> Iterator[None]:
        """Reserve one of the few slots for requests that hash a password, for the duration of the block.

        Args:
            known: Whether the request comes from a known device or a session; some slots are reserved for those.

        Raises:
            BusyError: every slot is taken.
        """
        limit = MAX_TURNS_KNOWN if known else MAX_TURNS
        with self._lock:
            if self._turns >= limit:
                raise BusyError(f"expected at most {limit} concurrent requests with a password, found one more.")
            self._turns += 1
        try:
            yield
        finally:
            with self._lock:
                self._turns -= 1

    def hash(self, password: str) -> str:
        """Hash a password."""
        return self._pool.submit(self._hasher.hash, password).result()

    def matches(self, stored: str, password: str) -> bool:
        """Check a password against a hash."""
        try:
            return self._pool.submit(self._hasher.verify, stored, password).result()
        except (VerifyMismatchError, InvalidHashError):
            return False

    @property
    def cost(self) -> tuple[int, int, int]:
        """Passes, KiB of memory and threads of each hash."""
        return self._hasher.time_cost, self._hasher.memory_cost, self._hasher.parallelism

    def derive(self, secret: bytes, salt: bytes, cost: tuple[int, int, int]) -> bytes:
        """Derive 32 secret bytes from a passphrase (argon2id, RFC 9106)."""
        passes, memory_kib, threads = cost
        return self._pool.submit(
            hash_secret_raw, secret, salt, passes, memory_kib, threads, hash_len=32, type=argon2.Type.ID
        ).result()

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than the current ones."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """Stop the pool's thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _yield_to_pages() -> None:
    # On Linux, niceness is per thread, and argon2's threads inherit it.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
