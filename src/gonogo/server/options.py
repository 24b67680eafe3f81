"""How a server is run."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import argon2


@dataclass(frozen=True, kw_only=True)
class Options:
    """How a server is run."""

    names: tuple[str, ...] = ()
    """Host names it answers to, besides addresses, ``localhost`` and this machine's own name."""
    tls: bool = False
    """Whether it is reached by https: cookies are then sent by https alone."""
    max_streams: int = 64
    """Live pages open at once."""
    hasher: argon2.PasswordHasher = field(default_factory=argon2.PasswordHasher)
    now: Callable[[], float] = time.time

    @property
    def allowed_hosts(self) -> frozenset[str]:
        """Names in the Host header that are accepted, in lower case."""
        own = socket.gethostname().lower()
        return frozenset({"localhost", own, socket.getfqdn().lower(), f"{own}.local", *map(str.lower, self.names)})
