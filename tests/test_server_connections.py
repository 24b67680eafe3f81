"""Connections of the server: half-open, slow, idle, too many, too many live pages; and who a proxy says is asking."""

from __future__ import annotations

import asyncio
import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send
from typer.testing import CliRunner
from uvicorn.server import ServerState

from gonogo.cli import app as command_line
from gonogo.errors import InputError
from gonogo.server.access import EVERYONE, MIB, Role, form
from gonogo.server.connections import (
    Connection,
    ConnectionCounter,
    ConnectionLimits,
    parse_networks,
    tls_context,
    uvicorn_options,
)
from gonogo.server.routes import ROUTES
from gonogo.server.server_thread import running
from gonogo.server.station.feed import MAX_PER_PERSON
from server_kit import PASSWORD, Clock, add_person, make_app

PATIENCE_S = 60.0
QUICK = ConnectionLimits(
    total=20,
    per_address=8,
    head_s=2.0,
    idle_s=1,
    body_window_s=1.0,
    body_window_bytes=1000,
    stall_s=1.0,
    linger_s=1.0,
    tick_s=0.05,
)
HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


def port_of(address: str) -> int:
    return int(address.rsplit(":", 1)[1])


@contextmanager
def serve(app: FastAPI, **more: object) -> Iterator[int]:
    with running(app, limits=ConnectionLimits(**{**vars(QUICK), **more})) as address:
        yield port_of(address)


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), PATIENCE_S, source_address=(source, 0))


def said(connection: socket.socket) -> bytes:
    """Everything until the server closes."""
    received = b""
    try:
        while piece := connection.recv(65536):
            received += piece
    except ConnectionResetError:
        pass
    return received


def until_closed(connection: socket.socket) -> bytes:
    """What it said until it closed, which it must."""
    connection.settimeout(PATIENCE_S)
    return said(connection)


def is_cut_off(connection: socket.socket, piece: bytes) -> bool:
    """Whether the server closes while one sends piece after piece."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE_S:
        try:
            connection.sendall(piece)
        except ConnectionError:
            return True
        time.sleep(0.05)
    return False


def healthy(port: int, source: str = "127.0.0.1") -> bool:
    with connect(port, source) as connection:
        connection.sendall(HEAD + b"Connection: close\r\n\r\n")
        return said(connection).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("start", [b"", b"G", HEAD], ids=["silent", "one byte", "half a head"])
def test_a_head_that_does_not_come_ends_the_connection(app: FastAPI, start: bytes) -> None:
    with serve(app) as port, connect(port) as connection:
        connection.sendall(start)
        assert until_closed(connection) == b""


def test_a_head_that_trickles_ends_the_connection_all_the_same(app: FastAPI) -> None:
    with serve(app) as port, connect(port) as connection:
        assert is_cut_off(connection, b"X")


def test_a_trickling_second_request_is_ended_too(app: FastAPI) -> None:
    with serve(app) as port, connect(port) as connection:
        connection.sendall(HEAD + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        connection.sendall(HEAD)
        assert b"HTTP" not in until_closed(connection)


class Wire:
    """A transport without a network, under a clock of its own."""

    def __init__(self) -> None:
        self.clock, self.written, self.aborted = Clock(now=1000.0), b"", False
        self.loop = asyncio.get_running_loop()
        options = uvicorn_options(ConnectionLimits())
        config = uvicorn.Config(_app, **options)
        self.connection: Connection = options["http"](config, ServerState(), {}, self)
        self.connection.connection_made(self)  # type: ignore[arg-type]

    def time(self) -> float:
        return self.clock.now

    def call_later(self, after_s: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        return self.loop.call_later(PATIENCE_S, callback)

    def create_task(self, coroutine: Coroutine[None, None, None]) -> asyncio.Task[None]:
        return self.loop.create_task(coroutine)

    def get_extra_info(self, name: str) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    close = abort

    async def later(self, after_s: float, data: bytes = b"") -> bool:
        """Receive this after so many seconds; returns whether the connection stands."""
        self.clock.now += after_s
        self.connection._tick()
        if data and not self.aborted:
            self.connection.data_received(data)
        for _ in range(20):
            await asyncio.sleep(0)
        return not self.aborted


async def _app(scope: Scope, receive: Receive, send: Send) -> None:
    more = True
    while more:
        more = (await receive()).get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def test_a_connection_in_steady_use_is_not_ended() -> None:
    async def use() -> None:
        wire = Wire()
        for _ in range(20):
            assert await wire.later(4.0, HEAD + b"\r\n")
        assert wire.written.count(b"200 OK") == 20

    asyncio.run(use())


def test_a_large_upload_that_keeps_coming_is_not_ended_and_a_trickle_is() -> None:
    async def use(bytes_per_s: int) -> bool:
        wire = Wire()
        assert await wire.later(1.0, HEAD.replace(b"GET", b"POST") + b"Content-Length: 10000000\r\n\r\n")
        return all([await wire.later(1.0, b"x" * bytes_per_s) for _ in range(100)])

    assert asyncio.run(use(5000))
    assert not asyncio.run(use(100))


def test_an_upload_that_the_server_is_slow_to_read_is_not_ended() -> None:
    async def use() -> None:
        wire = Wire()
        await wire.later(1.0, HEAD.replace(b"GET", b"POST") + b"Content-Length: 10000000\r\n\r\n")
        wire.connection.flow.pause_reading()
        assert await wire.later(100.0)
        wire.connection.flow.resume_reading()
        assert await wire.later(10.0, b"x" * 50_000)

    asyncio.run(use())


def test_a_body_that_trickles_ends_the_connection(app: FastAPI) -> None:
    with serve(app) as port, connect(port) as connection:
        connection.sendall(b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n")
        connection.sendall(b"name=a")
        until_closed(connection)


def test_a_refused_body_is_not_read_for_ever(app: FastAPI) -> None:
    with serve(app) as port, connect(port) as connection:
        head = b"POST /datasets HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000000\r\n\r\n"
        connection.sendall(head)
        assert is_cut_off(connection, b"x" * 5000)


def test_an_answer_that_nobody_reads_ends_the_connection(tmp_path: Path) -> None:
    def large() -> PlainTextResponse:
        return PlainTextResponse("x" * 50 * MIB)

    app = make_app(tmp_path, table=[*ROUTES, form("/large", large, EVERYONE)])
    token = app.state.components.accounts.sessions.issue("up", Role.ENGINEER, days=1, created_by="test")[1]
    with doored(app) as (port, counter), connect(port) as connection:
        head = f"POST /large HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        connection.sendall(head.encode())
        until(lambda: len(counter) == 1)
        until(lambda: len(counter) == 0)


@contextmanager
def doored(
    app: FastAPI, *, tls: ssl.SSLContext | None = None, **more: object
) -> Iterator[tuple[int, ConnectionCounter]]:
    """A server, and what counts its connections."""
    options = uvicorn_options(ConnectionLimits(**{**vars(QUICK), **more}), tls=tls)
    server = uvicorn.Server(uvicorn.Config(app, port=0, timeout_graceful_shutdown=1, **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    protocol: type[Connection] = options["http"]
    try:
        yield server.servers[0].sockets[0].getsockname()[1], protocol.counter
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + PATIENCE_S, "waited in vain"
        time.sleep(0.01)


def test_half_open_connections_never_keep_others_out(app: FastAPI) -> None:
    with doored(app, head_s=PATIENCE_S) as (port, counter), ExitStack() as stack:
        for number in range(60):
            stack.enter_context(connect(port, f"127.0.0.{2 + number // 8}")).sendall(b"GET ")
        until(lambda: len(counter) >= QUICK.total)
        assert healthy(port, "127.0.0.1"), "from another address"
        assert healthy(port, "127.0.0.9"), "from one of theirs"
        assert len(counter) <= QUICK.total


def test_one_connection_too_many_is_told_when_to_come_back(tmp_path: Path) -> None:
    release = threading.Event()

    def slow() -> PlainTextResponse:
        release.wait(PATIENCE_S)
        return PlainTextResponse("done")

    app = make_app(tmp_path, table=[*ROUTES, form("/slow", slow, EVERYONE)])
    token = app.state.components.accounts.sessions.issue("busy", Role.OPERATOR, days=1, created_by="test")[1]
    head = f"POST /slow HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    with doored(app, head_s=PATIENCE_S) as (port, counter), ExitStack() as stack:
        busy = [stack.enter_context(connect(port)) for _ in range(QUICK.per_address)]
        for connection in busy:
            connection.sendall(head.encode())
        until(lambda: not any(other.waits_for_client for other in list(counter._inside)) and len(counter) == len(busy))
        with connect(port) as connection:
            connection.sendall(HEAD + b"\r\n")
            answer = until_closed(connection)
        assert answer.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 5" in answer
        assert healthy(port, "127.0.0.2"), "other addresses are not meant"
        release.set()
        assert all(b"done" in until_closed(connection) for connection in busy)
        until(lambda: len(counter) == 0)
        assert healthy(port)


def test_a_proxy_may_have_more_connections_than_an_address(app: FastAPI) -> None:
    with doored(app, head_s=PATIENCE_S, proxies=parse_networks(["127.0.0.1"])) as (port, counter), ExitStack() as stack:
        for _ in range(QUICK.per_address + 4):
            stack.enter_context(connect(port)).sendall(b"GET ")
        until(lambda: len(counter) == QUICK.per_address + 4)


@pytest.mark.parametrize(("proxies", "expected"), [((), "127.0.0.1"), (("127.0.0.0/8",), "203.0.113.9")])
def test_only_a_trusted_proxy_says_who_is_asking(app: FastAPI, proxies: tuple[str, ...], expected: str) -> None:
    with serve(app, proxies=parse_networks(proxies)) as port:
        address = f"http://127.0.0.1:{port}"
        headers = {"x-forwarded-for": "198.51.100.1, 203.0.113.9", "origin": address}
        with httpx.Client(base_url=address, headers=headers) as client:
            csrf = client.get("/login").text.split('name="csrf" content="')[1].split('"')[0]
            assert client.post("/login", data={"name": "x", "password": "y", "csrf": csrf}).status_code == 401
    with app.state.components.ledger_pool.reading() as ledger:
        assert [row.record.details["address"] for row in ledger.actions()] == [expected]


def test_behind_a_tls_proxy_the_origin_is_the_one_that_browsers_see(app: FastAPI) -> None:
    with serve(app, proxies=parse_networks(["127.0.0.1"])) as port:
        headers = {"x-forwarded-proto": "https", "origin": f"https://127.0.0.1:{port}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            csrf = client.get("/login").text.split('name="csrf" content="')[1].split('"')[0]
            answer = client.post("/login", data={"name": "operator", "password": PASSWORD, "csrf": csrf})
            assert answer.status_code == 303


def test_an_address_of_a_proxy_that_is_none_is_refused(tmp_path: Path) -> None:
    command = ["serve", str(tmp_path / "plant"), "--proxy", "10.0.0.0/8", "--proxy", "proxy.example"]
    with pytest.raises(InputError, match=r"'proxy\.example': expected an address or a network"):
        CliRunner().invoke(command_line, command, catch_exceptions=False, standalone_mode=False)


@pytest.mark.slow
def test_a_person_has_at_most_four_live_pages_and_others_have_theirs(app: FastAPI) -> None:
    add_person(app, "anna", Role.OPERATOR)
    feed, sessions = app.state.components.feed, app.state.components.accounts.sessions
    users = {user.name: user.id for user in app.state.components.accounts.people.all()}
    with running(app) as address, ExitStack() as stack:
        cookies = {name: {"gonogo": sessions.begin(users[name])} for name in ("operator", "anna")}

        def opened(name: str) -> httpx.Response:
            stream = httpx.stream("GET", f"{address}/station/events", cookies=cookies[name], timeout=PATIENCE_S)
            return stack.enter_context(stream)

        statuses = [opened("operator").status_code for _ in range(MAX_PER_PERSON + 2)]
        assert statuses == [200] * MAX_PER_PERSON + [503] * 2
        assert opened("operator").headers["retry-after"] == "30"
        assert [opened("anna").status_code for _ in range(MAX_PER_PERSON)] == [200] * MAX_PER_PERSON
        stack.close()
        until(lambda: feed.watchers == 0)
        assert opened("operator").status_code == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    folder = tmp_path_factory.mktemp("tls")
    paths = folder / "c.pem", folder / "k.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = [openssl, "req", "-x509", *made, *subject, "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


def test_half_open_handshakes_end_and_https_is_answered(app: FastAPI, certificate: tuple[Path, Path]) -> None:
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    with doored(app, tls=tls_context(*certificate), head_s=4.0) as (port, counter), ExitStack() as stack:
        silent = [stack.enter_context(connect(port)) for _ in range(QUICK.per_address + 4)]
        for connection in silent:
            connection.sendall(b"\x16\x03\x01")
        with httpx.Client(base_url=f"https://localhost:{port}", verify=trust) as client:
            assert client.get("/health").text == "ok\n"
            assert client.get("/").status_code == 303, "again on the same connection"
        until(lambda: len(counter) == 0)
        with trust.wrap_socket(connect(port), server_hostname="localhost") as secure:
            secure.sendall(HEAD)
            assert said(secure) == b"", "half a head within TLS"
        with connect(port) as plain:
            plain.sendall(HEAD + b"\r\n")
            assert b"200" not in until_closed(plain)


def test_a_wrong_key_over_https_is_refused_and_no_key_is_logged(
    app: FastAPI,
    certificate: tuple[Path, Path],
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    right = str(app.state.components.accounts.sessions.issue("press", Role.OPERATOR, days=1, created_by="test")[1])
    wrong = f"{right[:-4]}aaaa"
    trust = ssl.create_default_context(cafile=str(certificate[0]))
    with doored(app, tls=tls_context(*certificate)) as (port, _):
        address = f"https://localhost:{port}"
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):  # a client that trusts nobody
            httpx.get(f"{address}/api/inspectors", headers={"authorization": f"Bearer {right}"})
        with httpx.Client(base_url=address, verify=trust) as client:
            for key, status in ((wrong, 401), (right, 200), ("none", 401)):
                answer = client.get("/api/inspectors", headers={"authorization": f"Bearer {key}"})
                assert answer.status_code == status
                assert right not in answer.text
                assert wrong not in answer.text
    said = capfd.readouterr()
    for text in (caplog.text, said.out, said.err):
        assert right not in text
        assert wrong not in text


def test_a_certificate_without_its_key_is_refused(certificate: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="private key in PEM"):
        tls_context(certificate[0], certificate[0])
