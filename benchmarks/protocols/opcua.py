"""OPC UA: a client of the station's server, and a PLC's server that the station serves, killed with the station."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from gonogo.line.adapter import Adapter
from gonogo.line.opcua.settings import OpcuaServer
from gonogo.line.opening import open_adapter
from gonogo.testing.line import FakeStation
from gonogo.testing.opcua import TAGS, FakeVisionClient
from gonogo.testing.station import patiently
from protocols.kit import (
    StationProcess,
    Tally,
    free_port,
    kill_places,
    outcome,
    running,
    spread,
    trigger_ids,
    write_station,
)

WINDOW_S = 2.0
_HERE = Path(__file__).parent
_SILENCE_S = 20.0


class PeerProcess:
    """A peer in a process of its own: it reads trigger ids and prints a line of JSON for each."""

    def __init__(self, *command: str, environment: dict[str, str] | None = None, silence_s: float = _SILENCE_S) -> None:
        """Store its command; nothing is started yet.

        Args:
            command: The program and its arguments.
            environment: Variables that it gets besides.
            silence_s: A peer that says nothing for so long is killed and started again.
        """
        self._silence_s = silence_s
        self._command, self._environment, self.kills = command, environment or {}, 0
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it."""
        environment = os.environ | self._environment
        self._process = subprocess.Popen(
            self._command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def kill(self) -> None:
        """Kill it."""
        self.kills += 1
        self.stop()

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def ask(self, trigger_id: str, tally: Tally) -> None:
        """Send a trigger until its answer came; one at a time, as a PLC does."""
        while trigger_id not in tally.answers:
            tally.sent(trigger_id)
            found = self.say(trigger_id)
            if "verdict" in found:
                tally.came(found["result_id"], found["verdict"])
            else:
                time.sleep(0.05)

    def say(self, line: str) -> dict[str, Any]:
        """Write a line, and return what it answers; nothing if it was killed, as it is if it says nothing."""
        process = self._process
        assert process is not None, "started before"
        assert process.stdin is not None, "a pipe"
        assert process.stdout is not None, "a pipe"
        answer = ""
        with contextlib.suppress(OSError, ValueError):
            process.stdin.write(line + "\n")
            if select.select([process.stdout], [], [], self._silence_s)[0]:
                answer = process.stdout.readline()
            else:
                self.kill()
        if answer.endswith("\n"):
            found: dict[str, Any] = json.loads(answer)
            return found
        if process.poll() is not None:
            self.start()
        return {}


def _python_peer(role: str, where: str) -> PeerProcess:
    """Return a peer of `protocols.opcua_peer`: ``client`` or ``plc``, and its address or port."""
    path = os.pathsep.join([str(_HERE.parent), *sys.path])
    command = (sys.executable, "-m", "protocols.opcua_peer", role, where)
    return PeerProcess(*command, environment={"PYTHONPATH": path})


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send triggers through every peer while peer and station are killed at random."""
    return {
        "asyncua client": _server(triggers, seed, folder / "server"),
        "asyncua server as PLC": _client(triggers, seed, folder / "client"),
    }


def _server(triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    port = free_port()
    adapter = f'[[adapters]]\nkind = "opcua_server"\nport = {port}\nallow_without_security = true\n'
    toml, url = write_station(folder, adapter, window_s=WINDOW_S), f"opc.tcp://127.0.0.1:{port}/gonogo"
    return ask_all(toml, _python_peer("client", url), "asyncua client", triggers, seed)


def ask_all(toml: Path, peer: PeerProcess, name: str, triggers: int, seed: int) -> dict[str, Any]:
    """Ask for every part; station and peer are killed in turn at random places."""
    ids, tally, draw = trigger_ids(triggers, seed), Tally(), random.Random(seed)
    places = kill_places(triggers, seed)
    killers = list[threading.Thread]()
    peer.start()
    with running(toml) as station:
        for number, trigger_id in enumerate(ids):
            if number in places:
                if places.index(number) % 2:
                    peer.kill()
                    peer.start()
                else:
                    _joined(killers)
                    killers.append(threading.Thread(target=_restart, args=(station, draw.uniform(0.0, 0.03))))
                    killers[-1].start()
            peer.ask(trigger_id, tally)
        _joined(killers)
        kills = station.kills + peer.kills
    peer.stop()
    return outcome(tally, toml, ids, protocol="opcua", peer=name, kills=kills).to_json()


def _restart(station: StationProcess, after_s: float) -> None:
    time.sleep(after_s)
    station.kill()
    station.start()


def _joined(threads: list[threading.Thread]) -> None:
    for each in threads:
        each.join()
    threads.clear()


def _client(triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    port = free_port()
    tags = ", ".join(f'{name} = "ns=2;s={name}"' for name in TAGS)
    adapter = (
        f'[[adapters]]\nkind = "opcua_client"\nurl = "opc.tcp://127.0.0.1:{port}"\npoll_s = 0.005\n'
        f"allow_without_security = true\ntags = {{ {tags} }}\n"
    )
    toml = write_station(folder, adapter, window_s=WINDOW_S)
    return ask_all(toml, _python_peer("plc", str(port)), "asyncua server", triggers, seed)


def _serving(folder: Path) -> tuple[FakeStation, Adapter, int]:
    station, port = FakeStation(), free_port()
    settings = OpcuaServer(kind="opcua_server", port=port, pki=folder / "pki", allow_without_security=True)
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    patiently(lambda: adapter.link.snapshot().connected, "the server does not listen")
    return station, adapter, port


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send mutated copies of a real conversation; afterwards a real job must still be answered, and no other ran."""
    station, adapter, port = _serving(folder)
    draw, recorded = random.Random(seed), _conversation(port)
    before, died = len(station.triggers), 0
    for number in range(messages):
        _send(port, recorded, draw)
        if number % 1_000 == 999 or number == messages - 1:
            died += not _alive(port)
            before += 1
    extra = len(station.triggers) - before
    refused = adapter.link.snapshot().refused
    adapter.stop()
    return {"protocol": "opcua", "messages": messages, "refused": refused, "died": died, "escapes": max(0, extra)}


def _conversation(port: int) -> list[bytes]:
    """Record what a client sends: hello, channel, session, browse, subscription, a job."""
    sent: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))
    through = listener.getsockname()[1]

    async def relay() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", port)

            async def back() -> None:
                while data := await to_reader.read(65_536):
                    writer.write(data)

            task = asyncio.create_task(back())
            while data := await reader.read(65_536):
                sent.append(data)
                to_writer.write(data)
            task.cancel()
            to_writer.close()

        server = await asyncio.start_server(serve, sock=listener)
        async with FakeVisionClient(f"opc.tcp://127.0.0.1:{through}/gonogo") as client:
            await ready(client)
            job, _ = await client.start("recorded")
            await client.result(job)
        server.close()

    asyncio.run(relay())
    return sent


def _send(port: int, recorded: list[bytes], draw: random.Random) -> None:
    """Send a mutated message, often after the untouched ones that come before it."""
    chosen = draw.randrange(len(recorded))
    messages = [*recorded[: min(chosen, draw.choice((0, 1, 2, 4)))], _mutated(recorded[chosen], draw)]
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as peer:
        for each in messages:
            peer.sendall(each)
        peer.shutdown(socket.SHUT_WR)
        peer.settimeout(0.005)
        while peer.recv(65_536):
            pass


def _mutated(message: bytes, draw: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data))
        match draw.randrange(4):
            case 0:
                data[place] = draw.randrange(256)
            case 1:
                data[place : place + 4] = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"))
            case 2:
                del data[place : place + draw.randint(1, 16)]
            case _:
                data[place:place] = draw.randbytes(draw.randint(1, 16))
        if not data:
            return b"\0"
    return bytes(data)


async def ready(client: FakeVisionClient) -> None:
    """Wait until the server accepts a job."""
    while await client.state() != "Ready":
        await asyncio.sleep(0.01)


def _alive(port: int) -> bool:
    async def ask() -> bool:
        async with FakeVisionClient(f"opc.tcp://127.0.0.1:{port}/gonogo") as client:
            await ready(client)
            job, _ = await client.start(f"alive-{time.monotonic_ns()}")
            return (await client.result(job)).verdict == "go"

    return asyncio.run(ask())


def latency(*, count: int, folder: Path) -> dict[str, Any]:
    """Measure from the call of a job to its event, at a station that answers at once."""
    _, adapter, port = _serving(folder)
    took_ms = list[float]()

    async def measure() -> None:
        async with FakeVisionClient(f"opc.tcp://127.0.0.1:{port}/gonogo") as client:
            await client.node("VisionStateMachine", "AutomaticModeStateMachine", "StartSingleJob")
            for number in range(count):
                await ready(client)
                began_s = time.perf_counter()
                job, _ = await client.start(f"t{number}")
                await client.result(job)
                took_ms.append((time.perf_counter() - began_s) * 1e3)

    asyncio.run(measure())
    adapter.stop()
    p50_ms, p99_ms = spread(took_ms)
    return {"protocol": "opcua", "count": count, "added_p50_ms": round(p50_ms, 3), "added_p99_ms": round(p99_ms, 3)}
