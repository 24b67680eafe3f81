"""What each way into a station adds to the bare judgement, all in one run in turn, and the memory of all adapters.

``make bench-protocols``; ``QUICK=1`` takes a tenth of the rounds. The line side is asked at a station that answers at
once, so the time is that of adapter, protocol and peer; ``http`` and ``kserve`` are compared with the same judgement
without a server. The adapters and their peers share one process, and all of them run while one is asked. The last line
holds the figures as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import httpx
import psutil

from command import print_figures, run
from gonogo.errors import InputError
from gonogo.images import encode_png
from gonogo.inspector import Inspector
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.line.opening import open_adapter
from gonogo.line.plc_settings import EtherNetIp, ModbusClient, ModbusServer, TcpServer
from gonogo.line.settings import AdapterSettings
from gonogo.progress import track
from gonogo.station.settings import FolderTrigger
from gonogo.station.triggers import open_source
from gonogo.testing import fake_frame
from gonogo.testing.ethernet_ip import LogixPlc
from gonogo.testing.line import FakeStation
from gonogo.testing.modbus import ModbusPlc, ModbusPlcServer
from gonogo.testing.mqtt import FakeMes
from gonogo.testing.opcua import FakeOpcuaPlc, FakeVisionClient
from gonogo.testing.station import PATIENCE_S, patiently
from protocols import ethernet_ip, kserve, tcp
from protocols.kit import Tally, free_port, running, spread, write_station
from protocols.mqtt_broker import Broker
from protocols.opcua import ready
from protocols.plc import started
from protocols.serving import prepared, serving

Ask: TypeAlias = Callable[[str], object]
"""Asks for the verdict of a part by its id, and waits for it."""
T = TypeVar("T")
_POLL_S = 0.02
_SETTLED_S = 5.0


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rounds")
    given = parser.parse_args()
    rounds = 100 if given.quick else 1_000
    with tempfile.TemporaryDirectory() as folder:
        used = memory(Path(folder) / "memory")
        for name, megabytes in used.items():
            print(f"{name}: {megabytes}")  # noqa: T201
        took = latency(Path(folder) / "latency", rounds)
    for name, row in took.items():
        print(f"| {name} | {row['p50_ms']} | {row['p99_ms']} |")  # noqa: T201
    print_figures({"rounds": rounds, "latency": took, "memory": used})


def latency(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Ask through every entrance in turn; return median and 99th percentile of each, without the bare judgement.

    Args:
        folder: For files.
        rounds: How often each is asked.
    """
    folder.mkdir(parents=True)
    with ExitStack() as stack:
        pairs = _entrances(stack, folder)
        took_ms: dict[str, list[float]] = {name: [] for name in pairs}
        for name, (_, ask) in pairs.items():
            _timed(ask, f"first-{_plain(name)}")
        for number in track(range(rounds), "rounds"):
            for name, (bare, ask) in pairs.items():
                without_ms = _timed(bare, f"bare-{_plain(name)}-{number}")
                took_ms[name].append(_timed(ask, f"{_plain(name)}-{number}") - without_ms)
                if name == "tcp":
                    took_ms.setdefault("bare", []).append(without_ms)
    return {
        name: {"p50_ms": round(spread(values)[0], 2), "p99_ms": round(spread(values)[1], 2)}
        for name, values in took_ms.items()
    }


def _plain(name: str) -> str:
    return name.split(",")[0].replace(" ", "-") + str(len(name))


def _timed(ask: Ask, trigger_id: str) -> float:
    began_s = time.perf_counter()
    ask(trigger_id)
    return (time.perf_counter() - began_s) * 1e3


def _entrances(stack: ExitStack, folder: Path) -> dict[str, tuple[Ask, Ask]]:
    """Open everything; return the bare judgement and the entrance, by name."""
    station = FakeStation()
    bare = partial(_submitted, station)
    line = {"folder": _folder(stack, station, folder / "pictures"), "tcp": _tcp(stack, station)}
    line |= _modbus(stack, station) | _opcua(stack, station, folder)
    for name, entrance in (("ethernet_ip, cpppo included", _ethernet_ip), ("mqtt, QoS 2", _mqtt)):
        try:
            line[name] = entrance(stack, station, folder)
        except InputError as error:
            print(f"{name}: left out. {error}")  # noqa: T201
    return {name: (bare, ask) for name, ask in line.items()} | _served(stack, folder)


def _submitted(station: FakeStation, trigger_id: str) -> None:
    came = threading.Event()
    station.submit(trigger_id, reply=lambda answer: came.set())
    if not came.wait(PATIENCE_S):
        raise TimeoutError("the fake station does not answer")


def _open(stack: ExitStack, settings: AdapterSettings, station: FakeStation) -> None:
    stack.enter_context(started(open_adapter(settings, station, window_s=PATIENCE_S)))


def _folder(stack: ExitStack, station: FakeStation, pictures: Path) -> Ask:
    pictures.mkdir()
    came = threading.Event()
    settings = FolderTrigger(kind="folder", folder=pictures, poll_s=_POLL_S, stable_s=_POLL_S)

    def submit(trigger_id: str, **names: Any) -> None:
        station.submit(trigger_id, reply=lambda answer: came.set(), **names)

    source = open_source(settings, submit, print)
    assert source is not None, "a folder"
    stack.callback(source.start().stop)

    def ask(trigger_id: str) -> None:
        came.clear()
        path = pictures / f"{trigger_id}.png"
        path.write_bytes(trigger_id.encode())
        came.wait(PATIENCE_S)
        path.unlink()

    return ask


def _tcp(stack: ExitStack, station: FakeStation) -> Ask:
    settings = TcpServer(kind="tcp", port=free_port(), allow_without_token=True)
    _open(stack, settings, station)
    client = tcp.Client(settings.port)
    stack.callback(client.cut)
    return lambda trigger_id: client.ask(trigger_id, Tally())


def _modbus(stack: ExitStack, station: FakeStation) -> dict[str, Ask]:
    served = ModbusServer(kind="modbus_server", port=free_port(), allow_any_address=True)
    _open(stack, served, station)
    plc = ModbusPlc(served.port)
    stack.callback(plc.close)
    other = ModbusPlcServer(port := free_port())
    other.start()
    stack.callback(other.stop)
    _open(stack, ModbusClient(kind="modbus_client", host="127.0.0.1", port=port, poll_s=_POLL_S), station)
    return {"modbus_server": partial(plc.ask, pause_s=0.0), f"modbus_client, poll_s {_POLL_S}": other.ask}


def _ethernet_ip(stack: ExitStack, station: FakeStation, folder: Path) -> Ask:
    simulator = ethernet_ip.Simulator(address := f"127.0.0.1:{free_port()}")
    simulator.start()
    stack.callback(simulator.end)
    _open(stack, EtherNetIp(kind="ethernet_ip", path=address, poll_s=_POLL_S), station)
    plc = LogixPlc(address, timeout_s=5.0)
    stack.callback(plc.close)
    return plc.ask


def _opcua(stack: ExitStack, station: FakeStation, folder: Path) -> dict[str, Ask]:
    served = OpcuaServer(kind="opcua_server", port=free_port(), pki=folder / "pki", allow_without_security=True)
    _open(stack, served, station)
    plc = FakeOpcuaPlc(free_port()).start()
    stack.callback(plc.stop)
    tags = {each.split(" = ")[0]: each.split('"')[1] for each in plc.tags().strip("{ }").split(", ")}
    found = {"url": plc.url, "tags": tags, "poll_s": _POLL_S, "pki": folder / "pki-client"}
    client = OpcuaClient.model_validate({"kind": "opcua_client", "allow_without_security": True, **found})
    _open(stack, client, station)
    do = stack.enter_context(_loop())
    vision = FakeVisionClient(f"opc.tcp://127.0.0.1:{served.port}/gonogo")
    do(vision.__aenter__())
    stack.callback(lambda: do(vision.__aexit__()))

    async def job(trigger_id: str) -> None:
        await ready(vision)
        number, _ = await vision.start(trigger_id)
        await vision.result(number, timeout_s=PATIENCE_S)

    return {"opcua_server": lambda trigger_id: do(job(trigger_id)), f"opcua_client, poll_s {_POLL_S}": plc.ask}


@contextmanager
def _loop() -> Iterator[Callable[[Coroutine[Any, Any, object]], object]]:
    """Run an event loop in a thread; yield a function that runs a coroutine in it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield lambda work: asyncio.run_coroutine_threadsafe(work, loop).result(PATIENCE_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


def _mqtt(stack: ExitStack, station: FakeStation, folder: Path) -> Ask:
    broker = Broker("mosquitto", folder / "mqtt")
    broker.start()
    stack.callback(broker.kill)
    _open(stack, Mqtt.model_validate({"kind": "mqtt", "port": broker.port, "allow_without_password": True}), station)
    mes = stack.enter_context(FakeMes(broker.port, "gonogo/fake"))
    patiently(lambda: mes.connected, "the MES does not connect")

    def ask(trigger_id: str) -> None:
        mes.trigger(trigger_id)
        mes.verdict(trigger_id)

    return ask


def _served(stack: ExitStack, folder: Path) -> dict[str, tuple[Ask, Ask]]:
    """Open a server with one inspector: a picture over HTTP, a tensor over both protocols of KServe."""
    workspace, key = prepared(folder)
    inspector, picture, tensor = Inspector.load(workspace / "bundles" / "red.inspector"), encode_png(fake_frame(1)), 1
    server = stack.enter_context(serving(workspace))
    client = stack.enter_context(httpx.Client(timeout=30.0, headers={"authorization": f"Bearer {key}"}))
    url, kind = f"http://127.0.0.1:{server.port}/api/inspect", {"content-type": "image/png"}
    frame = kserve.made_tensor(tensor)
    found: dict[str, tuple[Ask, Ask]] = {
        "http, POST /api/inspect": (
            lambda _: inspector.inspect_encoded(picture),
            lambda _: client.post(url, content=picture, headers=kind).raise_for_status(),
        )
    }
    for name, port in (("http", server.port), ("grpc", server.grpc_port)):
        call = kserve.scores(name, port, key, frame)
        found[f"kserve, {name}"] = (lambda _: inspector.graph(frame[0]), lambda _, call=call: call())  # type: ignore[misc]
    return found


# --- memory


def memory(folder: Path) -> dict[str, dict[str, float]]:
    """Start a station without and one with all adapters; return the memory of its two processes together, in MiB.

    Args:
        folder: For files.
    """
    found = {}
    for name, more in (
        ("no adapter", '[trigger]\nkind = "timer"\nevery_s = 3600.0\n[answer]\nkind = "stdout"\n'),
        ("all adapters", all_adapters()),
    ):
        toml = write_station(folder / name.replace(" ", "-"), more)
        with running(toml) as station:
            time.sleep(_SETTLED_S)
            parent = psutil.Process(station.pid)
            infos = [each.memory_full_info() for each in (parent, *parent.children(recursive=True))]
            found[name] = {
                "rss_mib": round(sum(each.rss for each in infos) / 2**20, 1),
                "pss_mib": round(sum(each.pss for each in infos) / 2**20, 1),
                "supervisor_pss_mib": round(infos[0].pss / 2**20, 1),
            }
    return found


def all_adapters() -> str:
    """Return an ``[[adapters]]`` table of each kind, whose peers are not there."""
    tags = 'trigger = "ns=2;s=a", ready = "ns=2;s=b", valid = "ns=2;s=c", verdict = "ns=2;s=d"'
    tables = (
        f'kind = "tcp"\nport = {free_port()}\nallow_without_token = true',
        f'kind = "tcp_client"\nname = "tcp-client"\nhost = "127.0.0.1"\nport = {free_port()}',
        f'kind = "modbus_server"\nport = {free_port()}\nallow = ["127.0.0.1"]',
        f'kind = "modbus_client"\nname = "modbus-client"\nhost = "127.0.0.1"\nport = {free_port()}',
        f'kind = "ethernet_ip"\npath = "127.0.0.1:{free_port()}"',
        f'kind = "opcua_server"\nport = {free_port()}\nallow_without_security = true',
        f'kind = "opcua_client"\nurl = "opc.tcp://127.0.0.1:{free_port()}"\n'
        f"allow_without_security = true\ntags = {{ {tags} }}",
        f'kind = "mqtt"\nport = {free_port()}\nallow_without_password = true',
    )
    return "\n".join(f"[[adapters]]\n{each}" for each in tables)


if __name__ == "__main__":
    run(main)
