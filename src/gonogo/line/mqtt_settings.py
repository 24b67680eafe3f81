"""The settings of the MQTT adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from gonogo.capture.settings import Port
from gonogo.config import Strict
from gonogo.line.named import AdapterName, Seconds


class MqttBroker(Strict):
    """How to reach an MQTT broker; `gonogo.line.mqtt_connection` connects."""

    host: str = Field(default="127.0.0.1", min_length=1)
    port: Port = 1883
    version: Literal["5", "3.1.1"] = "5"
    """Version of MQTT. Under 3.1.1 a broker cannot drop a verdict that is too old; see docs/mqtt.md."""
    client_id: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,60}$")
    """Unique at the broker; by default made of the names of the station and the adapter."""
    user: str | None = Field(default=None, min_length=1)
    password_file: Path | None = None
    """A file whose first line is the password; only this user may open it."""
    tls: bool = False
    """Encrypt the connection, and check the broker's certificate and host name."""
    ca_file: Path | None = None
    """Certificates (PEM) that may sign the broker's; by default those of the operating system."""
    certificate_file: Path | None = None
    """This station's certificate (PEM)."""
    key_file: Path | None = None
    """Its private key (PEM, without a passphrase); only this user may open it."""
    allow_without_password: bool = False
    """Connect with neither password nor certificate."""
    allow_without_tls: bool = False
    """Connect to another machine without encryption."""
    keepalive_s: int = Field(default=10, ge=2, le=3_600)
    """The broker publishes the last will after one and a half times this time without a sign of life."""

    @model_validator(mode="after")
    def _is_protected(self) -> MqttBroker:
        if (self.user is None) != (self.password_file is None):
            raise ValueError("mqtt: expected user and password_file together, or neither")
        if (self.certificate_file is None) != (self.key_file is None):
            raise ValueError("mqtt: expected certificate_file and key_file together, or neither")
        if not self.tls and (self.ca_file or self.certificate_file):
            raise ValueError("mqtt: expected tls = true with ca_file or certificate_file")
        if self.user is None and self.certificate_file is None and not self.allow_without_password:
            raise ValueError(
                "mqtt: expected user and password_file, certificate_file, or allow_without_password = true"
            )
        if not self.tls and self.host not in ("127.0.0.1", "::1", "localhost") and not self.allow_without_tls:
            raise ValueError("mqtt: expected tls = true, or allow_without_tls = true, for a broker on another machine")
        return self


TopicLevels: TypeAlias = Annotated[
    str, Field(pattern=r"^[^+#\x00$/][^+#\x00]*[^+#\x00/]$|^[^+#\x00$/]$", max_length=200)
]


SparkplugId: TypeAlias = Annotated[str, Field(pattern=r"^[^+#/\x00]+$", max_length=100)]
"""One level of a topic."""


class Sparkplug(Strict):
    """The place of a station in a Sparkplug B infrastructure."""

    group_id: SparkplugId
    """Group of edge nodes, such as the plant."""
    edge_node_id: SparkplugId | None = None
    """Unique in the group; by default the station's name."""
    device_id: SparkplugId = "vision"
    """The device of the edge node whose metrics are triggers, verdicts and the state."""


class Mqtt(MqttBroker):
    """A client of an MQTT broker: triggers and product selections in, verdicts and the station's state out."""

    kind: Literal["mqtt"]
    name: AdapterName = "mqtt"
    prefix: TopicLevels = "gonogo"
    """First levels of the topics, ``<prefix>/<station>/trigger``."""
    qos: Literal[1, 2] = 2
    """Quality of service of triggers and verdicts."""
    heartbeat_s: Seconds = 5.0
    """The state is published at every change and at least this often."""
    oldest_trigger_s: Seconds = 10.0
    """A trigger whose ``sent_at`` differs more from this machine's clock belongs to another part and is refused."""
    require_sent_at: bool = False
    """Refuse a trigger without ``sent_at``."""
    most_payload_bytes: int = Field(default=16_384, ge=64, le=1_000_000)
    """Larger messages are refused."""
    sparkplug: Sparkplug | None = None
    """Speak Sparkplug B instead of JSON; its topics, quality of service and times are those of its specification."""

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Mqtt:
        unused = sorted({"prefix", "qos", "heartbeat_s"} & self.model_fields_set)
        if self.sparkplug is not None and unused:
            raise ValueError(f"mqtt: expected no {' and no '.join(unused)} with sparkplug, which has its own")
        return self
