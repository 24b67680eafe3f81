"""The JSON topics of the MQTT adapter: ``<prefix>/<station>/trigger``, ``product``, ``verdict`` and ``state``."""

from __future__ import annotations

from datetime import UTC, datetime

import aiomqtt

from gonogo.config import Strict
from gonogo.line.messages import Answer
from gonogo.line.mqtt_connection import Connection, publish_properties
from gonogo.line.mqtt_messages import (
    ProductMessage,
    RefusedMessage,
    StateMessage,
    TriggerMessage,
    down_message,
    parse_message,
    verdict_message,
)
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.mqtt_wire import Back


def last_will(settings: Mqtt, station: str) -> aiomqtt.Will:
    """Return the state with vision down, which the broker publishes when the connection is lost."""
    topic = f"{settings.prefix}/{station}/state"
    return aiomqtt.Will(topic, down_message(station).model_dump_json(), qos=1, retain=True)


class JsonTopics:
    """One connection with JSON payloads; implements `gonogo.line.mqtt_wire.Wire`."""

    def __init__(self, settings: Mqtt, station: str, connection: Connection) -> None:
        self.heartbeat_s = settings.heartbeat_s
        self._settings, self._station, self._connection = settings, station, connection
        self._topic = f"{settings.prefix}/{station}"

    async def begin(self, state: StateMessage) -> None:
        """Subscribe, and publish the state."""
        # A trigger that is published as retained is refused at once, and not only by the next station that starts.
        await self._connection.subscribe(f"{self._topic}/trigger", qos=self._settings.qos)
        await self._connection.subscribe(f"{self._topic}/product", qos=self._settings.qos, as_published=False)
        await self.tell(state)

    def back(self, message: aiomqtt.Message) -> Back:
        """Return the response topic of MQTT 5, if the message has one."""
        topic = getattr(message.properties, "ResponseTopic", None)
        if topic is not None and (
            not topic or {"+", "#"} & set(topic) or topic.startswith(("$", f"{self._topic}/"))
        ):  # also what we listen to or keep
            raise ValueError("expected a response topic of the peer's own, without wildcards")
        return Back(topic=topic, correlation=getattr(message.properties, "CorrelationData", None))

    async def read(self, message: aiomqtt.Message, payload: bytes) -> TriggerMessage | ProductMessage | None:
        """Parse a trigger or a selection, by its topic."""
        is_product = message.topic.value.endswith("/product")
        return parse_message(ProductMessage, payload) if is_product else parse_message(TriggerMessage, payload)

    async def answer(self, answer: Answer, *, remaining_s: float, back: Back) -> None:
        """Publish a verdict; MQTT 5's broker drops it at its deadline."""
        message = verdict_message(answer, station=self._station, remaining_s=remaining_s)
        await self._publish(back, message, qos=self._settings.qos, timeout_s=remaining_s)

    async def refuse(self, why: str, back: Back) -> None:
        """Answer a request whose message was no trigger."""
        if back.topic is not None:
            await self._publish(back, RefusedMessage(station=self._station, refused=why), qos=0, timeout_s=1.0)

    async def tell(self, state: StateMessage) -> None:
        """Publish the retained state; MQTT 5's broker drops it when three heartbeats are missing."""
        await self._publish_state(state, qos=1, expiry_s=3 * self.heartbeat_s)

    async def end(self) -> None:
        """Publish the state with vision down."""
        await self._publish_state(down_message(self._station), qos=0, expiry_s=None)

    async def _publish_state(self, state: StateMessage, *, qos: int, expiry_s: float | None) -> None:
        dated = state.model_copy(update={"at": datetime.now(UTC)})
        properties = publish_properties(expiry_s=expiry_s) if self._connection.five else None
        text = dated.model_dump_json(exclude_none=True).encode()
        await self._connection.publisher.publish(
            f"{self._topic}/state", text, qos=qos, retain=True, properties=properties
        )

    async def _publish(self, back: Back, message: Strict, *, qos: int, timeout_s: float) -> None:
        five = self._connection.five
        properties = publish_properties(expiry_s=timeout_s, correlation=back.correlation) if five else None
        await self._connection.publisher.publish(
            back.topic or f"{self._topic}/verdict",
            message.model_dump_json(exclude_none=True).encode(),
            qos=qos,
            properties=properties,
            timeout_s=timeout_s,
        )
