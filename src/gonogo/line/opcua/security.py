"""Who may speak with the server: application certificates, names and passwords, roles."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import re
import secrets
import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

from asyncua import ua
from asyncua.crypto.cert_gen import dump_private_key_as_pem, generate_private_key, generate_self_signed_app_certificate
from asyncua.crypto.permission_rules import ADMIN_TYPES, USER_TYPES, PermissionRuleset, User, UserRole
from asyncua.server.user_managers import UserManager
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, private_folder, read_regular, write_beside
from gonogo.names import readable

_DAYS = 3_650
_REJECTED = 20
"""Largest number of unknown certificates that are kept for a person to look at."""
_MOST_FAILURES, _FAILURES_WITHIN_S = 5, 10.0
_COST = {"n": 2**14, "r": 8, "p": 1}


class Role(StrEnum):
    """What a client may do."""

    OBSERVER = "observer"
    """Browse, read and subscribe."""
    OPERATOR = "operator"
    """Also call methods."""


@dataclass
class Caller(User):
    """The client of one session; a new object for each activation."""

    rights: Role = Role.OBSERVER


CALLER: ContextVar[Caller | None] = ContextVar("caller", default=None)
"""The client whose request is being answered."""


# --- names and passwords


@dataclass(frozen=True, kw_only=True)
class Account:
    """One line of the users file."""

    name: str
    role: Role
    salt: bytes
    digest: bytes

    def to_line(self) -> str:
        """Return the line: name, role, scrypt, salt and digest, separated by colons."""
        salt, digest = (base64.b64encode(each).decode() for each in (self.salt, self.digest))
        return f"{self.name}:{self.role.value}:scrypt:{salt}:{digest}"


def account(name: str, role: Role, password: str) -> Account:
    """Return an account with a hashed password.

    Raises:
        InputError: the name is not allowed, or the password is too short.
    """
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,60}", name):
        raise InputError(f"expected a user name of letters, digits, '_', '.' and '-', found {readable(name)[:60]!r}.")
    if len(password) < 8:
        raise InputError("expected a password of at least 8 characters. Choose a longer one.")
    salt = secrets.token_bytes(16)
    return Account(name=name, role=role, salt=salt, digest=_digest(password, salt))


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, **_COST)


def read_accounts(path: Path) -> dict[str, Account]:
    """Read a users file; empty lines and lines that start with ``#`` are skipped.

    Raises:
        InputError: the file cannot be read, may be opened by other users, or has a wrong line.
    """
    try:
        text = read_regular(path, most_bytes=MOST_SETTINGS_BYTES, private=True).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: expected a users file that only this user may open (mode 0600), found one that cannot be read "
            f"({error}). Create it as docs/opc-ua.md says."
        ) from error
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip() and not line.startswith("#"):
            try:
                name, role, kind, salt, digest = line.strip().split(":")
                if kind != "scrypt":
                    raise ValueError(kind)
                salted, digested = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
                found[name] = Account(name=name, role=Role(role), salt=salted, digest=digested)
            except ValueError:  # the line holds a secret and is not shown
                raise InputError(
                    f"{path}: expected name:role:scrypt:salt:digest in line {number}, found something else. "
                    "Write the line as docs/opc-ua.md says."
                ) from None
    if not found:
        raise InputError(f"{path}: expected at least one user, found none. Add one as docs/opc-ua.md says.")
    return found


class Doorkeeper(UserManager):
    """Decides who may open a session; every refusal is reported."""

    def __init__(
        self,
        accounts: dict[str, Account] | None,
        trusted: Callable[[bytes], str],
        refused: Callable[[str], None],
        *,
        open_to_all: bool,
    ) -> None:
        """Store the arguments.

        Args:
            accounts: Names and passwords; ``None`` asks for none.
            trusted: Returns why a certificate is not trusted; empty if it is.
            refused: Receives why a client was refused.
            open_to_all: Whether clients without certificate are accepted as operators.
        """
        self._accounts, self._trusted, self._refused, self._open_to_all = accounts, trusted, refused, open_to_all
        self._failures: dict[str, deque[float]] = {}

    def get_user(
        self, iserver: Any, username: str | None = None, password: str | None = None, certificate: Any = None
    ) -> User | None:
        """Return the client, or ``None`` to refuse it."""
        why = self._distrusted(certificate)
        if why:
            self._refused(why)
            return None
        if username is None:
            if self._accounts is not None and not self._open_to_all:
                self._refused("a client without user name")
                return None
            return Caller(role=UserRole.User, name="", rights=Role.OPERATOR)
        found = None if self._accounts is None else self._known(username, password or "")
        if found is None:
            self._refused(f"a client with a wrong password or an unknown name ({readable(username)[:40]!r})")
            return None
        return Caller(role=UserRole.User, name=found.name, rights=found.role)

    def _distrusted(self, certificate: bytes | None) -> str:
        if certificate:
            # The certificate of the secure channel, whatever the client claimed when it created the session.
            return "" if self._open_to_all else self._trusted(certificate)
        return "" if self._open_to_all else "a client without security"

    def _known(self, name: str, password: str) -> Account | None:
        accounts = self._accounts or {}
        known = accounts.get(name)
        failures = self._failures.setdefault(name if known else "", deque(maxlen=_MOST_FAILURES))
        now_s = time.monotonic()
        if len(failures) == _MOST_FAILURES and now_s - failures[0] < _FAILURES_WITHIN_S:
            return None
        expected = known or next(iter(accounts.values()))
        right = hmac.compare_digest(_digest(password[:1_000], expected.salt), expected.digest)
        if known is None or not right:
            failures.append(now_s)
            return None
        return known


class Rights(PermissionRuleset):
    """Which requests a role may send; also notes whose request is being answered."""

    def __init__(self) -> None:
        admin = {ua.NodeId(each) for each in ADMIN_TYPES}
        writes = {ua.NodeId(ua.ObjectIds.WriteRequest_Encoding_DefaultBinary)}
        calls = {ua.NodeId(ua.ObjectIds.CallRequest_Encoding_DefaultBinary)}
        operator = {ua.NodeId(each) for each in USER_TYPES} - admin - writes
        self._allowed = {Role.OPERATOR: operator, Role.OBSERVER: operator - calls}

    def check_validity(self, user: Any, action_type: Any, body: Any) -> bool:
        """Whether a client may send this request."""
        CALLER.set(user if isinstance(user, Caller) else None)
        return isinstance(user, Caller) and action_type in self._allowed[user.rights]


# --- certificates


def own_certificate(pki: Path, *, uri: str, host: str) -> tuple[Path, Path]:
    """Return the files of this application's certificate (DER) and private key (PEM); create them once.

    Raises:
        InputError: the folder cannot be written.
    """
    folder = pki / "own"
    certificate, key = folder / "certificate.der", folder / "key.pem"
    try:
        private_folder(pki)
        for name in ("own", "trusted", "rejected"):
            private_folder(pki / name)
        if not (certificate.exists() and key.exists()):
            made = generate_private_key()
            names: list[x509.GeneralName] = [x509.UniformResourceIdentifier(uri), x509.DNSName(host)]
            usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
            signed = generate_self_signed_app_certificate(made, "gonogo", {}, names, usages, days=_DAYS)
            write_beside(key, dump_private_key_as_pem(made), mode=0o600)
            write_beside(certificate, signed.public_bytes(Encoding.DER))
    except OSError as error:
        raise InputError(f"{pki}: expected a folder for certificates, found {error}. Set another pki.") from error
    return certificate, key


def read_certificate(path: Path) -> bytes:
    """Read a certificate, PEM or DER, as DER.

    Raises:
        InputError: the file is not a certificate.
    """
    try:
        data = read_regular(path, most_bytes=MOST_SETTINGS_BYTES)
        pem = data.lstrip().startswith(b"-----BEGIN")
        found = x509.load_pem_x509_certificate(data) if pem else x509.load_der_x509_certificate(data)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a certificate, PEM or DER, found {error}.") from error
    return found.public_bytes(Encoding.DER)


class TrustList:
    """The certificates of the clients: those in ``trusted`` are accepted, unknown ones are kept in ``rejected``."""

    def __init__(self, pki: Path) -> None:
        """Store the folder."""
        self._pki = pki

    def why_not(self, der: bytes) -> str:
        """Return why a certificate is not trusted; empty if it is. The folder is read every time."""
        print_ = hashlib.sha256(der).hexdigest()
        try:
            certificate = x509.load_der_x509_certificate(der)
        except ValueError:
            return "a client with an unreadable certificate"
        named = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        name = readable(str(named[0].value))[:60] if named else "no name"
        if not certificate.not_valid_before_utc - timedelta(minutes=5) <= datetime.now(UTC):
            return f"a client whose certificate is not valid yet ({name})"
        if certificate.not_valid_after_utc < datetime.now(UTC):
            return f"a client whose certificate has expired ({name})"
        if any(hmac.compare_digest(der, known) for known in self._trusted()):
            return ""
        self._keep(der, print_)
        return (
            f"a client with an unknown certificate ({name}, SHA-256 {print_[:16]}); to accept it, move "
            f"{self._pki / 'rejected' / print_[:16]}.der to {self._pki / 'trusted'}"
        )

    def _trusted(self) -> list[bytes]:
        found = []
        for path in sorted((self._pki / "trusted").glob("*")):
            try:
                found.append(read_certificate(path))
            except InputError:  # another file in the folder must not lock every client out
                continue
        return found

    def _keep(self, der: bytes, name: str) -> None:
        folder = self._pki / "rejected"
        try:
            kept = sorted(folder.glob("*.der"), key=os.path.getmtime)
            for old in kept[: max(0, len(kept) - _REJECTED + 1)]:
                old.unlink()
            write_beside(folder / f"{name[:16]}.der", der)
        except (OSError, InputError):  # a full disk must not end the server; the refusal is reported anyway
            return
