"""Plain text lines over TCP: a PLC that connects or listens, and is cut off or killed at random like the station."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from pathlib import Path
from typing import Any

from gonogo.line.adapter import Adapter
from gonogo.line.opening import open_adapter
from gonogo.line.plc_settings import TcpServer
from gonogo.testing.line import FakeStation
from gonogo.testing.station import patiently
from protocols.kit import WINDOW_S, Tally, free_port, killing, outcome, running, spread, trigger_ids, write_station
from protocols.plc import run_campaign

_ANSWER_S = WINDOW_S + 1.0


class Client:
    """A PLC that sends one trigger at a time; an unanswered one is sent again after a reconnect."""

    def __init__(self, port: int) -> None:
        """Store the port; nothing is opened yet."""
        self._port = port
        self._socket: socket.socket | None = None

    def ask(self, trigger_id: str, tally: Tally) -> None:
        """Send a trigger until its answer has come."""
        while trigger_id not in tally.answers:
            try:
                if self._socket is None:
                    self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=_ANSWER_S)
                tally.sent(trigger_id)
                self._socket.sendall(f"{trigger_id}\n".encode())
                found = json.loads(self._socket.makefile().readline())
                tally.came(found["trigger_id"], found["state"])
            except (OSError, ValueError):
                self.cut()
                time.sleep(0.05)

    def cut(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge half of the parts for a PLC that connects, the others for one that listens and is killed as well."""
    half, port = triggers // 2, free_port()
    listening = run_campaign(
        f'[[adapters]]\nkind = "tcp_client"\nhost = "127.0.0.1"\nport = {port}\n',
        ("protocols.tcp_plc", str(port)),
        triggers=half,
        seed=seed,
        folder=folder / "listens",
        protocol="tcp_client",
        peer="socket",
    )
    connecting = _campaign(triggers=half, seed=seed, folder=folder / "connects")
    return {"PLC connects": connecting, "PLC listens": listening}


def _campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send triggers while the station is killed, and the connection cut, at random."""
    port = free_port()
    adapter = f'[[adapters]]\nkind = "tcp"\nport = {port}\nallow_without_token = true\n'
    toml, ids, tally, draw = write_station(folder, adapter), trigger_ids(triggers, seed), Tally(), random.Random(seed)
    client, cuts = Client(port), 0
    with running(toml) as station:
        with killing([station], seed, triggers=triggers, answered=lambda: len(tally.answers)):
            for trigger_id in ids:
                if draw.random() < 0.01:
                    client.cut()
                    cuts += 1
                client.ask(trigger_id, tally)
        kills = station.kills + cuts
    return outcome(tally, toml, ids, protocol="tcp", peer="socket", kills=kills).to_json()


def _serving(station: FakeStation) -> tuple[Adapter, int]:
    port = free_port()
    adapter = open_adapter(TcpServer(kind="tcp", port=port, allow_without_token=True), station, window_s=WINDOW_S)
    adapter.start()
    patiently(lambda: adapter.link.snapshot().connected, "the adapter does not listen")
    return adapter, port


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send random bytes; nothing may be answered go, and a real trigger must still be answered afterwards."""
    station, draw = FakeStation(), random.Random(seed)
    adapter, port = _serving(station)
    escapes, died = 0, 0
    for number in range(messages):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5.0) as peer:
            peer.sendall(b'{"id": ' + draw.randbytes(draw.randrange(200)).replace(b"\n", b"") + b"\n")
            peer.shutdown(socket.SHUT_WR)
            escapes += b'"go"' in peer.makefile("rb").read()
        if number % 1000 == 999 or number == messages - 1:
            tally = Tally()
            client = Client(port)
            client.ask("alive", tally)
            client.cut()
            died += tally.answers["alive"] != ["go"]
    refused = adapter.link.snapshot().refused
    adapter.stop()
    return {"protocol": "tcp", "messages": messages, "refused": refused, "died": died, "escapes": escapes}


def latency(*, count: int, folder: Path) -> dict[str, Any]:
    """Measure the round trip of a trigger at a station that answers at once."""
    station = FakeStation()
    adapter, port = _serving(station)
    client, took_ms = Client(port), list[float]()
    for number in range(count):
        began_s = time.perf_counter()
        client.ask(f"t{number}", Tally())
        took_ms.append((time.perf_counter() - began_s) * 1e3)
    client.cut()
    adapter.stop()
    p50_ms, p99_ms = spread(took_ms)
    return {"protocol": "tcp", "count": count, "added_p50_ms": round(p50_ms, 3), "added_p99_ms": round(p99_ms, 3)}
