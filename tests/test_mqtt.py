"""The MQTT adapter at a real broker, mosquitto: verdicts, refusals, restarts and credentials."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gonogo.line.mqtt_messages import MESSAGES, TriggerMessage, parse_message
from gonogo.line.mqtt_settings import Mqtt
from gonogo.schema import State
from gonogo.testing.line import FakeStation
from gonogo.testing.mqtt import FakeMes
from gonogo.testing.station import patiently
from mqtt_kit import Broker, free_port, needs_broker, serving, settings


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    found = Broker(tmp_path)
    yield found
    found.kill()


@needs_broker
@pytest.mark.parametrize("version", ["5", "3.1.1"])
def test_a_trigger_is_answered_and_the_state_retained(broker: Broker, version: str) -> None:
    station = FakeStation(products=("left", "right"))
    with (
        serving(settings(broker, version=version), station) as adapter,
        FakeMes(broker.port, "gonogo/fake", version=version) as mes,
    ):
        mes.trigger("7", part="A", product="left")
        assert mes.verdict("7")["state"] == "go"
        mes.publish("product", b'{"product": "right"}')
        patiently(lambda: mes.states and mes.states[-1].get("product") == "right", "not selected")
        assert mes.states[0]["vision"] == "up"
        patiently(lambda: adapter.link.snapshot().delivered == 1, "not delivered")
        adapter.stop()
        patiently(lambda: mes.states[-1]["vision"] == "down", "no last state")
    assert station.selected == [("right", "mqtt mqtt")]


@needs_broker
def test_a_request_is_answered_on_its_response_topic(broker: Broker) -> None:
    with serving(settings(broker), FakeStation()), FakeMes(broker.port, "gonogo/fake") as mes:
        mes.trigger("7", respond=b"x1")
        mes.trigger("8", respond=b"x2", nonsense=1)
        patiently(lambda: len(mes.responses) == 2, "no responses")
        found = dict(mes.responses)
        assert found[b"x1"]["state"] == "go"
        assert "nonsense" in found[b"x2"]["refused"]
        assert not mes.verdicts


@needs_broker
def test_old_and_broken_messages_are_refused_and_the_next_trigger_answered(broker: Broker) -> None:
    station = FakeStation()
    with FakeMes(broker.port, "gonogo/fake") as mes:
        mes.trigger("before", retain=True)
        with serving(settings(broker), station) as adapter:
            mes.trigger("old", sent_at="2020-01-01T00:00:00Z")
            mes.trigger("zoneless", sent_at="2020-01-01T00:00:00")
            mes.trigger("now", retain=True)
            mes.publish("trigger", b"\xff{")
            mes.publish("trigger", b"[" * 10_000)
            mes.publish("trigger", b'{"id": "' + b"x" * 20_000 + b'"}')
            mes.publish("product", b'{"product": "unknown"}')
            mes.trigger("alive")
            assert mes.verdict("alive")["state"] == "go"
            assert adapter.link.snapshot().refused == 8
    assert [each for each, _ in station.triggers] == ["alive"]


@needs_broker
def test_no_old_verdict_after_the_brokers_restart(broker: Broker) -> None:
    station = FakeStation(delay_s=1.0)
    with serving(settings(broker), station) as adapter, FakeMes(broker.port, "gonogo/fake") as mes:
        mes.trigger("1")
        patiently(lambda: station.triggers, "not triggered")
        broker.kill()
        patiently(lambda: station.lost, "not recorded")
        broker.start()
        patiently(lambda: adapter.link.snapshot().connected and mes.connected, "not connected again")
        mes.trigger("2")
        assert mes.verdict("2")["state"] == "go"
        assert [each["trigger_id"] for each in mes.verdicts] == ["2"]
    assert station.lost[0][0].state is State.FAULT
    assert station.late[0][0] == "1"


@needs_broker
@pytest.mark.parametrize("password", ["right-secret", "wrong-secret"])
def test_a_wrong_password_is_refused_and_not_told(tmp_path: Path, password: str) -> None:
    tool = shutil.which("mosquitto_passwd")
    if tool is None:
        pytest.skip("mosquitto_passwd is not installed")
    subprocess.run(
        [tool, "-c", "-b", str(tmp_path / "users"), "line1", "right-secret"], check=True, capture_output=True
    )
    file = tmp_path / "password"
    file.write_text(password)
    file.chmod(0o600)
    broker = Broker(tmp_path, f"password_file {tmp_path / 'users'}\nallow_anonymous false\n")
    right = password == "right-secret"
    try:
        chosen = settings(broker, user="line1", password_file=file, allow_without_password=False)
        with serving(chosen, FakeStation(), connects=right) as adapter:
            if not right:
                patiently(lambda: "password_file" in adapter.link.trouble, "no advice")
                assert "secret" not in adapter.link.trouble
                assert not adapter.link.snapshot().connected
    finally:
        broker.kill()


@needs_broker
@pytest.mark.parametrize("qos", [1, 2])
def test_a_verdict_that_the_broker_refuses_is_undelivered(tmp_path: Path, qos: int) -> None:
    allowed = "".join(f"topic readwrite gonogo/fake/{name}\n" for name in ("trigger", "product", "state"))
    (tmp_path / "rules").write_text(f"{allowed}topic read gonogo/fake/verdict\ntopic read mes/answers\n")
    broker, station = Broker(tmp_path, f"allow_anonymous true\nacl_file {tmp_path / 'rules'}\n"), FakeStation()
    try:
        with serving(settings(broker, qos=qos), station) as adapter, FakeMes(broker.port, "gonogo/fake") as mes:
            mes.trigger("1", respond=b"x")  # a topic of the peer's own: its own trouble
            patiently(lambda: station.lost, "not recorded")
            assert adapter.link.snapshot().connected
            mes.trigger("2")
            patiently(lambda: len(station.lost) == 2, "not recorded")
            patiently(lambda: "refuses what we publish to gonogo/fake/verdict" in adapter.link.trouble, "no advice")
            assert adapter.link.snapshot().delivered == 0
    finally:
        broker.kill()
    assert {answer.state for answer, _ in station.lost} == {State.FAULT}


def test_a_password_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("hush")
    file.chmod(0o644)
    chosen = Mqtt(kind="mqtt", port=free_port(), user="line1", password_file=file)
    with serving(chosen, FakeStation(), connects=False) as adapter:
        patiently(lambda: "chmod 600" in adapter.link.trouble, "no advice")
        assert "hush" not in adapter.link.trouble


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"user": "a"},
        {"allow_without_password": True, "host": "10.0.0.1"},
        {"allow_without_password": True, "ca_file": "ca.pem"},
        {"allow_without_password": True, "prefix": "a/#"},
        {"tls": True, "certificate_file": "c.pem"},
    ],
)
def test_unprotected_settings_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="Mqtt"):
        Mqtt.model_validate({"kind": "mqtt", **wrong})


@pytest.mark.parametrize(
    "payload", [b"", b"null", b"[]", b"{}", b'{"id": 1}', b'{"id": ""}', b'{"id": "a", "count": -1}']
)
def test_a_payload_that_is_no_trigger_is_refused_in_one_line(payload: bytes) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the text differs
        parse_message(TriggerMessage, payload)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_schemas_are_those_of_the_models(name: str) -> None:
    found = json.loads((Path(__file__).parents[1] / "docs" / "schemas" / f"mqtt-{name}.json").read_text())
    assert found == MESSAGES[name].model_json_schema(), "expected the models' schemas: python docs/make_mqtt.py"


def test_the_page_has_the_tables_and_the_capture_of_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "docs"))
    import make_mqtt

    text = make_mqtt.PAGE.read_text(encoding="utf-8")
    assert make_mqtt.page_text(text) == text, "run python docs/make_mqtt.py"
