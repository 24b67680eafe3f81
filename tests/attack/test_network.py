"""Login storms and connection storms against a server process of its own, and every odd request to every route."""

from __future__ import annotations

import math
import queue
import random
import re
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

import test_server_fuzz as fuzz
from gonogo.capture.bounded_server import BoundedServer
from gonogo.server import Workspace
from gonogo.server.access import AccessKind, Role
from gonogo.server.auth.throttle import ACCOUNT_FREE, FIRST_BLOCK_S
from gonogo.server.station.feed import MAX_PER_PERSON
from server_kit import PASSWORD, Browser, add_person, fill, make_app
from test_bounded_server import Handler

pytestmark = pytest.mark.attack

Attempts = Callable[[int], int]
Record = Callable[..., None]
PATIENCE_S = 120.0
FULL_WIDTH = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
HEAD = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def serving(root: Path, *options: str) -> Iterator[int]:
    """`gonogo serve` as a plant starts it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    command = [sys.executable, "-m", "gonogo", "serve", str(root), "--port", str(port), *options]
    with (root.parent / "log.txt").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until(lambda: is_healthy(port))
            yield port
        finally:
            process.terminate()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A workspace with a person of each role; hashing costs what it costs in a plant."""
    from gonogo.server import Options, create_app

    root = tmp_path / "plant"
    app = create_app(Workspace.open(root), options=Options())
    for name in ("operator", "reviewer"):
        add_person(app, name, Role(name))
    app.state.components.close()
    return root


def until(condition: Callable[[], bool]) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() < began + PATIENCE_S, "waited in vain"
        time.sleep(0.02)


def is_healthy(port: int, source: str = "127.0.0.1") -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0)) as connection:
            connection.sendall(HEAD + b"Connection: close\r\n\r\n")
            return connection.recv(65536).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def log_in(client: httpx.Client, name: str, password: str) -> int:
    """Send the form; returns the status."""
    csrf = re.search(r'name="csrf" content="([0-9a-f]+)"', client.get("/login").text)
    assert csrf is not None
    return client.post("/login", data={"name": name, "password": password, "csrf": csrf[1]}).status_code


def new_client(port: int, source: str, **more: str) -> httpx.Client:
    address = f"http://127.0.0.1:{port}"
    transport = httpx.HTTPTransport(local_address=source, verify=False)  # nothing here is https
    headers = {"origin": address, **more}
    return httpx.Client(base_url=address, headers=headers, transport=transport, timeout=PATIENCE_S)


def latencies_s(client: httpx.Client, count: int) -> list[float]:
    """How long pages take, one after the other."""
    taken = []
    for _ in range(count):
        began = time.perf_counter()
        assert client.get("/password").status_code == 200
        taken.append(time.perf_counter() - began)
        time.sleep(0.02)
    return taken


def spelling(name: str, rng: random.Random) -> str:
    """The name with some characters in full width, some in capitals, and spaces around it."""
    wide = "".join(sign.translate(FULL_WIDTH) if rng.random() < 0.5 else sign for sign in name)
    return " " * rng.randrange(3) + "".join(s.upper() if rng.random() < 0.5 else s for s in wide)


def test_login_storm(root: Path, attempts: Attempts, record: Record) -> None:
    """Simultaneous guesses of one password over spellings and addresses, then over many names to keep hashing busy."""
    rng = random.Random(16)
    guesses, results = attempts(2000), queue.SimpleQueue[tuple[str, int]]()
    work: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    for number in range(guesses):
        address = f"127.{rng.randrange(1, 250)}.{rng.randrange(250)}.{rng.randrange(2, 250)}"
        one_account = number % 2 == 0
        work.put((address, spelling("operator", rng) if one_account else f"name{number}"))

    def guess(port: int) -> None:
        while True:
            try:
                address, name = work.get_nowait()
            except queue.Empty:
                return
            kind = "many" if name.startswith("name") else "one"
            with new_client(port, address) as client:
                results.put((kind, log_in(client, name, "guess")))

    with serving(root) as port, new_client(port, "127.0.0.1") as owner, new_client(port, "127.0.0.1") as reader:
        assert log_in(owner, "operator", PASSWORD) == 303
        assert log_in(reader, "reviewer", PASSWORD) == 303
        quiet = latencies_s(reader, 30)
        threads = [threading.Thread(target=guess, args=(port,), daemon=True) for _ in range(44)]
        for thread in threads:
            thread.start()
        stormy, began = [], time.monotonic()
        while any(thread.is_alive() for thread in threads):
            stormy += latencies_s(reader, 5)
        lasted_s = time.monotonic() - began
        device = owner.cookies["gonogo-device"]
        with new_client(port, "127.9.9.9") as again:
            again.cookies.set("gonogo-device", device)
            owner_status = log_in(again, "operator", PASSWORD)
    statuses: dict[str, list[int]] = {"one": [], "many": []}
    while not results.empty():
        kind, status = results.get()
        statuses[kind].append(status)
    evaluated = statuses["one"].count(401)
    worst_s, quiet_s = max(stormy), statistics.median(quiet)
    record(
        "login_storm",
        guesses=guesses,
        seconds=round(lasted_s),
        of_one_account=len(statuses["one"]),
        evaluated_of_one_account=evaluated,
        evaluated_of_other_names=statuses["many"].count(401),
        told_to_wait=statuses["one"].count(429),
        told_busy=statuses["one"].count(503) + statuses["many"].count(503),
        page_quiet_ms=round(1000 * quiet_s, 1),
        page_median_ms=round(1000 * statistics.median(stormy), 1),
        page_median_ratio=round(statistics.median(stormy) / quiet_s, 1),
        page_worst_ms=round(1000 * worst_s),
        owner_let_in=int(owner_status == 303),
    )
    after_waits = math.floor(math.log2(1 + lasted_s / FIRST_BLOCK_S))
    assert evaluated <= ACCOUNT_FREE + after_waits
    assert set(statuses["one"]) | set(statuses["many"]) <= {401, 429, 503}
    assert owner_status == 303
    assert worst_s < 12.0, "what it was when guesses took the pages' threads"


def slow_heads(connections: list[socket.socket], stop: threading.Event) -> None:
    while not stop.wait(1.0):
        for connection in connections:
            try:
                connection.send(b"X")
            except OSError:
                continue


def standing(connections: list[socket.socket]) -> int:
    """How many the server has not closed."""
    count = 0
    for connection in connections:
        connection.setblocking(False)
        try:
            while connection.recv(65536):
                pass
        except BlockingIOError:
            count += 1
        except OSError:
            pass
    return count


def test_connection_storm(root: Path, attempts: Attempts, record: Record) -> None:
    """Half-open, trickling and idle connections from many addresses, and one person's live pages."""
    each = max(40, attempts(200))
    with serving(root) as port, ExitStack() as stack:
        groups: dict[str, list[socket.socket]] = {"half_open": [], "slow_head": [], "idle": [], "slow_body": []}
        starts = {
            "half_open": b"",
            "slow_head": HEAD,
            "idle": HEAD + b"\r\n",
            "slow_body": b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60000\r\n\r\n",
        }
        answered = 0
        for number in range(each):
            for name, group in groups.items():
                source = f"127.2.{number % 7}.1"
                try:
                    connection = stack.enter_context(
                        socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
                    )
                    connection.sendall(starts[name])
                except OSError:
                    continue
                group.append(connection)
            if number % 20 == 0:
                answered += is_healthy(port)
        asked = len(range(0, each, 20))
        stop = threading.Event()
        trickle = threading.Thread(
            target=slow_heads, args=(groups["slow_head"] + groups["slow_body"], stop), daemon=True
        )
        trickle.start()
        began = time.monotonic()
        while time.monotonic() < began + 45:
            answered += is_healthy(port)
            asked += 1
            if not any(standing(group) for group in groups.values()):
                break
            time.sleep(1)
        seconds = time.monotonic() - began
        stop.set()
        trickle.join()
        left = {f"{name}_left": standing(group) for name, group in groups.items()}
        with new_client(port, "127.0.0.1") as client:
            assert log_in(client, "operator", PASSWORD) == 303
            streams = [stack.enter_context(client.stream("GET", "/station/events")) for _ in range(3 * MAX_PER_PERSON)]
            live = [stream.status_code for stream in streams]
    opened = sum(map(len, groups.values()))
    record(
        "connection_storm",
        opened=opened,
        **left,
        seconds_until_none=round(seconds, 1),
        legitimate_asked=asked,
        legitimate_answered=answered,
        live_pages_asked=len(live),
        live_pages_given=live.count(200),
        live_pages_refused=live.count(503),
    )
    assert not any(left.values())
    assert answered == asked
    assert live.count(200) == MAX_PER_PERSON


def test_station_connection_storm(attempts: Attempts, record: Record) -> None:
    """The same against the small server of stations and push cameras, with its own limits."""
    server = BoundedServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port, opened = server.server_address[1], max(100, attempts(1000))
    try:
        with ExitStack() as stack:
            connections, answered = [], 0
            for number in range(opened):
                source = f"127.3.{number % 20}.1"
                connection = socket.create_connection(("127.0.0.1", port), 10, source_address=(source, 0))
                connections.append(stack.enter_context(connection))
                connection.sendall((b"", b"G", HEAD)[number % 3])
                if number % 20 == 0:
                    answered += is_healthy(int(port))
            most, began = server.connections, time.monotonic()
            until(lambda: standing(connections) == 0)
            seconds = time.monotonic() - began
            answered += is_healthy(int(port))
    finally:
        server.shutdown()
        server.server_close()
    asked = len(range(0, opened, 20)) + 1
    record(
        "station_connection_storm",
        opened=opened,
        standing_at_once=most,
        seconds_until_none=round(seconds, 1),
        legitimate_asked=asked,
        legitimate_answered=answered,
    )
    assert most <= server.limits.total
    assert answered == asked


def test_odd_requests(tmp_path: Path, attempts: Attempts, record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every odd number, path, query and body to every route, each with a role that may and one that may not."""
    monkeypatch.setattr(fuzz, "SENT", attempts(10_000) if attempts(100) == 100 else 3)
    space = tmp_path / "plant"
    fill(Workspace.open(space))
    app: FastAPI = make_app(space)
    rng, sent, statuses = random.Random(19), 0, dict.fromkeys(range(1, 6), 0)
    components = app.state.components
    users = {user.role: user.id for user in components.accounts.people.all()}
    for route in fuzz.routes(tuple(AccessKind)):
        if route.path in fuzz.UNDONE_BY:
            continue
        fields = fuzz.names_in(route, body=True)
        requests: list[tuple[str, bytes | None]] = [(path, None) for path in fuzz.paths(route, rng)]
        if route.kind is AccessKind.CALL:
            requests += [(route.example_path, body) for body in fuzz.bodies(fields, rng)]
        for path, body in requests:
            role = rng.choice([*sorted(route.roles or set(Role)), *Role])
            browser = Browser(app)
            secret = components.accounts.sessions.begin(users[role])
            browser.set_cookie(secret)
            headers = {"origin": "http://testserver", "x-csrf-token": components.accounts.sessions.csrf(secret)}
            if body is not None:
                headers["content-type"] = "application/json"
            answer = browser.client.request(route.method, path, headers=headers, content=body)
            sent += 1
            statuses[answer.status_code // 100] += 1
    record(
        "odd_requests", routes=len(fuzz.routes(tuple(AccessKind))), sent=sent, refused=statuses[4], crashed=statuses[5]
    )
    assert statuses[5] == 0
