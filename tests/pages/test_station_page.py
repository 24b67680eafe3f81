"""The station page in a browser: live, stale, and again live."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
from fastapi import FastAPI
from playwright.sync_api import Page, Route, expect

from gonogo.ledger import Ledger
from gonogo.server.access import Role
from pages.conftest import pwned
from server_kit import XSS, beat, record, record_fault
from tiny_bundle import BAD_RED, GOOD_RED


def test_the_page_goes_live_and_shows_each_new_part(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.get_by_role("link", name="Station", exact=True).click()
    expect(page.locator(".pill")).to_have_text("Live")
    rng = np.random.default_rng(1)
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 100, GOOD_RED - 20, rng=rng)
        expect(page.locator(".verdict .word").first).to_have_text("Go")
        source = f"/parts/{ledger.head().seq}/picture.jpg?view=0&heat=false&width=960"
        expect(page.locator(".pictures img")).to_have_attribute("src", source)
        record_fault(ledger, 101)
        expect(page.locator(".verdict .word").first).to_have_text("Fault")
        expect(page.get_by_text("Camera lost 2")).to_be_visible()
        expect(page.locator(".pictures img")).to_have_count(0)
        record(ledger, 102, BAD_RED + 20, rng=rng)
        expect(page.locator(".verdict .word").first).to_have_text("No-go")
    expect(page.locator("#announce")).not_to_be_empty()


def test_the_heat_map_is_toggled_by_key_and_by_button(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".pictures img")).to_be_visible()
    page.keyboard.press("h")
    expect(page.get_by_role("button", name="Heat map")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".pictures img[src*='heat=true']")).to_be_visible()
    page.get_by_role("button", name="Heat map").click()
    expect(page.locator(".pictures img[src*='heat=false']")).to_be_visible()


def test_the_page_goes_stale_when_the_feed_stops_and_recovers(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)

    def cut(route: Route) -> None:
        route.abort()

    page.clock.install()
    page.route("**/station/events", cut)
    page.goto("/station")
    expect(page.locator(".lost")).to_be_hidden()
    page.clock.run_for(8000)
    expect(page.locator(".lost")).to_be_visible()
    expect(page.locator(".lost .word")).to_have_text("No signal")
    expect(page.locator(".pill")).to_have_text("No connection")
    page.unroute("**/station/events", cut)
    page.clock.run_for(5000)
    expect(page.locator(".pill")).to_have_text("Live")
    expect(page.locator(".lost")).to_be_hidden()


def test_a_station_that_falls_silent_is_shown_at_once(app: FastAPI, new_page: Callable[..., Page]) -> None:
    space = app.state.components.workspace
    beat(space)
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".pill")).to_have_text("Live")
    beat(space, ago_s=30)
    expect(page.locator(".verdict .word").first).to_have_text("Silent")


def test_a_person_who_is_locked_out_loses_the_live_page(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".pill")).to_have_text("Live")
    people = app.state.components.accounts.people
    people.set_disabled(next(user.id for user in people.all() if user.name == "operator"), True)
    page.wait_for_url("**/login?next=*")


def test_nothing_in_a_verdict_is_executed(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".pill")).to_have_text("Live")
    rng = np.random.default_rng(2)
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        for number, name in enumerate(name for name in XSS if name.isprintable()):
            record(ledger, 200 + number, BAD_RED, rng=rng, part=name, lot=name, station=name, reason=name)
            expect(page.locator(".verdict .reason").first).to_have_text(name)
            assert not pwned(page)


def test_the_age_counts_on_and_the_page_turns_neutral(app: FastAPI, new_page: Callable[..., Page]) -> None:
    feed = app.state.components.feed
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 300, GOOD_RED - 20, rng=np.random.default_rng(3))
        last = next(iter(ledger.verdicts(newest_first=True, limit=1))).at
    feed.now = lambda: last + timedelta(seconds=5)
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".panel.go .age")).to_have_text("5 seconds ago")
    expect(page.locator(".panel.go .age")).not_to_have_text("5 seconds ago")
    feed.now = lambda: last + timedelta(minutes=12)
    expect(page.locator(".verdict .word").first).to_have_text("No station")
    expect(page.locator(".verdict .age")).to_have_text("12 minutes ago")
    expect(page.locator(".panel.go")).to_have_count(0)


def test_a_burst_is_announced_by_its_last_part(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.OPERATOR)
    page.goto("/station")
    expect(page.locator(".pill")).to_have_text("Live")
    rng = np.random.default_rng(4)
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        for number in range(400, 404):
            record(ledger, number, GOOD_RED - 20, rng=rng)
            expect(page.locator(".verdict [data-part]")).to_have_text(f"P-{number:04d}")
        record(ledger, 404, BAD_RED + 20, rng=rng)
    expect(page.locator("#announce")).to_have_text("No-go, P-0404")
