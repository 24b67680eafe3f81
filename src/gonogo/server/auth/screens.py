"""Logins of wall screens: read-only, bound to stations, and lasting until an administrator revokes them.

An administrator makes a screen and reads its code to whoever stands before it. The code works once, for a quarter of an
hour; the browser that sends it keeps a secret as a cookie, which only shows the wall. Only hashes are stored.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from gonogo.server.database import Database, digest
from gonogo.server.language import N_, RefusedError

CODE_S = 900.0
COOKIE_S = 400 * 86400
"""Browsers keep a cookie no longer; every visit of the page begins the time anew."""
MOST_SCREENS = 200
_LETTERS = "ABCDEFGHJKMNPQRSTUVWXYZ23456789"  # none that is read as another
_CODE_LENGTH = 8
_USED_EVERY_S = 60.0  # resolution of the last use: each update is a commit
_FIELDS = "id, name, stations, created_by, created_at, code_until, token_sha256 IS NOT NULL, used_at, address, revoked"


@dataclass(frozen=True, kw_only=True)
class Screen:
    """A wall screen."""

    id: int
    name: str
    stations: tuple[str, ...]
    """The stations that it shows; empty for all."""
    created_by: str
    created_at: float
    code_until: float
    """Until when its code can be used; 0 if it was used."""
    paired: bool
    """Whether a browser has its login."""
    used_at: float | None
    """Last use, to the minute."""
    address: str
    """Address of the browser that used the code."""
    revoked: bool

    def shows(self, station: str | None) -> bool:
        """Whether it may show this station."""
        return not self.stations or station in self.stations


class Screens:
    """The wall screens of one workspace."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now

    def all(self) -> list[Screen]:
        """All screens, by name; revoked ones last."""
        rows = self._database.run(f"SELECT {_FIELDS} FROM screens ORDER BY revoked, name COLLATE NOCASE, id")
        return [_screen(row) for row in rows]

    def find(self, screen_id: int) -> Screen:
        """One screen.

        Raises:
            RefusedError: there is no such screen.
        """
        rows = self._database.run(f"SELECT {_FIELDS} FROM screens WHERE id = ?", screen_id)
        if not rows:
            raise RefusedError(N_("There is no such screen."))
        return _screen(rows[0])

    def add(self, name: str, stations: Sequence[str], *, created_by: str) -> tuple[Screen, str]:
        """Make a screen; returns it and its code, which is not stored.

        Raises:
            RefusedError: the name is invalid or in use, or there are too many screens.
        """
        name = name.strip()
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise RefusedError(N_("A name must have 1 to %(longest)s printable characters."), longest=64)
        code, now = _new_code(), self._now()
        with self._database.transaction():
            held = [screen for screen in self.all() if not screen.revoked]
            if any(screen.name.casefold() == name.casefold() for screen in held):
                raise RefusedError(N_("%(name)s already exists."), name=name)
            if len(held) >= MOST_SCREENS:
                raise RefusedError(N_("There are %(most)s screens. Revoke one first."), most=MOST_SCREENS)
            self._database.run(
                "INSERT INTO screens (name, stations, created_by, created_at, code_sha256, code_until) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                name, json.dumps(list(stations)), created_by, now, digest(_plain(code)), now + CODE_S,
            )  # fmt: skip
            ((made,),) = self._database.run("SELECT max(id) FROM screens")
            return self.find(made), code

    def new_code(self, screen_id: int) -> tuple[Screen, str]:
        """Give a screen a new code, for another browser; the browser before loses the login when it is used.

        Raises:
            RefusedError: there is no such screen, or it was revoked.
        """
        code = _new_code()
        changed = self._database.changed(
            "UPDATE screens SET code_sha256 = ?, code_until = ? WHERE id = ? AND NOT revoked",
            digest(_plain(code)), self._now() + CODE_S, screen_id,
        )  # fmt: skip
        if not changed:
            raise RefusedError(N_("There is no such screen."))
        return self.find(screen_id), code

    def pair(self, code: str, *, address: str) -> tuple[Screen, str] | None:
        """Give the login of a screen to a browser that knows its code, once.

        Returns:
            The screen and the secret for the cookie; ``None`` if the code is wrong, used or too old.
        """
        token, now = secrets.token_urlsafe(32), self._now()
        with self._database.transaction():
            rows = self._database.run(
                "SELECT id FROM screens WHERE code_sha256 = ? AND code_until > ? AND NOT revoked",
                digest(_plain(code)), now,
            )  # fmt: skip
            if not rows:
                return None
            self._database.run(
                "UPDATE screens SET code_sha256 = NULL, code_until = 0, token_sha256 = ?, used_at = ?, address = ? "
                "WHERE id = ?",
                digest(token), now, address, rows[0][0],
            )  # fmt: skip
            return self.find(rows[0][0]), token

    def of(self, token: str) -> Screen | None:
        """The screen whose browser sends this secret; ``None`` if there is none or it was revoked."""
        rows = self._database.run(
            f"SELECT {_FIELDS} FROM screens WHERE token_sha256 = ? AND NOT revoked", digest(token)
        )
        if not rows:
            return None
        screen, now = _screen(rows[0]), self._now()
        if screen.used_at is None or abs(now - screen.used_at) > _USED_EVERY_S:
            self._database.run("UPDATE screens SET used_at = ? WHERE id = ?", now, screen.id)
        return screen

    def revoke(self, screen_id: int) -> Screen:
        """End the login of a screen for good.

        Raises:
            RefusedError: there is no such screen.
        """
        if not self._database.changed(
            "UPDATE screens SET revoked = 1, code_sha256 = NULL, code_until = 0, token_sha256 = NULL WHERE id = ?",
            screen_id,
        ):
            raise RefusedError(N_("There is no such screen."))
        return self.find(screen_id)


def _new_code() -> str:
    code = "".join(secrets.choice(_LETTERS) for _ in range(_CODE_LENGTH))
    return f"{code[:4]}-{code[4:]}"


def _plain(code: str) -> str:
    """A code as typed: small letters, spaces and hyphens do not matter."""
    return "".join(sign for sign in code.upper() if sign.isalnum())


def _screen(row: tuple[Any, ...]) -> Screen:
    number, name, stations, created_by, created_at, code_until, paired, used_at, address, revoked = row
    return Screen(
        id=number,
        name=name,
        stations=tuple(json.loads(stations)),
        created_by=created_by,
        created_at=created_at,
        code_until=code_until,
        paired=bool(paired),
        used_at=used_at,
        address=address,
        revoked=bool(revoked),
    )
