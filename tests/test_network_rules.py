"""Rules that hold for every address of every server: rates, other sites, headers, secrets, and who read a picture."""

from __future__ import annotations

import logging
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
from fastapi import FastAPI

from gonogo.capture.push import PushCamera
from gonogo.errors import LedgerError
from gonogo.ledger import Action
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import MIB, AccessKind, Role
from gonogo.server.routes import ROUTES
from server_kit import PASSWORD, WEAK_HASHER, Browser, add_person, fill, make_app
from test_http_api import make_key


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    space = Workspace.open(tmp_path_factory.mktemp("space") / "w")
    fill(space, parts=4)
    return space


def app_of(space: Workspace, **more: object) -> FastAPI:
    options = Options(hasher=WEAK_HASHER, names=("testserver",), **more)  # type: ignore[arg-type]
    app = create_app(space, options=options)
    if not app.state.components.accounts.people.all():
        for role in Role:
            add_person(app, role.value, role)
    return app


def signed_in(app: FastAPI, name: str = "engineer") -> Browser:
    browser = Browser(app)
    browser.login(name)
    return browser


@pytest.mark.slow
def test_every_route_has_a_rate_for_each_person_program_and_address(space: Workspace) -> None:
    app = app_of(space, request_rate_per_s=0.001)  # one at once
    browser, stranger = Browser(app), Browser(app)
    answers = [stranger.get("/health") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 429]
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert all(stranger.client.request(each.method, each.example_path).status_code == 429 for each in ROUTES)
    key = {"authorization": f"Bearer {make_key(app)}"}
    found = [browser.client.get("/api/inspectors", headers=key).status_code for _ in range(2)]
    assert found == [200, 429], "a program is not counted with its address"


def test_every_route_states_a_small_body_but_those_that_take_pictures() -> None:
    large = {each.path for each in ROUTES if each.max_body_bytes > MIB}
    assert all(each.method == "POST" for each in ROUTES if each.path in large)
    assert len(large) < 12, large


@pytest.mark.slow
def test_no_address_allows_other_sites_to_read_it(space: Workspace) -> None:
    browser = signed_in(app_of(space))
    other = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    for route in ROUTES:
        if route.path.endswith("events"):
            continue
        preflight = browser.client.options(route.example_path, headers=other)
        assert preflight.status_code in (403, 405), route.path
        answers = [preflight]
        if route.kind in (AccessKind.PAGE, AccessKind.DATA):
            answers.append(browser.client.get(route.example_path, headers=other))
        for answer in answers:
            assert not [name for name in answer.headers if name.startswith("access-control-")], route.path
            assert answer.headers["x-content-type-options"] == "nosniff", route.path
            assert "frame-ancestors 'none'" in answer.headers["content-security-policy"], route.path


def test_the_small_servers_of_stations_send_the_headers_and_no_version() -> None:
    camera = PushCamera().start()
    try:
        with pytest.raises(HTTPError) as refused, urlopen(f"http://127.0.0.1:{camera.port}/frames"):
            pass
        headers = refused.value.headers
    finally:
        camera.close()
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "gonogo"


def reads(app: FastAPI) -> list[tuple[str, object]]:
    with app.state.components.ledger_pool.reading() as ledger:
        rows = [row.record for row in ledger.rows() if isinstance(row.record, Action)]
    return [(it.who, it.details["path"]) for it in rows if it.action == "picture_read"]


@pytest.mark.slow
def test_reads_of_pictures_are_recorded_where_asked(space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = signed_in(app_of(space))
    assert plain.get("/parts/2/picture.jpg").status_code == 200
    app = app_of(space, audit_pictures=True)
    browser = signed_in(app)
    assert reads(app) == []
    shown = "/datasets/tiny/picture.jpg?file=images/test-000.png"
    for path in ("/parts/2/picture.jpg", "/parts/2/picture.jpg", shown):
        assert browser.get(path).status_code == 200
    signed_in(app, "auditor").get("/parts/2/picture.jpg")
    assert Browser(app).client.get("/parts/2/picture.jpg").status_code == 401
    paths = ["/parts/2/picture.jpg", "/datasets/tiny/picture.jpg"]
    assert reads(app) == [("engineer", paths[0]), ("engineer", paths[1]), ("auditor", paths[0])]

    def full(*_: object, **__: object) -> None:
        raise LedgerError("the disk is full")

    monkeypatch.setattr(app.state.components.ledger_pool, "act", full)
    assert browser.get("/parts/3/picture.jpg").status_code in (503, 507), "unrecorded, it is not given"


def test_every_route_of_a_picture_is_recorded() -> None:
    live = "/stations/{name}/picture.jpg"  # what the camera sees at the moment, of no part
    assert {each.path for each in ROUTES if each.path.endswith(".jpg")} - {live} == {
        each.path for each in ROUTES if each.picture
    }


def test_no_secret_is_logged_recorded_or_stored_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    app = make_app(tmp_path / "w")
    browser = signed_in(app)
    token = make_key(app)
    cookie = next(iter(browser.client.cookies.jar)).value
    wrong = "my other password 4711"
    Browser(app).post("/login", name="engineer", password=wrong)
    browser.post("/password", old=PASSWORD, new="a new secret 0815", again="a new secret 0815")
    browser.client.get("/api/inspectors", headers={"authorization": f"Bearer {token}"})
    browser.client.get("/api/inspectors", headers={"authorization": f"Bearer {token}x"})
    browser.client.get(f"/parts?text={token}")
    app.state.components.close()
    said = "".join(capfd.readouterr()) + caplog.text.replace(f"/parts?text={token}", "")
    stored = b"".join(path.read_bytes() for path in (tmp_path / "w").rglob("*") if path.is_file())
    assert len(stored) > 10_000
    for secret in (PASSWORD, wrong, "a new secret 0815", token, str(cookie), browser.csrf):
        assert secret
        assert secret not in said
        assert secret.encode() not in stored
