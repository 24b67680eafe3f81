"""Connections of ``gonogo serve``: how many at once, how many from one address, and how long a client may take.

uvicorn limits none of these while a request is being received: its keep-alive timeout only covers the pause between two
requests, and ends with the first byte of the next.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import h11
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from gonogo.errors import InputError
from gonogo.server.auth.throttle import network_of

Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

RETRY_AFTER_S = 5
_REFUSALS_AT_ONCE = 32  # connections beyond the limit that are still told so; further ones are closed at once
_SMALL_BODY = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """What clients may take of the server."""

    total: int = 400
    per_address: int = 100
    """From one address, or one IPv6 network of 64 bits; proxies are exempt."""
    head_s: float = 10.0
    """From the connection, or the last answer, to the end of a request's head; also for the TLS handshake."""
    idle_s: int = 5
    """Between two requests."""
    body_window_s: float = 20.0
    body_window_bytes: int = 20 * 1024
    """What must arrive of a body in each window, as long as the server reads it."""
    stall_s: float = 30.0
    """How long an answer may wait for a client that does not read."""
    linger_s: float = 10.0
    """How long a closed connection may take to take leave."""
    tick_s: float = 0.5
    """How often these times are checked."""
    proxies: tuple[Network, ...] = ()
    """Reverse proxies: their connections carry those of many people, and their ``X-Forwarded-For`` and
    ``X-Forwarded-Proto`` are believed."""


class Door:
    """Counts connections; at a limit the oldest one that keeps the server waiting makes room for the next."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._inside: dict[Connection, None] = {}  # oldest first
        self._refused: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._inside) + len(self._refused)

    def enter(self, connection: Connection) -> bool:
        """Let a connection in; ``False``: it is one too many."""
        own = [other for other in self._inside if other.address == connection.address]
        crowded = len(own) >= self.limits.per_address and not connection.exempt
        if (crowded and not self._make_room(own)) or (
            len(self._inside) >= self.limits.total and not self._make_room(self._inside)
        ):
            return False
        self._inside[connection] = None
        return True

    def refuse(self, connection: Connection) -> bool:
        """Keep a connection that is one too many just long enough to say so; ``False``: not even that."""
        if len(self._refused) >= _REFUSALS_AT_ONCE:
            return False
        self._refused.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Give a connection's place free."""
        self._inside.pop(connection, None)
        self._refused.discard(connection)

    def _make_room(self, candidates: Iterable[Connection]) -> bool:
        """End the oldest of these that keeps the server waiting, of the address that has the most such ones."""
        waiting = [candidate for candidate in candidates if candidate.waits_for_client]
        if not waiting:
            return False
        ((crowd, _),) = Counter(other.address for other in waiting).most_common(1)
        oldest = next(other for other in waiting if other.address == crowd)
        self.leave(oldest)
        oldest.abort()
        return True


class Connection(H11Protocol):
    """One connection; see `ConnectionLimits`."""

    door: ClassVar[Door]
    tls: ClassVar[ssl.SSLContext | None]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.address, self.exempt = "", False
        self._raw: asyncio.Transport | None = None  # below TLS, if there is any
        self._begun = False  # whether HTTP may be spoken
        self._early = b""  # what a client sent together with the end of its handshake
        self._handshake: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = self._window_since = self._write_since = self.loop.time()
        self._closing_since: float | None = None
        self._received = self._request_received = self._window_received = self._unsent = 0
        self._head_s = self.door.limits.head_s

    @property
    def waits_for_client(self) -> bool:
        """Whether the client has not yet sent what it is to be answered, and is not plainly busy sending it."""
        if not self._begun or self.conn.their_state is h11.IDLE:
            return True
        slow = self.loop.time() - self._since > self._head_s and self._received - self._request_received < _SMALL_BODY
        return self.conn.their_state is h11.SEND_BODY and slow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let it in, or say that it is one too many; then TLS, then HTTP."""
        self._raw = transport
        peer = (transport.get_extra_info("peername") or ("",))[0]
        self.address, self.exempt = network_of(peer), is_within(peer, self.door.limits.proxies)
        _give_up_on_silence(transport, self.door.limits.stall_s)
        if not self.door.enter(self):
            if self.tls is not None or not self.door.refuse(self):
                transport.abort()
                return
            self.app, self._head_s = _busy, min(2.0, self._head_s)
        if self.tls is None:
            self._begin(transport)
        else:
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._begin_tls(transport, self.tls))

    def connection_lost(self, exc: Exception | None) -> None:
        """Give its place free."""
        self.door.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._begun:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what comes in."""
        self._received += len(data)
        if self._begun:
            super().data_received(data)
        else:
            self._early += data

    def on_response_complete(self) -> None:
        """The next request's time begins."""
        self._since, self._request_received = self.loop.time(), self._received
        super().on_response_complete()

    def abort(self) -> None:
        """Close it at once."""
        if self._raw is not None:
            self._raw.abort()

    async def _begin_tls(self, raw: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            transport = await self.loop.start_tls(
                raw, self, context, server_side=True, ssl_handshake_timeout=self._head_s
            )
        except OSError:
            transport = None
        if transport is None or raw.is_closing():
            self.door.leave(self)
            raw.abort()
            return
        self._begin(transport)
        if early := self._early:
            self._early = b""
            super().data_received(early)

    def _begin(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._begun, self._since = True, self.loop.time()
        self._tick()

    def _tick(self) -> None:
        if self._overdue(self.loop.time()):
            self.abort()
        else:
            self._timer = self.loop.call_later(self.door.limits.tick_s, self._tick)

    def _overdue(self, now: float) -> bool:
        limits = self.door.limits
        if self.transport.is_closing():
            self._closing_since = self._closing_since or now
            return now - self._closing_since > limits.linger_s
        if self._stalls(now):
            return True
        if self.conn.their_state is h11.IDLE:
            return now - self._since > self._head_s
        if self.conn.their_state is not h11.SEND_BODY or self.flow.read_paused:
            self._window_since, self._window_received = now, self._received
            return False
        if self.cycle.response_complete:  # it was refused, and the client goes on sending
            return now - self._since > limits.linger_s
        if now - self._window_since > limits.body_window_s:
            if self._received - self._window_received < limits.body_window_bytes:
                return True
            self._window_since, self._window_received = now, self._received
        return False

    def _stalls(self, now: float) -> bool:
        unsent = self.transport.get_write_buffer_size()
        if unsent == 0 or unsent < self._unsent:
            self._write_since = now
        self._unsent = unsent
        return now - self._write_since > self.door.limits.stall_s


def uvicorn_options(limits: ConnectionLimits, *, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Arguments for ``uvicorn.Config`` and ``uvicorn.run`` that put these limits in force.

    Args:
        limits: What clients may take.
        tls: Serve https with this context.
    """
    protocol = type("Connection", (Connection,), {"door": Door(limits), "tls": tls})
    return {
        "http": protocol,
        "ws": "none",
        "loop": "asyncio",
        "proxy_headers": bool(limits.proxies),
        "forwarded_allow_ips": [str(network) for network in limits.proxies],
        "timeout_keep_alive": limits.idle_s,
        "log_level": "warning",
        "server_header": False,
    }


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Addresses and networks as they are written: ``192.168.7.2``, ``10.0.0.0/8``, ``fd00::/64``.

    Raises:
        InputError: one of them is neither.
    """
    found = []
    for text in texts:
        try:
            found.append(ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise InputError(
                f"{text!r}: expected an address or a network such as 192.168.7.2 or 10.0.0.0/8 ({error})."
            ) from error
    return tuple(found)


def tls_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Read a certificate chain and its private key.

    Raises:
        InputError: they cannot be read, or do not belong together.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{certificate} and {key}: expected a certificate chain and its unencrypted private key in PEM ({error})."
        ) from error
    return context


def is_within(address: str, networks: Iterable[Network]) -> bool:
    """Whether an address is in one of these networks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in networks)


def _give_up_on_silence(transport: asyncio.Transport, longest_s: float) -> None:
    # A laptop that fell asleep acknowledges nothing: its live pages must not stay for the kernel's quarter of an hour.
    connected = transport.get_extra_info("socket")
    if connected is not None and hasattr(socket, "TCP_USER_TIMEOUT") and connected.family != socket.AF_UNIX:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(longest_s * 1000))


async def _busy(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"retry-after", str(RETRY_AFTER_S).encode()),
        (b"connection", b"close"),
    ]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    text = f"Too many connections. Try again in {RETRY_AFTER_S} seconds.\n"
    await send({"type": "http.response.body", "body": text.encode()})
