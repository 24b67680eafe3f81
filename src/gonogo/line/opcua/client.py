"""The adapter ``opcua_client``: reads a PLC's trigger tags and writes the answer back; see `gonogo.line.adapter`.

The handshake: the PLC waits for ready, fills id, part, lot and product, then raises the trigger. The station sets busy,
judges, writes fault, score, result id and verdict, then valid, and takes busy back. The PLC reads, then acknowledges;
the station takes valid back first, then the verdict. It does so too when nobody acknowledges within ``hold_s``, and
before anything else whenever it connects.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
import socket
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from asyncua import Client, Node, ua
from asyncua.crypto import security_policies

from gonogo.capture import read_token
from gonogo.line.adapter import AdapterError, Link, TimelyAnswer
from gonogo.line.messages import Answer
from gonogo.line.opcua.results import CODES, NOTHING
from gonogo.line.opcua.security import own_certificate, read_certificate
from gonogo.line.opcua.settings import OpcuaClient
from gonogo.names import readable

_TIMEOUT_S = 2.0
_HEARTBEAT_S = 0.5
_SAFE: dict[str, object] = {
    "valid": False,
    "verdict": NOTHING,
    "busy": False,
    "ready": False,
    "fault": "",
    "result_id": "",
}
"""The outputs without an answer, in the order in which they are written."""


async def serve(settings: OpcuaClient, link: Link) -> None:
    """Serve the PLC until the connection is lost; see `gonogo.line.adapter`."""
    logging.getLogger("asyncua").addHandler(logging.NullHandler())
    client = await _client(settings, link)
    try:
        async with client:
            plc = _Plc(settings, link, client)
            await plc.open()
            link.connected()
            try:
                await plc.run()
            finally:
                with contextlib.suppress(OSError, ua.UaError, asyncio.TimeoutError):
                    await plc.write(_SAFE)
    except (TimeoutError, OSError, ua.UaError) as error:
        raise AdapterError(f"{settings.url}: {type(error).__name__} {error}") from error


async def _client(settings: OpcuaClient, link: Link) -> Client:
    client = Client(settings.url, timeout=_TIMEOUT_S)
    uri = f"urn:{socket.gethostname()}:gonogo:{link.state.station}"
    client.name, client.application_uri = "gonogo", uri
    if settings.server_certificate is not None:
        certificate, key = own_certificate(settings.pki, uri=uri, host=socket.gethostname())
        read_certificate(settings.server_certificate)  # an error that names the file
        policy = getattr(security_policies, f"SecurityPolicy{settings.security}")
        mode = ua.MessageSecurityMode.SignAndEncrypt
        await client.set_security(policy, certificate, key, None, settings.server_certificate, mode)
    if settings.user is not None:
        client.set_user(settings.user)
        client.set_password(read_token(settings.password_file) or "")
    return client


class _Plc:
    """The tags of one PLC."""

    def __init__(self, settings: OpcuaClient, link: Link, client: Client) -> None:
        self._settings, self._link = settings, link
        named = settings.tags.model_dump(exclude_none=True)
        self._tags: dict[str, Node] = {name: client.get_node(node) for name, node in named.items()}
        self._types: dict[str, Any] = {}
        self._client = client
        self._run, self._numbers = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}", itertools.count(1)
        self._beats, self._beat_s = itertools.cycle(range(100)), 0.0
        self._ready: bool | None = None
        self._fallen = False
        """Whether the trigger was seen to fall while its part was served."""

    async def open(self) -> None:
        """Read the types of the tags, and write the safe state before anything else."""
        for name in (*_SAFE, "score", "heartbeat"):
            if name in self._tags:
                self._types[name] = await self._tags[name].read_data_type_as_variant_type()
        await self.write(_SAFE)

    async def write(self, values: dict[str, object]) -> None:
        """Write those outputs that the PLC has, in this order."""
        for name, value in values.items():
            if name in self._tags:
                await self._tags[name].write_value(ua.DataValue(ua.Variant(value, self._types[name])))

    async def _read(self, names: Iterable[str]) -> dict[str, Any]:
        there = [name for name in names if name in self._tags]
        found = await self._client.read_values([self._tags[name] for name in there])
        return dict(zip(there, found, strict=True))

    async def run(self) -> None:
        """Wait for triggers and answer them, one at a time."""
        # Without an id of its own, a trigger that already stands may be one that was answered before.
        before = False if "id" in self._tags else (await self._read(["trigger"]))["trigger"]
        if not isinstance(before, bool):
            before = (await self._read(["trigger"]))["trigger"]
        while True:
            now = (await self._read(["trigger"]))["trigger"]
            if _triggers(before, now):
                self._count_missed(before, now)
                await self._serve(now)
                # The PLC may raise its trigger again before the next look.
                before = False if self._fallen else now
            else:
                before = now
            await self._idle()

    async def _idle(self) -> None:
        ready = self._link.state.ready
        if ready is not self._ready:
            await self.write({"ready": ready})
            self._ready = ready
        if time.monotonic() - self._beat_s > _HEARTBEAT_S:
            self._beat_s = time.monotonic()
            await self.write({"heartbeat": next(self._beats)})
        await asyncio.sleep(self._settings.poll_s)

    def _count_missed(self, before: Any, now: Any) -> None:
        if not isinstance(now, bool) and isinstance(before, int) and now - before > 1:
            self._link.refused(f"{now - before - 1} triggers came while the station was busy")

    async def _serve(self, trigger: Any) -> None:
        """Answer one trigger: busy, judge, answer, wait for the acknowledgement, safe state."""
        self._fallen = False
        names = await self._read(["id", "part", "lot", "product"])
        texts = {name: str(value).strip() or None for name, value in names.items() if value is not None}
        trigger_id = texts.get("id") or f"{self._link.name}-{self._run}-{next(self._numbers)}"
        part, lot, product = (texts.get(name) for name in ("part", "lot", "product"))
        await self.write({"busy": True})
        try:
            answer = await self._link.judge(trigger_id, part=part, lot=lot, product=product)
        except ValueError as error:
            self._link.refused(str(error))
            await self.write({"fault": readable(f"refused: {error}")[:80], "verdict": 4, "valid": True, "busy": False})
            await self._acknowledged(trigger)
        else:
            try:
                await self._deliver(answer, trigger)
            except (TimeoutError, OSError, ua.UaError, asyncio.CancelledError) as error:
                self._link.undelivered(answer, f"the connection is lost ({type(error).__name__})")
                raise
        await self.write({name: value for name, value in _SAFE.items() if name != "ready"})

    async def _deliver(self, timely: TimelyAnswer, trigger: Any) -> None:
        if "acknowledge" not in self._tags and trigger is True and await self._falls():
            self._link.undelivered(timely, "the PLC took its trigger back")
            return
        answer = timely.take()
        await self.write({"fault": answer.cause.value if answer.cause else "", "score": _score(answer)})
        await self.write({"result_id": answer.trigger_id})
        # Taken again: the writes above may have lasted until after the deadline.
        final = timely.take()
        await self.write({"fault": final.cause.value if final.cause else "", "verdict": CODES[final.state]})
        await self.write({"valid": True, "busy": False})
        if await self._acknowledged(trigger):
            self._link.delivered()
        else:
            self._link.undelivered(timely, "the PLC has not acknowledged")

    async def _falls(self) -> bool:
        self._fallen = (await self._read(["trigger"]))["trigger"] is False
        return self._fallen

    async def _acknowledged(self, trigger: Any) -> bool:
        """Wait for the acknowledgement; return whether it came."""
        until_s, taken = time.monotonic() + self._settings.hold_s, False
        while time.monotonic() < until_s:
            if "acknowledge" in self._tags:
                taken = taken or bool((await self._read(["acknowledge"]))["acknowledge"])
                if taken and (not isinstance(trigger, bool) or await self._falls()):
                    break
            elif await self._falls() or (
                not isinstance(trigger, bool) and (await self._read(["trigger"]))["trigger"] != trigger
            ):
                return True
            await self._idle()
        return taken


def _triggers(before: Any, now: Any) -> bool:
    """Whether the trigger has come: a rising edge, or another number than before, except 0."""
    if isinstance(now, bool):
        return now and before is not True
    return isinstance(now, int) and now not in (0, before)


def _score(answer: Answer) -> float:
    return float("nan") if answer.score is None else answer.score
