"""The address of a centre: a PostgreSQL URL, taken from a file or the environment so that no password is shown."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular

_DRIVER = "postgresql+psycopg"
_NAMES = ("postgresql", "postgres", _DRIVER)
_EXPECTED = "postgresql://user@host:5432/database"


def read_address(text: str) -> URL:
    """Return the URL that an argument names.

    Args:
        text: ``@FILE`` (a file with the URL, which only this user may open), ``env:NAME`` (an environment variable), or
            a URL without a password. libpq's own ways (``PGPASSWORD``, ``~/.pgpass``, certificates) work with each.

    Raises:
        InputError: there is no such file or variable, it holds no PostgreSQL URL, or a URL with a password was given
            as the argument itself, where every user of the machine can read it. No message shows the URL.
    """
    if text.startswith("@"):
        return _parsed(_file(Path(text[1:])), text)
    if text.startswith("env:"):
        name = text.removeprefix("env:")
        if not os.environ.get(name):
            raise InputError(f"{text}: expected an environment variable with {_EXPECTED}, found none.")
        return _parsed(os.environ[name], text)
    url = _parsed(text, "the address of the centre")
    if _secrets(url):
        raise InputError(
            "expected no password in an argument, where every user of this machine can read it, found one. "
            "Write the URL to a file that only you may open and give @FILE, or set a variable and give env:NAME."
        )
    return url


def masked(url: URL) -> str:
    """Return the URL for messages: without password, driver and parameters."""
    return URL.create(
        "postgresql", username=url.username, host=url.host, port=url.port, database=url.database
    ).render_as_string()


def without_secrets(message: str, url: URL) -> str:
    """Return a driver's message with every password of the URL replaced."""
    for secret in _secrets(url):
        message = message.replace(secret, "***")
    return message


def _secrets(url: URL) -> list[str]:
    values = [value for key, value in url.query.items() if "password" in key.lower()]
    flat = [each for value in values for each in ([value] if isinstance(value, str) else value)]
    return [each for each in (None if url.password is None else str(url.password), *flat) if each]


def _file(path: Path) -> str:
    try:
        return read_regular(path, most_bytes=MOST_SETTINGS_BYTES, private=True).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"
        raise InputError(
            f"{path}: expected a file with {_EXPECTED} ({reason}). Create it, then: chmod 600 {path}"
        ) from error


def _parsed(text: str, source: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError) as error:
        # Neither the text nor the parser's message is shown: both may hold the password.
        raise InputError(f"{source}: expected {_EXPECTED}, found something else.") from error
    if url.drivername not in _NAMES or not url.database:
        raise InputError(f"{source}: expected {_EXPECTED}, found {url.drivername!r} or no database.")
    return url.set(drivername=_DRIVER)
