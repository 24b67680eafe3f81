"""Who may speak with the OPC UA server: certificates, passwords and roles."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

pytest.importorskip("asyncua")

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyAes256Sha256RsaPss, SecurityPolicyBasic256Sha256

from gonogo.errors import InputError
from gonogo.line import Adapter, open_adapter
from gonogo.line.opcua.security import Doorkeeper, Role, account, own_certificate, read_accounts
from gonogo.line.opcua.settings import OpcuaClient, OpcuaServer
from gonogo.testing.line import FakeStation
from gonogo.testing.opcua import FakeVisionClient
from gonogo.testing.station import patiently
from test_opcua import free_port

PASSWORD = "correct horse battery"
URI = "urn:test:client"


@dataclass
class Secured:
    """A server that asks for certificates and passwords."""

    adapter: Adapter
    station: FakeStation
    url: str
    pki: Path
    known: tuple[Path, Path]
    """Certificate and key of a client that is trusted."""
    unknown: tuple[Path, Path]

    @property
    def certificate(self) -> Path:
        return self.pki / "own" / "certificate.der"

    async def client(
        self, files: tuple[Path, Path], user: str | None = "plc", password: str = PASSWORD, *, sign_only: bool = False
    ) -> Client:
        client = Client(self.url, timeout=5.0)
        client.application_uri = URI
        mode = ua.MessageSecurityMode.Sign if sign_only else ua.MessageSecurityMode.SignAndEncrypt
        policy = SecurityPolicyAes256Sha256RsaPss if sign_only else SecurityPolicyBasic256Sha256
        await client.set_security(policy, *files, None, self.certificate, mode)
        if user is not None:
            client.set_user(user)
            client.set_password(password)
        return client

    def refusal(self) -> str:
        return self.adapter.link.snapshot().trouble


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder, port, station = tmp_path_factory.mktemp("secured"), free_port(), FakeStation()
    accounts = [account("plc", Role.OPERATOR, PASSWORD), account("scada", Role.OBSERVER, PASSWORD)]
    users = folder / "users"
    users.write_text("# users of the vision server\n" + "\n".join(each.to_line() for each in accounts) + "\n")
    users.chmod(0o600)
    known, unknown = (own_certificate(folder / name, uri=URI, host="x") for name in ("known", "unknown"))
    settings = OpcuaServer(kind="opcua_server", port=port, pki=folder / "pki", users_file=users)
    adapter = open_adapter(settings, station, window_s=1.0).start()
    patiently(lambda: adapter.link.snapshot().connected, "the server does not listen")
    (settings.pki / "trusted" / "plc.der").write_bytes(known[0].read_bytes())
    (settings.pki / "trusted" / "notes.txt").write_text("not a certificate")
    yield Secured(adapter, station, f"opc.tcp://127.0.0.1:{port}/gonogo", settings.pki, known, unknown)
    adapter.stop()


@pytest.mark.parametrize("sign_only", [False, True])
@pytest.mark.slow
def test_a_trusted_operator_gets_an_answer(secured: Secured, sign_only: bool) -> None:
    async def work() -> None:
        client = await secured.client(secured.known, sign_only=sign_only)
        async with FakeVisionClient(secured.url, client=client) as vision:
            job, error = await vision.start(f"m{sign_only}")
            assert (error, (await vision.result(job)).verdict) == (0, "go")

    asyncio.run(work())


@pytest.mark.slow
def test_an_observer_reads_and_may_not_call(secured: Secured) -> None:
    async def work() -> None:
        async with FakeVisionClient(secured.url, client=await secured.client(secured.known, "scada")) as vision:
            assert await vision.state() in ("Ready", "SingleExecution")
            with pytest.raises(ua.uaerrors.BadUserAccessDenied):
                await vision.start("observed")

    asyncio.run(work())
    assert "observed" not in [each for each, _ in secured.station.triggers]


@pytest.mark.slow
def test_an_unknown_certificate_is_refused_named_and_kept(secured: Secured) -> None:
    async def work() -> None:
        with pytest.raises((ua.UaError, OSError, asyncio.TimeoutError)):
            await (await secured.client(secured.unknown)).connect()

    asyncio.run(work())
    assert "unknown certificate" in secured.refusal()
    [kept] = (secured.pki / "rejected").glob("*.der")
    assert kept.read_bytes() == secured.unknown[0].read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(("user", "password"), [("plc", "hunter2 hunter2"), ("nobody", PASSWORD), (None, "")])
def test_a_wrong_password_is_refused_and_never_logged(
    secured: Secured, user: str | None, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def work() -> None:
        with pytest.raises((ua.UaError, OSError, asyncio.TimeoutError)):
            await (await secured.client(secured.known, user, password)).connect()

    with caplog.at_level(logging.DEBUG, logger="asyncua.server"):
        asyncio.run(work())
    assert "a client" in secured.refusal()
    server_side = [each.getMessage() for each in caplog.records if each.name.startswith("asyncua.server")]
    assert not any(secret in text for text in server_side for secret in ("hunter2", PASSWORD))
    assert password == "" or password not in secured.refusal()


@pytest.mark.slow
def test_without_security_nobody_gets_in(secured: Secured) -> None:
    async def work() -> None:
        for name in (None, "plc"):
            client = Client(secured.url, timeout=5.0)
            if name is not None:
                client.set_user(name)
                client.set_password(PASSWORD)
            with pytest.raises((ua.UaError, OSError, asyncio.TimeoutError)):
                await client.connect()

    asyncio.run(work())


@pytest.mark.slow
def test_files_of_the_server_are_private(secured: Secured) -> None:
    assert (secured.pki / "own" / "key.pem").stat().st_mode & 0o077 == 0
    assert secured.pki.stat().st_mode & 0o077 == 0


def test_many_wrong_passwords_lock_the_name_for_a_while() -> None:
    refused: list[str] = []
    accounts = {"plc": account("plc", Role.OPERATOR, PASSWORD)}
    keeper = Doorkeeper(accounts, lambda der: "", refused.append, open_to_all=False)
    for _ in range(5):
        assert keeper.get_user(None, "plc", "hunter2 hunter2", b"certificate") is None
    assert keeper.get_user(None, "plc", PASSWORD, b"certificate") is None
    assert len(refused) == 6


@pytest.mark.parametrize(
    "text", ["", "plc:operator:plain:a:b", "plc:admin:scrypt:YQ==:YQ==", "plc", "a:operator:scrypt:%:%"]
)
def test_a_wrong_users_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "users"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(InputError) as error:
        read_accounts(path)
    assert not text or text not in str(error.value)
    path.chmod(0o644)
    with pytest.raises(InputError, match="only this user"):
        read_accounts(path)


def test_passwords_need_eight_characters_and_names_letters() -> None:
    with pytest.raises(InputError, match="8 characters"):
        account("plc", Role.OPERATOR, "short")
    with pytest.raises(InputError, match="user name"):
        account("a:b", Role.OPERATOR, PASSWORD)


def test_a_client_without_security_needs_a_permission() -> None:
    tags = {"trigger": "i=1", "ready": "i=2", "valid": "i=3", "verdict": "i=4"}
    with pytest.raises(ValueError, match="allow_without_security"):
        OpcuaClient.model_validate_json(json.dumps({"kind": "opcua_client", "url": "opc.tcp://plc:4840", "tags": tags}))
