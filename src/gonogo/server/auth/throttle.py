"""Login throttling by account (existing or not), by address and by known device.

An attempt is counted before its password is checked, so concurrent guesses gain nothing. A device that has logged in
to an account before has a separate count, so guesses from elsewhere never lock its owner out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
import time
from collections.abc import Callable
from typing import TypeAlias

from gonogo.server.auth.people import normalized_name
from gonogo.server.database import Database, digest

ACCOUNT_FREE, ADDRESS_FREE = 5, 20
"""Failures without a wait. A plant's terminals often share one address."""
FIRST_BLOCK_S, LONGEST_BLOCK_S = 15.0, 900.0
FORGET_AFTER_S = 3600.0
DEVICE_DAYS = 180
"""A device stays known for this long after its last login to an account."""
_IPV6_NETWORK_BITS = 64  # the prefix assigned to one household or machine

Subjects: TypeAlias = tuple[tuple[bytes, int], ...]
"""A counter of an attempt: its key in the database and the number of failures without a wait."""


class Throttle:
    """Count login failures; after the limit, each further failure doubles the wait, up to 15 minutes."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def of_login(self, name: str, address: str, device: str | None) -> Subjects:
        """The counters of a login: account and address, or only the device if it is known."""
        account = account_key(name)
        if device is not None and self.knows(device, name):
            return ((_key(f"device:{account}:{device}"), ACCOUNT_FREE),)
        return (_key(f"account:{account}"), ACCOUNT_FREE), (_key(f"address:{network_of(address)}"), ADDRESS_FREE)

    def of_person(self, user_id: int) -> Subjects:
        """The counter for the current password when a logged-in person changes it."""
        return ((_key(f"person:{user_id}"), ACCOUNT_FREE),)

    def of_passphrase(self, user_id: int) -> Subjects:
        """The counter for the passphrase of a person's signing key."""
        return ((_key(f"passphrase:{user_id}"), ACCOUNT_FREE),)

    def wait_s(self, subjects: Subjects) -> float:
        """Seconds until the next attempt is allowed."""
        now = self._now()
        waits = [0.0]
        for key, _ in subjects:
            found = self._database.run("SELECT blocked_until, last_at FROM throttle WHERE subject = ?", key)
            waits += [until - max(now, last) for until, last in found]
        return max(waits)

    def begin(self, subjects: Subjects) -> float:
        """Count an attempt as failed before its password is checked.

        Returns:
            0.0: check the password, and call `succeeded` if it is right. Otherwise the seconds to wait; the attempt was
            not counted.
        """
        if (wait_s := self.wait_s(subjects)) > 0:
            return wait_s
        with self._database.transaction():
            self._settle_clock()
            if (wait_s := self.wait_s(subjects)) > 0:  # another thread came first
                return wait_s
            now = self._now()
            for key, free in subjects:
                found = self._database.run("SELECT failures FROM throttle WHERE subject = ?", key)
                failures = (found[0][0] if found else 0) + 1
                self._database.run(
                    "INSERT INTO throttle VALUES (?, ?, ?, ?) ON CONFLICT (subject) DO UPDATE SET "
                    "failures = excluded.failures, last_at = excluded.last_at, blocked_until = excluded.blocked_until",
                    key, failures, now, now + _block_s(failures, free),
                )  # fmt: skip
        return 0.0

    def succeeded(self, subjects: Subjects) -> None:
        """Reset the failures of the account or device.

        The failures of the address stay, except for this attempt: one valid login allows no further guesses.
        """
        with self._database.transaction():
            self._database.run("DELETE FROM throttle WHERE subject = ?", subjects[0][0])
            for key, free in subjects[1:]:
                self._database.run("UPDATE throttle SET failures = failures - 1 WHERE subject = ?", key)
                self._database.run(
                    "UPDATE throttle SET blocked_until = 0 WHERE subject = ? AND failures < ?", key, free
                )

    def forget(self, name: str) -> None:
        """Forget the failures of an account, for an administrator who lets its owner in again."""
        self._database.run("DELETE FROM throttle WHERE subject = ?", _key(f"account:{account_key(name)}"))

    def knows(self, device: str, name: str) -> bool:
        """Whether this device has logged in to the account before."""
        found = self._database.run(
            "SELECT 1 FROM devices WHERE device_sha256 = ? AND account = ? AND seen_at > ?",
            digest(device), _key(account_key(name)), self._now() - DEVICE_DAYS * 86400,
        )  # fmt: skip
        return bool(found)

    def remember(self, device: str | None, name: str) -> str:
        """Record that a device has logged in to the account.

        Args:
            device: The secret sent by its browser; replaced if this server did not issue it.
            name: The account.

        Returns:
            The secret that its browser stores.
        """
        now = self._now()
        with self._database.transaction():
            self._database.run("DELETE FROM devices WHERE seen_at < ?", now - DEVICE_DAYS * 86400)
            if device is None or not self._database.run(
                "SELECT 1 FROM devices WHERE device_sha256 = ?", digest(device)
            ):
                device = secrets.token_urlsafe(32)
            self._database.run(
                "INSERT OR REPLACE INTO devices VALUES (?, ?, ?)", digest(device), _key(account_key(name)), now
            )
        return device

    def _settle_clock(self) -> None:
        """Delete old failures. If the clock was set back, failures in the future count as now."""
        now = self._now()
        self._database.run("DELETE FROM throttle WHERE last_at < ?", now - FORGET_AFTER_S)
        self._database.run(
            "UPDATE throttle SET blocked_until = blocked_until - last_at + ?, last_at = ? WHERE last_at > ?",
            now,
            now,
            now,
        )


def account_key(name: str) -> str:
    """One key for all spellings of a name that find the same person."""
    return normalized_name(normalized_name(name).casefold())


def network_of(address: str) -> str:
    """The network that counts as one address: the full IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _IPV6_NETWORK_BITS), strict=False))
    return str(found)


def _block_s(failures: int, free: int) -> float:
    over = failures - free
    return 0.0 if over < 0 else min(LONGEST_BLOCK_S, FIRST_BLOCK_S * 2.0 ** min(over, 10))


def _key(subject: str) -> bytes:
    # Hashed, so that any input of the name field takes 32 bytes.
    return hashlib.sha256(subject.encode(errors="surrogatepass")).digest()
