"""Who may send to a station's ports: programs with the token, and never a page of another site in a browser."""

from __future__ import annotations

import hmac
import ipaddress
import socket
import sys
from collections.abc import Collection
from email.message import Message
from urllib.parse import urlsplit

_DIGITS = 19  # of a length that nobody sends; Python refuses to read thousands of them


def authorised(header: str | None, token: str | None) -> bool:
    """Whether an ``Authorization`` header carries the bearer token; always, where none is asked for."""
    return token is None or hmac.compare_digest((header or "").encode(), f"Bearer {token}".encode())


def content_length(headers: Message) -> int | None:
    """How many bytes a request says it brings; ``None`` where it does not say so in digits."""
    said = headers.get("Content-Length", "")
    if not (said.isascii() and said.isdecimal()):
        return None
    return int(said) if len(said) < _DIGITS else sys.maxsize


def foreign(headers: Message, hosts: Collection[str]) -> str:
    """Why a request comes from a page of another site; empty where it does not.

    A browser that a page has misled names that page in ``Origin`` or ``Sec-Fetch-Site``, or, where the page's own name
    was made to lead to this machine, in ``Host``. Programs send none of the first two, and this machine's address.

    Args:
        headers: Of the request.
        hosts: Names under which this machine is reached, besides its addresses, its own name and ``localhost``.
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
        return "expected a request from no page, or from one of this machine"
    return ""


def _is_own(host: str, hosts: Collection[str]) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        own = socket.gethostname().lower()
        return name in {"localhost", own, f"{own}.local", *(each.lower() for each in hosts)}
    return True
