"""The adapter ``opcua_server``; see `gonogo.line.adapter`."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from asyncua import Server, ua
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import ServiceError
from asyncua.server.binary_server_asyncio import BinaryServer, OPCUAProtocol
from asyncua.server.internal_server import InternalServer

from gonogo.errors import InputError
from gonogo.line.adapter import AdapterError, Link
from gonogo.line.opcua.building import build_space
from gonogo.line.opcua.calls import implement
from gonogo.line.opcua.security import Doorkeeper, Rights, TrustList, own_certificate, read_accounts
from gonogo.line.opcua.settings import OpcuaServer
from gonogo.line.opcua.vision import Vision

_MOST_BYTES = 1_000_000
"""Largest message, all chunks together."""
_CHUNK_BYTES = 65_535
_SECURED = (
    ua.SecurityPolicyType.Basic256Sha256_Sign,
    ua.SecurityPolicyType.Basic256Sha256_SignAndEncrypt,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_Sign,
    ua.SecurityPolicyType.Aes128Sha256RsaOaep_SignAndEncrypt,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_Sign,
    ua.SecurityPolicyType.Aes256Sha256RsaPss_SignAndEncrypt,
)
_QUIET = logging.NullHandler()


async def serve(settings: OpcuaServer, link: Link) -> None:
    """Listen until cancelled; see `gonogo.line.adapter`."""
    async with running_server(settings, link):
        link.connected()
        await asyncio.Event().wait()


@asynccontextmanager
async def running_server(settings: OpcuaServer, link: Link) -> AsyncIterator[Vision]:
    """Run the server until the block ends.

    Raises:
        InputError: a file that the settings name cannot be used.
        AdapterError: the port cannot be opened.
    """
    logging.getLogger("asyncua").addHandler(_QUIET)  # otherwise it prints refused clients to standard error
    accounts = None if settings.users_file is None else read_accounts(settings.users_file)
    server = _Server(_Rooms(settings, link, accounts), link)
    await server.init()
    uri = f"urn:{socket.gethostname()}:gonogo:{link.state.station}"
    await _configure(server, settings, uri)
    space = await build_space(server, settings.nodeset)
    vision = Vision(space, link, results=settings.results, connected=server.holds)
    implement(vision)
    await vision.prepare()
    try:
        await server.start()
    except OSError as error:
        raise AdapterError(f"cannot listen on {settings.host}:{settings.port} ({error}).") from error
    following = asyncio.create_task(vision.follow())
    try:
        yield vision
    finally:
        following.cancel()
        await vision.close()
        await server.stop()


async def _configure(server: Server, settings: OpcuaServer, uri: str) -> None:
    server.set_endpoint(f"opc.tcp://{settings.host}:{settings.port}/gonogo")
    server.set_server_name("gonogo")
    server.product_uri = "urn:gonogo"
    server.manufacturer_name = "gonogo"
    await server.set_application_uri(uri)
    server.limits = TransportLimits(
        max_recv_buffer=_CHUNK_BYTES,
        max_send_buffer=_CHUNK_BYTES,
        max_chunk_count=_MOST_BYTES // _CHUNK_BYTES + 1,
        max_message_size=_MOST_BYTES,
    )
    policies = list(_SECURED)
    if settings.allow_without_security:
        policies.append(ua.SecurityPolicyType.NoSecurity)
    server.set_security_policy(policies, Rights())
    server.set_identity_tokens([ua.AnonymousIdentityToken, ua.UserNameIdentityToken])
    certificate, key = own_certificate(settings.pki, uri=uri, host=socket.gethostname())
    try:
        await server.load_certificate(certificate)
        await server.load_private_key(key)
    except (OSError, ValueError) as error:
        raise InputError(f"{certificate.parent}: expected a certificate and its key, found {error}.") from error


class _Rooms(InternalServer):
    """The internal server, with limits and without the services that a vision system does not need."""

    def __init__(self, settings: OpcuaServer, link: Link, accounts: Any) -> None:
        trust = TrustList(settings.pki)
        keeper = Doorkeeper(accounts, trust.why_not, link.refused, open_to_all=settings.allow_without_security)
        super().__init__(user_manager=keeper)
        self.allow_remote_admin = False
        self.max_connections = settings.clients
        self.max_subscriptions = 10 * settings.clients
        self.max_session_timeout_ms = 60_000
        self.max_pending_activation_seconds = 10.0
        self.max_pending_messages_per_connection = 100
        self.max_monitored_item_queue_size = 1_000
        self.max_unacked_messages_per_subscription = 1_000

    def register_server(self, server: Any, conf: Any = None) -> NoReturn:
        """Refuse: this is no discovery server, and the list of servers would grow without limit."""
        raise ServiceError(ua.StatusCodes.BadServiceUnsupported)


class _Protocol(OPCUAProtocol):
    """A connection that is closed after a message that is too large or that is none."""

    link: Link

    def data_received(self, data: bytes) -> None:
        """Take received bytes; a message announces its size, which is not to be believed."""
        if len(self._buffer) + len(data) > 2 * _CHUNK_BYTES + _MOST_BYTES or _too_large(self._buffer + data[:8]):
            self._close("a message that is too large")
            return
        super().data_received(data)

    async def _process_one_msg(self, header: Any, buf: Any) -> bool:
        try:
            return bool(await super()._process_one_msg(header, buf))
        except Exception as error:  # noqa: BLE001  a client's bytes can break the library in any way
            self._close(f"a message that is none of OPC UA ({type(error).__name__})")
            return False

    def _close(self, why: str) -> None:
        self.link.refused(why)
        self._buffer = b""
        if self.transport is not None:
            self.transport.close()


def _too_large(start: bytes) -> bool:
    return len(start) >= 8 and int.from_bytes(start[4:8], "little") > _CHUNK_BYTES


class _Binary(BinaryServer):
    link: Link

    def _make_protocol(self) -> OPCUAProtocol:
        made = _Protocol(self.iserver, self._policies, self.clients, self.closing_tasks, self.limits)
        made.link = self.link
        return made


class _Server(Server):
    """A server that speaks through `_Protocol`."""

    def __init__(self, rooms: InternalServer, link: Link) -> None:
        super().__init__(rooms)
        self._link = link

    async def start(self) -> None:
        """Start to listen."""
        await self._setup_server_nodes()
        await self.iserver.start()
        host, port = self._get_bind_socket_info()
        self.bserver = _Binary(self.iserver, host or "", port or 0, self.limits)
        self.bserver.link = self._link
        self.bserver.set_policies(self._policies)
        try:
            await self.bserver.start()
        except OSError:
            await self.iserver.stop()
            raise

    def holds(self, caller: object) -> bool:
        """Whether the connection of a client is still there."""
        clients = () if self.bserver is None else self.bserver.clients
        sessions = [each.processor.session for each in clients if each.processor is not None]
        return any(each is not None and each.user is caller for each in sessions)
