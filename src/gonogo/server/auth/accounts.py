"""Everything that decides who may enter: people, their sessions, programs' tokens, and the throttle on guesses."""

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
    """For a change that must be recorded within its transaction."""
    people: People
    sessions: Sessions
    throttle: Throttle
    tls: bool
    """Whether cookies are sent by https alone."""
    now: Callable[[], float]

    @classmethod
    def open(
        cls, database: Database, *, hasher: argon2.PasswordHasher, now: Callable[[], float], tls: bool
    ) -> Accounts:
        """Read them from the server's database."""
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
        """The cookie's name; ``__Host-`` makes browsers refuse it from any other host, path or plain http."""
        return "__Host-gonogo" if self.tls else "gonogo"

    @property
    def device_cookie(self) -> str:
        """The cookie by which a device is known that has logged in before; it opens nothing by itself."""
        return self.session_cookie + "-device"

    def close(self) -> None:
        """Stop hashing passwords and close the database."""
        self.people.close()
        self.database.close()
