"""The page of a part, exports and the audit log in a browser: found, proven, printed and exported, by two people."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.schema import Label
from gonogo.server.access import Role
from pages.conftest import violations


def test_a_part_is_found_seen_with_its_heat_map_proven_and_printed(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page, other = new_page(Role.AUDITOR), new_page(Role.ENGINEER)
    page.get_by_role("link", name="Parts", exact=True).click()
    field = page.get_by_label("Name, serial number, trigger, lot, code or row")
    expect(field).to_be_focused()
    field.press_sequentially("P-0002")
    field.press("Enter")
    expect(page.get_by_role("heading", name="P-0002")).to_be_visible()
    picture = page.get_by_role("img", name="Camera main, with the inspected region outlined")
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    page.keyboard.press("h")
    expect(picture).to_have_attribute("src", re.compile("heat=true"))
    assert picture.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 0
    page.keyboard.press("h")
    expect(picture).not_to_have_attribute("src", re.compile("heat=true"))

    other.goto("/parts/4")
    for each in (page, other):
        each.get_by_role("button", name="Verify the whole chain").click()
    for each in (page, other):
        expect(each.locator("#chain")).to_contain_text("This row is one of them.")
        expect(each.locator("#chain progress")).to_have_count(0)
    assert violations(page) == []
    page.emulate_media(media="print")
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.get_by_role("navigation")).to_be_hidden()
    expect(page.get_by_role("img", name="QR code of this page")).to_be_visible()


def test_an_anchor_file_is_compared_and_any_other_refused(new_page: Callable[..., Page], tmp_path: Path) -> None:
    page = new_page(Role.AUDITOR)
    page.goto("/audit")
    page.get_by_text("Verify the chain").click()
    (tmp_path / "anchors").write_text("no anchors\n")
    page.get_by_label("Anchor file, if you keep one").set_input_files(tmp_path / "anchors")
    page.get_by_role("button", name="Verify the whole chain").click()
    expect(page.get_by_text("This is not an anchor file")).to_be_visible()
    (tmp_path / "anchors").write_text('{"seq": 1, "sha256": "' + "0" * 64 + '", "at": "2026-01-01T00:00:00Z"}\n')
    page.get_by_label("Anchor file, if you keep one").set_input_files(tmp_path / "anchors")
    page.get_by_role("button", name="Verify the whole chain").click()
    expect(page.locator("#chain")).to_contain_text("1 finding")
    assert violations(page) == []


def test_two_people_export_and_each_downloads_their_own(
    app: FastAPI, new_page: Callable[..., Page], tmp_path: Path
) -> None:
    app.state.components.ledger_pool.act("review", "Anna", about=4, label=Label.BAD, defect="scratch")
    auditor, engineer = new_page(Role.AUDITOR), new_page(Role.ENGINEER)
    auditor.goto("/audit?text=scratch")
    expect(auditor.get_by_role("link", name="row 4")).to_be_visible()
    auditor.get_by_role("link", name="Export these actions").click()
    expect(auditor.get_by_label("Words")).to_have_value("scratch")
    expect(auditor.get_by_label("Verdict", exact=True)).to_be_hidden()
    expect(auditor.get_by_role("heading", name="Inspector")).to_have_count(0)
    auditor.get_by_role("button", name="Export").click()
    engineer.goto("/export")
    engineer.locator("form", has=engineer.get_by_role("heading", name="Inspector")).get_by_role("button").click()
    for page, name in ((auditor, "actions-0001.csv"), (engineer, "tiny.inspector.zip")):
        with page.expect_download() as started:
            page.get_by_role("link", name="Download").click()
        assert started.value.suggested_filename == name
        started.value.save_as(tmp_path / name)
        expect(page.locator("#exports li")).to_have_count(1)
        assert violations(page) == []
    assert "scratch" in (tmp_path / "actions-0001.csv").read_text()


def test_a_reviewer_opens_the_page_of_the_part_in_hand(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    page.goto("/review")
    with page.expect_popup() as opened:
        page.get_by_role("link", name="About this part").click()
    expect(opened.value.get_by_text("You have been asked about this part")).to_be_visible()
