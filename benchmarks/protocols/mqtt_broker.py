"""Brokers of the MQTT campaigns: mosquitto and amqtt, in processes of their own that can be killed."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from shutil import which

from gonogo.errors import InputError
from gonogo.testing.station import patiently
from protocols.kit import free_port


class Broker:
    """A broker on a port of its own that keeps nothing when it is killed."""

    def __init__(self, name: str, folder: Path) -> None:
        """Write its settings; nothing is started yet.

        Args:
            name: ``mosquitto``, or ``amqtt``, which speaks MQTT 3.1.1 alone.
            folder: Where the settings are written.

        Raises:
            InputError: mosquitto is not installed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.port, self.kills = free_port(), 0
        self._command = _mosquitto(folder, self.port) if name == "mosquitto" else _amqtt(folder, self.port)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdin=null, stdout=null, stderr=null)
        patiently(self._listens, "the broker does not listen")

    def kill(self) -> None:
        """Kill it, like a power failure."""
        self.kills += 1
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _listens(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0


def _mosquitto(folder: Path, port: int) -> list[str]:
    program = which("mosquitto") or which("mosquitto", path="/usr/sbin")
    if program is None:
        raise InputError("expected mosquitto, found none. Install it: apt install mosquitto")
    file = folder / "mosquitto.conf"
    file.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\nset_tcp_nodelay true\n")
    return [program, "-c", str(file)]


def _amqtt(folder: Path, port: int) -> list[str]:
    file = folder / "amqtt.yaml"
    file.write_text(f"""listeners:
  default:
    type: tcp
    bind: 127.0.0.1:{port}
plugins:
  amqtt.plugins.authentication.AnonymousAuthPlugin:
    allow_anonymous: true
""")
    return [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(file)]
