"""A ledger that grows, and an MQTT broker, for the tests of results."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from gonogo.ledger import Ledger, VerdictRecord, View
from gonogo.schema import State
from gonogo.testing.postgres import free_port
from gonogo.testing.station import patiently

STATION = "line-1"


def record(trigger: str, state: State = State.REVIEW, *, station: str = STATION, **changes: Any) -> VerdictRecord:
    facts: dict[str, Any] = {"score": None, "reason": "no thresholds", "triggered_at": datetime.now(UTC)}
    facts |= {"cause": "late"} if state is State.FAULT else {}
    return VerdictRecord(station=station, trigger_id=trigger, state=state, **facts | changes)


def grow(path: Path, *triggers: str, **changes: Any) -> list[str]:
    """Append a verdict for each trigger; return their result ids."""
    with Ledger.open(path) as ledger:
        first = ledger.row(1)
        assert first is not None
        return [f"{first.record.ledger}-{ledger.append_verdict(record(each, **changes)).seq}" for each in triggers]  # type: ignore[union-attr]


def pictured(ledger: Ledger, trigger: str, data: bytes, state: State = State.NO_GO) -> VerdictRecord:
    """Return a verdict with a stored frame."""
    digest = ledger.frames.put(data)
    view = View(frame_sha256=digest, state=state, score=1.0, reason="")
    return record(trigger, state, score=1.0, views=(view,))


def private(path: Path, text: str) -> Path:
    """Write a file that only this user may open."""
    path.write_text(text)
    path.chmod(0o600)
    return path


@dataclass
class Broker:
    """A mosquitto process, and everything that a subscriber received."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    received: list[tuple[str, bytes, dict[str, str]]] = field(default_factory=list)

    def start(self) -> None:
        """Start the broker, and subscribe again."""
        self.process = subprocess.Popen(
            ["/usr/sbin/mosquitto", "-c", str(self.folder / "mosquitto.conf")],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._subscribe()

    def kill(self) -> None:
        """Kill the broker."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _subscribe(self) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        ready = threading.Event()
        client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5, reconnect_on_failure=False)
        client.username_pw_set("reader", "reading")
        client.on_connect = lambda *_: client.subscribe("#", qos=2)
        client.on_subscribe = lambda *_: ready.set()
        client.on_message = lambda _, __, message: self.received.append(
            (message.topic, message.payload, dict(getattr(message.properties, "UserProperty", ())))
        )

        def connected() -> bool:
            with contextlib.suppress(OSError):
                client.connect("127.0.0.1", self.port)
                return True
            return False

        patiently(connected, "the broker does not listen")
        client.loop_start()
        assert ready.wait(30)


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[Broker]:
    """Run a broker with two users, of whom ``writer`` may write below gonogo alone."""
    if shutil.which("/usr/sbin/mosquitto") is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("needs mosquitto: apt-get install mosquitto")
    folder.mkdir()
    port = free_port()
    for user, password in (("writer", "writing"), ("reader", "reading")):
        words = ["-b", *([] if (folder / "users").exists() else ["-c"]), str(folder / "users"), user, password]
        subprocess.run(["mosquitto_passwd", *words], check=True, capture_output=True)
    (folder / "users").chmod(0o644)
    (folder / "acl").write_text("user writer\ntopic write gonogo/#\nuser reader\ntopic read #\n")
    folder.chmod(0o755)
    (folder / "mosquitto.conf").write_text(
        f"listener {port} 127.0.0.1\npassword_file {folder}/users\nacl_file {folder}/acl\n"
        f"allow_anonymous false\nuser {'root' if folder.owner() == 'root' else folder.owner()}\n"
    )
    running = Broker(folder=folder, port=port)
    running.start()
    try:
        yield running
    finally:
        running.kill()
