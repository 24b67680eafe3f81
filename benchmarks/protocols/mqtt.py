"""MQTT: a real broker and a station, both killed at random, and an MES that asks again where no verdict came.

Against mosquitto with MQTT 5 and QoS 2, against amqtt with MQTT 3.1.1, and with Sparkplug B payloads. Several triggers
are under way at a time, so that verdicts could come in the wrong order.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gonogo.line.adapter import Adapter
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.opening import open_adapter
from gonogo.line.sparkplug_payload import device_metrics, encode
from gonogo.testing.line import FakeStation
from gonogo.testing.mqtt import FakeMes
from gonogo.testing.sparkplug import FakeHost
from gonogo.testing.station import patiently
from protocols.kit import WINDOW_S, Tally, Victim, killing, outcome, running, spread, trigger_ids, write_station
from protocols.mqtt_broker import Broker

_ANSWER_S = WINDOW_S + 1.0
_UNDER_WAY, _UNREAD = 5, 100
_GROUP, _SPARKPLUG = "plant", {"group_id": "plant"}


def campaign(*, triggers: int, seed: int, folder: Path) -> dict[str, Any]:
    """Send triggers while the station and the broker are killed at random."""
    return {
        "mosquitto": _campaign("mosquitto", folder / "mosquitto", triggers=triggers, seed=seed),
        "amqtt": _campaign("amqtt", folder / "amqtt", version="3.1.1", triggers=triggers, seed=seed),
        "sparkplug": _campaign("mosquitto", folder / "sparkplug", sparkplug=True, triggers=triggers // 5, seed=seed),
    }


def _campaign(
    name: str, folder: Path, *, triggers: int, seed: int, version: str = "5", sparkplug: bool = False
) -> dict[str, Any]:
    broker = Broker(name, folder)
    broker.start()
    more = f'sparkplug = {{ group_id = "{_GROUP}" }}\n' if sparkplug else ""
    adapter = (
        f'[[adapters]]\nkind = "mqtt"\nport = {broker.port}\nversion = "{version}"\nallow_without_password = true\n'
    )
    toml, ids, tally = write_station(folder, adapter + more), trigger_ids(triggers, seed), Tally()
    peer = _peer(broker, "line1", version=version, sparkplug=sparkplug)
    try:
        with running(toml) as station, peer:
            victims: list[Victim] = [station, broker]
            with killing(victims, seed, triggers=triggers, answered=lambda: len(tally.answers)):
                _ask_all(peer, ids, tally)
            kills = station.kills + broker.kills
    finally:
        broker.kill()
    protocol = "sparkplug b" if sparkplug else f"mqtt {version}"
    return outcome(tally, toml, ids, protocol=protocol, peer=name, kills=kills).to_json()


def _peer(broker: Broker, station: str, *, version: str = "5", sparkplug: bool) -> FakeMes | FakeHost:
    if sparkplug:
        return FakeHost(broker.port, _GROUP, station, version=version)
    return FakeMes(broker.port, f"gonogo/{station}", version=version)


def _ask_all(peer: FakeMes | FakeHost, ids: list[str], tally: Tally) -> None:
    """Ask for all parts, several at a time, and again for those without a verdict; count every verdict."""
    take = _taker(peer, tally)
    for start in range(0, len(ids), _UNDER_WAY):
        asked = ids[start : start + _UNDER_WAY]
        while missing := [each for each in asked if each not in tally.answers]:
            if not (peer.connected and peer.ready):  # as a line waits, too
                time.sleep(0.02)
                continue
            for each in missing:
                tally.sent(each)
                peer.trigger(each)
            until = time.monotonic() + _ANSWER_S
            while time.monotonic() < until and not all(each in tally.answers for each in missing):
                time.sleep(0.001)
                take()
    time.sleep(0.5)  # for verdicts that nobody waits for any more
    take()


def _taker(peer: FakeMes | FakeHost, tally: Tally) -> Callable[[], None]:
    """Return a function that counts the verdicts that have come since its last call."""
    seen = 0

    def take() -> None:
        nonlocal seen
        if isinstance(peer, FakeMes):
            found = [(each["trigger_id"], each["state"]) for each in peer.verdicts[seen:]]
            seen += len(found)
        else:
            came = peer.data[seen:]
            seen += len(came)
            found = [(each["Verdict/trigger_id"], each["Verdict/state"]) for each in came if _is_verdict(each)]
        for trigger_id, state in found:
            tally.came(trigger_id, state)

    return take


def _is_verdict(metrics: dict[str, Any]) -> bool:
    return metrics.get("Verdict/trigger_id") is not None


def _serving(station: FakeStation, broker: Broker, *, sparkplug: bool) -> Adapter:
    values = {"kind": "mqtt", "port": broker.port, "allow_without_password": True}
    settings = Mqtt.model_validate({**values, "sparkplug": _SPARKPLUG} if sparkplug else values)
    adapter = open_adapter(settings, station, window_s=WINDOW_S).start()
    patiently(lambda: adapter.link.snapshot().connected, "the adapter does not connect")
    return adapter


def fuzz(*, messages: int, seed: int, folder: Path) -> dict[str, Any]:
    """Publish random payloads, JSON and Sparkplug B; every one must be read and refused, and a trigger answered."""
    return {
        name: _fuzz(name, messages=messages, seed=seed, folder=folder / name, sparkplug=name == "sparkplug")
        for name in ("mqtt", "sparkplug")
    }


def _fuzz(name: str, *, messages: int, seed: int, folder: Path, sparkplug: bool) -> dict[str, Any]:
    broker, draw = Broker("mosquitto", folder), random.Random(seed)
    broker.start()
    adapter = _serving(FakeStation(), broker, sparkplug=sparkplug)
    try:
        with _peer(broker, "fake", sparkplug=sparkplug) as peer:
            for number in range(messages):
                _send_nonsense(peer, draw)
                # No more than the adapter and the broker keep: none may be dropped unread.
                patiently(lambda sent=number: sent - _read(adapter) < _UNREAD, "not read")  # type: ignore[misc]
            patiently(lambda: _read(adapter) == messages, "not all read")
            refused, tally = adapter.link.snapshot().refused, Tally()
            peer.trigger("alive")
            peer.verdict("alive")
            _taker(peer, tally)()
    finally:
        adapter.stop()
        broker.kill()
    died = int(tally.answers.get("alive") != ["go"])
    escapes = sum("go" in states for each, states in tally.answers.items() if each != "alive")
    return {"protocol": name, "messages": messages, "refused": refused, "died": died, "escapes": escapes}


def _read(adapter: Adapter) -> int:
    found = adapter.link.snapshot()
    return found.refused + found.triggers


def _send_nonsense(peer: FakeMes | FakeHost, draw: random.Random) -> None:
    """Send random bytes, half of them behind the beginning of a trigger."""
    begun, rest = draw.random() < 0.5, draw.randbytes(draw.randrange(200))
    if isinstance(peer, FakeMes):
        peer.publish(draw.choice(("trigger", "product")), (b'{"id": ' if begun else b"") + rest)
        return
    values = {"part": f"part {draw.randrange(1000)}", "lot": "lot", "product": "chip", "id": "never"}
    whole = encode(device_metrics("trigger", values), at=datetime.now(UTC), seq=None)
    peer.publish("DCMD", whole[: draw.randrange(len(whole))] if begun else rest)


def latency(*, count: int, folder: Path) -> dict[str, Any]:
    """Measure the round trip of a trigger through mosquitto at a station that answers at once."""
    found: dict[str, Any] = {"protocol": "mqtt", "count": count}
    for name, sparkplug in (("", False), ("sparkplug_", True)):
        broker = Broker("mosquitto", folder / (name or "json"))
        broker.start()
        adapter = _serving(FakeStation(), broker, sparkplug=sparkplug)
        took_ms = list[float]()
        try:
            with _peer(broker, "fake", sparkplug=sparkplug) as peer:
                for number in range(count):
                    began_s = time.perf_counter()
                    peer.trigger(f"t{number}")
                    peer.verdict(f"t{number}")
                    took_ms.append((time.perf_counter() - began_s) * 1e3)
        finally:
            adapter.stop()
            broker.kill()
        p50_ms, p99_ms = spread(took_ms)
        found |= {f"{name}added_p50_ms": round(p50_ms, 3), f"{name}added_p99_ms": round(p99_ms, 3)}
    return found
