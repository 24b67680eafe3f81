"""Connection limits of ``gonogo serve``: total, per address, and timeouts for slow clients.

uvicorn limits none of these while it receives a request: its keep-alive timeout covers only the pause between two
requests and ends with the first byte of the next.
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
_REFUSALS_AT_ONCE = 32  # connections beyond the limit that still get a 503; further ones are closed immediately
_INTERNET = (socket.AF_INET, socket.AF_INET6)
_SMALL_BODY = 64 * 1024


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits on client connections."""

    total: int = 400
    per_address: int = 100
    """Per address, or per /64 network for IPv6; proxies are exempt."""
    head_s: float = 10.0
    """Timeout from the connection or the previous response to the end of a request's head; also for the handshake."""
    idle_s: int = 5
    """Idle time between two requests."""
    body_window_s: float = 20.0
    body_window_bytes: int = 20 * 1024
    """Minimum of a request body that must arrive in each window while the server reads it."""
    stall_s: float = 30.0
    """Timeout of a response to a client that does not read."""
    linger_s: float = 10.0
    """Timeout for closing a connection."""
    tick_s: float = 0.5
    """Interval of the timeout checks."""
    proxies: tuple[Network, ...] = ()
    """Reverse proxies: exempt from the limit per address, and trusted for ``X-Forwarded-For`` and
    ``X-Forwarded-Proto``."""


class ConnectionCounter:
    """Counts connections. At a limit, the oldest connection that keeps the server waiting is closed to make room."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._inside: dict[Connection, None] = {}  # oldest first
        self._refused: set[Connection] = set()

    def __len__(self) -> int:
        return len(self._inside) + len(self._refused)

    def enter(self, connection: Connection) -> bool:
        """Admit a connection; returns ``False`` if it exceeds a limit."""
        own = [other for other in self._inside if other.address == connection.address]
        crowded = len(own) >= self.limits.per_address and not connection.exempt
        if (crowded and not self._make_room(own)) or (
            len(self._inside) >= self.limits.total and not self._make_room(self._inside)
        ):
            return False
        self._inside[connection] = None
        return True

    def refuse(self, connection: Connection) -> bool:
        """Keep an excess connection open to send a 503; returns ``False`` if too many are being refused."""
        if len(self._refused) >= _REFUSALS_AT_ONCE:
            return False
        self._refused.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """Release a connection's slot."""
        self._inside.pop(connection, None)
        self._refused.discard(connection)

    def _make_room(self, candidates: Iterable[Connection]) -> bool:
        """Close the oldest connection that keeps the server waiting, from the address with the most of them."""
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

    counter: ClassVar[ConnectionCounter]
    tls: ClassVar[ssl.SSLContext | None]

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.address, self.exempt = "", False
        self._raw: asyncio.Transport | None = None  # below TLS, if it is used
        self._begun = False  # whether HTTP may be spoken
        self._early = b""  # data that arrived together with the end of the handshake
        self._handshake: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._since = self._window_since = self._write_since = self.loop.time()
        self._closing_since: float | None = None
        self._received = self._request_received = self._window_received = self._unsent = 0
        self._head_s = self.counter.limits.head_s

    @property
    def waits_for_client(self) -> bool:
        """Whether the server waits for a request that the client is not actively sending."""
        if not self._begun or self.conn.their_state is h11.IDLE:
            return True
        slow = self.loop.time() - self._since > self._head_s and self._received - self._request_received < _SMALL_BODY
        return self.conn.their_state is h11.SEND_BODY and slow

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Admit or refuse the connection, then start TLS, then HTTP."""
        self._raw = transport
        peer = (transport.get_extra_info("peername") or ("",))[0]
        self.address, self.exempt = network_of(peer), is_within(peer, self.counter.limits.proxies)
        _give_up_on_silence(transport, self.counter.limits.stall_s)
        if not self.counter.enter(self):
            if self.tls is not None or not self.counter.refuse(self):
                transport.abort()
                return
            self.app, self._head_s = _busy, min(2.0, self._head_s)
        if self.tls is None:
            self._begin(transport)
        else:
            transport.pause_reading()
            self._handshake = self.loop.create_task(self._begin_tls(transport, self.tls))

    def connection_lost(self, exc: Exception | None) -> None:
        """Release its slot."""
        self.counter.leave(self)
        if self._timer is not None:
            self._timer.cancel()
        if self._begun:
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count received bytes."""
        self._received += len(data)
        if self._begun:
            super().data_received(data)
        else:
            self._early += data

    def on_response_complete(self) -> None:
        """Start the timeout of the next request."""
        self._since, self._request_received = self.loop.time(), self._received
        super().on_response_complete()

    def abort(self) -> None:
        """Close the connection immediately."""
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
            self.counter.leave(self)
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
            self._timer = self.loop.call_later(self.counter.limits.tick_s, self._tick)

    def _overdue(self, now: float) -> bool:
        limits = self.counter.limits
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
        if self.cycle.response_complete:  # refused, and the client continues to send
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
        return now - self._write_since > self.counter.limits.stall_s


def uvicorn_options(limits: ConnectionLimits, *, tls: ssl.SSLContext | None = None) -> dict[str, Any]:
    """Arguments for ``uvicorn.Config`` and ``uvicorn.run`` that enforce these limits.

    Args:
        limits: Connection limits.
        tls: TLS context for HTTPS.
    """
    protocol = type("Connection", (Connection,), {"counter": ConnectionCounter(limits), "tls": tls})
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
    """Parse addresses and networks such as ``192.168.7.2``, ``10.0.0.0/8`` or ``fd00::/64``.

    Raises:
        InputError: one is neither an address nor a network.
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
        InputError: they cannot be read or do not match.
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
    """Whether an address belongs to one of these networks."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return any(found in network for network in networks)


def _give_up_on_silence(transport: asyncio.Transport, longest_s: float) -> None:
    # A sleeping laptop acknowledges nothing; without this, its live pages would stay open for the kernel's 15 minutes.
    connected = transport.get_extra_info("socket")
    if (
        connected is not None
        and hasattr(socket, "TCP_USER_TIMEOUT")
        and connected.family in (socket.AF_INET, socket.AF_INET6)
    ):
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
