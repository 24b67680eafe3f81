"""Server options."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import argon2

from gonogo.server.auth.directory import Directory


@dataclass(frozen=True, kw_only=True)
class Options:
    """Server options."""

    names: tuple[str, ...] = ()
    """Accepted host names, besides addresses, ``localhost`` and this machine's name."""
    tls: bool = False
    """Whether the server is reached via HTTPS; cookies are then restricted to HTTPS."""
    max_streams: int = 64
    """Maximum number of concurrent live pages."""
    key_rate_per_s: float = 100.0
    """Requests per second that each key may send to be judged, on average; ten seconds' worth at once."""
    request_rate_per_s: float = 300.0
    """Requests per second of each person, program or address without a login, ten seconds' worth at once."""
    audit_pictures: bool = False
    """Whether the ledger records who read which picture of a part."""
    open_models: bool = False
    """Whether KServe requests, which give scores and no verdicts, are answered without a key."""
    directory: Directory | None = None
    """The plant's directory, for people who have no password here."""
    hasher: argon2.PasswordHasher = field(default_factory=argon2.PasswordHasher)
    now: Callable[[], float] = time.time

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Accepted names in the Host header, in lower case."""
        own = socket.gethostname().lower()
        return frozenset({"localhost", own, socket.getfqdn().lower(), f"{own}.local", *map(str.lower, self.names)})
