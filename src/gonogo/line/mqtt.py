"""MQTT: triggers and product selections in, verdicts and the state out, as JSON or as Sparkplug B.

No old verdict reaches a subscriber: sessions are clean, so neither we nor the broker keep one for later; verdicts are
never retained and carry their deadline, also as MQTT 5's message expiry; a publish that the broker does not complete
before the deadline ends the connection, is recorded as undelivered, and its verdict is a fault for ever.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime

import aiomqtt

from gonogo.line import mqtt_json
from gonogo.line.adapter import AdapterError, Link, TimelyAnswer
from gonogo.line.mqtt_acknowledgements import RefusedPublishError
from gonogo.line.mqtt_connection import connected
from gonogo.line.mqtt_messages import ProductMessage, TriggerMessage, past_part, state_message
from gonogo.line.mqtt_settings import Mqtt
from gonogo.line.mqtt_wire import Back, Wire
from gonogo.line.sparkplug import EdgeNode, Place

_POLL_S = 0.1
_MOST_PENDING = 200
_MOST_IN_FLIGHT = 10
"""Publishes that the broker has not completed; further verdicts wait here, where they can still become faults."""


async def serve(settings: Mqtt, link: Link, *, connections: Iterator[int]) -> None:
    """Connect and serve until the connection is lost; see `gonogo.line.adapter`.

    Args:
        settings: The settings.
        link: The station.
        connections: Numbers of the connections, from 0, for Sparkplug's births and deaths.
    """
    station = link.state.station
    client_id = f"gonogo-{station}-{link.name}"
    if settings.sparkplug is None:
        will = mqtt_json.last_will(settings, station)
        async with connected(settings, client_id=client_id, will=will) as connection:
            await _Session(settings, link, connection.client, mqtt_json.JsonTopics(settings, station, connection)).run()
    else:
        place = Place.of(settings.sparkplug, station, connection=next(connections))
        async with connected(settings, client_id=client_id, will=place.last_will()) as connection:
            await _Session(settings, link, connection.client, EdgeNode(place, connection)).run()


class _Session:
    """One connection to the broker."""

    def __init__(self, settings: Mqtt, link: Link, client: aiomqtt.Client, wire: Wire) -> None:
        self._settings, self._link, self._client, self._wire = settings, link, client, wire
        self._ended = False
        self._pending: set[asyncio.Task[None]] = set()
        self._flights = asyncio.Semaphore(_MOST_IN_FLIGHT)
        self._broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Serve until the connection is lost."""
        try:
            await self._wire.begin(state_message(self._link.state))
            self._link.connected()
            await self._work()
        finally:
            self._ended = True
            with contextlib.suppress(AdapterError):
                await self._wire.end()

    async def _work(self) -> None:
        works = [asyncio.ensure_future(each) for each in (self._read(), self._report(), self._broken)]
        try:
            done, _ = await asyncio.wait(works, return_when=asyncio.FIRST_COMPLETED)
            for each in done:
                each.result()
        finally:
            for each in works:
                each.cancel()

    async def _read(self) -> None:
        async for message in self._client.messages:
            payload = message.payload if isinstance(message.payload, bytes) else b""
            back = Back()
            try:
                if len(payload) > self._settings.most_payload_bytes:
                    raise ValueError(
                        f"expected at most {self._settings.most_payload_bytes:,} bytes, found {len(payload):,}"
                    )
                if message.retain:
                    raise ValueError("a retained message: it belongs to the past. Publish without the retain flag")
                back = self._wire.back(message)
                match await self._wire.read(message, payload):
                    case ProductMessage(product=product):
                        self._link.select(product)
                    case TriggerMessage() as trigger:
                        self._check(trigger)
                        self._start(self._judge(trigger, back))
            except ValueError as error:
                self._refuse(str(error), back)

    def _check(self, trigger: TriggerMessage) -> None:
        settings = self._settings
        now, required = datetime.now(UTC), settings.require_sent_at
        if why := past_part(trigger, oldest_s=settings.oldest_trigger_s, required=required, now=now):
            raise ValueError(why)
        if len(self._pending) >= _MOST_PENDING:
            raise ValueError(f"trigger {trigger.id}: {_MOST_PENDING} triggers wait for their answers already")

    def _start(self, work: Coroutine[None, None, None]) -> None:
        """Run work that may outlive the connection: an answer that comes after it is recorded as undelivered."""
        task = asyncio.ensure_future(work)
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _judge(self, trigger: TriggerMessage, back: Back) -> None:
        try:
            answer = await self._link.judge(trigger.id, **trigger.values())
        except ValueError as error:
            self._refuse(str(error), back)
            return
        async with self._flights:
            if self._ended:
                self._link.undelivered(answer, "the connection to the broker is lost")
                return
            await self._deliver(answer, back)

    async def _deliver(self, answer: TimelyAnswer, back: Back) -> None:
        taken = answer.take()
        # A verdict that has just become a fault is published too, and needs a moment of its own.
        remaining_s = max(answer.due_s - time.monotonic(), 1.0 if taken.cause is not None else 0.0)
        try:
            await self._wire.answer(taken, remaining_s=remaining_s, back=back)
        except (AdapterError, ValueError) as error:
            self._link.undelivered(answer, str(error))
            # Not to be had on a topic of a peer's own: that peer's trouble alone. Otherwise everybody's; and the end of
            # the session makes the broker forget a half-published verdict.
            if not (isinstance(error, RefusedPublishError) and back.topic) and not self._broken.done():
                self._broken.set_exception(AdapterError(str(error)))
        else:
            self._link.delivered()

    def _refuse(self, why: str, back: Back) -> None:
        self._link.refused(why)
        if len(self._pending) >= _MOST_PENDING:
            return

        async def tell() -> None:
            with contextlib.suppress(AdapterError, ValueError):
                await self._wire.refuse(why, back)

        self._start(tell())

    async def _report(self) -> None:
        """Publish the state at every change and every heartbeat."""
        known, published_s = None, 0.0
        while True:
            now = state_message(self._link.state)
            if now != known or time.monotonic() - published_s >= self._wire.heartbeat_s:
                await self._wire.tell(now)
                known, published_s = now, time.monotonic()
            await asyncio.sleep(_POLL_S)
