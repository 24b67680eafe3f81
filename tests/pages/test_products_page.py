"""The page Products in a browser: a station is given a second product, renumbered, and changed over by an operator."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.ledger import Where
from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.station.settings import read_settings
from pages.conftest import violations
from server_kit import beat
from test_server_products import TOML


def test_a_product_is_added_renumbered_and_selected(
    app: FastAPI, new_page: Callable[..., Page], monkeypatch: pytest.MonkeyPatch
) -> None:
    space: Workspace = app.state.components.workspace
    path = space.root / "station.toml"
    path.write_text(TOML)
    page = new_page(Role.ENGINEER)
    page.goto("/products")
    page.get_by_label("Name it, to add other products").fill("chip")
    page.get_by_role("button", name="Name the product").click()
    expect(page.get_by_role("heading", name="chip")).to_be_visible()
    page.get_by_label("Name").last.fill("pill")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="pill"))).to_contain_text(
        "PLC number 2"
    )
    page.locator("summary", has_text="Edit pill").click()
    page.get_by_role("button", name="Smaller number").click()
    expect(page.get_by_text("The program of the PLC must know")).to_be_visible()
    page.get_by_role("button", name="Exchange").click()
    expect(page.get_by_role("listitem").filter(has=page.get_by_role("heading", name="pill"))).to_contain_text(
        "PLC number 1"
    )
    assert list(read_settings(path).products) == ["pill", "chip"]
    assert violations(page) == []

    monkeypatch.setattr("gonogo.station.status._BEATS_MISSED", 3600.0)  # on a slow machine it still runs
    beat(space, station="s1")
    status = space.station_state / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | {"products": ["pill", "chip"], "product": "chip"}))
    operator = new_page(Role.OPERATOR)
    operator.goto("/products")
    operator.get_by_role("button", name="Make from now on").click()
    expect(operator.get_by_text("recorded with your name")).to_be_visible()
    operator.get_by_role("button", name="Make it").click()
    expect(operator.get_by_text("It counts for the parts")).to_be_visible()
    with app.state.components.ledger_pool.reading() as ledger:
        [row] = list(ledger.actions(Where(action="product_requested", station="s1")))
    assert (row.record.who, row.record.details["product"]) == ("operator", "pill")
