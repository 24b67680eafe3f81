"""Inspectors, compare and shadow mode in a browser: sliders by key, settling, two people, accessibility."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.server.access import Role
from shadow_kit import NEW, OLD, SilentLine, open_app, two_inspectors
from tests.pages.conftest import violations
from tiny_bundle import BAD_RED, GOOD_RED


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    shutil.rmtree(two_inspectors(tmp_path / "workspace").jobs / "0001")
    return open_app(tmp_path / "workspace")


def test_a_candidate_is_started_watched_and_stopped_by_two_people(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER, reduced_motion="reduce")
    page.goto(f"/inspectors/{NEW}")
    page.get_by_role("link", name="Shadow mode").click()
    expect(page.get_by_label("Candidate")).to_have_value(NEW)
    page.get_by_role("button", name="Start").click()
    expect(page.get_by_text("It judges silently from the next part on.")).to_be_visible()
    SilentLine(app=app).run(GOOD_RED, 87.0, BAD_RED)
    page.reload()
    slider = page.get_by_role("slider")
    assert slider.get_attribute("aria-valuetext") == "89.00"
    assert violations(page) == []
    slider.press("Home")
    expect(page.get_by_text("1 part would newly be stopped")).to_be_visible()
    slider.press("End")
    expect(page.get_by_text("2 parts would newly pass")).to_be_visible()
    other = new_page(Role.ADMIN)
    other.goto("/shadow")
    other.locator("button[data-settle]").first.click()
    expect(other.locator("button[data-settle]")).to_have_count(0)
    other.get_by_role("button", name="Stop").click()
    other.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(other.get_by_text("It no longer judges silently.")).to_be_visible()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("dialog").get_by_role("button", name="Stop").click()
    expect(page.get_by_text("Somebody may have stopped it.")).to_be_visible()


def test_two_inspectors_are_compared_from_the_list(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER, reduced_motion="reduce")
    page.goto(f"/compare?a={OLD}&b={NEW}")
    page.get_by_role("button", name="Compare").click()
    expect(page.locator(".compared")).to_contain_text("60 parts of tiny, judged by both")
    assert violations(page) == []
    page.get_by_role("slider").nth(2).press("End")
    expect(page.get_by_text("These are not the thresholds in force.")).to_be_visible()
    expect(page.locator(".compared")).to_contain_text("30 of 30")
