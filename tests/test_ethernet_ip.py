"""EtherNet/IP: a controller in memory is the PLC, and cpppo's simulator where it is installed."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from gonogo.line import Adapter, open_adapter
from gonogo.line.plc_image import ResultCode
from gonogo.line.plc_settings import EtherNetIp
from gonogo.testing.ethernet_ip import CONTROL, STATUS, FakeController, LogixPlc
from gonogo.testing.line import FakeStation
from gonogo.testing.plc_program import PlcProgram
from gonogo.testing.station import patiently

CPPPO = Path(os.environ.get("GONOGO_CPPPO", Path(__file__).parents[1] / "build/cpppo/bin/python"))


@pytest.fixture
def controller(monkeypatch: pytest.MonkeyPatch) -> FakeController:
    made = FakeController(program=PlcProgram(timeout_s=60.0))
    monkeypatch.setattr("gonogo.line.ethernet_ip.LogixDriver", made)
    return made


def started(station: FakeStation, path: str = "192.168.0.10/0", **given: object) -> Adapter:
    settings = EtherNetIp.model_validate({"kind": "ethernet_ip", "path": path, "poll_s": 0.002, **given})
    return open_adapter(settings, station, window_s=20.0).start()


def test_parts_are_judged(controller: FakeController) -> None:
    station = FakeStation()
    adapter = started(station)
    try:
        taken = [controller.ask(f"part-{number}") for number in range(3)]
        patiently(lambda: adapter.link.snapshot().delivered == 3, "not delivered")
    finally:
        adapter.stop()
    assert [(each.part, each.verdict, each.score) for each in taken] == [
        (f"part-{number}", ResultCode.GO, -1.5) for number in range(3)
    ]
    assert [each["part"] for _, each in station.triggers] == ["part-0", "part-1", "part-2"]
    assert len({trigger_id for trigger_id, _ in station.triggers}) == 3


def test_safe_outputs_are_written_first_and_values_before_the_bits(controller: FakeController) -> None:
    controller.tags[STATUS] = [-1] * 28
    adapter = started(FakeStation())
    try:
        assert controller.ask("A").verdict is ResultCode.GO
    finally:
        adapter.stop()
    assert controller.writes[:2] == [(f"{STATUS}[2]{{26}}", [0] * 26), (f"{STATUS}[0]{{2}}", [0, 0])]
    assert [tag for tag, _ in controller.writes] == [f"{STATUS}[2]{{26}}", f"{STATUS}[0]{{2}}"] * (
        len(controller.writes) // 2
    )


def test_a_lost_plc_is_noticed_and_comes_back(controller: FakeController) -> None:
    station = FakeStation()
    adapter = started(station)
    try:
        assert controller.ask("A").verdict is ResultCode.GO
        controller.off = True
        patiently(lambda: "no route to host" in adapter.link.snapshot().trouble, "no trouble")
        before = len(controller.writes)
        controller.off = False
        assert controller.ask("B").verdict is ResultCode.GO
        assert controller.writes[before : before + 2] == [
            (f"{STATUS}[2]{{26}}", [0] * 26),
            (f"{STATUS}[0]{{2}}", [0, 0]),
        ]
    finally:
        adapter.stop()
    assert len(station.triggers) == 2


@pytest.mark.parametrize("tag", [CONTROL, STATUS])
def test_an_array_that_is_missing_is_named(controller: FakeController, tag: str) -> None:
    del controller.tags[tag]
    adapter = started(FakeStation())
    try:
        patiently(lambda: f"expected {tag}, an INT array of" in adapter.link.snapshot().trouble, "no trouble")
    finally:
        adapter.stop()


def test_a_plc_that_hangs_does_not_hold_up_the_end(controller: FakeController, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs, free = threading.Event(), threading.Event()

    def hang(*_: object) -> None:
        hangs.set()
        free.wait()

    monkeypatch.setattr(controller, "read", hang)
    adapter = started(FakeStation(), timeout_s=60.0)
    try:
        assert hangs.wait(60.0)
        adapter.stop()  # comes back although the call does not
        assert not free.is_set()
    finally:
        free.set()


def test_a_plc_that_does_not_answer_is_reported() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never answers
        adapter = started(FakeStation(), f"127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.05)
        try:
            patiently(lambda: "Is it the path of the controller" in adapter.link.snapshot().trouble, "no trouble")
        finally:
            adapter.stop()


@pytest.mark.parametrize(
    "given", [{"path": ""}, {"control_tag": "a b"}, {"control_tag": "X", "status_tag": "x"}, {"status_tag": "A[3]"}]
)
def test_wrong_settings_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        EtherNetIp.model_validate({"kind": "ethernet_ip", "path": "192.168.0.10", **given})


@pytest.fixture
def simulator() -> Iterator[str]:
    if not CPPPO.exists():
        pytest.skip(f"needs cpppo in an environment of its own at {CPPPO} (make check-ethernet-ip) or GONOGO_CPPPO")
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    tags = ("Gonogo_Control=INT[19]", "Gonogo_Status=INT[28]")
    process = subprocess.Popen(
        [str(CPPPO), "-m", "cpppo.server.enip", "--address", address, *tags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.kill()
        process.wait()


def test_parts_are_judged_through_a_simulated_controller(simulator: str) -> None:
    station = FakeStation()
    adapter = started(station, simulator, timeout_s=20.0, part_is_id=True)
    plc = LogixPlc(simulator, program=PlcProgram(timeout_s=60.0), timeout_s=20.0)
    try:
        patiently(lambda: adapter.link.snapshot().connected, "the adapter does not connect")
        taken = [plc.ask(f"part-{number}") for number in range(3)]
    finally:
        adapter.stop()
        plc.close()
    assert [(each.part, each.verdict, each.score) for each in taken] == [
        (f"part-{number}", ResultCode.GO, -1.5) for number in range(3)
    ]
    assert [trigger_id for trigger_id, _ in station.triggers] == ["part-0", "part-1", "part-2"]
