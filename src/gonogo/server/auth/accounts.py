"""Everything needed for authentication: people, sessions, access tokens, and the login throttle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import argon2

from gonogo.server.auth.people import People
from gonogo.server.auth.sessions import Sessions
from gonogo.server.auth.throttle import Throttle
from gonogo.server.database import Database


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """People, sessions and throttle of one workspace."""

    database: Database
    """The database, for changes that must be recorded within their transaction."""
    people: People
    sessions: Sessions
    throttle: Throttle
    tls: bool
    """Whether cookies are restricted to HTTPS."""
    now: Callable[[], float]

    @classmethod
    def open(
        cls, database: Database, *, hasher: argon2.PasswordHasher, now: Callable[[], float], tls: bool
    ) -> Accounts:
        """Open the accounts stored in the server's database."""
        return cls(
            database=database,
            people=People(database, hasher=hasher, now=now),
            sessions=Sessions(database, now=now),
            throttle=Throttle(database, now=now),
            tls=tls,
            now=now,
        )

    @property
    def session_cookie(self) -> str:
        """Name of the session cookie; browsers accept ``__Host-`` only over HTTPS, from this host, for every path."""
        return "__Host-gonogo" if self.tls else "gonogo"

    @property
    def device_cookie(self) -> str:
        """Name of the cookie that identifies a device that has logged in before; it grants no access."""
        return self.session_cookie + "-device"

    def close(self) -> None:
        """Stop hashing passwords and close the database."""
        self.people.close()
        self.database.close()
