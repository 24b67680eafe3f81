"""Fake peers for OPC UA: a client that starts jobs at a station's server, and a PLC whose tags a station serves."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from asyncua import Client, Node, Server, ua

from gonogo.line.opcua.model import OFFICIAL_NAMESPACE, OWN_NAMESPACE

T = TypeVar("T")
_PATIENCE_S = 60.0
_MACHINE = ("VisionStateMachine", "AutomaticModeStateMachine")


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What a result-ready event brought."""

    result_id: str
    job_id: str
    result_state: int
    verdict: str
    code: int
    document: str


class FakeVisionClient:
    """A client of a station's OPC UA server; an async context manager."""

    def __init__(self, url: str, *, client: Client | None = None) -> None:
        """Store the arguments.

        Args:
            url: Address of the server.
            client: A client that is set up for security; it is not connected yet.
        """
        self.client = client or Client(url, timeout=5.0)
        self.results: dict[str, list[JobResult]] = {}
        """The results that came, by the id of the job."""
        self._came = asyncio.Condition()
        self._model = 0
        self._nodes: dict[tuple[str, ...], Node] = {}

    async def __aenter__(self) -> Self:
        await self.client.connect()
        try:
            await self.client.load_data_type_definitions()
            uris = await self.client.get_namespace_array()
            self._model = next(number for number, uri in enumerate(uris) if uri in (OFFICIAL_NAMESPACE, OWN_NAMESPACE))
            event = await self._event_type("ResultReadyEventType")
            subscription = await self.client.create_subscription(10, self)
            await subscription.subscribe_events(self.client.nodes.server, event)
        except BaseException:  # BLE001: closed whatever happened, and raised again
            await self.client.disconnect()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.client.disconnect()

    async def _event_type(self, name: str) -> Node:
        return await self.client.nodes.base_event_type.get_child([f"{self._model}:{name}"])

    async def event_notification(self, event: Any) -> None:
        """Take an event of the subscription."""
        verdict, code, _, document = [each.Value for each in event.ResultContent]
        found = JobResult(
            result_id=event.ResultId.Id,
            job_id=event.JobId.Id,
            result_state=event.ResultState,
            verdict=verdict,
            code=code,
            document=document,
        )
        async with self._came:
            self.results.setdefault(found.job_id, []).append(found)
            self._came.notify_all()

    async def node(self, *path: str) -> Node:
        """Return a node below the vision system; a name may carry its namespace, ``1:Answer``."""
        if path not in self._nodes:
            steps = [each if ":" in each else f"{self._model}:{each}" for each in path]
            self._nodes[path] = await self.client.nodes.objects.get_child(["1:VisionSystem", *steps])
        return self._nodes[path]

    async def call(self, *path: str, arguments: tuple[Any, ...] = ()) -> Any:
        """Call a method below the vision system."""
        owner = await self.node(*path[:-1])
        return await owner.call_method(await self.node(*path), *arguments)

    async def state(self) -> str:
        """Return the innermost current state."""
        for path in (_MACHINE, _MACHINE[:1]):
            text = (await (await self.node(*path, "0:CurrentState")).read_value()).Text
            if text:
                return str(text)
        return ""

    async def start(
        self,
        meas_id: str = "",
        *,
        part: str = "",
        product: str = "",
        recipe: str = "",
        parameters: tuple[Any, ...] = (),
    ) -> tuple[str, int]:
        """Start a single job; return its id and the error number."""
        given = (
            ua.MeasIdDataType(Id=meas_id),
            ua.PartIdDataType(Id=part),
            ua.RecipeIdExternalDataType(Id=recipe),
            ua.ProductIdDataType(Id=product),
            ua.Variant([ua.Variant(each) for each in parameters], ua.VariantType.Variant, is_array=True),
        )
        job, error = await self.call(*_MACHINE, "StartSingleJob", arguments=given)
        return ("" if error else job.Id), error

    async def result(self, job_id: str, *, timeout_s: float = 10.0) -> JobResult:
        """Wait for the result of a job.

        Raises:
            TimeoutError: it did not come in time.
        """
        async with self._came:
            await asyncio.wait_for(self._came.wait_for(lambda: job_id in self.results), timeout_s)
            return self.results[job_id][0]


TAGS = {
    "trigger": False,
    "id": "",
    "part": "",
    "product": "",
    "ready": False,
    "busy": False,
    "valid": False,
    "verdict": 0,
    "fault": "",
    "score": 0.0,
    "result_id": "",
    "heartbeat": 0,
}
"""The tags of the fake PLC with their first values; each is the node ``ns=2;s=NAME``."""


class FakeOpcuaPlc:
    """A PLC with an OPC UA server, in a thread of its own, whose tags a station serves."""

    def __init__(self, port: int) -> None:
        """Store the port of the server."""
        self.url = f"opc.tcp://127.0.0.1:{port}"
        self.writes: list[tuple[str, Any]] = []
        """What the station wrote, in order, without the heartbeat."""
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._up, self._down = threading.Event(), asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)
        self._server: Server | None = None

    def start(self) -> Self:
        """Start the server, and wait until it listens."""
        self._thread.start()
        if not self._up.wait(_PATIENCE_S):
            raise TimeoutError("the fake PLC does not listen")
        return self

    def stop(self) -> None:
        """Stop the server."""
        self._loop.call_soon_threadsafe(self._down.set)
        self._thread.join(_PATIENCE_S)

    async def _serve(self) -> None:
        server = Server()
        await server.init()
        server.set_endpoint(self.url)
        server.set_security_policy([ua.SecurityPolicyType.NoSecurity])
        await server.register_namespace("urn:fake:plc")
        for name, value in TAGS.items():
            kind = ua.VariantType.Int16 if type(value) is int else None
            tag = await server.nodes.objects.add_variable(ua.NodeId(name, 2), ua.QualifiedName(name, 2), value, kind)
            await tag.set_writable()
        for name in TAGS:
            self._watch(server, name)
        async with server:
            self._server = server
            self._up.set()
            await self._down.wait()

    def _watch(self, server: Server, name: str) -> None:
        async def changed(_handle: int, value: Any, *_: Any) -> None:
            if name not in ("heartbeat", "trigger", "id", "part", "product"):
                self.writes.append((name, value.Value.Value))

        server.iserver.aspace.add_datachange_callback(ua.NodeId(name, 2), ua.AttributeIds.Value, changed)

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        found: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return found.result(_PATIENCE_S)

    def read(self, name: str) -> Any:
        """Return the value of a tag."""
        assert self._server is not None, "only while it runs"
        return self._server.read_attribute_value(ua.NodeId(name, 2)).Value.Value

    def write(self, name: str, value: Any) -> None:
        """Write a tag."""
        assert self._server is not None, "only while it runs"
        kind = ua.VariantType.Int16 if type(TAGS[name]) is int else None
        self._do(self._server.get_node(ua.NodeId(name, 2)).write_value(value, kind))

    def wait(self, name: str, value: Any, *, timeout_s: float = 10.0) -> None:
        """Wait until a tag has a value.

        Raises:
            TimeoutError: it did not in time.
        """
        until_s = time.monotonic() + timeout_s
        while self.read(name) != value:
            if time.monotonic() > until_s:
                raise TimeoutError(f"{name}: expected {value!r}, found {self.read(name)!r}")
            time.sleep(0.002)

    def ask(self, trigger_id: str, *, part: str = "", product: str = "", timeout_s: float = 10.0) -> tuple[int, str]:
        """Trigger, and take the answer: return the verdict's number and the result id.

        Raises:
            TimeoutError: no answer came in time.
        """
        for name, value in (("id", trigger_id), ("part", part), ("product", product), ("trigger", True)):
            self.write(name, value)
        try:
            self.wait("valid", True, timeout_s=timeout_s)
            found = int(self.read("verdict")), str(self.read("result_id"))
        finally:
            self.write("trigger", False)
        self.wait("valid", False, timeout_s=timeout_s)
        return found

    def tags(self) -> str:
        """Return the table of tags for ``station.toml``."""
        return "{ " + ", ".join(f'{name} = "ns=2;s={name}"' for name in TAGS) + " }"
