"""What the MQTT adapter asks of a kind of payload: `gonogo.line.mqtt_json` or `gonogo.line.sparkplug`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import aiomqtt

from gonogo.line.messages import Answer
from gonogo.line.mqtt_messages import ProductMessage, StateMessage, TriggerMessage


@dataclass(frozen=True, kw_only=True)
class Back:
    """Where a message asks for its answer, with MQTT 5's request and response."""

    topic: str | None = None
    """``None``: where the answers go that nobody asked for elsewhere."""
    correlation: bytes | None = None


class Wire(Protocol):
    """The topics and payloads of one connection; every method raises `AdapterError` when it is lost."""

    heartbeat_s: float
    """The state is told at least this often."""

    async def begin(self, state: StateMessage) -> None:
        """Subscribe, and tell the state."""

    def back(self, message: aiomqtt.Message) -> Back:
        """Return where a message asks for its answer.

        Raises:
            ValueError: nothing can be published there.
        """

    async def read(self, message: aiomqtt.Message, payload: bytes) -> TriggerMessage | ProductMessage | None:
        """Parse an untrusted message; ``None`` if it needs nothing from the station.

        Raises:
            ValueError: it is none of ours; the text says why, in one line.
        """

    async def answer(self, answer: Answer, *, remaining_s: float, back: Back) -> None:
        """Publish an answer that is good for so many more seconds.

        Raises:
            RefusedPublishError: the broker refuses it.
            AdapterError: the broker has not taken it in this time.
        """

    async def refuse(self, why: str, back: Back) -> None:
        """Tell the sender of a message why it was refused, where it can be told."""

    async def tell(self, state: StateMessage) -> None:
        """Publish the state."""

    async def end(self) -> None:
        """Say that the station goes, while the connection still stands."""
