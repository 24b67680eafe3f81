"""The login of a wall screen: it lasts, shows its stations, and opens nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo.ledger import Ledger
from gonogo.server.access import PUBLIC, AccessKind, Role, ScreenUse
from gonogo.server.auth.screens import CODE_S
from gonogo.server.routes import ROUTES
from server_kit import XSS, Browser, Clock, make_app, record, text_of


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def app(tmp_path: Path, clock: Clock) -> Iterator[FastAPI]:
    root, rng = tmp_path / "workspace", np.random.default_rng(1)
    made = make_app(root, clock=clock)
    with Ledger.open(made.state.components.workspace.ledger) as ledger:
        for number, station in enumerate(("saw", "press", "saw")):
            record(ledger, number, 60.0, rng=rng, station=station)
    made.state.components.records.refresh()
    yield made
    made.state.components.close()


@pytest.fixture
def admin(app: FastAPI) -> Browser:
    browser = Browser(app)
    browser.login(Role.ADMIN.value)
    return browser


def code_of(admin: Browser, answer: object) -> str:
    shown = text_of(admin.get(answer.headers["location"]))  # type: ignore[attr-defined]
    return shown.split("type this code")[1].split()[0]


def paired(app: FastAPI, admin: Browser, name: str = "Hall 3", **stations: str) -> Browser:
    code = code_of(admin, admin.post("/screens", name=name, **stations))
    screen = Browser(app)
    screen.get("/screen")
    assert screen.post("/screen", code=code.lower().replace("-", " ")).headers["location"] == "/wall"
    return screen


@pytest.mark.slow
def test_a_screen_opens_the_wall_and_no_other_route(app: FastAPI, admin: Browser) -> None:
    bound, everything = paired(app, admin, stations="saw"), paired(app, admin, "Office")
    for route in ROUTES:
        if route.roles == PUBLIC or route.path == "/station/events":  # a stream does not end
            continue
        for screen, uses in ((bound, {ScreenUse.ANY}), (everything, {ScreenUse.ANY, ScreenUse.ALL_STATIONS})):
            sent = screen.get if route.method == "GET" else screen.post
            answer = sent(route.example_path)
            if route.path == "/":
                assert answer.headers["location"] == "/wall"
            elif route.screens in uses and "picture" not in route.path:
                assert answer.status_code == 200, route.path
            elif route.screens not in uses:
                assert answer.status_code == 403, route.path


def test_a_screen_shows_its_stations_only(app: FastAPI, admin: Browser) -> None:
    screen = paired(app, admin, stations="saw")
    assert set(screen.get("/wall/tiles").json()["states"]) == {"saw"}
    shown = text_of(screen.get("/wall"))
    assert "saw" in shown
    assert "press" not in shown
    with app.state.components.ledger_pool.reading() as ledger:
        rows = {row.record.station: row.seq for row in ledger.verdicts()}
    assert screen.get(f"/parts/{rows['saw']}/picture.jpg").status_code == 200
    assert screen.get(f"/parts/{rows['press']}/picture.jpg").status_code == 403
    assert set(paired(app, admin, "Office").get("/wall/tiles").json()["states"]) == {"saw", "press"}


@pytest.mark.slow
def test_the_login_of_a_screen_outlasts_sessions_restarts_and_the_browser(
    app: FastAPI, admin: Browser, clock: Clock
) -> None:
    screen = paired(app, admin)
    (cookie,) = [each for each in screen.client.cookies.jar if each.name == "gonogo-screen"]
    assert cookie.expires is not None
    assert not cookie.secure
    assert cookie.has_nonstandard_attr("HttpOnly")
    root = app.state.components.workspace.root
    clock.now += 100 * 86400
    again = make_app_again(root, clock)
    later = Browser(again)
    later.client.cookies.set("gonogo-screen", str(cookie.value), domain="testserver.local", path="/")
    answer = later.get("/wall")
    assert answer.status_code == 200
    assert "gonogo-screen=" in answer.headers["set-cookie"]  # begins anew with every visit
    admin = Browser(again)
    admin.login(Role.ADMIN.value)
    assert app.state.components.accounts.screens.all()[0].used_at == clock.now
    again.state.components.close()


def make_app_again(root: Path, clock: Clock) -> FastAPI:
    from gonogo.server import Options, Workspace, create_app
    from server_kit import WEAK_HASHER

    return create_app(Workspace.open(root), options=Options(hasher=WEAK_HASHER, now=clock, names=("testserver",)))


def test_a_revoked_screen_goes_dark_and_a_new_code_moves_the_login(app: FastAPI, admin: Browser) -> None:
    first = paired(app, admin)
    second = Browser(app)
    second.get("/screen")
    assert second.post("/screen", code=code_of(admin, admin.post("/screens/1/code"))).status_code == 303
    assert first.get("/wall/tiles").status_code == 401
    assert second.get("/wall/tiles").status_code == 200
    admin.post("/screens/1/revoke")
    assert second.get("/wall/tiles").status_code == 401
    assert "/login" in second.get("/wall").headers["location"]
    admin.post("/screens/1/code")
    assert app.state.components.accounts.screens.find(1).code_until == 0


def test_a_code_works_once_for_a_quarter_of_an_hour_and_cannot_be_guessed(
    app: FastAPI, admin: Browser, clock: Clock
) -> None:
    code = code_of(admin, admin.post("/screens", name="Hall 3"))
    clock.now += CODE_S + 1
    screen = Browser(app)
    screen.get("/screen")
    assert screen.post("/screen", code=code).status_code == 401
    code = code_of(admin, admin.post("/screens/1/code"))
    assert screen.post("/screen", code=code).status_code == 303
    other = Browser(app)
    other.get("/screen")
    answers = [other.post("/screen", code=guess).status_code for guess in (code, "", *XSS[:4])]
    assert answers[0] == 401
    assert answers[-1] == 429
    assert code not in app.state.components.accounts.database.run("SELECT * FROM screens").__repr__()


def test_a_person_may_log_in_on_a_screen_and_leaves_it_a_screen(app: FastAPI, admin: Browser) -> None:
    screen = paired(app, admin, stations="saw")
    screen.login(Role.AUDITOR.value)
    assert screen.get("/audit").status_code == 200
    screen.post("/logout")
    assert screen.get("/audit").status_code == 403
    assert screen.get("/wall").status_code == 200
    assert not any(route.screens is not ScreenUse.NONE for route in ROUTES if route.kind is AccessKind.FORM)


def test_screens_are_audited_listed_and_named_once(app: FastAPI, admin: Browser) -> None:
    paired(app, admin, XSS[0])
    admin.post("/screens", name=XSS[0].upper())
    admin.post("/screens", name=" ")
    admin.post("/screens", name="x", stations="nowhere")
    page = admin.get("/people")
    assert XSS[0] not in page.text
    assert len(app.state.components.accounts.screens.all()) == 1
    admin.post("/screens/1/revoke")
    with app.state.components.ledger_pool.reading() as ledger:
        acts = [row.record.action for row in ledger.actions() if row.record.action.startswith("screen_")]
    assert acts == ["screen_added", "screen_paired", "screen_revoked"]
