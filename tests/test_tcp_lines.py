"""Plain text lines over TCP: requests, formats, line ends, the heartbeat, and the station as a client."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import Any

import pytest

from gonogo.line import Adapter, Answer, Cause, open_adapter
from gonogo.line.plc_settings import TcpClient, TcpServer
from gonogo.schema import State
from gonogo.testing.line import FakeStation, go
from gonogo.testing.station import patiently


@contextmanager
def talking(station: FakeStation, **given: Any) -> Iterator[tuple[Adapter, TextIOWrapper]]:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = TcpServer(kind="tcp", port=port, allow_without_token=True, **given)
    adapter = open_adapter(settings, station, window_s=5.0).start()
    try:
        patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as peer:
            yield adapter, peer.makefile("rw", newline="")
    finally:
        adapter.stop()


def say(stream: TextIOWrapper, text: str) -> None:
    stream.write(text)
    stream.flush()


def late(trigger_id: str) -> Answer:
    return go(trigger_id).as_fault(Cause.LATE, "no verdict within 1 s")


def no_go(trigger_id: str) -> Answer:
    return Answer(trigger_id=trigger_id, state=State.NO_GO, reason="above", score=2.34567, row=2)


@pytest.mark.parametrize(
    ("answer", "line"), [(go, "7;go;-1.5\n"), (no_go, "7;no_go;2.346\n"), (late, "7;fault;late\n")]
)
def test_a_short_answer_has_three_fields(answer: Any, line: str) -> None:
    with talking(FakeStation(answer=answer), answers="short") as (_, stream):
        say(stream, "7\n")
        assert stream.readline() == line


def test_the_state_is_told_on_request() -> None:
    station = FakeStation(products=("chip", "pill"))
    with talking(station) as (_, stream):
        say(stream, "status\n")
        found = json.loads(stream.readline())
        assert (found["ready"], found["product"], found["products"]) == (True, "chip", ["chip", "pill"])
        station.faulting = "no disk"
        say(stream, "status\n")
        assert json.loads(stream.readline())["why_not_ready"] == "no disk"
    with talking(station, answers="short") as (_, stream):
        say(stream, "status\n")
        assert stream.readline() == "status;not ready;chip\n"


def test_a_product_is_selected_or_refused() -> None:
    station = FakeStation(products=("chip", "pill"))
    with talking(station, answers="short") as (adapter, stream):
        say(stream, "product pill\nproduct none\n")
        assert stream.readline() == "product;pill\n"
        assert stream.readline().startswith("refused;expected a product")
        assert adapter.link.snapshot().refused == 1
    assert station.selected == [("pill", "tcp tcp")]
    assert not station.triggers


@pytest.mark.parametrize(("terminator", "end"), [("lf", "\n"), ("crlf", "\r\n"), ("cr", "\r")])
def test_lines_end_as_the_plc_ends_them(terminator: str, end: str) -> None:
    with talking(FakeStation(), answers="short", terminator=terminator) as (_, stream):
        say(stream, f"7{end}")
        expected = f"7;go;-1.5{end}".encode()
        assert stream.buffer.read(len(expected)) == expected


def test_the_heartbeat_counts() -> None:
    with talking(FakeStation(), answers="short", heartbeat_s=0.001) as (_, stream):
        assert [stream.readline() for _ in range(2)] == ["heartbeat;1\n", "heartbeat;2\n"]


def test_the_station_connects_to_a_plc_that_listens_and_comes_back(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("secret\n")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        settings = TcpClient(kind="tcp_client", host="127.0.0.1", port=port, token_file=tmp_path / "token")
        adapter = open_adapter(settings, FakeStation(), window_s=5.0).start()
        try:
            for trigger_id in ("1", "2"):
                peer, _ = server.accept()
                with peer:
                    peer.settimeout(60)
                    stream = peer.makefile("rw", newline="")
                    assert stream.readline() == "secret\n"
                    say(stream, f"{trigger_id}\n")
                    assert json.loads(stream.readline())["state"] == "go"
                    stream.close()
        finally:
            adapter.stop()


def test_a_plc_that_does_not_listen_is_reported() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        settings = TcpClient(kind="tcp_client", host="127.0.0.1", port=free.getsockname()[1])
    adapter = open_adapter(settings, FakeStation(), window_s=5.0).start()
    try:
        patiently(lambda: "cannot be reached" in adapter.link.snapshot().trouble, "no trouble")
    finally:
        adapter.stop()
