"""Reading secrets from files that only this user may open."""

from __future__ import annotations

import ssl
from pathlib import Path

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular


def read_secret(path: Path, what: str) -> str:
    """Read one line of text from a private file.

    Args:
        path: The file.
        what: What it should hold, for the message.

    Raises:
        InputError: the file is missing, empty, not text, or open to other users.
    """
    try:
        text = read_regular(path, most_bytes=MOST_SETTINGS_BYTES, private=True).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror or str(error)) if isinstance(error, OSError) else "not UTF-8"
        raise InputError(
            f"{path}: expected a file with {what} that only you may open ({reason}). Create it, then: chmod 600 {path}"
        ) from error
    if not text:
        raise InputError(f"{path}: expected {what}, found an empty file.")
    return text


def tls_context(ca_file: Path | None, cert_file: Path | None = None) -> ssl.SSLContext:
    """Return a TLS context that verifies the peer.

    Args:
        ca_file: Certificates that the peer's must be signed by; by default those of this machine.
        cert_file: Certificate and key of this client.

    Raises:
        InputError: a file cannot be used.
    """
    try:
        context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    except OSError as error:
        raise InputError(f"{ca_file}: expected certificates in PEM ({error}).") from error
    if cert_file is not None:
        read_secret(cert_file, "certificate and key in PEM")
        try:
            context.load_cert_chain(cert_file)
        except OSError as error:
            raise InputError(f"{cert_file}: expected certificate and key in PEM ({error}).") from error
    return context
