"""Results on an MQTT 5 topic, acknowledged by the broker with quality of service 1 or 2."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from gonogo.line.mqtt_acknowledgements import hear_acknowledgements
from gonogo.results.credentials import read_secret, tls_context
from gonogo.results.delivery import Delivery, DeliveryError
from gonogo.results.settings import MqttResults

_KEEPALIVE_S = 30
_REFUSALS = (0x84, 0x85, 0x86, 0x87, 0x8A, 0x8C, 0x90)  # version, client id, password, not authorized, banned, topic


class Mqtt:
    """A connection to one broker, kept open between batches."""

    def __init__(self, settings: MqttResults, station: str) -> None:
        self._settings, self._station = settings, station
        self._topic = settings.topic.replace("{station}", station)
        port = settings.port or (8883 if settings.tls else 1883)
        self._address = (settings.host, port)
        self._changed = threading.Condition()
        self._client: Client | None = None
        self._connected: ReasonCode | None = None
        self._lost = ""
        self._acknowledged: dict[int, ReasonCode] = {}

    def deliver(self, batch: Sequence[Delivery]) -> None:
        """Publish each result and wait for its acknowledgement."""
        if self._client is None or self._lost:
            self.close()
            self._client = self._connect()
        for number, each in enumerate(batch):
            self._publish(self._client, each, number)

    def close(self) -> None:
        """Disconnect."""
        client, self._client = self._client, None
        if client is not None:
            client.disconnect()
            client.loop_stop()

    def _connect(self) -> Client:
        settings = self._settings
        client = Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"gonogo-{self._station}-{settings.name}",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        if settings.user is not None:
            file = settings.password_file
            client.username_pw_set(settings.user, None if file is None else read_secret(file, "the broker's password"))
        if settings.tls:
            client.tls_set_context(tls_context(settings.ca_file, settings.cert_file))
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        hear_acknowledgements(client, self._acknowledge)
        client.connect_timeout = settings.timeout_s
        self._forget()
        try:
            client.connect(*self._address, keepalive=_KEEPALIVE_S, clean_start=True)
        except (OSError, ValueError) as error:
            raise DeliveryError(f"{self._shown}: no connection ({error})", refused=_is_certificate(error)) from error
        client.loop_start()
        self._client = client  # so that it is closed whatever follows
        with self._changed:
            self._changed.wait_for(lambda: self._connected is not None or self._lost, settings.timeout_s)
            answer = self._connected
        if answer is None or answer.is_failure:
            self.close()
            said = (self._lost or "no answer") if answer is None else str(answer)
            refused = answer is not None and answer.value in _REFUSALS
            raise DeliveryError(f"{self._shown}: the broker does not accept the connection ({said})", refused=refused)
        return client

    def _publish(self, client: Client, each: Delivery, number: int) -> None:
        properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
        properties.ContentType = "application/json"
        properties.PayloadFormatIndicator = 1
        properties.UserProperty = [("result_id", each.document.result_id)]
        sent = client.publish(self._topic, each.content, qos=self._settings.qos, properties=properties)
        until = time.monotonic() + self._settings.timeout_s
        with self._changed:
            self._changed.wait_for(lambda: sent.mid in self._acknowledged or self._lost, until - time.monotonic())
            reason = self._acknowledged.pop(sent.mid, None)
        if sent.rc == MQTTErrorCode.MQTT_ERR_SUCCESS and reason is not None and not reason.is_failure:
            return
        said = reason or self._lost or "no acknowledgement"
        raise DeliveryError(
            f"{self._shown}: {each.document.result_id} was not acknowledged on {self._topic} ({said})",
            delivered=number,
            refused=reason is not None,
        )

    def _forget(self) -> None:
        self._connected, self._lost, self._acknowledged = None, "", {}

    @property
    def _shown(self) -> str:
        return f"mqtt://{self._address[0]}:{self._address[1]}"

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self._connected = reason
            self._changed.notify_all()

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, reason: ReasonCode, properties: Properties | None
    ) -> None:
        with self._changed:
            self._lost = f"connection lost: {reason}"
            self._changed.notify_all()

    def _acknowledge(self, mid: int, reason: ReasonCode) -> None:
        with self._changed:
            self._acknowledged.setdefault(mid, reason)
            self._changed.notify_all()


def _is_certificate(error: Exception) -> bool:
    import ssl

    return isinstance(error, ssl.SSLCertVerificationError)
