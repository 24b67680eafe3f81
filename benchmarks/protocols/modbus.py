"""Modbus TCP, both ways: a PLC with pymodbus' client or server, killed and restarted at random like the station."""

from __future__ import annotations

import contextlib
import random
import socket
import struct
from functools import partial
from pathlib import Path
from typing import Any

from gonogo.line import modbus_client
from gonogo.line.adapter import Adapter, Link
from gonogo.line.opening import open_adapter
from gonogo.line.plc_image import ResultCode
from gonogo.line.plc_settings import ModbusClient, ModbusServer
from gonogo.testing.line import FakeStation
from gonogo.testing.modbus import ModbusPlc, ModbusPlcServer
from protocols.kit import WINDOW_S, free_port
from protocols.plc import measure, run_campaign, started

_SERVER = '[[adapters]]\nkind = "modbus_server"\nport = {port}\nallow = ["127.0.0.1"]\npart_is_id = true\n'
_CLIENT = '[[adapters]]\nkind = "modbus_client"\nhost = "127.0.0.1"\nport = {port}\npart_is_id = true\npoll_s = 0.002\n'
_PROGRAM = "protocols.modbus_plc"


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Judge parts for a PLC that is the client, and for one that is the server."""
    found = {}
    for role, adapter in (("client", _SERVER), ("server", _CLIENT)):
        port = free_port()
        found[f"PLC is {role}"] = run_campaign(
            adapter.format(port=port),
            (_PROGRAM, role, str(port)),
            triggers=triggers,
            seed=seed,
            folder=folder / role,
            protocol="modbus",
            peer=f"pymodbus {role}",
        )
    return found


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send random requests to the server, and random responses to the client; nobody may get a go by them."""
    return {"server": _fuzz_server(messages, seed), "client": _fuzz_client(messages, seed)}


def _fuzz_server(messages: int, seed: int) -> dict[str, Any]:
    station, draw, died = FakeStation(), random.Random(seed), 0
    settings = ModbusServer(kind="modbus_server", port=free_port(), allow_any_address=True)
    with started(open_adapter(settings, station, window_s=WINDOW_S)) as adapter:
        for number in range(messages):
            pdu = bytes((draw.choice((*range(1, 25), draw.randrange(256))),)) + draw.randbytes(draw.randrange(40))
            header = struct.pack(">HHHB", number & 0xFFFF, 0, len(pdu) + 1, draw.randrange(256))
            sent = draw.randbytes(draw.randrange(1, 300)) if draw.random() < 0.3 else header + pdu
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", settings.port), 5.0) as peer:
                peer.sendall(sent)
                peer.shutdown(socket.SHUT_WR)
                peer.recv(300)
        escapes = adapter.link.snapshot().delivered
        died += _asked(ModbusPlc(settings.port), "alive") is not ResultCode.GO
        refused = adapter.link.snapshot().refused
    return {"messages": messages, "refused": refused, "died": died, "escapes": escapes}


def _fuzz_client(messages: int, seed: int) -> dict[str, Any]:
    station, draw, port = FakeStation(), random.Random(seed), free_port()
    settings = ModbusClient(kind="modbus_client", host="127.0.0.1", port=port, poll_s=0.001, timeout_s=0.02)
    link = Link(station, name="modbus", kind="modbus_client", window_s=WINDOW_S)
    adapter = Adapter(partial(modbus_client.serve, settings), link, pauses_s=(0.001, 0.01))
    with started(adapter, listens=False):
        _answer_with_garbage(port, messages, draw)
        escapes, reached = link.snapshot().delivered, len(station.triggers)
        plc = ModbusPlcServer(port)
        plc.start()
        died = plc.ask("alive").verdict is not ResultCode.GO
        plc.stop()
    return {"messages": messages, "triggers": reached, "died": int(died), "escapes": escapes}


def _answer_with_garbage(port: int, messages: int, draw: random.Random) -> None:
    """Be a Modbus server whose responses are random."""
    with socket.create_server(("127.0.0.1", port), reuse_port=True) as server:
        server.settimeout(20.0)
        left = messages
        while left:
            peer, _ = server.accept()
            peer.settimeout(1.0)
            with peer, contextlib.suppress(OSError):
                while left and (asked := peer.recv(300)):
                    left -= 1
                    body = bytes((draw.choice((3, 16, 0x83, 0x90, draw.randrange(256))),))
                    body += draw.randbytes(draw.randrange(60))
                    known = asked[:4] + struct.pack(">H", len(body) + 1) + asked[6:7] + body
                    peer.sendall(draw.randbytes(draw.randrange(1, 80)) if draw.random() < 0.3 else known)


def _asked(plc: ModbusPlc, part: str) -> ResultCode:
    try:
        return plc.ask(part).verdict
    finally:
        plc.close()


def latency(*, count: int, folder: Path) -> dict[str, Any]:
    """Measure the whole handshake at a station that answers at once."""
    station, found = FakeStation(), {}
    served = ModbusServer(kind="modbus_server", port=free_port(), allow_any_address=True)
    with started(open_adapter(served, station, window_s=WINDOW_S)):
        plc = ModbusPlc(served.port)
        found["server"] = measure(partial(plc.ask, pause_s=0.0), count=count, protocol="modbus server")
        plc.close()
    polled = ModbusClient(kind="modbus_client", host="127.0.0.1", port=free_port())
    other = ModbusPlcServer(polled.port)
    other.start()
    with started(open_adapter(polled, station, window_s=WINDOW_S)):
        found["client, poll_s 0.02"] = measure(other.ask, count=count, protocol="modbus client")
    other.stop()
    return found
