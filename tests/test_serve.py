"""``gonogo serve`` as a plant starts it: a process of its own, the one-time password, https."""

from __future__ import annotations

import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

from gonogo.cli import app
from gonogo.errors import InputError

LONGEST_S = 120.0


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """Of this machine, signed by itself; and its key."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("there is no openssl command")
    paths = tmp_path / "c.pem", tmp_path / "k.pem"
    of_localhost = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command = [openssl, "req", "-x509", *made, *of_localhost, "-out", str(paths[0]), "-keyout", str(paths[1])]
    subprocess.run(command, check=True, capture_output=True)
    return paths


@contextmanager
def serving(*arguments: str) -> Iterator[tuple[int, str]]:
    """Start it on a free port; yields the port and what it said until it served."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-u", "-m", "gonogo", "serve", *arguments, "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            said = ""
            assert process.stdout is not None
            while "Serving" not in said:
                line = process.stdout.readline()
                assert line, f"it ended with: {said}"
                said += line
            yield port, said
        finally:
            process.terminate()


def get(client: httpx.Client, path: str) -> httpx.Response:
    """Ask until it listens."""
    until = time.monotonic() + LONGEST_S
    while True:
        try:
            return client.get(path)
        except httpx.ConnectError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


@pytest.mark.slow
def test_the_first_start_prints_a_password_that_opens_the_door_over_https(
    certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    cert, key = certificate
    arguments = (str(tmp_path / "plant"), "--tls-cert", str(cert), "--tls-key", str(key))
    with serving(*arguments) as (port, said):
        password = re.search(r"One-time password: (\S+)", said)
        assert password is not None
        address = f"https://localhost:{port}"
        trust = ssl.create_default_context(cafile=str(cert))
        with httpx.Client(base_url=address, verify=trust, headers={"origin": address}) as client:
            assert get(client, "/health").status_code == 200
            assert client.get("/").status_code in (303, 307), "nothing without login"
            csrf = re.search(r'name="csrf" content="([0-9a-f]+)"', client.get("/login").text)
            assert csrf is not None
            answer = client.post("/login", data={"name": "admin", "password": password[1], "csrf": csrf[1]})
            cookie = next(value for value in answer.headers.get_list("set-cookie") if value.startswith("__Host-"))
            assert {"Secure", "HttpOnly"} <= {word.strip() for word in cookie.split(";")}
            assert client.get("/people").headers["location"].startswith("/password"), "the password must be changed"
    with serving(*arguments) as (_, said):
        assert "password" not in said, "it is shown once"


def test_half_a_certificate_is_refused(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    cert, _ = certificate
    command = ["serve", str(tmp_path / "plant"), "--tls-cert", str(cert)]
    with pytest.raises(InputError, match="expected both or neither"):
        CliRunner().invoke(app, command, catch_exceptions=False, standalone_mode=False)
    with pytest.raises(InputError, match=r"none\.pem: expected a PEM file"):
        CliRunner().invoke(
            app, [*command, "--tls-key", str(tmp_path / "none.pem")], catch_exceptions=False, standalone_mode=False
        )
