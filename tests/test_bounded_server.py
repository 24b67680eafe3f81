"""The small HTTP servers of stations and push cameras under too many, half-open and slow connections."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from gonogo.capture.bounded_server import BoundedServer, ServerLimits

PATIENCE_S = 60.0
HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = PATIENCE_S
    release = threading.Event()

    def do_GET(self) -> None:
        if self.path == "/slow":
            self.release.wait(PATIENCE_S)
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def serving(**limits: Any) -> Iterator[BoundedServer]:
    Handler.release = threading.Event()
    defaults = {"total": 12, "per_address": 6, "head_s": 1.0, "answer_s": PATIENCE_S}
    server = BoundedServer(("127.0.0.1", 0), Handler, limits=ServerLimits(**{**defaults, **limits}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        Handler.release.set()
        server.shutdown()
        server.server_close()


def connect(server: BoundedServer, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(server.server_address[:2], PATIENCE_S, source_address=(source, 0))


def said(connection: socket.socket) -> bytes:
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def answered(server: BoundedServer, source: str = "127.0.0.1") -> bool:
    with connect(server, source) as connection:
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
        return said(connection).startswith(b"HTTP/1.1 200")


def until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + PATIENCE_S, "waited in vain"
        time.sleep(0.01)


@pytest.mark.parametrize("start", [b"", b"G", HEAD, HEAD + b"\r\n" + HEAD], ids=["silent", "byte", "half", "second"])
def test_a_head_that_does_not_come_ends_the_connection(start: bytes) -> None:
    with serving() as server, connect(server) as connection:
        connection.sendall(start)
        assert said(connection).count(b"200 OK") == start.count(b"\r\n\r\n")
        until(lambda: server.connections == 0)


@pytest.mark.parametrize(
    "start", [b"", b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000\r\n\r\n"], ids=["head", "body"]
)
def test_a_request_that_trickles_ends_the_connection_all_the_same(start: bytes) -> None:
    with serving(answer_s=0.5) as server, connect(server) as connection:
        connection.sendall(start)
        began = time.monotonic()
        with pytest.raises(ConnectionError):  # noqa: PT012  the connection breaks at one of many pieces
            while time.monotonic() < began + PATIENCE_S:
                connection.sendall(b"X")
                time.sleep(0.05)
        until(lambda: server.connections == 0)


def test_half_open_connections_never_keep_others_out() -> None:
    with serving(head_s=PATIENCE_S) as server, ExitStack() as stack:
        first = stack.enter_context(connect(server, "127.0.0.9"))
        first.sendall(HEAD + b"\r\n")
        assert b"200 OK" in first.recv(65536)
        for number in range(40):
            stack.enter_context(connect(server, f"127.0.0.{2 + number % 5}")).sendall(b"GET ")
        assert answered(server)
        assert answered(server, "127.0.0.2"), "from one of theirs"
        assert server.connections <= 12
        first.sendall(HEAD + b"Connection: close\r\n\r\n")
        assert b"200 OK" in said(first), "whoever has one connection keeps it"


def test_one_connection_too_many_is_told_when_to_come_back() -> None:
    with serving() as server, ExitStack() as stack:
        busy = [stack.enter_context(connect(server)) for _ in range(6)]
        for connection in busy:
            connection.sendall(b"GET /slow HTTP/1.1\r\nConnection: close\r\n\r\n")
        until(lambda: sum(peer.answering for peer in list(server._peers.values())) == 6)
        with connect(server) as connection:
            connection.sendall(HEAD + b"\r\n")
            answer = said(connection)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"Retry-After: 1" in answer
        assert answered(server, "127.0.0.2"), "other addresses are not meant"
        Handler.release.set()
        assert all(b"200 OK" in said(connection) for connection in busy)
        until(lambda: server.connections == 0)


def test_a_client_that_goes_away_leaves_no_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as server:
        for _ in range(5):
            with connect(server) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
                connection.sendall(HEAD)
        until(lambda: server.connections == 0)
    assert "Traceback" not in capfd.readouterr().err
