"""Server options."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import argon2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Server options."""

    names: tuple[str, ...] = ()
    """Accepted host names, besides addresses, ``localhost`` and this machine's name."""
    tls: bool = False
    """Whether the server is reached via HTTPS; cookies are then restricted to HTTPS."""
    max_streams: int = 64
    """Maximum number of concurrent live pages."""
    hasher: argon2.PasswordHasher = field(default_factory=argon2.PasswordHasher)
    now: Callable[[], float] = time.time

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Accepted names in the Host header, in lower case."""
        own = socket.gethostname().lower()
        return frozenset({"localhost", own, socket.getfqdn().lower(), f"{own}.local", *map(str.lower, self.names)})
