"""Sparkplug B: a station as an edge node with one device, after the Sparkplug specification 3.0.

Birth and death of node and device, data with a number for each message, commands as triggers and selections. The
specification wants quality of service 0 for data: a verdict counts as delivered when it is written to the connection.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiomqtt

from gonogo.line.messages import Answer
from gonogo.line.mqtt_connection import Connection, publish_properties
from gonogo.line.mqtt_messages import ProductMessage, StateMessage, TriggerMessage, check_message, verdict_message
from gonogo.line.mqtt_settings import Sparkplug
from gonogo.line.mqtt_wire import Back
from gonogo.line.sparkplug_payload import METRICS, DataType, Metric, Payload, decode, device_metrics, encode, name_of
from gonogo.names import readable

REBIRTH: Final = "Node Control/Rebirth"
_NUMBERS = 256
_END_S, _OTHERS_S = 1.0, 10.0


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place of one connection of a station in a Sparkplug infrastructure."""

    group: str
    node: str
    device: str
    number: int
    """``bdSeq``, 0 to 255: tells which death belongs to which birth."""

    @classmethod
    def of(cls, settings: Sparkplug, station: str, *, connection: int) -> Place:
        """Return the place of a connection, by its number from 0."""
        node = settings.edge_node_id or station
        return cls(group=settings.group_id, node=node, device=settings.device_id, number=connection % _NUMBERS)

    def topic(self, verb: str) -> str:
        """Return the topic of a type of message, such as ``NBIRTH`` or ``DDATA``."""
        end = f"/{self.device}" if verb.startswith("D") else ""
        return f"spBv1.0/{self.group}/{verb}/{self.node}{end}"

    def last_will(self) -> aiomqtt.Will:
        """Return the death of the node, which the broker publishes when the connection is lost."""
        return aiomqtt.Will(self.topic("NDEATH"), self.death(), qos=1, retain=False)

    def death(self) -> bytes:
        """Return the payload of the node's death."""
        return encode([self.birth_metric()], at=datetime.now(UTC), seq=None, birth=True)

    def birth_metric(self) -> Metric:
        """Return the metric that birth and death share."""
        return Metric(name="bdSeq", datatype=DataType.INT64, value=self.number)


class EdgeNode:
    """One connection with Sparkplug payloads; implements `gonogo.line.mqtt_wire.Wire`."""

    heartbeat_s = float("inf")
    """Births and deaths say whether the station is there; data is sent when it changes."""

    def __init__(self, place: Place, connection: Connection) -> None:
        self._place, self._connection = place, connection
        self._seq = 0
        self._state: dict[str, Any] = {}

    async def begin(self, state: StateMessage) -> None:
        """Subscribe to commands, and publish the births."""
        for verb in ("NCMD", "DCMD"):
            await self._connection.subscribe(self._place.topic(verb), qos=1)
        self._state = _changing(state)
        await self._births()

    def back(self, message: aiomqtt.Message) -> Back:
        """Every answer goes to the device's data."""
        return Back()

    async def read(self, message: aiomqtt.Message, payload: bytes) -> TriggerMessage | ProductMessage | None:
        """Parse a command; a rebirth is answered at once."""
        command = decode(payload)
        if message.topic.value == self._place.topic("DCMD"):
            return _command(command)
        for metric in command.metrics:
            if metric.name != REBIRTH or metric.value is not True:
                raise ValueError(f"expected {REBIRTH} = true, found {readable(str(metric.name))[:60]}")
        if command.metrics:
            await self._births()
        return None

    async def answer(self, answer: Answer, *, remaining_s: float, back: Back) -> None:
        """Publish a verdict as data of the device, all of its metrics in one message."""
        values = verdict_message(answer, station=self._place.node, remaining_s=remaining_s).model_dump()
        await self._data("verdict", values, timeout_s=remaining_s)

    async def refuse(self, why: str, back: Back) -> None:
        """Publish why a command was refused."""
        await self._data("refused", {"refused": why})

    async def tell(self, state: StateMessage) -> None:
        """Publish what has changed of the state."""
        now = _changing(state)
        changed = {name: value for name, value in now.items() if value != self._state.get(name)}
        self._state = now
        if changed:
            await self._data("state", changed)

    async def end(self) -> None:
        """Publish the deaths: an orderly disconnect makes the broker drop the last will."""
        place = self._place
        deaths = [(place.topic("DDEATH"), self._payload([]), 0), (place.topic("NDEATH"), place.death(), 1)]
        sent = [self._connection.publisher.send(topic, payload, qos=qos) for topic, payload, qos in deaths]
        await asyncio.wait(sent, timeout=_END_S)

    async def _births(self) -> None:
        """Publish the births; nothing gets between them. A past verdict is null: it must not reach an output again."""
        self._seq = 0
        node = [self._place.birth_metric(), Metric(name=REBIRTH, datatype=DataType.BOOLEAN, value=False)]
        known = device_metrics("state", self._state) + device_metrics("product", {"product": self._state["product"]})
        values = {each.alias: each.value for each in known}
        device = [
            Metric(name=each.name, alias=each.alias, datatype=each.datatype, value=values.get(each.alias))
            for each in METRICS.values()
        ]
        births = [(verb, self._payload(each, birth=True)) for verb, each in (("NBIRTH", node), ("DBIRTH", device))]
        topic, send = self._place.topic, self._connection.publisher.send
        await asyncio.gather(*[send(topic(verb), payload, qos=0) for verb, payload in births])

    async def _data(self, message: str, values: dict[str, Any], *, timeout_s: float = _OTHERS_S) -> None:
        payload = self._payload(device_metrics(message, values))
        properties = publish_properties(expiry_s=timeout_s) if self._connection.five else None
        publisher, topic = self._connection.publisher, self._place.topic("DDATA")
        await publisher.publish(topic, payload, qos=0, properties=properties, timeout_s=timeout_s)

    def _payload(self, metrics: list[Metric], *, birth: bool = False) -> bytes:
        """Return the next payload, to be sent before anything else is awaited: the host checks the order."""
        payload = encode(metrics, at=datetime.now(UTC), seq=self._seq, birth=birth)
        self._seq = (self._seq + 1) % _NUMBERS
        return payload


def _changing(state: StateMessage) -> dict[str, Any]:
    return state.model_dump(exclude={"at"})


def _command(command: Payload) -> TriggerMessage | ProductMessage:
    """Return the trigger or the selection of a command to the device.

    Raises:
        ValueError: it is neither; the text says why, in one line.
    """
    values: dict[str, dict[str, Any]] = {}
    for metric in command.metrics:
        message, _, field = name_of(metric).partition("/")
        values.setdefault(message, {})[field] = metric.value
    match values:
        case {"Trigger": given} if len(values) == 1:
            return check_message(TriggerMessage, {**given, "sent_at": command.at})
        case {"Product": given} if len(values) == 1:
            return check_message(ProductMessage, given)
    raise ValueError(
        f"expected metrics of Trigger, or Product/product, found those of {' and '.join(values) or 'none'}"
    )
