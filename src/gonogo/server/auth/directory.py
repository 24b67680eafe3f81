"""Login through the plant's directory (LDAP, Active Directory): it checks the password, and its groups give the role.

The protocol is that of RFC 4511 (bind, search), the escapes are those of RFC 4514 and RFC 4515.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gonogo.errors import GonogoError, InputError
from gonogo.files import MOST_SETTINGS_BYTES, parse_toml, read_regular, read_text
from gonogo.server.access import Role

if TYPE_CHECKING:
    import ldap3

Words = Annotated[str, Field(min_length=1, max_length=1000)]
_LOCAL = ("localhost", "127.0.0.1", "::1")
_MOST_PASSWORD_BYTES = 4096
_BY_WEIGHT = (Role.ADMIN, Role.ENGINEER, Role.AUDITOR, Role.REVIEWER, Role.OPERATOR)
EXAMPLE = """# gonogo serve WORKSPACE --directory directory.toml
url = "ldaps://directory.plant.example"
ca_file = "plant-ca.pem"                       # without it, the machine's own authorities
# start_tls = true                             # with ldap://
bind_dn = "cn=gonogo,ou=services,dc=plant,dc=example"
bind_password_file = "directory.password"      # chmod 600; without bind_dn, the search is anonymous
people = "ou=people,dc=plant,dc=example"
person = "(uid={name})"                        # Active Directory: (sAMAccountName={name})
groups = "ou=groups,dc=plant,dc=example"
member = "(member={dn})"
timeout_s = 5

[roles]                                        # who is in several groups gets the first of this order
admin = "gonogo-admins"
engineer = "gonogo-engineers"
auditor = "gonogo-auditors"
reviewer = "gonogo-reviewers"
operator = "gonogo-operators"
"""


class DirectoryDownError(GonogoError):
    """The directory does not answer, or does not let the server search."""


class DirectorySettings(BaseModel):
    """Where the directory is, how people are found in it, and which of its groups may do what."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: Words
    """``ldaps://host[:port]``, or ``ldap://`` with ``start_tls``."""
    start_tls: bool = False
    ca_file: Path | None = None
    bind_dn: str = ""
    """As whom to search; without it, anonymously."""
    bind_password_file: Path | None = None
    people: Words
    """Where to search for people."""
    person: Words = "(uid={name})"
    """Filter that finds exactly one person."""
    groups: Words
    """Where to search for groups."""
    member: Words = "(member={dn})"
    """Filter that finds a person's groups."""
    roles: dict[Role, Words]
    """Common name (``cn``) of the group that gives a role."""
    timeout_s: Annotated[int, Field(ge=1, le=30)] = 5

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = urlsplit(self.url)
        if parts.scheme not in ("ldap", "ldaps") or not parts.hostname:
            raise ValueError(f"url: expected ldaps://HOST, found {self.url!r}")
        if parts.scheme == "ldap" and not self.start_tls and parts.hostname not in _LOCAL:
            raise ValueError("url: passwords cross the network only encrypted. Use ldaps://, or start_tls = true")
        if "{name}" not in self.person or "{dn}" not in self.member:
            raise ValueError("person needs {name} in it, and member {dn}")
        if not self.roles:
            raise ValueError("[roles]: expected at least one group")
        if bool(self.bind_dn) != (self.bind_password_file is not None):
            raise ValueError("bind_dn and bind_password_file: expected both or neither")
        return self


def read_directory(path: Path) -> DirectorySettings:
    """Read the settings of a directory; relative paths in them begin at the file's folder.

    Raises:
        InputError: the file is missing or malformed, or a file that it names is.
    """
    try:
        found = DirectorySettings.model_validate(parse_toml(read_text(path, most_bytes=MOST_SETTINGS_BYTES)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        text = f"{path}: {f'{where}: ' if where else ''}{first['msg'].removeprefix('Value error, ')}."
        raise InputError(text) from error
    except ValueError as error:
        raise InputError(f"{path}: expected TOML, found: {error}.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    beside = {
        name: path.parent / value
        for name in ("ca_file", "bind_password_file")
        if (value := getattr(found, name)) is not None
    }
    settings = found.model_copy(update=beside)
    if settings.ca_file is not None and not settings.ca_file.is_file():
        raise InputError(f"{settings.ca_file}: expected certificates (PEM), found no such file.")
    _bind_password(settings)
    return settings


class Directory:
    """Checks names and passwords; every check uses connections of its own, so that a restarted directory is found."""

    def __init__(self, settings: DirectorySettings) -> None:
        """Store the settings; nothing is asked yet."""
        self._settings = settings

    def check(self, name: str, password: str) -> tuple[str, Role | None] | None:
        """Ask for a person.

        Returns:
            The person's distinguished name and role (``None``: in no group that may do something); ``None`` for a wrong
            name or password.

        Raises:
            DirectoryDownError: the directory does not answer, or does not let the server search.
        """
        from ldap3.core.exceptions import LDAPException
        from ldap3.utils.conv import escape_filter_chars

        if not password or "\0" in password:  # an empty password would be an anonymous bind, which succeeds
            return None
        settings = self._settings
        try:
            with self._connected(settings.bind_dn, _bind_password(settings)) as searching:
                if not searching.bound:
                    raise DirectoryDownError(f"{settings.url} refuses bind_dn. Check bind_password_file.")
                asked = settings.person.replace("{name}", escape_filter_chars(name))
                people = self._found(searching, settings.people, asked, "1.1")
                if len(people) != 1:
                    return None
                dn = str(people[0]["dn"])
                with self._connected(dn, password) as own:
                    if not own.bound:
                        return None
                asked = settings.member.replace("{dn}", escape_filter_chars(dn))
                groups = self._found(searching, settings.groups, asked, "cn")
        except (LDAPException, OSError) as error:
            raise DirectoryDownError(f"{settings.url} does not answer: {type(error).__name__}.") from error
        names = {str(cn).casefold() for group in groups for cn in group["attributes"].get("cn", ())}
        role = next((role for role in _BY_WEIGHT if settings.roles.get(role, "").casefold() in names), None)
        return dn, role

    @contextmanager
    def _connected(self, dn: str, password: str) -> Iterator[ldap3.Connection]:
        """Connect and bind; ``bound`` says whether the directory accepted the password."""
        import ldap3

        settings = self._settings
        tls = ldap3.Tls(
            validate=ssl.CERT_REQUIRED, ca_certs_file=None if settings.ca_file is None else str(settings.ca_file)
        )
        server = ldap3.Server(settings.url, tls=tls, connect_timeout=settings.timeout_s, get_info=ldap3.NONE)
        connection = ldap3.Connection(
            server, user=dn or None, password=password or None, receive_timeout=settings.timeout_s, read_only=True
        )
        try:
            connection.open()
            if settings.start_tls:
                connection.start_tls()
            connection.bind()
            yield connection
        finally:
            connection.unbind()

    def _found(self, connection: ldap3.Connection, base: str, asked: str, attribute: str) -> list[dict[str, Any]]:
        import ldap3

        connection.search(
            base, asked, ldap3.SUBTREE, attributes=[attribute], size_limit=1000, time_limit=self._settings.timeout_s
        )
        if connection.result["result"] not in (0, 32):  # 32: no such object
            raise DirectoryDownError(f"{self._settings.url} refuses the search: {connection.result['description']}.")
        return [each for each in connection.response or () if each["type"] == "searchResEntry"]


def _bind_password(settings: DirectorySettings) -> str:
    if settings.bind_password_file is None:
        return ""
    try:
        data = read_regular(settings.bind_password_file, most_bytes=_MOST_PASSWORD_BYTES, private=True)
        return data.decode().rstrip("\r\n")
    except OSError as error:
        raise InputError(f"{settings.bind_password_file}: cannot be read ({error.strerror or error}).") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{settings.bind_password_file}: expected text in UTF-8, found other bytes.") from error
