"""Run the services of deploy/compose.yaml as processes of this machine, where there is no Docker.

What is started is what the file says: the same commands with the same environment, secrets, settings and health
checks, in the order of ``depends_on``. Only places change: a path in a container becomes a folder
below a temporary one, a host name becomes 127.0.0.1, a port a free one. PostgreSQL and Mosquitto are Debian's, the
S3-compatible store is moto's server. Both stations judge pictures, the database crashes, a station is killed; at the
end every verdict must be in the central database and every frame in the store.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from check_deploy.tools import AbsentError, Tools
from gonogo.errors import UnfitError
from gonogo.images import encode_png
from gonogo.testing import postgres
from gonogo.testing.bundle import write_fake_bundle
from gonogo.testing.model import fake_frame

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
OURS = ("prepare", "server", "line-1", "line-2")
"""The services that run gonogo's image."""
STATIONS = ("line-1", "line-2")
PARTS, AWAY, AGAIN = 20, 4, 3
"""Parts before the crash, while the database is away, and after the restart of a station."""
PICTURES = 5
"""Not a divisor of PARTS + AWAY: a camera that begins again with the last picture would count as frozen."""
PATIENCE_S = 600.0
_HOME = "/var/lib/gonogo"
_POSTGRES_PORT = 5432


def check(_: Tools) -> str:
    """Start, judge, crash, recover, stop."""
    if reason := missing():
        raise AbsentError(reason)
    with tempfile.TemporaryDirectory(prefix="gonogo-site-", dir=postgres.on_disk()) as folder:
        figures = play(Path(folder))
    counts = ", ".join(f"{name} {count}" for name, count in figures["rows_at_centre"].items())
    return f"verdicts at the centre: {counts}; {figures['verify']}"


def missing() -> str:
    """Return why the services cannot be started here; empty if they can."""
    if reason := postgres.missing():
        return reason
    return "" if _mosquitto() else "needs a broker: apt-get install mosquitto"


@dataclass(kw_only=True)
class Site:
    """The services of the file, as processes below one folder."""

    folder: Path
    services: Mapping[str, Any]
    secrets: Mapping[str, Any]
    ports: dict[str, dict[int, int]]
    """Ports of each service in its container, and the ports here."""
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path, database_port: int) -> Site:
        """Read the compose file, and give every port of it a free one; the database has one already."""
        content = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
        services = content["services"]
        ports: dict[str, dict[int, int]] = {}
        for name, service in services.items():
            inside = {int(each.rpartition(":")[2]) for each in service.get("ports", ())}
            inside |= {int(each) for each in re.findall(rf"//{name}:(\d+)", str(services))}
            ports[name] = {each: postgres.free_port() for each in inside}
        ports["postgres"] = {_POSTGRES_PORT: database_port}
        return cls(folder=folder, services=services, secrets=content["secrets"], ports=ports)

    def port(self, name: str) -> int:
        """Return the port of a service here."""
        return next(iter(self.ports[name].values()))

    def here(self, name: str, text: str) -> str:
        """Translate a text of a service: host names, ports and paths of its container to those of this machine."""
        for other, ports in self.ports.items():
            for inside, outside in ports.items():
                text = re.sub(rf"(?<=[/@]){re.escape(other)}:{inside}\b", f"127.0.0.1:{outside}", text)
                text = text.replace(f"@{other}/", f"@127.0.0.1:{outside}/")  # a URL with the usual port
        for inside, outside in self.ports[name].items():
            text = re.sub(rf"\b{inside}\b", str(outside), text)
        for target, place in sorted(self.places(name).items(), reverse=True):
            text = re.sub(rf"(?<![\w/]){re.escape(target)}(?![\w-])", str(place), text)
        return text.replace("0.0.0.0", "127.0.0.1")

    def places(self, name: str) -> dict[str, Path]:
        """Return the folders and files of a service by their paths in its container."""
        found = {_HOME: self.folder / "homes" / name}
        for each in self.services[name].get("volumes", ()):
            source, target = each.removesuffix(":ro").split(":")
            bound = self.folder / "bound" / name / Path(source).name
            found[target] = bound if source.startswith(".") else self.folder / "volumes" / source
        found |= {f"/run/secrets/{each}": self.secret(name, each) for each in self.services[name].get("secrets", ())}
        return found

    def secret(self, name: str, secret: str) -> Path:
        """Return the file with a service's secret."""
        return self.folder / "run" / name / secret

    def environment(self, name: str) -> dict[str, str]:
        """Return what the service's processes see: its own variables, and Python's of this process."""
        kept = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LANG", "TZ")}
        image = {"HOME": str(self.places(name)[_HOME]), "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        given = self.services[name].get("environment", {})
        return kept | image | {key: self.here(name, str(value)) for key, value in given.items()}

    def start(self, name: str) -> None:
        """Start a service of gonogo's image; its output is appended to a file."""
        words = [self.here(name, each) for each in self.services[name]["command"]]
        self._spawn(name, [sys.executable, "-m", "gonogo", *words], self.environment(name))

    def _spawn(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                command, env=dict(environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )

    def start_store(self) -> None:
        """Start moto's server in place of the S3-compatible store."""
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port("s3"))]
        self._spawn("s3", command, os.environ)

    def start_broker(self) -> None:
        """Start Mosquitto with the file's command; as root it would give up its rights to the files here."""
        _, *words = (self.here("mqtt", each) for each in self.services["mqtt"]["command"])
        if os.geteuid() == 0:
            with Path(words[-1]).open("a") as settings:
                settings.write("user root\n")
        self._spawn("mqtt", [_mosquitto(), *words], os.environ)

    def healthy(self, name: str) -> bool:
        """Run the health check of a service; for foreign images, see whether the port answers."""
        process = self.running.get(name)
        if process is not None and process.poll() is not None:
            raise UnfitError(f"{name} ended with {process.returncode}:\n{self.said(name)[-3000:]}")
        if name not in OURS:
            return _answers(self.port(name))
        words = [self.here(name, each) for each in self.services[name]["healthcheck"]["test"][2:]]
        command = [sys.executable, *words]
        ended = subprocess.run(
            command, env=self.environment(name), capture_output=True, check=False, timeout=PATIENCE_S
        )
        return ended.returncode == 0

    def said(self, name: str) -> str:
        """Return the output of a service so far."""
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self) -> dict[str, int]:
        """Stop in the reverse order, as Docker does, and return the exit codes of gonogo's services."""
        codes = {}
        for name in reversed(list(self.running)):
            process = self.running.pop(name)
            process.send_signal(signal.SIGTERM)
            grace_s = float(str(self.services[name].get("stop_grace_period", "10s")).removesuffix("s"))
            try:
                codes[name] = process.wait(grace_s)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[name] = process.wait()
        return {name: code for name, code in codes.items() if name in OURS}


def play(folder: Path, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Run the whole site once below an empty folder and return what was seen.

    Raises:
        UnfitError: a service does not start, a verdict or a frame is missing, or a service does not end by itself.
    """
    with postgres.server() as database, _site(folder, database.port) as site:
        lay_out(site)
        owner = site.services["postgres"]["environment"]
        database.sql(f"CREATE DATABASE {owner['POSTGRES_DB']}", database="postgres")
        site.start_store()
        site.start_broker()
        for name in ("postgres", "s3", "mqtt"):
            _wait(lambda name=name: site.healthy(name), f"{name} does not answer")  # type: ignore[misc]
        say("PostgreSQL, the store and the broker answer.")
        broker = {who: _connect_mqtt(site, password) for who, password in _mqtt_passwords(site).items()}
        site.start("prepare")
        if site.running.pop("prepare").wait(PATIENCE_S) != 0:
            raise UnfitError(f"prepare failed:\n{site.said('prepare')}")
        for name in ("server", *STATIONS):
            site.start(name)
        _wait(lambda: site.healthy("server"), "the server is not healthy")
        _wait(lambda: all(_status(site, name) for name in STATIONS), "a station does not answer")
        before = [site.healthy(name) for name in STATIONS]
        deploy_bundle(site)
        _wait(lambda: all(site.healthy(name) for name in STATIONS), "a station does not take the bundle")
        say("The server and both stations are healthy, with a bundle that was deployed while they ran.")
        sent = {name: _judge(site, name, range(PARTS)) for name in STATIONS}
        _wait(lambda: all(_forwarded(site, name) for name in STATIONS), "the centre does not get the rows")
        database.stop()
        for name in STATIONS:
            sent[name] += _judge(site, name, range(PARTS, PARTS + AWAY))  # the line does not wait for the centre
        site.running["line-2"].kill()
        site.running["line-2"].wait()
        database.start()
        site.start("line-2")  # what restart: unless-stopped does
        _wait(lambda: all(site.healthy(name) for name in STATIONS), "a station is not healthy after the crash")
        sent["line-2"] += _judge(site, "line-2", range(PARTS + AWAY, PARTS + AWAY + AGAIN))
        say("The database crashed and a station was killed; both are back.")
        centre = {name: _at_centre(site, name, sent[name]) for name in STATIONS}
        verified = _gonogo(site, "line-1", "ledger", "verify", f"@{site.secret('line-1', 'centre_url')}", "--frames")
        codes = site.stop()
    ended = {name: code in (0, -signal.SIGTERM) for name, code in codes.items()}  # uvicorn passes the signal on
    if not all(ended.values()) or any(before) or broker != {"right": 0, "wrong": 5}:
        raise UnfitError(f"exit codes {codes}, healthy without a bundle {before}, answers of the broker {broker}")
    return {"parts": {name: len(each) for name, each in sent.items()}, "rows_at_centre": centre,
            "verify": verified.strip().splitlines()[-1], "exit_codes": codes}  # fmt: skip


def lay_out(site: Site) -> None:
    """Create folders, secrets, settings and pictures."""
    made = site.folder / "secrets"
    command = [sys.executable, str(DEPLOY / "compose" / "make_secrets.py"), str(made)]
    subprocess.run(command, check=True, capture_output=True)
    for number in range(PICTURES):
        pictures = site.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        (pictures / f"{number}.png").write_bytes(encode_png(fake_frame(number, bad=number % 3 == 2)))
    for name in site.services:
        for target, place in site.places(name).items():
            place.parent.mkdir(parents=True, exist_ok=True)
            if target.startswith("/run/secrets/"):
                content = (made / Path(site.secrets[place.name]["file"]).name).read_text()
                place.write_text(site.here(name, content))
                place.chmod(0o600)
            elif place.is_relative_to(site.folder / "bound"):
                _copy(site, name, place)
            else:
                place.mkdir(parents=True, exist_ok=True)


def _copy(site: Site, name: str, place: Path) -> None:
    """Copy a file or folder that the service mounts, translated; the pictures are those made here."""
    if place.name == "pictures":
        place.symlink_to(site.folder / "pictures")
        return
    source = DEPLOY / "compose" / place.name
    files = [source] if source.is_file() else sorted(source.iterdir())
    for file in files:
        to = place if file is source else place / file.name
        to.parent.mkdir(parents=True, exist_ok=True)
        to.write_text(site.here(name, file.read_text("utf-8")), "utf-8")


def deploy_bundle(site: Site) -> None:
    """Put a bundle into the server's workspace and make it the active one."""
    workspace = site.places("server")[_HOME] / "workspace"
    write_fake_bundle(workspace / "bundles" / "red.inspector")
    (workspace / "active").write_text("bundles/red.inspector\n")


@contextlib.contextmanager
def _site(folder: Path, database_port: int) -> Iterator[Site]:
    site = Site.read(folder, database_port)
    try:
        yield site
    finally:
        site.stop()


def _judge(site: Site, name: str, numbers: range) -> list[str]:
    """Trigger parts at a station; return their ids. Every one must have a verdict that is not a fault."""
    token = site.secret(name, "station_token").read_text().strip()
    ids = []
    for number in numbers:
        body = json.dumps({"id": f"{name}-{number}"}).encode()
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"http://127.0.0.1:{site.port(name)}/trigger", body, headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
            answer = json.loads(response.read())
        if answer["state"] not in ("go", "no_go", "review"):
            raise UnfitError(f"{name}: expected a verdict, found {answer}")
        ids.append(answer["trigger_id"])
    return ids


def _at_centre(site: Site, name: str, sent: Sequence[str]) -> int:
    """Wait until a station has forwarded everything; the centre must have every verdict once. Return their number."""
    _wait(lambda: _forwarded(site, name), f"{name}: rows still wait for the centre")
    url = f"@{site.secret(name, 'centre_url')}"
    listed = _gonogo(site, name, "ledger", "list", url, "--chain", name, "--json", "--limit", "1000")
    rows = [json.loads(line) for line in listed.splitlines()]
    found = [each["record"]["trigger_id"] for each in rows if each["kind"] == "verdict"]
    if sorted(found) != sorted(sent):
        raise UnfitError(f"{name}: expected the {len(sent)} verdicts at the centre, found {len(found)}: {found}")
    return len(found)


def _forwarded(site: Site, name: str) -> bool:
    link = (_status(site, name) or {}).get("centre") or {}
    return link.get("lag_rows") == 0 and not link.get("trouble")


def _gonogo(site: Site, name: str, *words: str) -> str:
    """Run a command in a service, as ``docker compose exec`` does."""
    command = [sys.executable, "-m", "gonogo", *words]
    environment = site.environment(name)
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S)
    if ended.returncode:
        raise UnfitError(f"gonogo {' '.join(words)}: {ended.stderr[-2000:]}{ended.stdout[-500:]}")
    return ended.stdout


def _mqtt_passwords(site: Site) -> dict[str, str]:
    return {"right": (site.folder / "secrets" / "mqtt_password").read_text().strip(), "wrong": "a guess"}


def _connect_mqtt(site: Site, password: str) -> int:
    """Log in at the broker with MQTT 3.1.1 and return its answer: 0 is accepted, 5 refused."""
    fields = (b"check", b"line", password.encode())
    payload = b"".join(len(each).to_bytes(2, "big") + each for each in fields)
    rest = b"\x00\x04MQTT\x04\xc2\x00\x1e" + payload
    with socket.create_connection(("127.0.0.1", site.port("mqtt")), timeout=10) as connection:
        connection.sendall(bytes([0x10, len(rest)]) + rest)
        return connection.recv(4)[3]


def _status(site: Site, name: str) -> dict[str, Any] | None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{site.port(name)}/status", timeout=5) as response:
            return cast("dict[str, Any]", json.loads(response.read()))
    except (OSError, urllib.error.URLError):
        return None


def _answers(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


def _mosquitto() -> str:
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin") or ""


def _wait(done: Callable[[], bool], otherwise: str) -> None:
    until_s = time.monotonic() + PATIENCE_S
    while not done():
        if time.monotonic() > until_s:
            raise UnfitError(f"{otherwise} after {PATIENCE_S:g} s")
        time.sleep(0.2)
