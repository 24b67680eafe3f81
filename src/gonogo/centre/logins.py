"""The login of a station at the centre: it reads and extends the chain of that station, and no other.

The database enforces it with row-level security (revision 0002 of the tables), whatever program uses the login.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from gonogo.centre.chains import create_chain, read_chains
from gonogo.centre.database import Centre
from gonogo.errors import InputError, LedgerError
from gonogo.files import write_beside

_LONGEST_NAME = 63
"""Longest name of a login in PostgreSQL, in bytes."""

_RIGHTS = (
    "GRANT USAGE ON SCHEMA gonogo TO {login}",
    "GRANT SELECT ON ALL TABLES IN SCHEMA gonogo TO {login}",
    "GRANT INSERT ON entries, alarms TO {login}",
    "GRANT UPDATE (seen_at, clock_ahead_s, frames) ON chains TO {login}",
    "GRANT UPDATE (times, last_at, peer) ON alarms TO {login}",
)


def create_login(centre: Centre, station: str, out: Path) -> bool:
    """Create the chain and the login of a station, and write its URL with a new password.

    For a station that has a login, the password is replaced: the old one is void for new connections.

    Args:
        centre: The centre, connected as the owner of the tables, with the right to create logins.
        station: Name of the station, of its chain and of its login.
        out: File for the URL, readable by this user alone, for ``url_file`` in ``station.toml``.

    Returns:
        Whether the login is new.

    Raises:
        InputError: the name is too long or that of another login, or the file exists or cannot be written.
        LedgerError: the chain is written at the centre, or this user may not create logins.
    """
    if len(station.encode()) > _LONGEST_NAME:
        raise InputError(f"--station: expected at most {_LONGEST_NAME} bytes, found {station!r}. Shorten the name.")
    if out.exists():
        raise InputError(f"{out}: expected no file, found one. Delete it, or give another --out.")
    password = secrets.token_urlsafe(24)
    try:
        with centre.begin() as connection:
            create_chain(connection, station, forwarded=True)
            new = _login_of(connection, station) is None
            _grant(connection, station, password, new=new)
            write_beside(out, f"{centre.url_for(station, password)}\n".encode(), mode=0o600)
    except LedgerError:
        out.unlink(missing_ok=True)  # the login was not created
        raise
    return new


def _login_of(connection: Connection, station: str) -> str | None:
    """Return the login of a station's chain.

    Raises:
        InputError: there is a login of this name which is not the station's.
        LedgerError: the chain is written at the centre.
    """
    (chain,) = read_chains(connection, station)
    if not chain.forwarded:
        raise LedgerError(f"chain {station} is written at the centre. Choose another name for the station.")
    login = connection.execute(text("SELECT login FROM chains WHERE id = :id"), {"id": chain.id}).scalar()
    taken = connection.execute(text("SELECT count(*) FROM pg_roles WHERE rolname = :name"), {"name": station}).scalar()
    if taken and login != station:
        raise InputError(
            f"--station: the database has a login {station!r} already, which is not this station's. "
            "Choose another name for the station."
        )
    return None if login is None else str(login)


def _grant(connection: Connection, station: str, password: str, *, new: bool) -> None:
    from psycopg import sql

    driver: Any = connection.connection.driver_connection
    # The server sees and logs the scrambled password only.
    scrambled = driver.pgconn.encrypt_password(password.encode(), station.encode(), b"scram-sha-256").decode()
    login = sql.Identifier(station)
    made = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}" if new else "ALTER ROLE {} LOGIN PASSWORD {}")
    driver.execute(made.format(login, sql.Literal(scrambled)))
    for right in _RIGHTS:
        driver.execute(sql.SQL(right).format(login=login))
    connection.execute(text("UPDATE chains SET login = :name WHERE name = :name"), {"name": station})
