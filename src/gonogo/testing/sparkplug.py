"""A fake peer for tests of a station with Sparkplug B: a host application that triggers parts and collects data."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Self

import paho.mqtt.client as paho

from gonogo.line.sparkplug import REBIRTH
from gonogo.line.sparkplug_payload import DataType, Metric, Payload, decode, device_metrics, encode
from gonogo.testing.mqtt import MqttPeer


class FakeHost:
    """A Sparkplug host application for one edge node; connects again when the broker comes back.

    >>> with FakeHost(1883, "plant", "line1") as host:  # doctest: +SKIP
    ...     host.trigger("part-1")
    ...     host.verdict("part-1")["Verdict/state"]
    'go'
    """

    def __init__(
        self, port: int, group: str, node: str, *, device: str = "vision", version: str = "5", host: str = "127.0.0.1"
    ) -> None:
        """Store the arguments; nothing is opened yet.

        Args:
            port: Port of the broker.
            group: Its group of edge nodes.
            node: The edge node.
            device: The node's device.
            version: ``5`` or ``3.1.1``.
            host: Host of the broker.
        """
        self.messages: list[tuple[str, Payload]] = []
        """Every message in order of arrival: its type, such as ``DDATA``, and its payload."""
        self.data: list[dict[str, Any]] = []
        """The metrics of each message of the device by name, names taken from its birth."""
        self.ready = False
        """Whether the station would judge a part, by the newest message."""
        self._group, self._node, self._device = group, node, device
        self._names: dict[int | None, str] = {}
        self._newest: dict[str, dict[str, Any]] = {}
        self._came = threading.Condition()
        self._peer = MqttPeer(port, [(f"spBv1.0/{group}/#", 1)], self._received, version=version, host=host)

    def __enter__(self) -> Self:
        """Connect, and ask for the births: the node may have been there before."""
        self._peer.__enter__()
        self.rebirth()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._peer.__exit__()

    @property
    def connected(self) -> bool:
        """Whether it is subscribed at the broker."""
        return self._peer.connected

    def trigger(self, trigger_id: str, **values: Any) -> None:
        """Command the device to judge a part."""
        self.command("trigger", {"id": trigger_id, **values})

    def command(self, message: str, values: Mapping[str, Any], *, at: datetime | None = None) -> None:
        """Send a command to the device, with fields of a message such as ``trigger`` or ``product``."""
        self.publish("DCMD", encode(device_metrics(message, values), at=at or datetime.now(UTC), seq=None))

    def rebirth(self) -> None:
        """Command the node to publish its births again."""
        metric = Metric(name=REBIRTH, datatype=DataType.BOOLEAN, value=True)
        self.publish("NCMD", encode([metric], at=datetime.now(UTC), seq=None))

    def publish(self, verb: str, payload: bytes, *, retain: bool = False) -> None:
        """Publish any payload as a command."""
        end = f"/{self._device}" if verb == "DCMD" else ""
        self._peer.publish(f"spBv1.0/{self._group}/{verb}/{self._node}{end}", payload, qos=0, retain=retain)

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
        verb = message.topic.split("/")[2]
        if verb.endswith("CMD"):
            return
        payload = decode(bytes(message.payload))
        with self._came:
            if verb == "DBIRTH":
                self._names = {each.alias: str(each.name) for each in payload.metrics}
            self.messages.append((verb, payload))
            self.ready = self.ready and not verb.endswith("DEATH")
            if verb in ("DBIRTH", "DDATA"):
                found = {self._names.get(each.alias, "?"): each.value for each in payload.metrics}
                self.data.append(found)
                self.ready = bool(found.get("State/ready", self.ready))
                self._newest[found.get("Verdict/trigger_id") or ""] = found
            self._came.notify_all()
