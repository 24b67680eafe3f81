"""The MQTT adapter at a broker with TLS: wrong certificates are refused on both sides, and no secret is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from certificates_kit import make_certificates
from gonogo.testing.line import FakeStation
from gonogo.testing.station import patiently
from mqtt_kit import Broker, needs_broker, serving, settings

SECRET = "a-password-of-line-1"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"), ("broker", "station"))


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(SECRET)
    file.chmod(0o600)
    return file


@contextmanager
def tls_broker(folder: Path, certificates: Path, name: str, rules: str = "allow_anonymous true\n") -> Iterator[Broker]:
    own = "".join(
        f"{word}file {certificates / f'{name}.{ending}'}\n" for word, ending in (("cert", "pem"), ("key", "key"))
    )
    broker = Broker(folder, f"{own}{rules}")
    try:
        yield broker
    finally:
        broker.kill()


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Also what the adapter's own logger keeps to itself."""
    caplog.set_level(logging.DEBUG)
    own = logging.getLogger("gonogo.mqtt")
    own.addHandler(caplog.handler)
    own.setLevel(logging.DEBUG)
    yield caplog
    own.removeHandler(caplog.handler)
    own.setLevel(logging.NOTSET)


@needs_broker
@pytest.mark.parametrize(("name", "trusted"), [("broker", True), ("stranger", False)])
def test_a_broker_of_an_unknown_authority_gets_no_password(
    tmp_path: Path,
    certificates: Path,
    password: Path,
    everything_logged: pytest.LogCaptureFixture,
    name: str,
    trusted: bool,
) -> None:
    with tls_broker(tmp_path, certificates, name) as broker:
        more = {"user": "line1", "password_file": password, "allow_without_password": False}
        chosen = settings(broker, tls=True, ca_file=certificates / "ca.pem", **more)
        with serving(chosen, FakeStation(), connects=trusted) as adapter:
            if not trusted:
                patiently(lambda: "is not trusted" in adapter.link.trouble, "no advice")
                assert "Check ca_file and host." in adapter.link.trouble
                assert SECRET not in adapter.link.trouble
                assert not adapter.link.snapshot().connected
    assert SECRET not in everything_logged.text


@needs_broker
@pytest.mark.parametrize("name", ["station", "stranger", None])
def test_a_broker_that_wants_certificates_takes_only_those_of_its_authority(
    tmp_path: Path, certificates: Path, name: str | None
) -> None:
    rules = f"cafile {certificates / 'ca.pem'}\nrequire_certificate true\nallow_anonymous true\n"
    files = ("certificate_file", "pem"), ("key_file", "key")
    own = {} if name is None else {key: certificates / f"{name}.{ending}" for key, ending in files}
    right = name == "station"
    with tls_broker(tmp_path, certificates, "broker", rules) as broker:
        chosen = settings(broker, tls=True, ca_file=certificates / "ca.pem", **own)
        with serving(chosen, FakeStation(), connects=right) as adapter:
            if not right:
                patiently(lambda: "certificate" in adapter.link.trouble, "no advice")
                assert "PRIVATE KEY" not in adapter.link.trouble
                assert not adapter.link.snapshot().connected


@needs_broker
def test_a_station_without_tls_gets_nowhere_at_a_port_with_tls(tmp_path: Path, certificates: Path) -> None:
    with (
        tls_broker(tmp_path, certificates, "broker") as broker,
        serving(settings(broker), FakeStation(), connects=False) as adapter,
    ):
        patiently(lambda: f"127.0.0.1:{broker.port}" in adapter.link.trouble, "no advice")
        assert not adapter.link.snapshot().connected
