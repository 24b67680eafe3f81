"""The JSON messages of the MQTT adapter, as pydantic models; ``docs/schemas/`` holds their JSON Schemas."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from dataclasses import Field as DataclassField
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import BaseModel, Field, ValidationError, create_model

from gonogo.config import Strict
from gonogo.line.messages import Answer, TriggerValues
from gonogo.line.state import Health, LineState
from gonogo.names import readable

Message = TypeVar("Message", bound=Strict)


class TriggerMessage(Strict):
    """A part has arrived: published to ``<prefix>/<station>/trigger``, not retained."""

    id: str = Field(min_length=1)
    """Unique at the station for ever: the same id means the same part, and is answered with the stored verdict."""
    part: str | None = None
    """The part's serial number."""
    lot: str | None = None
    """The batch it came from."""
    product: str | None = None
    """The product that the line makes."""
    count: int | None = Field(default=None, ge=0)
    """The line's own count of parts, one more for each; a gap is a missed trigger."""
    sent_at: datetime | None = None
    """Time of sending, with its time zone: a trigger that is too old is refused."""

    def values(self) -> TriggerValues:
        """Return the fields besides the id that were given."""
        found = {name: getattr(self, name) for name in ("part", "lot", "product", "count")}
        return {name: value for name, value in found.items() if value is not None}  # type: ignore[return-value]


class _Verdict(Strict):
    """The answer to a trigger: published to ``<prefix>/<station>/verdict`` or the response topic, never retained."""

    station: str
    """Name of the station."""
    valid_until: datetime
    """Deadline, UTC: a verdict that arrives later is none."""


def _fields_of_answer() -> dict[str, Any]:
    types = get_type_hints(Answer)
    given = (each for each in fields(Answer) if each.name != "sole_until_s")
    return {each.name: (types[each.name], _default(each)) for each in given}


def _default(field: DataclassField[Any]) -> Any:
    if field.default_factory is not MISSING:
        return Field(default_factory=field.default_factory)
    return ... if field.default is MISSING else field.default


VerdictMessage = create_model("VerdictMessage", __base__=_Verdict, __doc__=_Verdict.__doc__, **_fields_of_answer())
"""The message has the fields of an `Answer`, beside the station and the deadline."""


class RefusedMessage(Strict):
    """A message that was no trigger: the answer on its response topic, if it has one."""

    station: str
    """Name of the station."""
    refused: str
    """Why; no part was judged."""


class StateMessage(Strict):
    """The station's state: retained on ``<prefix>/<station>/state``; the last will is one with vision down."""

    station: str
    """Name of the station."""
    vision: Literal["up", "down"]
    """``down`` if the station is not connected to the broker."""
    ready: bool
    """Whether a part that arrives now would be judged."""
    faulting: str
    """Why a part that arrives now would be a fault; empty if ready."""
    health: Health
    """Overall state."""
    product: str | None = None
    """The selected product."""
    products: tuple[str, ...] = ()
    """The products that can be selected."""
    bundle_sha256: str | None = None
    """The bundle that judges."""
    at: datetime | None = None
    """Time of publishing, UTC; it is published again after each heartbeat."""


class ProductMessage(Strict):
    """Select the product: published to ``<prefix>/<station>/product``."""

    product: str = Field(min_length=1)
    """One of the station's products."""


MESSAGES: dict[str, type[BaseModel]] = {
    "trigger": TriggerMessage,
    "verdict": VerdictMessage,
    "refused": RefusedMessage,
    "state": StateMessage,
    "product": ProductMessage,
}
"""The message of each topic; ``refused`` is sent to response topics only."""


def parse_message(model: type[Message], payload: bytes) -> Message:
    """Parse an untrusted payload.

    Raises:
        ValueError: it is not such a message; the text says why, in one line.
    """
    try:
        return model.model_validate_json(payload)
    except ValidationError as error:
        raise ValueError(_first(error)) from None


def check_message(model: type[Message], values: Mapping[str, Any]) -> Message:
    """Create a message from untrusted values.

    Raises:
        ValueError: as for `parse_message`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise ValueError(_first(error)) from None


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    key = ".".join(str(each) for each in first["loc"])
    return readable(f"{key or 'the payload'}: {first['msg']}")[:200]


def past_part(trigger: TriggerMessage, *, oldest_s: float, required: bool, now: datetime) -> str:
    """Say why a trigger may belong to a past part, by its time of sending; empty if it does not.

    Args:
        trigger: The trigger.
        oldest_s: Largest difference between its time and ours.
        required: Whether a trigger needs its time.
        now: Our time.
    """
    if trigger.sent_at is None:
        return "expected sent_at, found none (require_sent_at)" if required else ""
    if trigger.sent_at.tzinfo is None:
        return "expected sent_at with a time zone"
    age_s = (now - trigger.sent_at).total_seconds()
    if abs(age_s) <= oldest_s:
        return ""
    by = f"was sent {age_s:.1f} s ago by its sent_at (limit {oldest_s:g} s)"
    return f"trigger {trigger.id} {by}: it belongs to another part"


def verdict_message(answer: Answer, *, station: str, remaining_s: float) -> Strict:
    """Return the `VerdictMessage` for an answer that is good for so many more seconds."""
    names = VerdictMessage.model_fields.keys() - _Verdict.model_fields.keys()
    until = datetime.now(UTC) + timedelta(seconds=remaining_s)
    return VerdictMessage(station=station, valid_until=until, **{name: getattr(answer, name) for name in names})


def state_message(state: LineState) -> StateMessage:
    """Return the message for a station's state; ``at`` is left out, so that equal states compare equal."""
    return StateMessage(
        station=state.station,
        vision="up",
        ready=state.ready,
        faulting=state.why_not_ready,
        health=state.health,
        product=state.product,
        products=state.products,
        bundle_sha256=state.bundle_sha256,
    )


def down_message(station: str) -> StateMessage:
    """Return the last will."""
    why = "the station is not connected to the broker"
    return StateMessage(station=station, vision="down", ready=False, faulting=why, health=Health.STOPPED)
