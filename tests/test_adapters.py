"""Adapters: one shape, answers that become faults at their deadline, and a thread that starts them again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gonogo.errors import InputError
from gonogo.line import Adapter, Answer, Cause, Link, TimelyAnswer, open_adapter
from gonogo.line.plc_settings import TcpServer
from gonogo.schema import State
from gonogo.station import Supervisor, parse_settings
from gonogo.testing.line import FakeStation
from gonogo.testing.station import PATIENCE_S, patiently, settings_for, station_bench

GO = Answer(trigger_id="1", state=State.GO, reason="below 1", row=7)


def test_an_answer_is_a_fault_for_ever_after_its_deadline() -> None:
    now = [0.0]
    answer = TimelyAnswer(GO, due_s=1.0, clock=lambda: now[0])
    assert answer.take().state is State.GO
    now[0] = 1.1
    assert answer.take().cause is Cause.LATE
    now[0] = 0.0
    assert answer.take().state is State.FAULT


def test_an_answer_of_a_lost_connection_is_a_fault() -> None:
    answer = TimelyAnswer(GO, due_s=1e12)
    answer.expire("the connection is lost")
    assert answer.take().reason == "the connection is lost"


def test_a_silent_supervisor_is_a_fault() -> None:
    station = FakeStation(answer=None)
    link = Link(station, name="x", kind="tcp", window_s=0.05)
    assert asyncio.run(link.judge("1")).take().cause is Cause.PROCESS


def test_an_adapter_that_fails_is_started_again() -> None:
    served = threading.Semaphore(0)

    async def serve(link: Link) -> None:
        served.release()
        raise OSError("cut")

    adapter = Adapter(serve, Link(FakeStation(), name="x", kind="tcp", window_s=1.0), pauses_s=(0.001, 0.002)).start()
    for _ in range(3):
        assert served.acquire(timeout=60)
    adapter.stop()
    assert "cut" in adapter.link.snapshot().trouble


def test_every_answer_reaches_the_listeners_and_the_oldest_is_dropped() -> None:
    link = Link(FakeStation(), name="x", kind="tcp", window_s=1.0)
    with link.answers() as queue:
        for _ in range(queue.maxsize + 1):
            link.publish(GO)
        assert queue.qsize() == queue.maxsize
    link.publish(GO)


@contextmanager
def tcp(folder: Path, station: FakeStation, *, token: str | None = None) -> Iterator[tuple[Adapter, socket.socket]]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if token is not None:
        (folder / "token").write_text(token)
    settings = TcpServer(
        kind="tcp",
        port=port,
        token_file=None if token is None else folder / "token",
        allow_without_token=token is None,
    )
    adapter = open_adapter(settings, station, window_s=5.0).start()
    try:
        patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
            yield adapter, client
    finally:
        adapter.stop()


def test_a_line_is_answered_by_a_line(tmp_path: Path) -> None:
    with tcp(tmp_path, FakeStation()) as (adapter, client):
        client.sendall(b'{"id": "7", "part": "A", "product": "left"}\n')
        found = json.loads(client.makefile().readline())
    assert (found["trigger_id"], found["part"], found["state"]) == ("7", "A", "go")
    assert adapter.link.snapshot().delivered == 1


@pytest.mark.parametrize("line", [b"{}\n", b'{"id": 1}\n', b'{"id": "a", "x": "b"}\n'])
def test_a_line_that_is_no_trigger_is_refused_and_the_next_one_answered(tmp_path: Path, line: bytes) -> None:
    with tcp(tmp_path, FakeStation()) as (_, client):
        client.sendall(line + b"8\n")
        stream = client.makefile()
        assert "refused" in json.loads(stream.readline())
        assert json.loads(stream.readline())["trigger_id"] == "8"


@pytest.mark.parametrize("sent", [b"8\n", b"secret2\n8\n", b"x" * 10_000])
def test_without_the_token_nothing_is_triggered(tmp_path: Path, sent: bytes) -> None:
    station = FakeStation()
    with tcp(tmp_path, station, token="secret") as (_, client):
        client.sendall(sent)
        with contextlib.suppress(ConnectionResetError):
            assert client.makefile().readline() == ""
    assert not station.triggers


def settings_text(adapters: str, *, trigger: str = "", answer: str = "") -> str:
    return f"""
station = "line1"
bundle = "b"
ledger = "l.ledger"
state_dir = "state"
{trigger}
{answer}
[[cameras]]
camera = {{ kind = "fake", pictures = "none" }}
{adapters}
"""


TCP = '[[adapters]]\nkind = "tcp"\nport = 4711\nallow_without_token = true\n'


def test_adapters_are_enough() -> None:
    found = parse_settings(settings_text(TCP))
    assert found.adapters[0].name == "tcp"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (settings_text(""), "neither"),
        (settings_text(TCP + TCP), "different name"),
        (settings_text(TCP, trigger='trigger = { kind = "timer", every_s = 1.0 }'), "answer"),
        (settings_text('[[adapters]]\nkind = "tcp"\nport = 4711\n'), "token"),
        (settings_text('[[adapters]]\nkind = "telepathy"\n'), "telepathy"),
    ],
)
def test_settings_without_a_way_to_trigger_or_answer_are_refused(text: str, why: str) -> None:
    with pytest.raises(InputError, match=why):
        parse_settings(text)


def test_a_verdict_that_came_too_late_for_the_line_stays_a_fault_for_ever(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, window_s=5.0, stall_s=10.0)
    with station_bench(settings) as bench:
        bench.ready()
        bench.plc.fire(bench.supervisor.submit, "p1")
        assert bench.plc.wait("p1", timeout_s=PATIENCE_S).state is State.GO
        bench.supervisor.expired("p1", "the client has closed the connection")
        bench.plc.fire(bench.supervisor.submit, "p1")
        assert bench.plc.wait("p1", answers=2, timeout_s=PATIENCE_S).cause is Cause.LATE
        bench.settled()
    with station_bench(settings) as restarted:  # the ledger remembers
        restarted.ready()
        restarted.plc.fire(restarted.supervisor.submit, "p1")
        assert restarted.plc.wait("p1", timeout_s=PATIENCE_S).state is State.FAULT


def test_the_line_selects_a_product_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    settings_for(tmp_path)
    text = (tmp_path / "station.toml").read_text()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "SHA256SUMS").write_text("other\n")
    two = text.replace('bundle = "bundle"', "").replace(
        "[[cameras]]", '[products]\nleft = "bundle"\nright = "other"\n[[cameras]]', 1
    )
    supervisor = Supervisor(parse_settings(two, folder=tmp_path), ["none"], lambda _: None)
    supervisor.select("right", who="tcp tcp")
    with pytest.raises(ValueError, match="left, right"):
        supervisor.select("middle", who="tcp tcp")
    assert supervisor.line_state().products == ("left", "right")
