"""Session cookies for people and bearer tokens for programs. Only hashes are stored."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gonogo.server.access import Role
from gonogo.server.database import Database, digest
from gonogo.server.language import N_, RefusedError

LONGEST_SESSION_S = 12 * 3600
"""One shift with overtime."""
IDLE_SESSION_S = 4 * 3600
_SEEN_EVERY_S = 300  # resolution of the last-used time: each update is a commit
LONGEST_TOKEN_DAYS = 366
TOKEN_PREFIX = "gonogo_"
_SHOWN_S = 600
_MOST_FIELDS, _LONGEST_FIELD = 20, 400
_SECRET_FIELDS = frozenset({"password", "old", "new", "again", "passphrase"})


@dataclass(frozen=True, kw_only=True)
class Token:
    """Metadata of a program's access token, without its secret."""

    id: int
    name: str
    role: Role
    created_by: str
    created_at: float
    expires_at: float
    revoked: bool


class Notice(BaseModel):
    """A message for a session's next page, and the field values of a rejected form."""

    model_config = ConfigDict(frozen=True)

    text: str
    failed: bool = False
    form: str = ""
    """Path of the form's target."""
    fields: dict[str, str] = Field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class OneTimeSecret:
    """A secret that one page shows, once."""

    about: str
    """The person or program that it belongs to."""
    secret: str
    until: float


class Sessions:
    """Sessions of people and access tokens of programs."""

    def __init__(self, database: Database, *, now: Callable[[], float] = time.time) -> None:
        self._database, self._now = database, now
        self._once: dict[tuple[bytes, str], OneTimeSecret] = {}

    def begin(self, user_id: int) -> str:
        """Start a session for an authenticated person; returns its secret."""
        token, now = secrets.token_urlsafe(32), self._now()
        with self._database.transaction():
            self._database.run(
                "DELETE FROM sessions WHERE created_at < ? OR seen_at < ?",
                now - LONGEST_SESSION_S,
                now - IDLE_SESSION_S,
            )
            self._database.run(
                "INSERT INTO sessions (token_sha256, user_id, created_at, seen_at) VALUES (?, ?, ?, ?)",
                digest(token), user_id, now, now,
            )  # fmt: skip
        return token

    def user_id(self, token: str) -> int | None:
        """Return the user of a session; ``None`` if it ended, expired or never existed."""
        now = self._now()
        found = self._database.run(
            "SELECT sessions.user_id, sessions.seen_at FROM sessions JOIN users ON users.id = sessions.user_id "
            "WHERE token_sha256 = ? AND sessions.created_at > ? AND seen_at > ? AND NOT disabled",
            digest(token), now - LONGEST_SESSION_S, now - IDLE_SESSION_S,
        )  # fmt: skip
        if not found:
            return None
        ((user_id, seen_at),) = found
        if now - seen_at > _SEEN_EVERY_S:
            self._database.run("UPDATE sessions SET seen_at = ? WHERE token_sha256 = ?", now, digest(token))
        return int(user_id)

    def end(self, token: str) -> None:
        """End a session."""
        self._database.run("DELETE FROM sessions WHERE token_sha256 = ?", digest(token))

    def leave_notice(self, token: str, notice: Notice) -> None:
        """Store a notice for this session's next page, with short field values only and no passwords."""
        short = {
            name: value
            for name, value in list(notice.fields.items())[:_MOST_FIELDS]
            if len(value) <= _LONGEST_FIELD and name not in _SECRET_FIELDS
        }
        kept = notice.model_copy(update={"fields": short}).model_dump_json()
        self._database.run("UPDATE sessions SET notice = ? WHERE token_sha256 = ?", kept, digest(token))

    def take_notice(self, token: str) -> Notice | None:
        """Return the stored notice and delete it."""
        found = self._database.run("SELECT notice FROM sessions WHERE token_sha256 = ?", digest(token))
        if not found or found[0][0] is None:
            return None
        self._database.run("UPDATE sessions SET notice = NULL WHERE token_sha256 = ?", digest(token))
        try:
            return Notice.model_validate_json(found[0][0])
        except ValidationError:  # stored by an earlier version as plain text
            return Notice(text=str(found[0][0]))

    def show_once(self, token: str, about: str, secret: str) -> str:
        """Keep a secret in memory for one page of this session, for a few minutes; returns its number.

        This lets the form respond with a redirect, so that reloading the page does not submit it again.
        """
        number, now = secrets.token_urlsafe(9), self._now()
        self._once = {key: each for key, each in self._once.items() if each.until > now}
        self._once[digest(token), number] = OneTimeSecret(about=about, secret=secret, until=now + _SHOWN_S)
        return number

    def take_once(self, token: str, number: str) -> OneTimeSecret | None:
        """Return a secret kept by `show_once` and delete it."""
        found = self._once.pop((digest(token), number), None)
        return found if found is not None and found.until > self._now() else None

    def csrf(self, token: str) -> str:
        """The CSRF token that forms and scripts of this session must send; invalid in any other session."""
        return hmac.new(self._database.secret, b"csrf:" + token.encode(), hashlib.sha256).hexdigest()

    def csrf_matches(self, token: str, sent: str) -> bool:
        """Whether a CSRF token belongs to this session."""
        return hmac.compare_digest(self.csrf(token).encode(), sent.encode())

    def issue(self, name: str, role: Role, *, days: int, created_by: str) -> tuple[Token, str]:
        """Create an access token for a program.

        Returns:
            The token and its secret, which is not stored.

        Raises:
            RefusedError: the name is invalid, or the lifetime is not 1 to 366 days.
        """
        name = name.strip()
        if not 1 <= len(name) <= 64 or not name.isprintable():
            raise RefusedError(N_("A name must have 1 to %(longest)s printable characters."), longest=64)
        if not 1 <= days <= LONGEST_TOKEN_DAYS:
            raise RefusedError(N_("A key is valid for 1 to %(longest)s days."), longest=LONGEST_TOKEN_DAYS)
        secret, now = TOKEN_PREFIX + secrets.token_urlsafe(32), self._now()
        with self._database.transaction():
            self._database.run(
                "INSERT INTO tokens (token_sha256, name, role, created_by, created_at, expires_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                digest(secret), name, role.value, created_by, now, now + days * 86400,
            )  # fmt: skip
            token = self.tokens("token_sha256 = ?", digest(secret))[0]
        return token, secret

    def bearer(self, secret: str) -> Token | None:
        """Return the token with this secret; ``None`` if there is none or it is no longer valid."""
        found = self.tokens("token_sha256 = ? AND NOT revoked AND expires_at > ?", digest(secret), self._now())
        return found[0] if found else None

    def revoke(self, token_id: int) -> Token:
        """Revoke a token permanently.

        Raises:
            RefusedError: there is no such token.
        """
        if not self._database.changed("UPDATE tokens SET revoked = 1 WHERE id = ?", token_id):
            raise RefusedError(N_("There is no such key."))
        return self.tokens("id = ?", token_id)[0]

    def tokens(self, condition: str = "1", *values: str | float | bytes) -> list[Token]:
        """Tokens, newest first.

        Args:
            condition: SQL from this module, never from outside.
            values: Values for its placeholders.
        """
        rows = self._database.run(
            "SELECT id, name, role, created_by, created_at, expires_at, revoked FROM tokens "
            f"WHERE {condition} ORDER BY id DESC",
            *values,
        )
        return [
            Token(
                id=row[0],
                name=row[1],
                role=Role(row[2]),
                created_by=row[3],
                created_at=row[4],
                expires_at=row[5],
                revoked=bool(row[6]),
            )
            for row in rows
        ]
