"""TLS of the adapters: contexts from the certificate files of the settings."""

from __future__ import annotations

import ssl
from pathlib import Path

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular
from gonogo.line.plc_settings import TlsClient, TlsServer


def server_context(settings: TlsServer) -> ssl.SSLContext:
    """Return the context of a server that accepts only clients with a certificate.

    Raises:
        InputError: a file cannot be read, is no certificate or key, or another user may open the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings.certificate, settings.key, ca=settings.client_ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(settings: TlsClient) -> ssl.SSLContext:
    """Return the context of a client that checks its peer.

    Raises:
        InputError: as for `server_context`.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, settings.certificate, settings.key, ca=settings.ca)
    return context


def _load(context: ssl.SSLContext, certificate: Path | None, key: Path | None, *, ca: Path) -> None:
    try:
        context.load_verify_locations(ca)
        if certificate is not None and key is not None:
            read_regular(key, most_bytes=MOST_SETTINGS_BYTES, private=True)
            context.load_cert_chain(certificate, key)
    except OSError as error:  # also ssl.SSLError
        files = ", ".join(str(each) for each in (ca, certificate, key) if each is not None)
        raise InputError(
            f"expected PEM files with certificates, and a key that only this user may open (chmod 600), "
            f"found otherwise in one of {files} ({error.strerror or error})."
        ) from error
