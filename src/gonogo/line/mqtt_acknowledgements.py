"""Hear what the broker says to a message that was published: paho-mqtt and aiomqtt pass on only part of it.

aiomqtt drops the reason code of every acknowledgement, and paho-mqtt that of PUBREC, the first of the two for quality
of service 2: a message that the broker refused would count as delivered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import aiomqtt
from paho.mqtt.client import Client
from paho.mqtt.enums import MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gonogo.line.adapter import AdapterError

_PATIENCE_S = 10.0


class RefusedPublishError(AdapterError):
    """The broker does not take a message; the connection is good."""


def hear_acknowledgements(client: Client, acknowledged: Callable[[int, ReasonCode], None]) -> None:
    """Report each acknowledgement of a client, and still pass it on to the client's own ``on_publish``.

    Args:
        client: A client with version 2 of the callbacks, not connected yet.
        acknowledged: Receives the number of a message and the broker's reason: of a PUBREC only a refusal, which the
            broker's PUBCOMP may follow.
    """
    passed_on, handle = client.on_publish, client._handle_pubrec

    def on_publish(client: Client, userdata: Any, mid: int, reason: ReasonCode, properties: Properties) -> None:
        acknowledged(mid, reason)
        if passed_on is not None:
            passed_on(client, userdata, mid, reason, properties)  # type: ignore[call-arg]  # version 2

    def on_pubrec() -> MQTTErrorCode:
        packet = bytes(client._in_packet["packet"])  # message number, then the reason code if there is something to say
        if len(packet) > 2 and packet[2] >= 0x80:
            acknowledged(int.from_bytes(packet[:2], "big"), ReasonCode(PacketTypes.PUBREC, identifier=packet[2]))
        return handle()

    client.on_publish = on_publish
    client._handle_pubrec = on_pubrec  # type: ignore[method-assign]


class Publisher:
    """Publishes through an ``aiomqtt.Client``, and says what the broker answered."""

    def __init__(self, client: aiomqtt.Client) -> None:
        """Store the client, which is not connected yet."""
        self._paho = client._client  # aiomqtt.Client.publish tells neither the message's number nor its reason code
        self._waiting: dict[int, asyncio.Future[ReasonCode | None]] = {}
        self._lost = False
        hear_acknowledgements(self._paho, self._acknowledged)

    def send(
        self, topic: str, payload: bytes, *, qos: int, retain: bool = False, properties: Properties | None = None
    ) -> asyncio.Future[ReasonCode | None]:
        """Hand a message to the connection at once, behind those that were handed over before.

        Returns:
            The broker's reason; ``None`` for quality of service 0, when the message is written.

        Raises:
            AdapterError: the connection is lost.
            ValueError: the topic cannot be published to.
        """
        done: asyncio.Future[ReasonCode | None] = asyncio.get_running_loop().create_future()
        info = self._paho.publish(topic, payload, qos, retain, properties)
        if self._lost or info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            raise AdapterError("the connection to the broker is lost")
        if info.is_published():  # only without acknowledgement: those are read later, by this thread
            done.set_result(None)
        else:
            self._waiting[info.mid] = done
        return done

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int,
        retain: bool = False,
        properties: Properties | None = None,
        timeout_s: float = _PATIENCE_S,
    ) -> None:
        """Publish a message, and wait until the broker has taken it.

        Raises:
            RefusedPublishError: the broker refuses it.
            AdapterError: the connection is lost, or the broker has not taken it in time.
            ValueError: the topic cannot be published to.
        """
        sent = self.send(topic, payload, qos=qos, retain=retain, properties=properties)
        try:
            async with asyncio.timeout(timeout_s):
                reason = await sent
        except TimeoutError:
            raise AdapterError("the broker has not taken a message in time") from None
        if reason is not None and reason.is_failure:
            raise RefusedPublishError(
                f"the broker refuses what we publish to {topic} ({reason}). Allow it in the broker's rules."
            )

    def end(self) -> None:
        """Give up what the broker has not acknowledged: the connection is lost."""
        self._lost = True
        for each in self._waiting.values():
            if not each.done():
                each.set_exception(AdapterError("the connection to the broker is lost"))
                each.exception()  # nobody may wait for it
        self._waiting.clear()

    def _acknowledged(self, mid: int, reason: ReasonCode) -> None:
        waiting = self._waiting.pop(mid, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(reason)
