"""The OPC UA server: jobs, results and products, through a real client."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from typing import Any

import pytest

pytest.importorskip("asyncua")

from asyncua import ua

from gonogo.line import Adapter, Answer, Cause, open_adapter
from gonogo.line.opcua.results import ABORTED, COMPLETED, FAILED
from gonogo.line.opcua.settings import OpcuaServer
from gonogo.line.state import Health
from gonogo.schema import State
from gonogo.testing.line import FakeStation, go
from gonogo.testing.opcua import FakeVisionClient
from gonogo.testing.station import patiently

WINDOW_S = 1.0
AUTOMATIC = ("VisionStateMachine", "AutomaticModeStateMachine")
ANY_ID = ua.Variant(None, ua.VariantType.ExtensionObject)
ZERO = ua.Variant(0, ua.VariantType.UInt32)


def free_port() -> int:
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@dataclass
class Served:
    """A server with its station, shared by the tests of this module."""

    station: FakeStation
    adapter: Adapter
    url: str

    def answers(self, answer: Callable[[str], Answer] | None, delay_s: float = 0.0) -> None:
        self.station._answer, self.station._delay_s = answer, delay_s

    def run(self, work: Callable[[FakeVisionClient], Awaitable[None]]) -> None:
        async def connected() -> None:
            async with FakeVisionClient(self.url) as client:
                await eventually(client, "Ready")
                await work(client)

        asyncio.run(connected())


async def eventually(client: FakeVisionClient, state: str) -> None:
    for _ in range(600):
        if await client.state() == state:
            return
        await asyncio.sleep(0.02)
    raise TimeoutError(f"expected state {state}, found {await client.state()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    station, port = FakeStation(products=("left", "right")), free_port()
    pki = tmp_path_factory.mktemp("opcua") / "pki"
    settings = OpcuaServer(kind="opcua_server", port=port, pki=pki, allow_without_security=True, results=5)
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    patiently(lambda: adapter.link.snapshot().connected, "the server does not listen")
    yield Served(station, adapter, f"opc.tcp://127.0.0.1:{port}/gonogo")
    adapter.stop()


@pytest.fixture
def served(server: Served) -> Served:
    server.answers(go)
    server.station.health, server.station.product = Health.RUNNING, "left"
    for each in (server.station.triggers, server.station.selected, server.station.lost, server.station.late):
        each.clear()
    return server


async def verdict(client: FakeVisionClient) -> tuple[Any, Any]:
    code = await (await client.node("1:Answer", "1:VerdictCode")).read_value()
    return await (await client.node("1:Answer", "1:ResultId")).read_value(), code


@pytest.mark.slow
def test_a_job_brings_a_result_with_its_ids(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        job, error = await client.start("m1", part="p1", product="left", parameters=("lot 7",))
        found = await client.result(job)
        assert (error, found.result_id, found.result_state, found.verdict, found.code) == (0, "m1", COMPLETED, "go", 1)
        assert json.loads(found.document)["part"] == "p1"
        assert await verdict(client) == ("m1", 1)

    served.run(work)
    assert served.station.triggers == [("m1", {"part": "p1", "lot": "lot 7", "product": "left", "count": None})]


@pytest.mark.slow
def test_a_job_without_an_id_of_the_client_gets_one(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        jobs = [(await client.result((await client.start())[0])).result_id]
        await eventually(client, "Ready")
        jobs.append((await client.result((await client.start())[0])).result_id)
        assert len(set(jobs)) == 2

    served.run(work)


def test_a_late_job_is_a_fault_for_ever(served: Served) -> None:
    served.answers(go, WINDOW_S + 0.1)

    async def work(client: FakeVisionClient) -> None:
        found = await client.result((await client.start("late"))[0])
        assert (found.verdict, found.result_state) == ("fault", FAILED)
        [_, result, error] = await client.call(
            "ResultManagement", "GetResultById", arguments=(ua.ResultIdDataType(Id="late"), 0)
        )
        assert (error, result.ResultContent[0].Value) == (0, "fault")

    served.run(work)


def test_no_verdict_outlives_its_deadline_or_the_next_job(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        await client.result((await client.start("first"))[0])
        await eventually(client, "Ready")
        served.answers(None)
        await client.start("second")
        assert await verdict(client) == (None, 0)
        latest = await client.node("ResultManagement", "Results", "1:LatestResult")
        assert (await latest.read_value()).ResultState == 0
        await client.call(*AUTOMATIC, "Abort", arguments=(0, ""))
        served.answers(go)
        await client.result((await client.start("third"))[0])
        assert (await verdict(client))[1] == 1
        await asyncio.sleep(WINDOW_S)
        assert await verdict(client) == (None, 0)

    served.run(work)


def test_the_answer_of_a_client_that_has_gone_is_a_fault(served: Served) -> None:
    served.answers(go, 0.4)

    async def leave(client: FakeVisionClient) -> None:
        await client.start("gone")

    async def come_back(client: FakeVisionClient) -> None:
        assert (await verdict(client))[1] == 0
        [_, result, error] = await client.call(
            "ResultManagement", "GetResultById", arguments=(ua.ResultIdDataType(Id="gone"), 0)
        )
        assert (error, result.ResultContent[0].Value, result.ResultState) == (0, "fault", FAILED)

    served.run(leave)
    patiently(lambda: bool(served.station.lost), "the answer is not reported")
    served.run(come_back)
    assert served.station.late[0][0] == "gone"


def test_an_aborted_job_is_no_go(served: Served) -> None:
    served.answers(go, 0.3)

    async def work(client: FakeVisionClient) -> None:
        job, _ = await client.start("aborted")
        assert await client.call(*AUTOMATIC, "Abort", arguments=(0, "")) == 0
        assert await client.state() == "Ready"
        found = await client.result(job)
        assert (found.verdict, found.result_state) == ("fault", ABORTED)

    served.run(work)


@pytest.mark.slow
def test_a_stopped_job_still_brings_its_result(served: Served) -> None:
    served.answers(go, 0.3)

    async def work(client: FakeVisionClient) -> None:
        job, _ = await client.start("stopped")
        assert await client.call(*AUTOMATIC, "Stop", arguments=(0, "")) == 0
        assert (await client.result(job)).verdict == "go"

    served.run(work)


def test_a_second_job_at_once_is_refused(served: Served) -> None:
    served.answers(go, 0.2)

    async def work(client: FakeVisionClient) -> None:
        job, _ = await client.start("one")
        with pytest.raises(ua.uaerrors.BadInvalidState):
            await client.start("two")
        assert (await client.result(job)).result_id == "one"

    served.run(work)
    assert [each for each, _ in served.station.triggers] == ["one"]


@pytest.mark.parametrize(
    ("values", "error"),
    [
        ({"product": "unknown"}, -1),
        ({"product": "left", "recipe": "right"}, -1),
        ({"part": "a\nb"}, -2),
        ({"parameters": ("x" * 300,)}, -2),
        ({"parameters": ("lot", -1)}, -2),
    ],
)
@pytest.mark.slow
def test_a_job_with_wrong_names_is_refused(served: Served, values: dict[str, Any], error: int) -> None:
    async def work(client: FakeVisionClient) -> None:
        assert await client.start("m", **values) == ("", error)
        assert await client.state() == "Ready"

    served.run(work)
    assert not served.station.triggers


@pytest.mark.slow
def test_wrong_arguments_are_refused(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        for arguments, expected in [
            ((1, 2, 3, 4, 5), ua.uaerrors.BadTypeMismatch),
            ((ANY_ID,), ua.uaerrors.BadArgumentsMissing),
            ((ANY_ID,) * 6, ua.uaerrors.BadTooManyArguments),
        ]:
            with pytest.raises(expected):
                await client.call(*AUTOMATIC, "StartSingleJob", arguments=arguments)

    served.run(work)
    assert not served.station.triggers


@pytest.mark.slow
def test_a_station_that_does_not_judge_is_in_error_and_comes_back(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        served.station.health = Health.DOWN
        await eventually(client, "Error")
        with pytest.raises(ua.uaerrors.BadInvalidState):
            await client.start("m")
        served.station.health = Health.RUNNING
        await eventually(client, "Ready")

    served.run(work)


@pytest.mark.slow
def test_halt_and_reset(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        assert await client.call("VisionStateMachine", "Halt", arguments=(0, "")) == 0
        assert await client.state() == "Halted"
        with pytest.raises(ua.uaerrors.BadInvalidState):
            await client.start("m")
        with pytest.raises(ua.uaerrors.BadInvalidState):
            await client.call("VisionStateMachine", "SelectModeAutomatic")
        assert await client.call("VisionStateMachine", "Reset", arguments=(0, "")) == 0
        await eventually(client, "Ready")

    served.run(work)


@pytest.mark.slow
def test_continuous_execution_shows_every_answer_of_the_station(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        given = (*(ANY_ID,) * 4, ua.Variant([], ua.VariantType.Variant, is_array=True))
        job, error = await client.call(*AUTOMATIC, "StartContinuous", arguments=given)
        assert (error, await client.state()) == (0, "ContinuousExecution")
        bad = Answer(trigger_id="9", state=State.FAULT, cause=Cause.DARK, reason="dark")
        await asyncio.sleep(0.15)
        served.adapter.publish(bad)
        found = await client.result(job.Id)
        assert (found.result_id, found.verdict) == ("9", "fault")
        assert await client.call(*AUTOMATIC, "Stop", arguments=(0, "")) == 0
        await eventually(client, "Ready")

    served.run(work)


@pytest.mark.slow
def test_a_product_is_prepared_and_taken_back(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        recipe, error = await client.call(
            "RecipeManagement", "PrepareProduct", arguments=(ua.ProductIdDataType(Id="right"),)
        )
        assert (recipe.Id, error) == ("right", 0)
        _, done, error = await client.call(
            "RecipeManagement", "PrepareRecipe", arguments=(ua.RecipeIdExternalDataType(Id="none"), ANY_ID)
        )
        assert (done, error) == (False, -1)
        listed = await client.call(
            "RecipeManagement", "GetRecipeListFiltered", arguments=(ANY_ID, ANY_ID, 1, ZERO, ZERO, 0)
        )
        assert [each.Id for each in listed[3]] == ["right"]
        given = (ua.RecipeIdExternalDataType(Id="right"), ANY_ID)
        assert (await client.call("RecipeManagement", "UnprepareRecipe", arguments=given))[1] == 0
        assert await client.state() == "Initialized"
        assert (await client.call("RecipeManagement", "PrepareRecipe", arguments=given))[1:] == [True, 0]
        assert await client.state() == "Ready"

    served.run(work)
    assert served.station.selected[0][0] == "right"


@pytest.mark.slow
def test_the_last_results_are_kept_and_found(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        for number in range(7):
            await client.result((await client.start(f"r{number}", part="odd" if number % 2 else "even"))[0])
            await eventually(client, "Ready")
        complete, count, _, listed, error = await client.call(
            "ResultManagement",
            "GetResultListFiltered",
            arguments=(0, ANY_ID, ua.PartIdDataType(Id="odd"), *(ANY_ID,) * 6, ZERO, ZERO, 0),
        )
        assert (complete, count, error, [each.ResultId.Id for each in listed]) == (True, 2, 0, ["r5", "r3"])
        everything = await client.call(
            "ResultManagement",
            "GetResultComponentsById",
            arguments=(ua.ResultIdDataType(Id="r6"), 0),
        )
        assert everything[-1] == 0
        _, _, error = await client.call(
            "ResultManagement", "GetResultById", arguments=(ua.ResultIdDataType(Id="r0"), 0)
        )
        assert error == -1

    served.run(work)


def test_nothing_can_be_written(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        code = await client.node("1:Answer", "1:VerdictCode")
        with pytest.raises(ua.UaError):
            await code.write_value(ua.Variant(1, ua.VariantType.Byte))

    served.run(work)


@pytest.mark.slow
def test_the_other_methods_answer(served: Served) -> None:
    async def work(client: FakeVisionClient) -> None:
        ids = ua.ConfigurationIdDataType(Id="fake")
        found = await client.call("ConfigurationManagement", "GetConfigurationById", arguments=(ids, 0))
        assert (found[1].InternalId.Id, found[2]) == ("fake", 0)
        found = await client.call("ConfigurationManagement", "GetConfigurationList", arguments=(ZERO, ZERO, 0))
        assert (found[0], found[1], found[4]) == (True, 1, 0)
        assert await client.call("ConfigurationManagement", "ActivateConfiguration", arguments=(ids,)) == 0
        assert await client.call("ResultManagement", "ReleaseResultHandle", arguments=(ZERO,)) == 0
        assert await client.call("SafetyStateManagement", "ReportSafetyState", arguments=(True, "door")) == 0
        assert await (await client.node("SafetyStateManagement", "VisionSafetyTriggered")).read_value() is True
        await client.call("VisionStateMachine", "ConfirmAll", arguments=(ua.LocalizedText("ok"),))

    served.run(work)


def test_bytes_that_are_no_opc_ua_end_their_connection_only(served: Served) -> None:
    import socket as sockets

    port = int(served.url.split(":")[2].split("/")[0])
    refused = served.adapter.link.snapshot().refused
    for junk in (b"GET / HTTP/1.1\r\n\r\n", b"HELF\xff\xff\xff\xff" + b"x" * 100, b"OPNF\x20\0\0\0" + b"\xff" * 24):
        with sockets.create_connection(("127.0.0.1", port), timeout=30) as peer:
            peer.sendall(junk)
            peer.settimeout(30)
            began_s = time.monotonic()
            assert peer.recv(100) == b""
            assert time.monotonic() - began_s < 20
    assert served.adapter.link.snapshot().refused > refused
    served.run(lambda client: client.start("alive"))


def test_relative_paths_stand_beside_the_settings(tmp_path: Path) -> None:
    from gonogo.station import parse_settings

    text = """
station = "line1"
bundle = "b"
ledger = "l.ledger"
state_dir = "state"
[[cameras]]
camera = { kind = "fake", pictures = "none" }
[[adapters]]
kind = "opcua_server"
nodeset = "n.xml"
"""
    [found] = parse_settings(text, folder=tmp_path).adapters
    assert isinstance(found, OpcuaServer)
    assert (found.pki, found.nodeset) == (tmp_path / "opcua-pki", tmp_path / "n.xml")
