"""Logging in, in a browser; and what holds for every page of the route table."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.server import responses
from gonogo.server.access import AccessKind, Role
from gonogo.server.routes import ROUTES
from pages.conftest import log_in, pwned, violations
from server_kit import PASSWORD, XSS, add_person, beat

PAGES = [route for route in ROUTES if route.kind is AccessKind.PAGE and route.path != "/login"]


def test_a_person_logs_in_and_out_with_the_keyboard_alone(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/")
    expect(page).to_have_title("Log in · gonogo")
    page.keyboard.type("operator")
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_title("Overview · gonogo")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.locator(".me summary").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Log out").focus()
    page.keyboard.press("Enter")
    expect(page).to_have_title("Log in · gonogo")
    page.go_back()
    expect(page.get_by_role("heading", name="Overview")).to_have_count(0)


def test_a_wrong_password_is_said_so_and_nothing_else(new_page: Callable[..., Page]) -> None:
    page = new_page()
    page.goto("/login")
    page.get_by_label("Name").fill("operator")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("Wrong name or password")
    expect(page.get_by_label("Password")).to_be_focused()


def test_a_one_time_password_must_be_changed_first(app: FastAPI, new_page: Callable[..., Page]) -> None:
    _, once = app.state.components.accounts.people.add("Berta", Role.REVIEWER)
    page = new_page()
    log_in(page, "Berta", once)
    page.goto("/station")
    expect(page.get_by_role("heading", name="Change password")).to_be_visible()
    expect(page.get_by_role("navigation")).to_have_count(0)
    page.get_by_label("Current password").fill(once)
    page.get_by_label("New password", exact=False).first.fill("seven brass lanterns")
    page.get_by_label("New password again").fill("seven brass lanterns")
    page.get_by_role("button", name="Change password").click()
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_a_wrong_role_is_told_so_and_sees_no_link_there(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    expect(page.get_by_role("link", name="People")).to_have_count(0)
    page.goto("/people")
    expect(page.get_by_text("You don't have permission for this page")).to_be_visible()


def test_an_administrator_adds_and_locks_out_a_person(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ADMIN)
    page.get_by_role("link", name="People").click()
    page.wait_for_load_state()  # before the script is there, a double click counts twice and no dialog asks
    form = page.locator("form.card", has=page.get_by_role("heading", name="Add a person"))
    form.get_by_label("Name").fill("Berta")
    form.get_by_role("button").dblclick()
    expect(page.locator("#secret")).to_have_text(re.compile(r"^(\w{4}-){3}\w{4}$"))
    expect(page.get_by_role("row", name="Berta")).to_have_count(1)
    page.wait_for_load_state()
    page.get_by_role("row", name="Berta").get_by_role("button", name="Lock out").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("row", name="Berta").get_by_role("button", name="Lock out")).to_be_visible()
    page.get_by_role("row", name="Berta").get_by_role("button", name="Lock out").click()
    page.get_by_role("dialog").get_by_role("button", name="Lock out").click()
    expect(page.get_by_text("The person can no longer log in.")).to_be_visible()
    expect(page.get_by_role("row", name="Berta").get_by_role("button", name="Unlock")).to_be_visible()


def test_language_and_colours_are_chosen_in_the_menu(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.locator(".me summary").click()
    page.get_by_label("Language").select_option("de")
    page.get_by_label("Colours").select_option("dark")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="Überblick")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def test_a_key_survives_neither_a_reload_nor_a_switch_of_language_and_is_made_once(
    app: FastAPI, new_page: Callable[..., Page]
) -> None:
    page = new_page(Role.ADMIN)
    page.goto("/people")
    form = page.locator("form.card", has=page.get_by_role("heading", name="New key"))
    form.get_by_label("Name of the program").fill("mes")
    form.get_by_role("button", name="Create key").click()
    expect(page.get_by_text("You won't see it again. Copy it now.")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="People and keys")).to_be_visible()
    expect(page.locator("#secret")).to_have_count(0)
    page.locator(".me summary").click()
    page.get_by_label("Language").select_option("de")
    page.get_by_role("button", name="Apply").click()
    expect(page.get_by_role("heading", name="Personen und Schlüssel")).to_be_visible()
    assert len(app.state.components.accounts.sessions.tokens()) == 1


def test_the_dialogs_buttons_say_what_they_do(app: FastAPI, new_page: Callable[..., Page]) -> None:
    (app.state.components.workspace.root / "active").unlink()
    page = new_page(Role.ENGINEER)
    page.goto("/inspectors")
    page.get_by_role("button", name="Deploy").first.click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Deploy tiny.inspector?")
    expect(dialog.get_by_role("button")).to_have_text(["Cancel", "Deploy"])
    dialog.get_by_role("button", name="Deploy").click()
    expect(page.get_by_text("The inspector is now in use.")).to_be_visible()


def test_the_current_page_stays_in_sight_in_the_menu_of_a_telephone(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ADMIN, viewport={"width": 1280, "height": 800})
    hidden = []
    for route in PAGES:
        page.set_viewport_size({"width": 1280, "height": 800})
        page.goto(route.example_path)
        page.set_viewport_size({"width": 375, "height": 800})  # as when a telephone is turned
        current = page.locator(".bar nav [aria-current]")
        if current.count():
            page.wait_for_timeout(100)
            left, right = current.evaluate("(a) => [a.getBoundingClientRect().left, a.getBoundingClientRect().right]")
            hidden += [route.path] if left < 0 or right > 375 else []
    assert hidden == []


def test_every_clock_shows_plant_time_with_24_hours(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR, timezone_id="America/New_York", locale="en-US")
    told = page.evaluate(
        "import('/static/gonogo.js').then(({ clock }) => clock(new Date('2026-03-01T20:05:09Z')))",
    )
    offset_min = int(page.locator("body").get_attribute("data-offset-min") or "x")
    expected = datetime(2026, 3, 1, 20, 5, 9, tzinfo=UTC) + timedelta(minutes=offset_min)
    assert told == expected.strftime("%H:%M:%S")
    for script in (Path(responses.__file__).parent / "static").glob("*.js"):
        assert "toLocaleTimeString" not in script.read_text("utf-8"), script.name


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 375)])
def test_axe_finds_nothing_on_any_page(app: FastAPI, new_page: Callable[..., Page], scheme: str, width: int) -> None:
    beat(app.state.components.workspace, alarms=("the disk is nearly full",))
    page = new_page(color_scheme=scheme, reduced_motion="reduce", viewport={"width": width, "height": 900})
    page.goto("/login")
    found = {"/login": violations(page)}
    log_in(page, "admin")
    for route in PAGES:
        page.goto(route.example_path)
        page.wait_for_timeout(300)
        found[route.path] = violations(page)
    page.locator(".me summary").click()
    found["menu"] = violations(page)
    assert {path: wrong for path, wrong in found.items() if wrong} == {}


@pytest.mark.parametrize("width", [375, 768, 1280, 3840])
def test_no_page_is_wider_than_the_screen(new_page: Callable[..., Page], width: int) -> None:
    page = new_page(Role.ADMIN, viewport={"width": width, "height": 900})
    wide = []
    for route in PAGES:
        page.goto(route.example_path)
        if page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            wide.append(route.path)
    assert wide == []


def test_no_page_executes_what_people_typed_as_their_names(app: FastAPI, new_page: Callable[..., Page]) -> None:
    names = [name[:64] for name in XSS if name.isprintable()]
    for name in names:
        add_person(app, name, Role.ADMIN)
        app.state.components.accounts.sessions.issue(name, Role.AUDITOR, days=3, created_by=name)
        app.state.components.ledger_pool.act("label", name, defect=None, **{"file": name})
    page = new_page()
    log_in(page, names[0])
    for route in PAGES:
        page.goto(route.example_path)
        page.wait_for_timeout(100)
        assert not pwned(page), route.path
    page.goto("/people")
    page.get_by_role("row", name=names[1]).first.get_by_role("button", name="Lock out").click()
    expect(page.get_by_role("dialog")).to_contain_text(names[1])
    assert not pwned(page)
