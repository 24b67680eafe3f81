"""Everything needed for authentication: people, sessions, access tokens, and the login throttle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import argon2

from gonogo.server.auth.directory import Directory
from gonogo.server.auth.people import LONGEST_PASSWORD, Changed, People, User, normalized_name
from gonogo.server.auth.screens import Screens
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
    screens: Screens
    throttle: Throttle
    directory: Directory | None
    """Where people who have no password here are asked for."""
    tls: bool
    """Whether cookies are restricted to HTTPS."""
    now: Callable[[], float]

    @classmethod
    def open(
        cls,
        database: Database,
        *,
        hasher: argon2.PasswordHasher,
        now: Callable[[], float],
        tls: bool,
        directory: Directory | None = None,
    ) -> Accounts:
        """Open the accounts stored in the server's database."""
        return cls(
            database=database,
            people=People(database, hasher=hasher, now=now),
            sessions=Sessions(database, now=now),
            screens=Screens(database, now=now),
            throttle=Throttle(database, now=now),
            directory=directory,
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

    def check(self, name: str, password: str, *, record: Changed) -> User | None:
        """Return the person with this name and password, or ``None``. A name that is known here is asked for here only.

        Raises:
            DirectoryDownError: the name is not known here, and the directory does not answer.
            RefusedError: the directory knows a name that is not usable here.
        """
        if self.directory is None or self.people.is_local(name):
            return self.people.check(name, password)
        found = self.directory.check(normalized_name(name), password[:LONGEST_PASSWORD])
        if found is None:
            return None
        dn, role = found
        return self.people.from_directory(name, dn=dn, role=role, record=record)

    @property
    def screen_cookie(self) -> str:
        """Name of the cookie of a wall screen."""
        return self.session_cookie + "-screen"

    def close(self) -> None:
        """Stop hashing passwords and close the database."""
        self.people.close()
        self.database.close()
