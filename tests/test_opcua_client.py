"""The OPC UA client: a PLC's tags, the handshake state by state, and what happens when the PLC has gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytest.importorskip("asyncua")

from gonogo.line import Adapter, open_adapter
from gonogo.line.opcua.settings import OpcuaClient, Tags
from gonogo.line.state import Health
from gonogo.testing.line import FakeStation, go
from gonogo.testing.opcua import TAGS, FakeOpcuaPlc
from gonogo.testing.station import patiently
from test_opcua import free_port

WINDOW_S, HOLD_S = 1.0, 0.4


@dataclass
class Line:
    """A PLC and the station that serves it."""

    plc: FakeOpcuaPlc
    station: FakeStation
    adapter: Adapter


@pytest.fixture(scope="module")
def line() -> Iterator[Line]:
    plc, station = FakeOpcuaPlc(free_port()), FakeStation(products=("left", "right"))
    plc.start()
    plc.write("valid", True)
    plc.write("verdict", 1)
    settings = OpcuaClient(
        kind="opcua_client",
        url=plc.url,
        tags=Tags(**{name: f"ns=2;s={name}" for name in TAGS}),
        poll_s=0.01,
        hold_s=HOLD_S,
        allow_without_security=True,
    )
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    patiently(lambda: adapter.link.snapshot().connected, "the PLC is not reached")
    plc.wait("ready", True)
    yield Line(plc, station, adapter)
    adapter.stop()
    plc.stop()


@pytest.fixture
def fresh(line: Line) -> Line:
    line.station._answer, line.station._delay_s = go, 0.0
    line.station.health = Health.RUNNING
    line.plc.wait("busy", False)
    line.plc.wait("verdict", 0)
    line.plc.writes.clear()
    line.station.lost.clear()
    line.station.late.clear()
    return line


@pytest.mark.slow
def test_an_old_verdict_is_taken_back_before_anything_else(line: Line) -> None:
    # The fixture left valid and a go on the tags, as a station that died would.
    assert line.plc.read("valid") is False
    assert line.plc.read("verdict") == 0


def test_a_trigger_is_answered_and_valid_is_written_last(fresh: Line) -> None:
    assert fresh.plc.ask("c1", part="p1", product="left") == (1, "c1")
    fresh.plc.wait("verdict", 0)
    names = [name for name, _ in fresh.plc.writes]
    assert fresh.plc.writes.index(("valid", True)) > max(names.index("verdict"), names.index("result_id"))
    after = fresh.plc.writes[fresh.plc.writes.index(("valid", True)) :]
    assert after.index(("valid", False)) < after.index(("verdict", 0))
    assert fresh.station.triggers[-1] == ("c1", {"part": "p1", "lot": None, "product": "left", "count": None})


def test_a_late_verdict_is_a_fault(fresh: Line) -> None:
    fresh.station._delay_s = WINDOW_S + 0.1
    assert fresh.plc.ask("c2") == (4, "c2")


def test_an_answer_that_nobody_acknowledges_is_taken_back_and_a_fault_for_ever(fresh: Line) -> None:
    fresh.plc.write("id", "c3")
    fresh.plc.write("trigger", True)
    fresh.plc.wait("valid", True)
    fresh.plc.wait("valid", False)
    fresh.plc.write("trigger", False)
    patiently(lambda: bool(fresh.station.late), "the answer is not reported")
    time.sleep(0.1)  # the fall of the trigger is seen
    assert fresh.station.late[0][0] == "c3"


def test_a_trigger_that_the_plc_takes_back_gets_no_answer(fresh: Line) -> None:
    fresh.station._delay_s = 0.3
    fresh.plc.write("id", "c4")
    fresh.plc.write("trigger", True)
    fresh.plc.wait("busy", True)
    fresh.plc.write("trigger", False)
    patiently(lambda: bool(fresh.station.late), "the answer is not reported")
    fresh.plc.wait("busy", False)
    assert ("valid", True) not in fresh.plc.writes


@pytest.mark.slow
def test_a_trigger_with_a_name_that_is_not_allowed_is_a_fault(fresh: Line) -> None:
    refused = fresh.adapter.link.snapshot().refused
    assert fresh.plc.ask("a\nb")[0] == 4
    assert fresh.adapter.link.snapshot().refused > refused


@pytest.mark.slow
def test_ready_follows_the_station(fresh: Line) -> None:
    fresh.station.health = Health.DOWN
    fresh.plc.wait("ready", False)
    fresh.station.health = Health.RUNNING
    fresh.plc.wait("ready", True)


@pytest.mark.slow
def test_the_heartbeat_counts(fresh: Line) -> None:
    before, until_s = fresh.plc.read("heartbeat"), time.monotonic() + 30
    while fresh.plc.read("heartbeat") == before:
        assert time.monotonic() < until_s
        time.sleep(0.05)
