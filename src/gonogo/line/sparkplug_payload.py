"""Payloads of Sparkplug B: metrics as protocol buffers, after chapter 6 of the Sparkplug specification 3.0.

Every field of the JSON messages of `gonogo.line.mqtt_messages` is a metric of the device, ``<Message>/<field>``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from types import NoneType
from typing import Any, Final, TypeAlias, get_args

from google.protobuf.message import DecodeError

from gonogo.line.mqtt_messages import MESSAGES
from gonogo.protobuf import build_messages

_message = build_messages(
    "sparkplug",
    {
        "Payload": "1 timestamp uint64, 2 metrics *Metric, 3 seq uint64",
        "Metric": "1 name string, 2 alias uint64, 3 timestamp uint64, 4 datatype uint32, 5 is_historical bool, "
        "7 is_null bool, 10 value.int_value uint32, 11 value.long_value uint64, 12 value.float_value float, "
        "13 value.double_value double, 14 value.boolean_value bool, 15 value.string_value string",
    },
    syntax="proto2",
)
_ELSEWHERE: Final = {"station", "vision", "at", "sent_at"}
"""Fields that Sparkplug says in its own way: by topic, birth and death, and the payload's timestamp."""
_SIGN_BITS: Final = {"int_value": 31, "long_value": 63}

Value: TypeAlias = str | int | float | bool | None


class DataType(IntEnum):
    """The data types that our metrics have."""

    INT64 = 4
    DOUBLE = 10
    BOOLEAN = 11
    STRING = 12
    DATETIME = 13

    @property
    def field(self) -> str:
        """Field of the protocol buffer with the value."""
        return {
            DataType.DOUBLE: "double_value",
            DataType.BOOLEAN: "boolean_value",
            DataType.STRING: "string_value",
        }.get(self, "long_value")


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric; in data and commands an alias stands for the name."""

    name: str | None = None
    alias: int | None = None
    datatype: DataType | None = None
    """For births; otherwise known from the birth."""
    value: Any = None
    """``None``: the metric is null. A time has a zone; what is neither text, number, flag nor time becomes JSON."""


@dataclass(frozen=True, kw_only=True)
class Payload:
    """A decoded payload."""

    at: datetime | None
    """Time of sending."""
    seq: int | None
    metrics: tuple[Metric, ...]


def _datatype(annotation: Any) -> DataType:
    kinds = [each for each in get_args(annotation) or (annotation,) if each is not NoneType]
    known = {bool: DataType.BOOLEAN, int: DataType.INT64, float: DataType.DOUBLE, datetime: DataType.DATETIME}
    return known.get(kinds[0], DataType.STRING)


def _definitions() -> dict[str, Metric]:
    found = {
        f"{message.title()}/{field}": _datatype(info.annotation)
        for message, model in MESSAGES.items()
        for field, info in model.model_fields.items()
        if field not in _ELSEWHERE
    }
    return {name: Metric(name=name, alias=place, datatype=kind) for place, (name, kind) in enumerate(found.items())}


METRICS: Final[Mapping[str, Metric]] = _definitions()
"""The metrics of the device by name, with their aliases and data types, without values."""
_NAMES: Final = {each.alias: name for name, each in METRICS.items()}


def device_metrics(message: str, values: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics for the fields of a message, by alias.

    Args:
        message: One of `MESSAGES`.
        values: The fields, ``None`` for those that are null.
    """
    found = ((METRICS.get(f"{message.title()}/{field}"), value) for field, value in values.items())
    return [Metric(alias=each.alias, datatype=each.datatype, value=value) for each, value in found if each is not None]


def name_of(metric: Metric) -> str:
    """Return the name of a metric of the device.

    Raises:
        ValueError: the device has no such metric.
    """
    name = metric.name if metric.alias is None else _NAMES.get(metric.alias)
    if name not in METRICS:
        raise ValueError(f"no metric has the name {metric.name!r} or the alias {metric.alias}")
    return str(name)


def encode(metrics: Iterable[Metric], *, at: datetime, seq: int | None, birth: bool = False) -> bytes:
    """Encode a payload.

    Args:
        metrics: The metrics; those with values need their data types.
        at: Time of sending, and of every metric.
        seq: Number of the message, 0 to 255; ``None`` for deaths and commands.
        birth: Whether the data types are sent.
    """
    now = _milliseconds(at)
    payload = _message("Payload")(timestamp=now)
    if seq is not None:
        payload.seq = seq
    for each in metrics:
        metric = payload.metrics.add(timestamp=now)
        if each.name is not None:
            metric.name = each.name
        if each.alias is not None:
            metric.alias = each.alias
        if birth:
            metric.datatype = each.datatype
        if each.value is None:
            metric.is_null = True
        else:
            kind = DataType.STRING if each.datatype is None else each.datatype
            setattr(metric, kind.field, _encoded(each.value, kind))
    return bytes(payload.SerializeToString())


def _encoded(value: Any, kind: DataType) -> Any:
    match kind:
        case DataType.DATETIME:
            return _milliseconds(value)
        case DataType.INT64:
            return value & (2**64 - 1)  # two's complement
        case DataType.STRING:
            return str(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return value


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def decode(content: bytes) -> Payload:
    """Decode an untrusted payload; integers are signed.

    Raises:
        ValueError: it is none, or has values of types that we do not use.
    """
    payload = _message("Payload")()
    try:
        payload.ParseFromString(content)
    except DecodeError:
        raise ValueError("expected a Sparkplug B payload, found other bytes") from None
    try:
        at = datetime.fromtimestamp(payload.timestamp / 1000, UTC) if payload.HasField("timestamp") else None
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"expected a time, found timestamp {payload.timestamp}") from None
    seq = payload.seq if payload.HasField("seq") else None
    return Payload(at=at, seq=seq, metrics=tuple(_decoded(each) for each in payload.metrics))


def _decoded(metric: Any) -> Metric:
    name = metric.name if metric.HasField("name") else None
    alias = metric.alias if metric.HasField("alias") else None
    if metric.is_historical:
        raise ValueError("a historical metric: it belongs to a past part")
    field = metric.WhichOneof("value")
    if field is None and not metric.is_null:
        raise ValueError(f"metric {name or alias}: expected a value of type text, number, flag or time")
    value = getattr(metric, field) if field is not None and not metric.is_null else None
    if field in _SIGN_BITS and value is not None and value >> _SIGN_BITS[field]:
        value -= 2 << _SIGN_BITS[field]
    known = {each.value for each in DataType}
    datatype = DataType(metric.datatype) if metric.datatype in known else None
    return Metric(name=name, alias=alias, datatype=datatype, value=value)
