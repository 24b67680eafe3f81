"""Login through an LDAP directory: a real OpenLDAP server with its own certificate."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import ldap3
import pytest
from fastapi import FastAPI

from gonogo.errors import InputError
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.auth.directory import EXAMPLE, Directory, DirectoryDownError, DirectorySettings, read_directory
from gonogo.testing.station import patiently
from protocols.kit import free_port
from server_kit import PASSWORD, WEAK_HASHER, Browser, add_person, text_of

SLAPD = shutil.which("slapd") or "/usr/sbin/slapd"
BASE = "dc=plant,dc=example"
pytestmark = pytest.mark.skipif(not Path(SLAPD).exists(), reason="needs Debian's slapd")
_PEOPLE = {"mia": "engineers", "olaf": "operators", "nobody": None, "both": "engineers", "a*b": "operators"}


@dataclass(kw_only=True)
class OpenLdap:
    """A directory with people and groups; the password of NAME is ``NAME-secret``."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [SLAPD, "-f", str(self.folder / "slapd.conf"), "-h", f"ldaps://localhost:{self.port}", "-d", "0"]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        patiently(self._answers, "slapd does not answer")

    def _answers(self) -> bool:
        with suppress(ldap3.core.exceptions.LDAPException):
            return bool(self.admin().bound)
        return False

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def admin(self) -> ldap3.Connection:
        server = ldap3.Server(f"ldaps://localhost:{self.port}", connect_timeout=2)
        return ldap3.Connection(server, user=f"cn=admin,{BASE}", password="admin-secret", auto_bind=True)

    def settings(self, **changes: object) -> DirectorySettings:
        facts = {
            "url": f"ldaps://localhost:{self.port}",
            "ca_file": self.folder / "c.pem",
            "bind_dn": f"cn=admin,{BASE}",
            "bind_password_file": self.folder / "bind.password",
            "people": f"ou=people,{BASE}",
            "groups": f"ou=groups,{BASE}",
            "roles": {"engineer": "Engineers", "operator": "operators"},
        }
        return DirectorySettings.model_validate(facts | changes)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenLdap]:
    folder = tmp_path_factory.mktemp("ldap")
    (folder / "data").mkdir()
    openssl = shutil.which("openssl") or pytest.skip("needs openssl")
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    files = ["-out", str(folder / "c.pem"), "-keyout", str(folder / "k.pem")]
    subprocess.run([openssl, "req", "-x509", *made, *subject, *files], check=True, capture_output=True)
    password = folder / "bind.password"
    password.write_text("admin-secret\n")
    password.chmod(0o600)
    schemas = "\n".join(f"include /etc/ldap/schema/{name}.schema" for name in ("core", "cosine", "inetorgperson"))
    (folder / "slapd.conf").write_text(
        f"{schemas}\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\nTLSCertificateFile {folder}/c.pem\n"
        f"TLSCertificateKeyFile {folder}/k.pem\ndatabase mdb\nsuffix {BASE}\nrootdn cn=admin,{BASE}\n"
        f"rootpw admin-secret\ndirectory {folder}/data\n"
    )
    server = OpenLdap(folder=folder, port=free_port())
    server.start()
    with closing(_Closing(server.admin())) as filled:
        fill(filled.connection)
    yield server
    server.stop()


@dataclass(frozen=True)
class _Closing:
    connection: ldap3.Connection

    def close(self) -> None:
        self.connection.unbind()


def fill(admin: ldap3.Connection) -> None:
    admin.add(BASE, ["dcObject", "organization"], {"dc": "plant", "o": "plant"})
    for unit in ("people", "groups"):
        admin.add(f"ou={unit},{BASE}", "organizationalUnit")
    for name in _PEOPLE:
        facts = {"cn": name, "sn": name, "uid": name, "userPassword": f"{name}-secret"}
        assert admin.add(f"uid={name},ou=people,{BASE}", "inetOrgPerson", facts), admin.result
    for group in ("engineers", "operators", "gardeners"):
        members = [f"uid={name},ou=people,{BASE}" for name, role in _PEOPLE.items() if role == group or name == "both"]
        facts = {"member": members or [f"uid=nobody,ou=people,{BASE}"]}
        assert admin.add(f"cn={group},ou=groups,{BASE}", "groupOfNames", facts), admin.result


@pytest.mark.parametrize(
    ("name", "password", "role"),
    [
        ("mia", "mia-secret", Role.ENGINEER),
        ("MIA", "mia-secret", Role.ENGINEER),
        ("olaf", "olaf-secret", Role.OPERATOR),
        ("both", "both-secret", Role.ENGINEER),
        ("a*b", "a*b-secret", Role.OPERATOR),
        ("nobody", "nobody-secret", None),
    ],
)
def test_the_directory_checks_the_password_and_its_groups_give_the_role(
    directory: OpenLdap, name: str, password: str, role: Role | None
) -> None:
    found = Directory(directory.settings()).check(name, password)
    assert found is not None
    assert found[1] == role


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("mia", "wrong"),
        ("mia", ""),
        ("mia", "\0"),
        ("m*", "mia-secret"),
        ("*", "mia-secret"),
        ("mia)(uid=*", "mia-secret"),
        ("nobody-knows", "x"),
        ("", "x"),
    ],
)
def test_wrong_names_and_passwords_are_refused(directory: OpenLdap, name: str, password: str) -> None:
    assert Directory(directory.settings()).check(name, password) is None


def test_a_directory_with_a_foreign_certificate_is_never_sent_a_password(directory: OpenLdap, tmp_path: Path) -> None:
    with pytest.raises(DirectoryDownError):
        Directory(directory.settings(ca_file=None)).check("mia", "mia-secret")
    other = f"ldaps://127.0.0.1:{directory.port}"  # the certificate is for localhost
    with pytest.raises(DirectoryDownError):
        Directory(directory.settings(url=other)).check("mia", "mia-secret")


def test_a_wrong_bind_password_is_said_and_never_shown(directory: OpenLdap, tmp_path: Path) -> None:
    wrong = tmp_path / "bind.password"
    wrong.write_text("geheim")
    wrong.chmod(0o600)
    with pytest.raises(DirectoryDownError, match="refuses bind_dn") as told:
        Directory(directory.settings(bind_password_file=wrong)).check("mia", "mia-secret")
    assert "geheim" not in str(told.value)


@pytest.fixture
def app(directory: OpenLdap, tmp_path: Path) -> Iterator[FastAPI]:
    options = Options(hasher=WEAK_HASHER, names=("testserver",), directory=Directory(directory.settings()))
    app = create_app(Workspace.open(tmp_path / "plant"), options=options)
    add_person(app, "admin", Role.ADMIN)
    yield app
    app.state.components.close()


@pytest.fixture
def browser(app: FastAPI) -> Browser:
    return Browser(app)


def actions(app: FastAPI) -> list[tuple[str, str]]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [(row.record.action, row.record.who) for row in ledger.actions()]


@pytest.mark.slow
def test_a_person_of_the_directory_logs_in_and_follows_its_groups(
    app: FastAPI, browser: Browser, directory: OpenLdap
) -> None:
    assert browser.login("mia", "mia-secret").status_code == 303
    assert browser.get("/training").status_code == 200
    assert actions(app)[-2:] == [("user_added", "directory"), ("login", "mia")]
    admin = directory.admin()
    mia = f"uid=mia,ou=people,{BASE}"
    try:
        admin.modify(f"cn=engineers,ou=groups,{BASE}", {"member": [(ldap3.MODIFY_DELETE, [mia])]})
        assert Browser(app).login("mia", "mia-secret").status_code == 401
        assert browser.get("/training").status_code == 303, "the session ended with the membership"
        admin.modify(f"cn=operators,ou=groups,{BASE}", {"member": [(ldap3.MODIFY_ADD, [mia])]})
        browser.login("mia", "mia-secret")
        assert browser.get("/training").status_code == 403
        assert ("user_role", "directory") in actions(app)
    finally:
        admin.modify(f"cn=operators,ou=groups,{BASE}", {"member": [(ldap3.MODIFY_DELETE, [mia])]})
        admin.modify(f"cn=engineers,ou=groups,{BASE}", {"member": [(ldap3.MODIFY_ADD, [mia])]})
        admin.unbind()


def test_a_name_with_a_password_here_is_never_asked_for_in_the_directory(app: FastAPI, browser: Browser) -> None:
    add_person(app, "olaf", Role.ADMIN)
    assert browser.login("olaf", "olaf-secret").status_code == 401
    assert browser.login("olaf", PASSWORD).status_code == 303


def test_a_person_who_is_locked_out_here_stays_out(app: FastAPI, browser: Browser) -> None:
    browser.login("mia", "mia-secret")
    people = app.state.components.accounts.people
    mia = next(each for each in people.all() if each.name == "mia")
    people.set_disabled(mia.id, True)
    assert browser.get("/").status_code == 303
    assert browser.login("mia", "mia-secret").status_code == 401


def test_the_directory_keeps_password_and_role(app: FastAPI, browser: Browser) -> None:
    browser.login("mia", "mia-secret")
    refused = browser.post("/password", old="mia-secret", new=PASSWORD, again=PASSWORD)
    assert "directory keeps" in text_of(refused)
    browser.login("admin")
    page = browser.get("/people").text
    assert "from the directory" in page
    people = app.state.components.accounts.people
    mia = next(each for each in people.all() if each.name == "mia")
    browser.post(f"/people/{mia.id}/role", role="admin")
    browser.post(f"/people/{mia.id}/password")
    assert people.find(mia.id).role == Role.ENGINEER
    assert people.check("mia", "directory") is None


def test_without_the_directory_local_people_log_in_and_others_are_told(directory: OpenLdap, tmp_path: Path) -> None:
    gone = Directory(directory.settings(url=f"ldaps://localhost:{free_port()}"))
    options = Options(hasher=WEAK_HASHER, names=("testserver",), directory=gone)
    app = create_app(Workspace.open(tmp_path / "plant"), options=options)
    add_person(app, "admin", Role.ADMIN)
    browser = Browser(app)
    refused = browser.login("mia", "mia-secret")
    assert (refused.status_code, "directory does not answer" in text_of(refused)) == (503, True)
    assert "mia-secret" not in str(actions(app))
    assert browser.login("admin").status_code == 303
    app.state.components.close()


def test_a_silent_directory_ends_in_time(directory: OpenLdap) -> None:
    with closing(socket.socket()) as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"ldap://127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        with pytest.raises(DirectoryDownError):
            Directory(directory.settings(url=url, timeout_s=1)).check("mia", "mia-secret")
        assert time.monotonic() - began_s < 30


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("ldaps://directory.plant.example", "ldap://directory.plant.example"), "only encrypted"),
        (("ldaps://directory.plant.example", "https://directory"), "expected ldaps"),
        (("(uid={name})", "(uid=mia)"), "needs {name}"),
        (("admin =", "boss ="), "roles"),
        (("timeout_s", "time_out"), "time_out"),
        (('bind_dn = "cn=gonogo,ou=services,dc=plant,dc=example"\n', ""), "both or neither"),
    ],
)
def test_wrong_settings_are_refused(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    file = tmp_path / "directory.toml"
    file.write_text(EXAMPLE.replace(*change))
    with pytest.raises(InputError, match=told):
        read_directory(file)


def test_the_example_is_read_once_its_files_exist(tmp_path: Path) -> None:
    file = tmp_path / "directory.toml"
    file.write_text(EXAMPLE)
    with pytest.raises(InputError, match=r"plant-ca\.pem"):
        read_directory(file)
    (tmp_path / "plant-ca.pem").write_text("")
    (tmp_path / "directory.password").write_text("x")
    (tmp_path / "directory.password").chmod(0o644)
    with pytest.raises(InputError, match="only this user"):
        read_directory(file)
    (tmp_path / "directory.password").chmod(0o600)
    assert read_directory(file).roles[Role.ADMIN] == "gonogo-admins"
