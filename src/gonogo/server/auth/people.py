"""People: names, roles, passwords. Changes are validated here; the caller records who made them."""

from __future__ import annotations

import secrets
import time
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import argon2

from gonogo.server.access import Role
from gonogo.server.auth.hashing import Hashing
from gonogo.server.database import Database
from gonogo.server.language import N_, RefusedError

SHORTEST_PASSWORD, LONGEST_PASSWORD = 10, 200
LONGEST_NAME = 64

_FIELDS = (
    "id, name, role, must_change, disabled, created_at, language, theme, id IN (SELECT user_id FROM directory_people)"
)
_COMMON = ("password", "passwort", "1234567890", "0123456789", "qwertzuiop", "qwertyuiop", "gonogo", "letmein")


class WrongPasswordError(RefusedError):
    """The current password is wrong."""


@dataclass(frozen=True, kw_only=True)
class User:
    """One person who can log in."""

    id: int
    name: str
    role: Role
    must_change: bool
    """Whether the password is a one-time password."""
    disabled: bool
    created_at: float
    language: str | None
    theme: str | None
    directory: bool
    """Whether the plant's directory checks the password and gives the role."""


Changed: TypeAlias = Callable[[str, User, dict[str, str]], object]
"""Callback that records what the directory changed about a person: the action, the person and its details."""
Record: TypeAlias = Callable[[User], object]
"""Callback that records a change to a person; called within its transaction."""


class People:
    """The people who may log in."""

    def __init__(
        self, database: Database, *, hasher: argon2.PasswordHasher, now: Callable[[], float] = time.time
    ) -> None:
        self._database, self._now = database, now
        self.hashing = Hashing(hasher)
        self._dummy_hash = hasher.hash(secrets.token_urlsafe())

    def all(self) -> list[User]:
        """All people, sorted by name."""
        return [_user(row) for row in self._database.run(f"SELECT {_FIELDS} FROM users ORDER BY name COLLATE NOCASE")]

    def find(self, user_id: int) -> User:
        """One person.

        Raises:
            RefusedError: there is no such person.
        """
        rows = self._database.run(f"SELECT {_FIELDS} FROM users WHERE id = ?", user_id)
        if not rows:
            raise RefusedError(N_("There is no such person."))
        return _user(rows[0])

    def add(self, name: str, role: Role, *, record: Record = lambda user: None) -> tuple[User, str]:
        """Add a person.

        Args:
            name: The name they log in with.
            role: What they may do.
            record: Called within the transaction; if it raises, nothing changes.

        Returns:
            The person and the one-time password, which is not stored.

        Raises:
            RefusedError: the name is invalid or taken.
        """
        name = _usable_name(name)
        password = one_time_password()
        hashed = self.hashing.hash(password)
        with self._database.transaction():
            if self._database.run("SELECT 1 FROM users WHERE name = ?", name):
                raise RefusedError(N_("%(name)s already exists."), name=name)
            self._database.run(
                "INSERT INTO users (name, role, password_hash, must_change, created_at) VALUES (?, ?, ?, 1, ?)",
                name, role.value, hashed, self._now(),
            )  # fmt: skip
            ((user_id,),) = self._database.run("SELECT id FROM users WHERE name = ?", name)
            user = self.find(user_id)
            record(user)
        return user, password

    def check(self, name: str, password: str) -> User | None:
        """Return the person with this name and password, or ``None``, in the same time for an unknown name."""
        name = normalized_name(name)
        found = self._database.run(f"SELECT {_FIELDS}, password_hash FROM users WHERE name = ?", name)
        user = _user(found[0][:-1]) if found else None
        stored = str(found[0][-1]) if found else self._dummy_hash
        if not self.hashing.matches(stored, password[:LONGEST_PASSWORD]) or user is None or user.disabled:
            return None
        if self.hashing.outdated(stored):
            self._database.run("UPDATE users SET password_hash = ? WHERE id = ?", self.hashing.hash(password), user.id)
        return user

    def is_password(self, user: User, secret: str) -> bool:
        """Whether this is the person's password; never for one that the directory keeps."""
        found = self._database.run("SELECT password_hash FROM users WHERE id = ?", user.id)
        return bool(found) and not user.directory and self.hashing.matches(found[0][0], secret[:LONGEST_PASSWORD])

    def is_local(self, name: str) -> bool:
        """Whether a person of this name has a password here."""
        found = self._database.run(f"SELECT {_FIELDS} FROM users WHERE name = ?", normalized_name(name))
        return bool(found) and not _user(found[0]).directory

    def from_directory(self, name: str, *, dn: str, role: Role | None, record: Changed) -> User | None:
        """Return a person whose password the directory has checked; added at the first login.

        Args:
            name: The name they log in with.
            dn: Their distinguished name.
            role: The role of their groups, which replaces the one they had.
            record: Called within the transaction with what changed: ``user_added``, ``user_role`` or
                ``user_entry``; if it raises, nothing changes.

        Returns:
            ``None`` if they are in no group that may do something, or are locked out here.

        Raises:
            RefusedError: the name is not usable.
        """
        name = _usable_name(name)
        with self._database.transaction():
            known = self._database.run("SELECT id FROM users WHERE name = ?", name)
            if not known and role is None:
                return None
            if not known:
                self._database.run(
                    "INSERT INTO users (name, role, password_hash, must_change, created_at) VALUES (?, ?, ?, 0, ?)",
                    name, str(role), "directory", self._now(),
                )  # fmt: skip
                known = self._database.run("SELECT id FROM users WHERE name = ?", name)
                self._database.run("INSERT INTO directory_people VALUES (?, ?)", known[0][0], dn)
                record("user_added", self.find(known[0][0]), {"dn": dn, "role": str(role)})
            before = self.find(known[0][0])
            self._follow(before, dn, role, record)
            user = self.find(before.id)
        return None if role is None or user.disabled else user

    def _follow(self, user: User, dn: str, role: Role | None, record: Changed) -> None:
        """Bring a person up to what the directory says."""
        if role is None:
            self._end_sessions(user.id)
        elif role != user.role:
            self._database.run("UPDATE users SET role = ? WHERE id = ?", role.value, user.id)
            self._end_sessions(user.id)
            record("user_role", user, {"role": role.value, "before": user.role.value})
        ((stored,),) = self._database.run("SELECT dn FROM directory_people WHERE user_id = ?", user.id)
        if stored != dn:
            self._database.run("UPDATE directory_people SET dn = ? WHERE user_id = ?", dn, user.id)
            record("user_entry", user, {"dn": dn, "before": stored})

    def change_password(self, user: User, old: str, new: str, *, record: Record = lambda user: None) -> None:
        """Change a user's own password.

        Args:
            user: Whose it is.
            old: The current password.
            new: The new password.
            record: Called within the transaction; if it raises, nothing changes.

        Raises:
            WrongPasswordError: the current password is wrong.
            RefusedError: the new password is too easy to guess.
        """
        _require_local(user)
        if self.check(user.name, old) is None:
            raise WrongPasswordError(N_("Wrong current password"))
        _strong_enough(user.name, old, new)
        self._set_password(user, new, must_change=False, record=record)

    def reset_password(self, user_id: int, *, record: Record = lambda user: None) -> str:
        """Set a new one-time password and end the person's sessions.

        Args:
            user_id: Whose it is.
            record: Called within the transaction; if it raises, nothing changes.
        """
        password = one_time_password()
        _require_local(self.find(user_id))
        self._set_password(self.find(user_id), password, must_change=True, record=record)
        return password

    def set_role(self, user_id: int, role: Role) -> None:
        """Change a person's role and end their sessions.

        Raises:
            RefusedError: no administrator would be left, or the directory gives the role.
        """
        _require_local(self.find(user_id))
        with self._database.transaction():
            self._database.run("UPDATE users SET role = ? WHERE id = ?", role.value, self.find(user_id).id)
            self._someone_manages()
            self._end_sessions(user_id)

    def set_disabled(self, user_id: int, disabled: bool) -> None:
        """Lock a person out or unlock them; ends their sessions.

        Raises:
            RefusedError: no administrator would be left.
        """
        with self._database.transaction():
            self._database.run("UPDATE users SET disabled = ? WHERE id = ?", disabled, self.find(user_id).id)
            self._someone_manages()
            self._end_sessions(user_id)

    def set_preferences(self, user_id: int, *, language: str | None, theme: str | None) -> None:
        """Save a person's language and colours; ``None`` follows the browser."""
        self._database.run("UPDATE users SET language = ?, theme = ? WHERE id = ?", language, theme, user_id)

    def _set_password(self, user: User, password: str, *, must_change: bool, record: Record) -> None:
        hashed = self.hashing.hash(password)  # outside the transaction, because every page waits for transactions
        with self._database.transaction():
            self._database.run(
                "UPDATE users SET password_hash = ?, must_change = ? WHERE id = ?", hashed, must_change, user.id
            )
            self._end_sessions(user.id)
            record(user)

    def _end_sessions(self, user_id: int) -> None:
        self._database.run("DELETE FROM sessions WHERE user_id = ?", user_id)

    def _someone_manages(self) -> None:
        if not self._database.run("SELECT 1 FROM users WHERE role = ? AND NOT disabled", Role.ADMIN.value):
            raise RefusedError(N_("At least one administrator must remain. Make someone else administrator first."))

    def close(self) -> None:
        """End the hashing pool."""
        self.hashing.close()


def _usable_name(name: str) -> str:
    name = normalized_name(name)
    if not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise RefusedError(N_("A name must have 1 to %(longest)s printable characters."), longest=LONGEST_NAME)
    return name


def _require_local(user: User) -> None:
    if user.directory:
        raise RefusedError(N_("The plant's directory keeps the password and the role of %(name)s."), name=user.name)


def normalized_name(name: str) -> str:
    """Normalize a name for storage and lookup: full-width, composed and decomposed spellings become equal."""
    return unicodedata.normalize("NFKC", name).strip()[: LONGEST_NAME + 1]


def one_time_password() -> str:
    """Generate a one-time password: four groups, 79 bits, no letters that look like digits, easy to read aloud."""
    letters = "abcdefghjkmnpqrstuvwxyz23456789"
    return "-".join("".join(secrets.choice(letters) for _ in range(4)) for _ in range(4))


def _strong_enough(name: str, old: str, new: str) -> None:
    if not SHORTEST_PASSWORD <= len(new) <= LONGEST_PASSWORD:
        raise RefusedError(
            N_("A password must have %(shortest)s to %(longest)s characters."),
            shortest=SHORTEST_PASSWORD,
            longest=LONGEST_PASSWORD,
        )
    if new == old:
        raise RefusedError(N_("The new password must differ from the current one."))
    if easy_to_guess(name, new):
        raise RefusedError(N_("That password is easy to guess. Several unrelated words work well."))


def easy_to_guess(name: str, secret: str) -> bool:
    """Whether a password or passphrase of this person has few different characters, the name or a usual word in it."""
    plain = secret.casefold()
    return len(set(secret)) < 5 or name.casefold() in plain or any(word in plain for word in _COMMON)


def _user(row: tuple[int, str, str, int, int, float, str | None, str | None, int]) -> User:
    number, name, role, must_change, disabled, created_at, language, theme, directory = row
    return User(
        id=number,
        name=name,
        role=Role(role),
        must_change=bool(must_change),
        disabled=bool(disabled),
        created_at=created_at,
        language=language,
        theme=theme,
        directory=bool(directory),
    )
