"""Shared by the tests of the MQTT adapter: a real broker, and an adapter that serves a fake station."""

from __future__ import annotations

import getpass
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from gonogo.line import Adapter, open_adapter
from gonogo.line.mqtt_settings import Mqtt
from gonogo.testing.line import FakeStation
from gonogo.testing.station import patiently

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
needs_broker = pytest.mark.skipif(MOSQUITTO is None, reason="mosquitto is not installed")


def free_port() -> int:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Broker:
    """Mosquitto in a process of its own."""

    def __init__(self, folder: Path, rules: str = "allow_anonymous true\n") -> None:
        self.port, self._file = free_port(), folder / "mosquitto.conf"
        self._file.write_text(f"user {getpass.getuser()}\nlistener {self.port} 127.0.0.1\n{rules}")
        self.start()

    def start(self) -> None:
        command = [str(MOSQUITTO), "-c", str(self._file)]
        self._process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        patiently(self._listens, "mosquitto does not listen")

    def _listens(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(60)


@contextmanager
def serving(settings: Mqtt, station: FakeStation, *, window_s: float = 5.0, connects: bool = True) -> Iterator[Adapter]:
    adapter = open_adapter(settings, station, window_s=window_s).start()
    try:
        if connects:
            patiently(lambda: adapter.link.snapshot().connected, "the adapter does not connect")
        yield adapter
    finally:
        adapter.stop()


def settings(broker: Broker, **more: object) -> Mqtt:
    return Mqtt.model_validate({"kind": "mqtt", "port": broker.port, "allow_without_password": True, **more})
