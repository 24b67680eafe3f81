"""Access checks for a station's HTTP ports: a bearer token, and no requests from web pages of other sites."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import sys
from collections.abc import Collection
from email.message import Message
from urllib.parse import urlsplit

_DIGITS = 19  # longest length in digits; int() refuses texts of thousands of digits


def authorised(header: str | None, token: str | None) -> bool:
    """Whether an ``Authorization`` header carries the bearer token; always true if no token is required."""
    return token is None or hmac.compare_digest((header or "").encode(), f"Bearer {token}".encode())


def content_length(headers: Message) -> int | None:
    """Return the ``Content-Length`` of a request in bytes; ``None`` if it is missing or not a number."""
    stated = headers.get("Content-Length", "")
    if not (stated.isascii() and stated.isdecimal()):
        return None
    return int(stated) if len(stated) < _DIGITS else sys.maxsize


def foreign(headers: Message, hosts: Collection[str]) -> str:
    """Say why a request seems to come from a web page of another site; empty if it does not.

    A browser names the page in ``Origin`` or ``Sec-Fetch-Site``. After DNS rebinding, where the page's own name
    resolves to this machine, that name is in ``Host``. Other programs send only ``Host``, with this machine's address.

    Args:
        headers: Headers of the request.
        hosts: Further host names of this machine, besides its addresses, its own name and ``localhost``.
    """
    given = headers.get_all("Host", [])
    if len(given) > 1:
        return f"expected one Host, found {len(given)}"
    host = given[0].strip().lower() if given else ""
    if host and not _is_own(host, hosts):
        return f"expected an address or a name of this machine as Host, found {ascii(host)[:80]}; see hosts in [http]"
    origin = headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != host:
        return f"expected no Origin of another site, found {ascii(origin)[:80]}"
    if headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
        return "expected a request from a program, or from a page of this machine"
    return ""


def _is_own(host: str, hosts: Collection[str]) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in {"localhost", own, f"{own}.local", *(each.lower() for each in hosts)}
    return True
