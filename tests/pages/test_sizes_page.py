"""The page Sizes in a browser: a known length, a limit, what it does, a second person, and a copy of the inspector."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.cli.checks_file import read_checks
from gonogo.server import Workspace
from gonogo.server.access import Role
from measured_plates import make_measured
from pages.conftest import violations
from pages.test_zones_page import drag


@pytest.fixture
def space(app: FastAPI) -> Workspace:
    found: Workspace = app.state.components.workspace
    make_measured(found.datasets, found.bundles)
    return found


def test_sizes_are_set_tried_saved_and_put_into_a_copy(space: Workspace, new_page: Callable[..., Page]) -> None:
    page, other = new_page(Role.ENGINEER), new_page(Role.ENGINEER)
    for each in (page, other):
        each.goto("/datasets/plates/sizes")
        expect(each.locator("#position")).to_have_text("1 of 8")
    drag(page, (14, 30), (113, 30))
    page.locator("#stage").press("ArrowRight")
    page.get_by_label("Length in mm").fill("10")
    page.get_by_role("button", name="Use this length").click()
    expect(page.locator("#scale")).to_contain_text("mm per pixel")
    page.get_by_label("Measured with").select_option("plate.inspector")
    expect(page.locator("#found")).to_contain_text("8.0")
    expect(page.locator("#stage .defect")).to_have_count(2)
    page.get_by_role("button", name="Add a limit").click()
    page.get_by_label("Limit", exact=True).fill("5")
    expect(page.locator("#found")).to_contain_text("Go → Review")
    page.get_by_role("button", name="Measure all pictures").click()
    expect(page.locator("#histogram .limit-line")).to_have_count(1)
    expect(page.get_by_text("2 pictures for other use are left out")).to_be_visible()
    assert violations(page) == []
    page.get_by_role("button", name="Save sizes").click()
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")
    (rule,) = read_checks(space.datasets / "plates/checks.toml").rules
    assert rule.longer_than_mm == 5
    page.locator("li", has_text="plate.inspector").get_by_role("button", name="Copy with these sizes").click()
    expect(page.get_by_text("The certified limits hold for the copy too")).to_be_visible()
    page.get_by_label("Name of the copy").fill("plate-long")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator("#copies li", has_text="plate-long.inspector")).to_contain_text("Has this scale")

    other.get_by_role("button", name="Add a limit").click()
    other.get_by_role("button", name="Save sizes").click()
    expect(other.get_by_role("link", name="Open the saved sizes")).to_be_visible()
    expect(other.locator(".zone-list .zone")).to_have_count(1)
    assert read_checks(space.datasets / "plates/checks.toml").rules == (rule,)
