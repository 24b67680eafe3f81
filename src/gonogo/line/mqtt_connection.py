"""Connect to an MQTT broker: from `MqttBroker` settings to an ``aiomqtt.Client``, and errors that say what to do."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiomqtt
from paho.mqtt.client import MQTT_CLEAN_START_FIRST_ONLY
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from gonogo.errors import InputError
from gonogo.files import MOST_SETTINGS_BYTES, read_regular
from gonogo.line.adapter import AdapterError
from gonogo.line.mqtt_acknowledgements import Publisher
from gonogo.line.mqtt_settings import MqttBroker
from gonogo.names import readable

_CONNECT_S = 5.0
_MOST_PACKET_BYTES = 2_000_000
_MOST_WAITING = 1_000
_LOGGER = logging.getLogger("gonogo.mqtt")
_LOGGER.addHandler(logging.NullHandler())
_LOGGER.propagate = False  # what matters is in the adapter's trouble; the packets' contents belong in no log


@dataclass(frozen=True, kw_only=True)
class Connection:
    """A connection to a broker: ``client.messages`` come in, what the publisher publishes goes out."""

    client: aiomqtt.Client
    publisher: Publisher
    five: bool
    """Whether it speaks MQTT 5, and not 3.1.1."""

    async def subscribe(self, topic: str, *, qos: int, as_published: bool = True) -> None:
        """Subscribe to a topic.

        Args:
            topic: The topic.
            qos: Quality of service.
            as_published: A message that is published as retained comes with its flag, also one that is new; MQTT 5.

        Raises:
            AdapterError: the broker refuses.
        """
        if self.five:
            handling = SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE
            options = SubscribeOptions(qos, retainAsPublished=as_published, retainHandling=handling)
            codes = await self.client.subscribe(topic, options=options)
        else:
            codes = await self.client.subscribe(topic, qos=qos)
        if any(getattr(code, "value", code) >= 0x80 for code in codes):
            raise AdapterError(f"the broker refuses our subscription to {topic}. Allow it in the broker's rules.")


@asynccontextmanager
async def connected(broker: MqttBroker, *, client_id: str, will: aiomqtt.Will) -> AsyncIterator[Connection]:
    """Connect with a clean session: the broker keeps nothing for us while we are away, and we resend nothing.

    Raises:
        InputError: a file that the settings name cannot be used.
        AdapterError: the broker cannot be reached or refuses us, or the connection is lost; the message says what to
            do, and contains no secret.
    """
    five = broker.version == "5"
    client = aiomqtt.Client(
        broker.host,
        broker.port,
        identifier=broker.client_id or client_id,
        protocol=aiomqtt.ProtocolVersion.V5 if five else aiomqtt.ProtocolVersion.V311,
        clean_session=None if five else True,
        clean_start=True if five else MQTT_CLEAN_START_FIRST_ONLY,  # the only value that 3.1.1 takes
        properties=connect_properties() if five else None,
        username=broker.user,
        password=None if broker.password_file is None else read_secret(broker.password_file),
        tls_context=tls_context(broker),
        will=will,
        keepalive=broker.keepalive_s,
        timeout=_CONNECT_S,
        max_queued_incoming_messages=_MOST_WAITING,
        max_inflight_messages=0,
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],  # the packets of a handshake are small
        logger=_LOGGER,
    )
    publisher = Publisher(client)
    try:
        async with client:
            yield Connection(client=client, publisher=publisher, five=five)
    except aiomqtt.MqttError as error:
        raise AdapterError(trouble(broker, error)) from None
    finally:
        publisher.end()


def connect_properties() -> Properties:
    """Return the properties of MQTT 5's CONNECT: the session ends with the connection; the packet size is limited."""
    found = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    found.SessionExpiryInterval = 0
    found.MaximumPacketSize = _MOST_PACKET_BYTES
    return found


def publish_properties(*, expiry_s: float | None = None, correlation: bytes | None = None) -> Properties:
    """Return the properties of an MQTT 5 PUBLISH with JSON.

    Args:
        expiry_s: The broker drops the message after this time; whole seconds, at least 1, because 0 is none to some
            brokers.
        correlation: Correlation data of the request that it answers.
    """
    found = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if expiry_s is not None:
        found.MessageExpiryInterval = max(1, int(expiry_s))
    if correlation is not None:
        found.CorrelationData = correlation
    return found


def read_secret(path: Path) -> str:
    """Read the first line of a file that only this user may open.

    Raises:
        InputError: the file is missing, empty or not private.
    """
    try:
        text = read_regular(path, most_bytes=MOST_SETTINGS_BYTES, private=True).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
        raise InputError(
            f"{path}: expected a file with a password that only this user may open ({why}). "
            f"Create it, then: chmod 600 {path}"
        ) from None
    found = text.partition("\n")[0].strip("\r")
    if not found:
        raise InputError(f"{path}: expected a password in the first line, found an empty one.")
    return found


def tls_context(broker: MqttBroker) -> ssl.SSLContext | None:
    """Return the TLS settings, TLS 1.2 or newer; ``None`` without TLS.

    Raises:
        InputError: a certificate or the key cannot be used, or the key is not private.
    """
    if not broker.tls:
        return None
    file = broker.ca_file
    try:
        context = ssl.create_default_context(cafile=file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.certificate_file is not None and broker.key_file is not None:
            file = broker.key_file
            read_regular(file, most_bytes=MOST_SETTINGS_BYTES, private=True)
            file = broker.certificate_file
            context.load_cert_chain(file, broker.key_file, password=_no_passphrase)
    except OSError as error:  # also ssl.SSLError
        raise InputError(
            f"{file}: expected certificates (PEM), and a matching private key that only this user may open, "
            f"found {readable(str(error.strerror or error))}. Check ca_file, certificate_file and key_file."
        ) from None
    return context


def _no_passphrase() -> str:
    return ""


def trouble(broker: MqttBroker, error: BaseException) -> str:
    """Say why there is no connection, and what to do."""
    text, place = readable(str(error))[:200], f"{broker.host}:{broker.port}"
    code = getattr(getattr(error, "rc", None), "value", getattr(error, "rc", None))
    if isinstance(error, aiomqtt.exceptions.MqttConnectError) and code in (4, 5, 134, 135):
        return f"the broker at {place} refuses our user or password. Check user, password_file and the broker's rules."
    if isinstance(error, aiomqtt.exceptions.MqttConnectError) and code in (1, 132):
        return f"the broker at {place} does not speak MQTT {broker.version}. Set version to the one that it speaks."
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"the certificate of the broker at {place} is not trusted ({text}). Check ca_file and host."
    if "SSL" in text or "TLS" in text.upper():
        return f"no encrypted connection to {place} ({text}). Check port, tls, certificate_file and key_file."
    if "timed out" in text:
        return f"the broker at {place} does not answer. Check host, port, tls, and our certificate."
    return f"no connection to the broker at {place} ({text}). Check that it runs."
