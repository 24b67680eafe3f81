"""A threaded HTTP server with limits on connections, connections per address, and time per request."""

from __future__ import annotations

import contextlib
import http.server
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any

_REFUSALS_AT_ONCE = 8  # connections beyond the limit that still get a 503; further ones are closed at once
_BUSY = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 21\r\nRetry-After: 1\r\n"
    b"Connection: close\r\n\r\nToo many connections\n"
)

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Of every response: what is sent here is data, never a page. No response allows other sites to read it."""


@dataclass(frozen=True, kw_only=True)
class ServerLimits:
    """Limits for the clients of a server."""

    total: int = 64
    per_address: int = 16
    head_s: float = 5.0
    """Time from the connection, or the last response, to the end of a request's headers."""
    bytes_per_s: float = 100_000.0
    """Slowest rate of a body, after another `head_s`."""
    answer_s: float = 10.0
    """Time for the response, from the end of the body."""


@dataclass(kw_only=True)
class _Peer:
    address: str
    deadline: float
    answering: bool = False


class BoundedServer(http.server.ThreadingHTTPServer):
    """Threaded HTTP server that, at a limit, closes the oldest idle connection for a new one, or answers 503."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        address: tuple[str, int],
        handler: type[http.server.BaseHTTPRequestHandler],
        *,
        limits: ServerLimits | None = None,
    ) -> None:
        self.limits = limits or ServerLimits()
        self._peers: dict[socket.socket, _Peer] = {}  # oldest first
        self._lock, self._refusals = threading.Lock(), threading.BoundedSemaphore(_REFUSALS_AT_ONCE)
        super().__init__(address, _timed(handler))

    @property
    def connections(self) -> int:
        """Number of open connections."""
        return len(self._peers)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a new thread, or refuse it."""
        address = str(client_address[0])
        with self._lock:
            welcome = self._has_room(address)
            if welcome:
                self._peers[request] = _Peer(address=address, deadline=time.monotonic() + self.limits.head_s)
        if welcome:
            super().process_request(request, client_address)
        elif self._refusals.acquire(blocking=False):
            threading.Thread(target=self._refuse, args=(request,), daemon=True).start()
        else:
            self.shutdown_request(request)

    def close_request(self, request: Any) -> None:
        """Close a connection and free its place."""
        with self._lock:
            self._peers.pop(request, None)
        super().close_request(request)

    def service_actions(self) -> None:
        """Close the connections that are past their deadline; called twice a second."""
        now = time.monotonic()
        with self._lock:
            for request in [request for request, peer in self._peers.items() if now > peer.deadline]:
                self._end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def began(self, request: Any, body_bytes: int) -> None:
        """Set the deadline of a request whose headers are complete."""
        limits = self.limits
        time_s = limits.head_s + body_bytes / limits.bytes_per_s + limits.answer_s
        self._set(request, time.monotonic() + time_s, answering=True)

    def ended(self, request: Any) -> None:
        """Set the deadline of a connection after a response."""
        self._set(request, time.monotonic() + self.limits.head_s, answering=False)

    def _set(self, request: Any, deadline: float, *, answering: bool) -> None:
        with self._lock:
            if (peer := self._peers.get(request)) is not None:
                peer.deadline, peer.answering = deadline, answering

    def _has_room(self, address: str) -> bool:
        count = Counter(peer.address for peer in self._peers.values())
        if count[address] >= self.limits.per_address:
            return self._make_room({address})
        if len(self._peers) >= self.limits.total:
            idle = Counter(peer.address for peer in self._peers.values() if not peer.answering)
            return self._make_room({crowd for crowd, _ in idle.most_common(1)})
        return True

    def _make_room(self, addresses: set[str]) -> bool:
        for request, peer in self._peers.items():
            if peer.address in addresses and not peer.answering:
                del self._peers[request]
                self._end(request)
                return True
        return False

    def _end(self, request: socket.socket) -> None:
        with contextlib.suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)  # wakes its thread, which closes it

    def _refuse(self, request: socket.socket) -> None:
        try:
            request.settimeout(1.0)
            request.recv(65536)  # unread data would turn the response into a connection reset
            request.sendall(_BUSY)
        except OSError:
            pass
        finally:
            self.shutdown_request(request)
            self._refusals.release()


def _timed(handler: type[http.server.BaseHTTPRequestHandler]) -> type[http.server.BaseHTTPRequestHandler]:
    """Wrap a handler class so that it reports complete headers and sent responses."""

    class Timed(handler):  # type: ignore[valid-type, misc]
        server: BoundedServer

        def version_string(self) -> str:
            return "gonogo"

        def end_headers(self) -> None:
            for name, value in HEADERS.items():
                self.send_header(name, value)
            super().end_headers()

        def parse_request(self) -> bool:
            understood = bool(super().parse_request())
            if understood:
                length = self.headers.get("Content-Length", "")
                digits = length.isascii() and length.isdecimal() and len(length) <= 12
                self.server.began(self.connection, int(length) if digits else 0)
            return understood

        def handle_one_request(self) -> None:
            super().handle_one_request()
            self.server.ended(self.connection)

    return Timed
