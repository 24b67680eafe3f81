"""Password hashing in a small pool of its own, so that guesses never take the threads and cores that pages need."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import argon2
from argon2.exceptions import InvalidHashError, VerifyMismatchError

from gonogo.errors import GonogoError

WORKERS = 1
"""argon2 takes 64 MiB and several threads for each password: one at a time keeps two cores busy."""
MAX_TURNS, MAX_TURNS_KNOWN = 8, 16
"""Requests that may hash or wait at once; the second number counts those from known devices and sessions too."""
_NICENESS = 10


class BusyError(GonogoError):
    """Too many passwords wait to be hashed."""


class Hashing:
    """argon2id behind a bounded queue."""

    def __init__(self, hasher: argon2.PasswordHasher) -> None:
        self._hasher = hasher
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="hashing", initializer=_yield_to_pages)
        self._turns, self._lock = 0, threading.Lock()

    @contextmanager
    def turn(self, *, known: bool = False) -> Iterator[None]:
        """Hold one of the few places for requests that hash while the block runs.

        Args:
            known: Whether the request comes from a known device or a session: some places are kept for those.

        Raises:
            BusyError: every place is taken.
        """
        limit = MAX_TURNS_KNOWN if known else MAX_TURNS
        with self._lock:
            if self._turns >= limit:
                raise BusyError(f"expected at most {limit} requests with a password at once, found one more.")
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
        """Whether a password is the one that was hashed."""
        try:
            return self._pool.submit(self._hasher.verify, stored, password).result()
        except (VerifyMismatchError, InvalidHashError):
            return False

    def outdated(self, stored: str) -> bool:
        """Whether a hash was made with other parameters than today's."""
        return self._hasher.check_needs_rehash(stored)

    def close(self) -> None:
        """End the pool's thread."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _yield_to_pages() -> None:
    # On Linux niceness belongs to a thread, and argon2's own threads inherit it.
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
