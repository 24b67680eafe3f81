"""Results to every kind of destination while their real peers and the publishing process are killed at random.

A ledger grows. ``gonogo ledger publish`` delivers to a folder, moto's S3 server, a PostgreSQL database (SQLite where no
PostgreSQL is installed), a webhook receiver and mosquitto. At random moments one of them, or the publisher itself, gets
SIGKILL and is started again. moto keeps objects in memory alone, and mosquitto does not keep what arrives while its
subscriber is away: for moto, the relay in front of it is cut instead; the one in front of mosquitto opens when the
subscriber is back, so what is counted is what the publisher does and not what the broker forgets.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import fsspec
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from gonogo.ledger import Ledger, VerdictRecord
from gonogo.progress import track
from gonogo.schema import State
from gonogo.testing import postgres
from gonogo.testing.postgres import free_port

STATION, _SECRET = "line-1", "a secret of the campaign"
_PATIENCE_S = 600.0


@dataclass(kw_only=True)
class Peer:
    """A process that is killed and started again."""

    name: str
    start: Callable[[], None]
    kill: Callable[[], None]
    kills: int = 0


@dataclass(kw_only=True)
class Campaign:
    """What runs while the ledger grows."""

    folder: Path
    ledger: Path
    peers: list[Peer] = field(default_factory=list)
    mqtt: list[str] = field(default_factory=list)
    sections: list[str] = field(default_factory=list)
    stored: dict[str, Callable[[], list[str]]] = field(default_factory=dict)
    """For each destination, the ids it holds, in the order of arrival where it has one."""


class Relay:
    """Forwards connections to a port, until it is cut."""

    def __init__(self, target: int) -> None:
        self._target, self.port = target, free_port()
        self._sockets: list[socket.socket] = []
        self._server: socket.socket | None = None

    def open(self) -> None:
        """Listen."""
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._server,), daemon=True).start()

    def cut(self) -> None:
        """Close every connection, whatever is on its way, and stop listening."""
        server, self._server = self._server, None
        for each in [*self._sockets, *([server] if server is not None else [])]:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self._sockets.clear()

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [near, far]
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, object]:
    """Let a ledger grow by a number of verdicts while everything is killed at random; count what arrived.

    Returns:
        ``protocol``, ``peer``, ``triggers``, ``kills``, ``kills_of`` each peer, ``caught_up``; and in sum and for
        each of the ``destinations`` ``delivered``, ``lost``, ``doubled`` and ``out_of_order``. ``repeated`` are
        deliveries to webhook and MQTT under an id that was there already, which a receiver drops.
    """
    folder.mkdir(parents=True, exist_ok=True)
    running = Campaign(folder=folder, ledger=folder / "line.ledger")
    dice, ended = random.Random(seed), threading.Event()
    with contextlib.ExitStack() as stack:
        for add in (_folder, _store, _database, _webhook, _broker, _publisher):
            add(running, stack)
        killer = threading.Thread(target=_kill, args=(running.peers, dice, ended), daemon=True)
        ids = _grow(running.ledger, 1)
        for peer in running.peers:
            peer.start()
            stack.callback(peer.kill)
        killer.start()
        ids += _grow(running.ledger, triggers - 1)
        ended.set()
        killer.join()
        missing = _wait(running, ids)
        found = {
            name: _count(ids, stored(), keeps_once=name not in ("mqtt", "webhook"))
            for name, stored in running.stored.items()
        }
    kills = {peer.name: peer.kills for peer in running.peers}
    return {
        "protocol": "results",
        "peer": f"mosquitto, moto, {'SQLite' if postgres.missing() else 'PostgreSQL'}, a webhook receiver, a folder",
        "triggers": triggers,
        **{key: sum(each[key] for each in found.values()) for key in ("delivered", "lost", "doubled", "out_of_order")},
        "kills": sum(kills.values()),
        "kills_of": kills,
        "destinations": found,
        "caught_up": not missing,
    }


def _grow(path: Path, count: int) -> list[str]:
    ids = []
    with Ledger.open(path) as ledger:
        first = ledger.row(1)
        assert first is not None
        name = json.loads(first.body)["record"]["ledger"]
        start = ledger.head().seq
        for number in track(range(count), "recording verdicts"):
            state = (State.REVIEW, State.NO_GO)[number % 2]
            record = VerdictRecord(
                station=STATION,
                trigger_id=f"t{start + number}",
                state=state,
                score=None,
                reason="",
                triggered_at=datetime.now(UTC),
            )
            ids.append(f"{name}-{ledger.append_verdict(record).seq}")
            time.sleep(0.004)  # a fast line, and time for something to be killed
    return ids


def _kill(peers: list[Peer], dice: random.Random, ended: threading.Event) -> None:
    while not ended.wait(dice.uniform(0.2, 1.0)):
        peer = dice.choice(peers)
        peer.kill()
        peer.kills += 1
        time.sleep(dice.uniform(0.05, 0.6))
        peer.start()


def _wait(running: Campaign, ids: list[str]) -> set[str]:
    """Wait until every destination has everything; return those that have not."""
    until, missing = time.monotonic() + _PATIENCE_S, set(running.stored)
    while missing and time.monotonic() < until:
        time.sleep(1.0)
        missing = {name for name in missing if set(ids) - set(running.stored[name]())}
    return missing


def _count(ids: list[str], stored: list[str], *, keeps_once: bool) -> dict[str, int]:
    """Count what a destination holds.

    Args:
        ids: What it should hold, in order.
        stored: What it holds, or what arrived there.
        keeps_once: The destination itself keeps each id once; otherwise its receiver drops repeated ids.
    """
    once = list(dict.fromkeys(stored))
    place = {each: number for number, each in enumerate(ids)}
    places = [place.get(each, -1) for each in once]
    return {
        "delivered": len(once),
        "lost": len(set(ids) - set(once)),
        "doubled": len(set(once) - set(ids)) + (len(stored) - len(once) if keeps_once else 0),
        "repeated": 0 if keeps_once else len(stored) - len(once),
        "out_of_order": sum(after < before for before, after in pairwise(places)),
    }


class _Process:
    """A command that is started and killed."""

    def __init__(self, command: list[str], log: Path, ready: Callable[[], None] = lambda: None) -> None:
        self._command, self._log, self._ready = command, log, ready
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=log, stderr=log)
        self._ready()

    def kill(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def _listening(port: int) -> Callable[[], None]:
    def wait() -> None:
        until = time.monotonic() + _PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(0.02)
        raise TimeoutError(f"nothing listens on port {port}")

    return wait


def _private(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o600)
    return path


def _section(kind: str, **values: object) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in {"kind": kind, "name": kind, **values}.items()]
    return "\n".join(["[[results]]", "every_s = 0.1", *lines])


def _folder(running: Campaign, stack: contextlib.ExitStack) -> None:
    place = running.folder / "out"
    running.sections.append(_section("folder", folder=str(place)))
    running.stored["folder"] = lambda: _by_row([path.stem for path in place.rglob("*.json")])


def _store(running: Campaign, stack: contextlib.ExitStack) -> None:
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    moto, relay = _Process(command, running.folder / "moto.log", _listening(port)), Relay(port)
    moto.start()
    stack.callback(moto.kill)
    words = {"key": "k", "secret": "s", "endpoint_url": f"http://127.0.0.1:{port}"}
    system = fsspec.filesystem("s3", use_listings_cache=False, **words)
    system.mkdir("plant")
    toml = f'key = "k"\nsecret = "s"\nendpoint_url = "http://127.0.0.1:{relay.port}"\n'
    options = _private(running.folder / "s3.toml", toml)
    running.sections.append(_section("object_store", url="s3://plant/results", options_file=str(options)))
    running.peers.append(Peer(name="moto (relay)", start=relay.open, kill=relay.cut))

    def stored() -> list[str]:
        # While the store is empty, `find` may name the folder itself.
        names = [name.rpartition("/")[2] for name in system.find("plant/results")]
        return _by_row([name.removesuffix(".json") for name in names if name.endswith(".json")])

    running.stored["object_store"] = stored


def _database(running: Campaign, stack: contextlib.ExitStack) -> None:
    query = 'SELECT result_id FROM {} ORDER BY "row"'
    if postgres.missing():
        database = running.folder / "results.db"
        url = f"sqlite:///{database}"

        def stored() -> list[str]:
            with contextlib.closing(sqlite3.connect(database)) as connection:
                if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'gonogo_results'").fetchall():
                    return []
                return [row[0] for row in connection.execute(query.format("gonogo_results"))]

    else:
        server = stack.enter_context(postgres.server())
        url = server.url()
        server.stop()
        running.peers.append(Peer(name="PostgreSQL", start=server.start, kill=lambda: _stop(server)))

        def stored() -> list[str]:
            there = server.sql("SELECT to_regclass('public.gonogo_results')", database="postgres")[0][0]
            rows = server.sql(query.format("public.gonogo_results"), database="postgres") if there else []
            return [str(row[0]) for row in rows]

    file = _private(running.folder / "url", url)
    running.sections.append(_section("sql", url_file=str(file)))
    running.stored["sql"] = stored


def _stop(server: postgres.Server) -> None:
    with contextlib.suppress(RuntimeError):  # it is stopped already
        server.stop()


def _webhook(running: Campaign, stack: contextlib.ExitStack) -> None:
    port, keys = free_port(), running.folder / "webhook.keys"
    command = [sys.executable, "-m", "gonogo.testing.receivers", str(port), _SECRET, str(keys)]
    receiver = _Process(command, running.folder / "webhook.log")
    secret = _private(running.folder / "secret", _SECRET)
    url = f"http://127.0.0.1:{port}/hook"
    running.sections.append(_section("webhook", url=url, secret_file=str(secret), timeout_s=5.0))
    running.peers.append(Peer(name="webhook receiver", start=receiver.start, kill=receiver.kill))
    running.stored["webhook"] = lambda: keys.read_text().split() if keys.exists() else []


def _broker(running: Campaign, stack: contextlib.ExitStack) -> None:
    port = free_port()
    settings = running.folder / "mosquitto.conf"
    settings.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n")
    command = ["/usr/sbin/mosquitto", "-c", str(settings)]
    broker, relay = _Process(command, running.folder / "mosquitto.log", _listening(port)), Relay(port)

    def start() -> None:
        broker.start()
        _subscribe(port, running.mqtt)
        relay.open()

    def kill() -> None:
        broker.kill()
        relay.cut()

    running.sections.append(_section("mqtt", host="127.0.0.1", port=relay.port, timeout_s=5.0))
    running.peers.append(Peer(name="mosquitto", start=start, kill=kill))
    running.stored["mqtt"] = lambda: list(running.mqtt)


def _subscribe(port: int, received: list[str]) -> None:
    ready = threading.Event()
    client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)

    def subscribe(*_: object) -> None:
        client.subscribe("gonogo/#", qos=1)

    client.on_connect = subscribe
    client.on_subscribe = lambda *_: ready.set()
    client.on_message = lambda _, __, message: received.append(json.loads(message.payload)["result_id"])
    client.connect("127.0.0.1", port)
    client.loop_start()
    if not ready.wait(60):
        raise TimeoutError("mosquitto accepts no subscription")


def _publisher(running: Campaign, stack: contextlib.ExitStack) -> None:
    toml = running.folder / "station.toml"
    rest = 'camera = { kind = "fake", pictures = "none" }\n[trigger]\nkind = "stdin"\n[answer]\nkind = "stdout"\n'
    toml.write_text(
        f'station = "{STATION}"\nbundle = "none"\nledger = "{running.ledger.name}"\nstate_dir = "state"\n[[cameras]]\n'
        + rest
        + "\n\n".join(running.sections)
        + "\n"
    )
    command = [sys.executable, "-m", "gonogo", "ledger", "publish", str(toml)]
    process = _Process(command, running.folder / "publisher.log")
    running.peers.append(Peer(name="publisher", start=process.start, kill=process.kill))


def _by_row(ids: list[str]) -> list[str]:
    """Order by row, where a destination has no order of arrival."""
    return sorted(ids, key=lambda each: int(each.rpartition("-")[2]))


if __name__ == "__main__":
    _triggers, _seed, _place = sys.argv[1:4]
    sys.stdout.write(json.dumps(campaign(triggers=int(_triggers), seed=int(_seed), folder=Path(_place))) + "\n")
