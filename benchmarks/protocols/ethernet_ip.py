"""EtherNet/IP: cpppo's simulated Logix controller, killed and restarted at random like its program and the station.

The simulator needs about 0.1 s for each request, so only a twentieth of the parts is judged.

``make check-ethernet-ip`` installs cpppo into ``build/cpppo``; ``GONOGO_CPPPO`` names another Python that has it.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import struct
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

from gonogo.errors import InputError
from gonogo.line import ethernet_ip
from gonogo.line.adapter import Adapter, Link
from gonogo.line.opening import open_adapter
from gonogo.line.plc_image import CONTROL_REGISTERS, STATUS_REGISTERS, ResultCode
from gonogo.line.plc_settings import EtherNetIp
from gonogo.testing.ethernet_ip import CONTROL, STATUS, LogixPlc
from gonogo.testing.line import FakeStation
from gonogo.testing.station import PATIENCE_S, patiently
from protocols.kit import WINDOW_S, free_port
from protocols.plc import measure, run_campaign, started

_ADAPTER = '[[adapters]]\nkind = "ethernet_ip"\npath = "{address}"\npart_is_id = true\npoll_s = 0.02\ntimeout_s = 5.0\n'
_SLOWER = 20
_CPPPO = Path(os.environ.get("GONOGO_CPPPO", Path(__file__).parents[2] / "build/cpppo/bin/python"))


class Simulator:
    """A controller with the two arrays, in a process of its own."""

    def __init__(self, address: str) -> None:
        """Store the address, ``HOST:PORT``."""
        self.kills, self._address = 0, address
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it; all words are 0."""
        if not _CPPPO.exists():
            raise InputError(f"expected cpppo at {_CPPPO}, found nothing. Run: make check-ethernet-ip")
        tags = (f"{CONTROL}=INT[{CONTROL_REGISTERS}]", f"{STATUS}=INT[{STATUS_REGISTERS}]")
        command = [str(_CPPPO), "-m", "cpppo.server.enip", "--address", self._address, *tags]
        null = subprocess.DEVNULL
        self._process = subprocess.Popen(command, stdin=null, stdout=null, stderr=null)

    def kill(self) -> None:
        """Kill it, like a power failure."""
        self.kills += 1
        self.end()

    def end(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(PATIENCE_S)
            self._process = None


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge parts while station, controller and program are killed at random."""
    address = f"127.0.0.1:{free_port()}"
    simulator = Simulator(address)
    simulator.start()
    try:
        return run_campaign(
            _ADAPTER.format(address=address),
            ("protocols.ethernet_ip_plc", address),
            triggers=max(10, triggers // _SLOWER),
            seed=seed,
            folder=folder,
            protocol="ethernet_ip",
            peer="cpppo",
            others=[simulator],
        )
    finally:
        simulator.end()


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Answer the station with random bytes; nobody may get a go by them, and a real controller must still work."""
    station, port = FakeStation(), free_port()
    settings = EtherNetIp(kind="ethernet_ip", path=f"127.0.0.1:{port}", poll_s=0.001, timeout_s=0.02)
    link = Link(station, name="ethernet_ip", kind="ethernet_ip", window_s=WINDOW_S)
    adapter = Adapter(partial(ethernet_ip.serve, settings), link, pauses_s=(0.001, 0.01))
    with started(adapter, listens=False):
        _answer_with_garbage(port, messages, random.Random(seed))
        escapes, reached = link.snapshot().delivered, len(station.triggers)
    died = _asks_in_vain(station, settings)
    return {"messages": messages, "triggers": reached, "died": died, "escapes": escapes}


def _answer_with_garbage(port: int, messages: int, draw: random.Random) -> None:
    """Be a controller whose answers are random; some have a header that fits the request, so that the body is read."""
    with socket.create_server(("127.0.0.1", port), reuse_port=True) as server:
        server.settimeout(20.0)
        left = messages
        while left:
            peer, _ = server.accept()
            peer.settimeout(1.0)
            with peer, contextlib.suppress(OSError):
                while left and (asked := peer.recv(1_000)):
                    left -= 1
                    body = draw.randbytes(draw.randrange(80))
                    fitting = asked[:2] + struct.pack("<HII", len(body), 7, 0) + asked[12:24] + body
                    peer.sendall(draw.randbytes(draw.randrange(1, 80)) if draw.random() < 0.2 else fitting)


def _asks_in_vain(station: FakeStation, settings: EtherNetIp) -> int:
    simulator = Simulator(settings.path)
    simulator.start()
    adapter = open_adapter(settings.model_copy(update={"timeout_s": 5.0}), station, window_s=WINDOW_S)
    try:
        with started(adapter):
            plc = LogixPlc(settings.path, timeout_s=5.0)
            died = plc.ask("alive").verdict is not ResultCode.GO
            plc.close()
    finally:
        simulator.end()
    return int(died)


def latency(*, count: int, folder: Path) -> dict[str, Any]:
    """Measure the whole handshake, the simulator's own time included, at a station that answers at once."""
    simulator = Simulator(address := f"127.0.0.1:{free_port()}")
    simulator.start()
    adapter = open_adapter(EtherNetIp(kind="ethernet_ip", path=address), FakeStation(), window_s=WINDOW_S)
    try:
        with started(adapter):
            plc = LogixPlc(address, timeout_s=5.0)
            patiently(lambda: adapter.link.snapshot().connected, "the adapter does not connect")
            found = measure(plc.ask, count=max(5, count // _SLOWER), protocol="ethernet_ip, cpppo included")
            plc.close()
    finally:
        simulator.end()
    return found
