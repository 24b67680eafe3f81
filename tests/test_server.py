"""The door of the server: every route, every role, every missing or forged proof; headers, hosts, limits."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

from gonogo.errors import InputError
from gonogo.server import Workspace, create_app
from gonogo.server.access import EVERYONE, AccessKind, Role, Route, data, form, page_route
from gonogo.server.application import UndeclaredRouteError, check_declarations
from gonogo.server.auth.sessions import LONGEST_SESSION_S
from gonogo.server.routes import PUBLIC_PATHS, ROUTES
from server_kit import Browser, Clock, add_person, make_app, text_of

GUARDED = [route for route in ROUTES if route.roles]
CHANGING = [route for route in ROUTES if route.method == "POST"]
REACHED = "the handler was reached"


def name_of(route: Route) -> str:
    return f"{route.method} {route.path}"


def reached() -> PlainTextResponse:
    return PlainTextResponse(REACHED)


class Door:
    """The real route table behind its guard, with handlers that only say that they were reached."""

    def __init__(self, root: Path) -> None:
        self.clock = Clock()
        self.app = make_app(root, clock=self.clock, table=[replace(route, handler=reached) for route in ROUTES])
        components = self.app.state.components
        self.browsers = {}
        for user in components.accounts.people.all():
            self.browsers[user.role] = self.let_in(user.id)
        self.tokens = {
            role: components.accounts.sessions.issue(role, role, days=1, created_by="test")[1] for role in Role
        }

    def let_in(self, user_id: int) -> Browser:
        """A browser with a session, as after a login."""
        browser, sessions = Browser(self.app), self.app.state.components.accounts.sessions
        secret = sessions.begin(user_id)
        browser.set_cookie(secret)
        browser.csrf = sessions.csrf(secret)
        return browser


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    return Door(tmp_path_factory.mktemp("door") / "app")


def ask(door: Door, route: Route, *, role: Role | None = None, csrf: str | None = None, **headers: str) -> int:
    """Send a request with a role's cookies; a refusal is its status, a page's redirect to the login 401."""
    browser = door.browsers[role] if role else Browser(door.app)
    sent = {"origin": "http://testserver", **headers}
    if csrf is not None:
        sent["x-csrf-token"] = csrf
    sent = {name: value for name, value in sent.items() if value}
    answer = browser.client.request(route.method, route.example_path, headers=sent)
    if answer.status_code == 303 and answer.headers["location"].startswith("/login"):
        return 401
    assert (REACHED in answer.text) == (answer.status_code == 200)
    return int(answer.status_code)


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_nobody_passes_without_login(door: Door, route: Route) -> None:
    assert ask(door, route) == 401
    assert ask(door, route, authorization="Bearer gonogo_guessed") == 401
    assert ask(door, route, cookie="gonogo=guessed") == 401


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_a_session_opens_the_routes_of_its_role_and_no_others(door: Door, route: Route) -> None:
    for role in Role:
        expected = 200 if role in route.roles else 403
        assert ask(door, route, role=role, csrf=door.browsers[role].csrf) == expected, role


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_a_token_opens_the_routes_of_its_role_and_no_others(door: Door, route: Route) -> None:
    for role in Role:
        expected = 200 if role in route.roles else 403
        assert ask(door, route, authorization=f"Bearer {door.tokens[role]}", origin="") == expected, role


@pytest.mark.parametrize("route", CHANGING, ids=name_of)
def test_a_change_needs_the_csrf_token_of_its_own_session(door: Door, route: Route) -> None:
    for role in route.roles or {Role.OPERATOR}:
        others = next(browser.csrf for other, browser in door.browsers.items() if other is not role)
        assert ask(door, route, role=role) == 403
        assert ask(door, route, role=role, csrf="") == 403
        assert ask(door, route, role=role, csrf="0" * 64) == 403
        assert ask(door, route, role=role, csrf=others) == 403


@pytest.mark.parametrize("route", CHANGING, ids=name_of)
def test_a_change_needs_this_servers_origin(door: Door, route: Route) -> None:
    for role in route.roles or {Role.OPERATOR}:
        good = door.browsers[role].csrf
        assert ask(door, route, role=role, csrf=good, origin="http://evil.example") == 403
        assert ask(door, route, role=role, csrf=good, origin="null") == 403
        assert ask(door, route, role=role, csrf=good, origin="") == 403
        assert ask(door, route, role=role, csrf=good, **{"sec-fetch-site": "cross-site"}) == 403


@pytest.mark.parametrize("route", GUARDED, ids=name_of)
def test_an_expired_session_and_an_expired_token_open_nothing(door: Door, route: Route) -> None:
    begun = door.clock.now
    try:
        door.clock.now = begun + LONGEST_SESSION_S + 1
        for role in Role:
            assert ask(door, route, role=role, csrf=door.browsers[role].csrf) == 401
        door.clock.now = begun + 2 * 86400
        for role in Role:
            assert ask(door, route, authorization=f"Bearer {door.tokens[role]}") == 401
    finally:
        door.clock.now = begun


@pytest.mark.parametrize("route", [route for route in GUARDED if not route.before_password_change], ids=name_of)
def test_a_one_time_password_opens_nothing_but_the_change_of_it(door: Door, route: Route) -> None:
    user, _ = door.app.state.components.accounts.people.add(name_of(route), Role.ADMIN)
    browser = door.let_in(user.id)
    answer = browser.client.request(
        route.method, route.example_path, headers={"origin": "http://testserver", "x-csrf-token": browser.csrf}
    )
    assert REACHED not in answer.text
    assert answer.status_code == 403 or answer.headers["location"] == "/password"


def test_only_the_login_the_probes_and_the_openapi_document_are_public() -> None:
    probes = {"/health", "/ready", "/v2/health/live", "/v2/health/ready"}
    assert {route.path for route in ROUTES if not route.roles} == {"/login", "/screen", "/api/openapi.json", *probes}
    assert {route.path for route in ROUTES if not route.roles} == PUBLIC_PATHS


def test_an_app_with_a_route_that_declares_no_roles_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(UndeclaredRouteError, match="/open"):
        create_app(Workspace.open(tmp_path), table=[page_route("/open", reached, frozenset())])


@pytest.mark.slow
def test_an_app_with_a_route_outside_the_table_does_not_start(app: FastAPI) -> None:
    app.router.add_api_route("/extra", reached)
    with pytest.raises(UndeclaredRouteError, match="/extra"):
        check_declarations(app)


def test_an_app_with_a_mounted_app_outside_the_table_does_not_start(app: FastAPI) -> None:
    app.mount("/admin", FastAPI())
    with pytest.raises(UndeclaredRouteError, match="/admin"):
        check_declarations(app)


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    return make_app(tmp_path / "workspace")


@pytest.mark.parametrize("path", ["/health", "/login", "/", "/nothing", "/static/gonogo.css", "/static/nothing"])
def test_every_answer_carries_the_security_headers(app: FastAPI, path: str) -> None:
    headers = Browser(app).get(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cross-origin-opener-policy"] == "same-origin"
    assert headers["referrer-policy"] == "same-origin"


def test_a_crash_says_nothing_about_itself_and_carries_the_headers(tmp_path: Path) -> None:
    def crash() -> None:
        raise ZeroDivisionError("secret detail")

    browser = Browser(make_app(tmp_path, table=[*ROUTES, page_route("/crash", crash, EVERYONE)]))
    browser.login("operator")
    answer = browser.get("/crash")
    assert answer.status_code == 500
    assert "secret detail" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:8000"])
def test_a_foreign_host_name_is_refused(app: FastAPI, host: str) -> None:
    assert Browser(app).client.get("/login", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "192.168.7.20:8000", "[::1]:8000"])
def test_its_own_names_and_plain_addresses_are_answered(app: FastAPI, host: str) -> None:
    assert Browser(app).client.get("/login", headers={"host": host}).status_code == 200


def test_a_body_larger_than_its_route_allows_is_refused_unread(tmp_path: Path) -> None:
    app = make_app(tmp_path, table=[*ROUTES, form("/small", reached, EVERYONE, max_body_bytes=1000)])
    browser = Browser(app)
    browser.login("operator")
    assert browser.post("/small", text="x" * 500).status_code == 200
    assert browser.post("/small", text="x" * 2000).status_code == 413


def test_an_endless_body_is_cut_off(app: FastAPI) -> None:
    browser = Browser(app)
    browser.login("operator")
    pieces = (b"x" * 1000 for _ in range(10_000))
    headers = {"origin": "http://testserver", "content-type": "application/x-www-form-urlencoded"}
    assert browser.client.post("/preferences", content=pieces, headers=headers).status_code == 413


def test_the_session_cookie_is_out_of_reach_of_scripts_and_other_sites(app: FastAPI) -> None:
    browser = Browser(app)
    browser.get("/login")
    before = browser.client.cookies["gonogo"]
    cookie = browser.post("/login", name="operator", password="violet gasket 41 harbour").headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(cookie.split("; "))
    assert browser.client.cookies["gonogo"] != before


def test_a_session_id_chosen_by_an_attacker_is_replaced_at_login(app: FastAPI) -> None:
    browser = Browser(app)
    browser.set_cookie("chosen")
    browser.login("operator")
    assert browser.client.cookies["gonogo"] != "chosen"
    attacker = Browser(app)
    attacker.set_cookie("chosen")
    assert attacker.get("/").headers["location"] == "/login"


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
def test_the_login_never_leads_to_another_site(app: FastAPI, target: str) -> None:
    browser = Browser(app)
    browser.get("/login")
    answer = browser.post("/login", name="operator", password="violet gasket 41 harbour", next=target)
    assert answer.headers["location"] == "/"


def test_the_login_leads_back_to_the_page_that_was_asked_for(app: FastAPI) -> None:
    browser = Browser(app)
    assert browser.get("/audit?who=anna").headers["location"] == "/login?next=%2Faudit%3Fwho%3Danna"
    browser.get("/login")
    answer = browser.post("/login", name="auditor", password="violet gasket 41 harbour", next="/audit?who=anna")
    assert answer.headers["location"] == "/audit?who=anna"


def test_scripts_are_refused_in_json_and_people_in_a_page(app: FastAPI) -> None:
    browser = Browser(app)
    assert browser.client.get("/station/events").json() == {"message": "Please log in first."}
    browser.login("operator")
    answer = browser.get("/people")
    assert answer.status_code == 403
    assert "You don't have permission for this page" in text_of(answer)


def test_a_table_that_names_one_address_twice_for_one_method_is_a_mistake() -> None:
    seen = [(route.method, route.path) for route in ROUTES]
    assert len(seen) == len(set(seen))


def test_every_placeholder_in_the_table_has_an_example() -> None:
    for route in ROUTES:
        assert "{" not in route.example_path
        assert route.kind in AccessKind


def test_logging_in_does_not_keep_older_sessions_of_others(app: FastAPI) -> None:
    add_person(app, "anna", Role.OPERATOR)
    first, second = Browser(app), Browser(app)
    first.login("anna")
    second.login("operator")
    second.post("/logout")
    assert first.get("/").status_code == 200
    assert second.get("/").headers["location"] == "/login"


def test_a_folder_with_other_things_does_not_become_a_workspace(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="other files"):
        Workspace.open(tmp_path)


def test_a_bundle_in_use_is_one_of_the_workspace(tmp_path: Path) -> None:
    space = Workspace.open(tmp_path)
    (space.bundles / "a.inspector").mkdir()
    assert space.active_bundle() is None
    space.activate("a.inspector")
    assert space.active_bundle() == space.bundles / "a.inspector"
    with pytest.raises(InputError, match="no"):
        space.activate("../../etc")


@pytest.mark.slow
def test_importing_the_server_leaves_torch_out() -> None:
    code = "import sys, gonogo.server; sys.exit('torch' in sys.modules or 'sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_data_routes_answer_get_and_calls_answer_post() -> None:
    assert data("/x", reached, EVERYONE).method == "GET"
    assert form("/x", reached, EVERYONE).method == "POST"
