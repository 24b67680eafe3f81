"""Plain text lines over TCP, as a server or as a client.

A line of the peer is a trigger (see `parse_trigger`), ``status``, or ``product NAME``. Each is answered by a line:
JSON, or for simple PLCs ``ID;STATE;SCORE``, ``status;ready;PRODUCT``, ``product;NAME``, ``refused;WHY``,
``heartbeat;COUNT``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import itertools
import json
from typing import Any

from gonogo.capture import read_token
from gonogo.line.adapter import AdapterError, Link
from gonogo.line.messages import parse_trigger
from gonogo.line.plc_settings import TcpClient, TcpLines, TcpServer
from gonogo.names import readable
from gonogo.schema import State

_LONGEST_LINE = 4_096
_ENDS = {"lf": b"\n", "crlf": b"\r\n", "cr": b"\r"}
_BROKEN = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)


async def serve(settings: TcpServer, link: Link) -> None:
    """Listen until cancelled; see `gonogo.line.adapter`."""
    token = read_token(settings.token_file)
    clients: set[asyncio.StreamWriter] = set()

    async def client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(clients) >= settings.clients:
            writer.close()
            return
        clients.add(writer)
        try:
            with contextlib.suppress(*_BROKEN, asyncio.CancelledError):  # cancelled when the adapter stops
                await _welcome(reader, settings, link, token)
                await _converse(reader, writer, settings, link)
        finally:
            clients.discard(writer)
            writer.close()

    server = await asyncio.start_server(client, settings.host, settings.port, limit=_LONGEST_LINE)
    link.connected()
    try:
        await server.serve_forever()
    finally:
        for each in list(clients):
            each.close()


async def serve_client(settings: TcpClient, link: Link) -> None:
    """Serve one connection to a PLC that listens; see `gonogo.line.adapter`.

    Raises:
        AdapterError: the PLC cannot be reached.
    """
    token = read_token(settings.token_file)
    try:
        async with asyncio.timeout(settings.timeout_s):
            reader, writer = await asyncio.open_connection(settings.host, settings.port, limit=_LONGEST_LINE)
    except (OSError, TimeoutError) as error:
        raise AdapterError(f"{settings.host}:{settings.port} cannot be reached ({error or 'no answer'}).") from error
    try:
        if token is not None:
            _write(writer, settings, token)
        link.connected()
        await _converse(reader, writer, settings, link)
    finally:
        writer.close()


async def _welcome(reader: asyncio.StreamReader, settings: TcpLines, link: Link, token: str | None) -> None:
    if token is not None:
        given = (await reader.readuntil(_read_end(settings))).strip()
        if not hmac.compare_digest(given, token.encode()):
            link.refused("a client without the token")
            raise ConnectionRefusedError("wrong token")


async def _converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: TcpLines, link: Link) -> None:
    end = _read_end(settings)
    beating = None if settings.heartbeat_s is None else asyncio.ensure_future(_beat(writer, settings))
    try:
        async with asyncio.TaskGroup() as answering:
            with contextlib.suppress(*_BROKEN):
                while text := (await reader.readuntil(end)).decode(errors="backslashreplace"):
                    if text.strip():
                        answering.create_task(_answer(text.strip(), writer, settings, link))
    finally:
        if beating is not None:
            beating.cancel()


def _read_end(settings: TcpLines) -> bytes:
    return b"\r" if settings.terminator == "cr" else b"\n"


async def _beat(writer: asyncio.StreamWriter, settings: TcpLines) -> None:
    assert settings.heartbeat_s is not None, "checked by the caller"
    for count in itertools.count(1):
        _say(writer, settings, {"heartbeat": count}, ("heartbeat", count))
        await asyncio.sleep(settings.heartbeat_s)


async def _answer(text: str, writer: asyncio.StreamWriter, settings: TcpLines, link: Link) -> None:
    try:
        if text == "status":
            _tell_state(writer, settings, link)
            return
        if text.startswith("product "):
            product = text.removeprefix("product ").strip()
            link.select(product)
            _say(writer, settings, {"selected": product}, ("product", product))
            return
        trigger_id, values = parse_trigger(text)
        answer = await link.judge(trigger_id, **values)
    except ValueError as error:
        link.refused(str(error))
        _say(writer, settings, {"refused": str(error)}, ("refused", error))
        return
    if writer.is_closing():
        link.undelivered(answer, "the client has closed the connection")
        return
    taken = answer.take()
    score = "" if taken.score is None or taken.state is State.FAULT else f"{taken.score:.4g}"
    _say(writer, settings, taken.to_json(), (taken.trigger_id, taken.state.value, taken.cause or score))
    try:
        await writer.drain()
    except OSError as error:
        link.undelivered(answer, str(error))
    else:
        link.delivered()


def _tell_state(writer: asyncio.StreamWriter, settings: TcpLines, link: Link) -> None:
    state = link.state
    values = {
        "ready": state.ready,
        "why_not_ready": state.why_not_ready,
        "health": state.health.value,
        "product": state.product,
        "products": list(state.products),
    }
    _say(writer, settings, values, ("status", "ready" if state.ready else "not ready", state.product or ""))


def _say(writer: asyncio.StreamWriter, settings: TcpLines, values: dict[str, Any], short: tuple[object, ...]) -> None:
    """Send one line in the format of the settings; line breaks cannot get into it."""
    text = json.dumps(values) if settings.answers == "json" else ";".join(readable(str(each)) for each in short)
    _write(writer, settings, text)


def _write(writer: asyncio.StreamWriter, settings: TcpLines, text: str) -> None:
    writer.write(text.encode() + _ENDS[settings.terminator])
