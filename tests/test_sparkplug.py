"""Sparkplug B by the MQTT adapter at a real broker: births, deaths, commands, data; and a host of another author."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gonogo.line.mqtt_messages import MESSAGES
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.sparkplug import Place
from gonogo.line.sparkplug_payload import METRICS, DataType, Metric, Payload, decode, device_metrics, encode, name_of
from gonogo.schema import State
from gonogo.testing.line import FakeStation
from gonogo.testing.sparkplug import FakeHost
from gonogo.testing.station import patiently
from mqtt_kit import Broker, needs_broker, serving
from mqtt_kit import settings as mqtt_settings

PYSPARKPLUG = Path(os.environ.get("GONOGO_PYSPARKPLUG", Path(__file__).parents[1] / "build/pysparkplug/bin/python"))
NOW = datetime.fromtimestamp(1_700_000_000, UTC)
# Encoded by pysparkplug 0.6.1.
FOREIGN_BIRTH = (
    "0880d095ffbc3112120a016110001880d095ffbc31200c7a02c3a412190a016210011880d095ffbc31200458fbffffffffff"
    "ffffff0112170a016310021880d095ffbc31200a69000000000000f8bf12100a016410031880d095ffbc31200b700012110a"
    "016510ac021880d095ffbc31200c380118ff01"
)
FOREIGN_COMMAND = (
    "08fbd095ffbc3112180a0a547269676765722f69641880d095ffbc317a03413137121410041880d095ffbc3158fbffffffffffffffff01"
)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    found = Broker(tmp_path_factory.mktemp("broker"))
    yield found
    found.kill()


def settings(broker: Broker, node: str, **more: object) -> Mqtt:
    return mqtt_settings(broker, sparkplug={"group_id": "plant", "edge_node_id": node}, **more)


def named(payload: Payload) -> dict[str | None, Metric]:
    return {each.name: each for each in payload.metrics}


@needs_broker
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_births_a_trigger_a_selection_and_deaths(broker: Broker, version: str) -> None:
    station, node = FakeStation(products=("left", "right")), f"whole-{version}"
    with FakeHost(broker.port, "plant", node, version=version) as host:
        with serving(settings(broker, node, version=version), station) as adapter:
            host.trigger("7", part="A", product="left")
            found = host.verdict("7")
            assert (found["Verdict/state"], found["Verdict/part"], found["Verdict/cause"]) == ("go", "A", None)
            assert found["Verdict/valid_until"] > datetime.now(UTC).timestamp() * 1000
            host.command("product", {"product": "right"})
            patiently(lambda: host.data[-1].get("State/product") == "right", "not selected")
            assert host.data[-1] == {"State/product": "right"}, "expected only what has changed"
            assert adapter.link.snapshot().delivered == 1
        patiently(lambda: host.messages[-1][0] == "NDEATH", "no death")
    assert [verb for verb, _ in host.messages] == ["NBIRTH", "DBIRTH", "DDATA", "DDATA", "DDEATH", "NDEATH"]
    assert [payload.seq for _, payload in host.messages] == [0, 1, 2, 3, 4, None]
    node_birth, device_birth, death = (named(host.messages[place][1]) for place in (0, 1, -1))
    assert death["bdSeq"].value == node_birth["bdSeq"].value == 0
    assert node_birth["Node Control/Rebirth"].value is False
    assert node_birth["Node Control/Rebirth"].alias is None
    assert {name: each.datatype for name, each in device_birth.items()} == {
        name: each.datatype for name, each in METRICS.items()
    }
    assert station.triggers[0] == ("7", {"part": "A", "lot": None, "product": "left", "count": None})


@needs_broker
def test_a_rebirth_starts_the_numbers_again_and_tells_no_old_verdict(broker: Broker) -> None:
    with FakeHost(broker.port, "plant", "again") as host, serving(settings(broker, "again"), FakeStation()):
        host.trigger("1")
        host.verdict("1")
        host.rebirth()
        patiently(lambda: len(host.messages) == 5, "no rebirth")
        assert [(verb, payload.seq) for verb, payload in host.messages[3:]] == [("NBIRTH", 0), ("DBIRTH", 1)]
        assert named(host.messages[3][1])["bdSeq"].value == 0, "expected the number of the connection"
        assert host.data[-1]["Verdict/trigger_id"] is None
        assert host.data[-1]["State/ready"] is True
        for number in range(260):  # past 255
            host.trigger(f"t{number}")
            if number % 52 == 51:
                host.verdict(f"t{number}")
        seqs = [payload.seq for verb, payload in host.messages[4:]]
        assert seqs == [number % 256 for number in range(1, 1 + len(seqs))]


@needs_broker
def test_the_broker_tells_the_death_of_a_killed_connection_and_the_next_birth_has_another_number(
    tmp_path: Path,
) -> None:
    broker, station = Broker(tmp_path), FakeStation(delay_s=1.0)
    try:
        with serving(settings(broker, "lost"), station) as adapter, FakeHost(broker.port, "plant", "lost") as host:
            host.trigger("1")
            patiently(lambda: station.triggers, "not triggered")
            broker.kill()
            patiently(lambda: station.lost, "not recorded")
            before = len(host.messages)
            broker.start()
            patiently(lambda: adapter.link.snapshot().connected and host.connected, "not connected again")
            host.rebirth()
            host.trigger("2")
            assert host.verdict("2")["Verdict/state"] == "go"
            numbers = {named(each)["bdSeq"].value for verb, each in host.messages[before:] if verb == "NBIRTH"}
            assert numbers
            assert 0 not in numbers
            assert all(each.get("Verdict/trigger_id") != "1" for each in host.data)
    finally:
        broker.kill()
    assert station.lost[0][0].state is State.FAULT


@needs_broker
def test_what_is_no_command_is_refused_and_the_next_one_answered(broker: Broker) -> None:
    station, now = FakeStation(), datetime.now(UTC)
    with FakeHost(broker.port, "plant", "refusing") as host, serving(settings(broker, "refusing"), station) as adapter:
        host.command("trigger", {"id": "old"}, at=now - timedelta(minutes=5))
        host.command("trigger", {"part": "no id"})
        host.command("verdict", {"state": "go"})
        host.command("product", {"product": "unknown"})
        host.publish("DCMD", encode([Metric(alias=4_000, value="x")], at=now, seq=None))
        host.publish("DCMD", encode([Metric(name="Trigger/id", datatype=DataType.INT64, value=7)], at=now, seq=None))
        host.publish("DCMD", encode(device_metrics("trigger", {"id": "late"}), at=now, seq=None), retain=True)
        host.publish("DCMD", b"\xff\xff")
        host.publish("NCMD", encode([Metric(name="Node Control/Reboot", value="x")], at=now, seq=None))
        host.trigger("alive")
        assert host.verdict("alive")["Verdict/state"] == "go"
        assert adapter.link.snapshot().refused == 9
        told = [each["Refused/refused"] for each in host.data if each.get("Refused/refused")]
        assert len(told) == 9
        assert "was sent 300" in told[0]
    assert [each for each, _ in station.triggers] == ["alive"]


@needs_broker
def test_a_host_of_another_author_understands_the_births_and_gets_its_verdict(broker: Broker) -> None:
    if not PYSPARKPLUG.exists():
        pytest.skip(f"needs pysparkplug at {PYSPARKPLUG} (make check-sparkplug) or GONOGO_PYSPARKPLUG")
    with serving(settings(broker, "line1"), FakeStation()):
        program = Path(__file__).with_name("sparkplug_host.py")
        command = [str(PYSPARKPLUG), str(program), str(broker.port), "plant", "line1", "vision"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    messages = [json.loads(line) for line in found.splitlines()]
    assert [(each["verb"], each["seq"], each["qos"]) for each in messages] == [
        ("NBIRTH", 0, 0),
        ("DBIRTH", 1, 0),
        ("DDATA", 2, 0),
    ]
    assert messages[1]["metrics"]["State/health"] == "running"
    verdict = messages[2]["metrics"]
    assert (verdict["Verdict/state"], verdict["Verdict/part"]) == ("go", "housing 17")
    assert float(verdict["Verdict/score"]) == -1.5


def test_payloads_are_those_of_another_author() -> None:
    metrics = [
        Metric(name="a", alias=0, datatype=DataType.STRING, value="ä"),
        Metric(name="b", alias=1, datatype=DataType.INT64, value=-5),
        Metric(name="c", alias=2, datatype=DataType.DOUBLE, value=-1.5),
        Metric(name="d", alias=3, datatype=DataType.BOOLEAN, value=False),
        Metric(name="e", alias=300, datatype=DataType.STRING),
    ]
    assert encode(metrics, at=NOW, seq=255, birth=True).hex() == FOREIGN_BIRTH
    assert decode(bytes.fromhex(FOREIGN_BIRTH)) == Payload(at=NOW, seq=255, metrics=tuple(metrics))
    found = decode(bytes.fromhex(FOREIGN_COMMAND))
    assert found.seq is None
    assert [(each.name, each.alias, each.value) for each in found.metrics] == [
        ("Trigger/id", None, "A17"),
        (None, 4, -5),
    ]


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        for each in decode(content).metrics:
            name_of(each)


def test_every_field_of_the_messages_is_a_metric_with_an_alias_of_its_own() -> None:
    fields = {f"{name.title()}/{field}" for name, model in MESSAGES.items() for field in model.model_fields}
    spoken = {f"{name.title()}/{field}" for name in MESSAGES for field in ("station", "vision", "at", "sent_at")}
    assert set(METRICS) == fields - spoken
    assert len({each.alias for each in METRICS.values()}) == len(METRICS)


def test_the_place_is_made_of_the_station_s_name() -> None:
    chosen = Mqtt.model_validate({"kind": "mqtt", "allow_without_password": True, "sparkplug": {"group_id": "plant"}})
    assert chosen.sparkplug is not None
    place = Place.of(chosen.sparkplug, "line1", connection=257)
    assert (place.topic("NBIRTH"), place.number) == ("spBv1.0/plant/NBIRTH/line1", 1)
    assert place.topic("DDATA") == "spBv1.0/plant/DDATA/line1/vision"


@pytest.mark.parametrize(
    "wrong",
    [
        {"sparkplug": {}},
        {"sparkplug": {"group_id": "a/b"}},
        {"sparkplug": {"group_id": "+"}},
        {"sparkplug": {"group_id": "a", "edge_node_id": ""}},
        {"sparkplug": {"group_id": "a"}, "qos": 2},
        {"sparkplug": {"group_id": "a"}, "prefix": "b"},
    ],
)
def test_settings_that_do_not_fit_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Mqtt"):
        Mqtt.model_validate({"kind": "mqtt", "allow_without_password": True, **wrong})
