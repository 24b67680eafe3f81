"""Fake peers for tests of a station with MQTT: a client of the broker, and a small MES that speaks JSON."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Self

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from gonogo.testing.station import patiently


class MqttPeer:
    """A client in a thread of its own, which connects again when the broker comes back."""

    def __init__(
        self,
        port: int,
        topics: list[tuple[str, int]],
        received: Callable[[paho.MQTTMessage], None],
        *,
        version: str = "5",
        host: str = "127.0.0.1",
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            port: Port of the broker.
            topics: What it subscribes to, with the quality of service.
            received: Called for each message, in its thread.
            version: ``5`` or ``3.1.1``.
            host: Host of the broker.
        """
        self._place, self._topics, five = (host, port), topics, version == "5"
        self._subscribed = threading.Event()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            clean_session=None if five else True,
        )
        self._client.reconnect_delay_set(0.05, 0.5)  # type: ignore[arg-type]  # seconds, also fractions
        self._client.on_socket_open = lambda _client, _data, opened: _hurry(opened)
        self._client.on_connect = lambda client, *_: client.subscribe(self._topics)
        self._client.on_disconnect = lambda *_: self._subscribed.clear()
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.on_message = lambda _client, _data, message: received(message)

    def __enter__(self) -> Self:
        """Connect."""
        patiently(self._reached, "the broker does not answer")
        self._client.loop_start()
        assert self._subscribed.wait(60), "the broker does not let the fake subscribe"
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def connected(self) -> bool:
        """Whether it is subscribed at the broker."""
        return self._subscribed.is_set()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, properties: Properties | None = None
    ) -> None:
        """Publish a message, unless the connection is lost."""
        if self.connected:
            self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)

    def _reached(self) -> bool:
        try:
            self._client.connect(*self._place, keepalive=10)
        except OSError:
            return False
        return True


class FakeMes:
    """A client of the same broker, in a thread of its own; connects again when the broker comes back.

    >>> with FakeMes(1883, "gonogo/line1") as mes:  # doctest: +SKIP
    ...     mes.trigger("part-1")
    ...     mes.verdict("part-1")["state"]
    'go'
    """

    def __init__(self, port: int, topic: str, *, version: str = "5", host: str = "127.0.0.1") -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            port: Port of the broker.
            topic: First levels of the station's topics, ``<prefix>/<station>``.
            version: ``5`` or ``3.1.1``.
            host: Host of the broker.
        """
        self.verdicts: list[dict[str, Any]] = []
        """The verdicts in order of arrival."""
        self.states: list[dict[str, Any]] = []
        """The states in order of arrival."""
        self.responses: list[tuple[bytes, dict[str, Any]]] = []
        """Correlation data and content of each response."""
        self._topic, self._came = topic, threading.Condition()
        self._newest: dict[str, dict[str, Any]] = {}
        topics = [(f"{topic}/verdict", 2), (f"{topic}/state", 1), ("mes/answers", 2)]
        self._peer = MqttPeer(port, topics, self._received, version=version, host=host)

    def __enter__(self) -> Self:
        """Connect."""
        self._peer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._peer.__exit__()

    @property
    def connected(self) -> bool:
        """Whether it is subscribed at the broker."""
        return self._peer.connected

    @property
    def ready(self) -> bool:
        """Whether the station would judge a part, by the newest state."""
        return bool(self.states and self.states[-1]["ready"])

    def trigger(self, trigger_id: str, *, respond: bytes | None = None, retain: bool = False, **values: Any) -> None:
        """Publish a trigger; with ``respond`` as a request with this correlation data."""
        values = {"id": trigger_id, "sent_at": datetime.now(UTC).isoformat(), **values}
        properties = None
        if respond is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic, properties.CorrelationData = "mes/answers", respond
        self.publish("trigger", json.dumps(values).encode(), retain=retain, properties=properties)

    def publish(self, name: str, payload: bytes, *, retain: bool = False, properties: Properties | None = None) -> None:
        """Publish any payload to a topic of the station."""
        self._peer.publish(f"{self._topic}/{name}", payload, qos=2, retain=retain, properties=properties)

    def verdict(self, trigger_id: str, *, timeout_s: float = 60.0) -> dict[str, Any]:
        """Wait for the newest verdict on a trigger.

        Raises:
            TimeoutError: none came.
        """
        with self._came:
            if not self._came.wait_for(lambda: trigger_id in self._newest, timeout_s):
                raise TimeoutError(f"no verdict on {trigger_id}")
            return self._newest[trigger_id]

    def _received(self, message: paho.MQTTMessage) -> None:
        found = json.loads(message.payload)
        with self._came:
            if message.topic.endswith("/verdict"):
                self.verdicts.append(found)
                self._newest[found["trigger_id"]] = found
            elif message.topic.endswith("/state"):
                self.states.append(found)
            else:
                self.responses.append((getattr(message.properties, "CorrelationData", b""), found))
            self._came.notify_all()


def _hurry(opened: Any) -> None:
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # the packets of a handshake are small
