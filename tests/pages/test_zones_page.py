"""The zones page in a browser: a zone drawn with the mouse, another with the keys, saved, and a second person."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zxingcpp
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.config import CodeZone, InspectZone, read_zones
from gonogo.dataset import Sample, write_metadata
from gonogo.images import encode_png
from gonogo.schema import Label
from gonogo.server.access import Role
from pages.conftest import violations


@pytest.fixture
def dataset(app: FastAPI) -> Path:
    """Two good pictures of 200 x 150 pixels with a part from (50, 50) to (150, 100), and a presence zone."""
    root: Path = app.state.components.workspace.datasets / "part"
    (root / "images").mkdir(parents=True)
    for number in range(2):
        frame = np.full((150, 200, 3), 90 + 40 * number, np.uint8)
        (root / f"images/{number}.png").write_bytes(encode_png(frame))
    write_metadata(
        root,
        [
            Sample(file_name=f"images/{number}.png", label=Label.GOOD, box_xyxy=(50, 50, 150, 100))
            for number in range(2)
        ],
    )
    (root / "zones.toml").write_text(
        'drawn_on = "part"\n[[zones]]\nkind = "presence"\nname = "serial"\npolygon = [[0.8, 0.8], [1, 0.8], [1, 1]]\n'
        'count = 1\ntemplate = "x"\ncut_wh = [20, 20]\n'
    )
    return root


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Drag between two points given in pixels of the picture."""
    scale, left, top = page.evaluate(
        "(() => { const m = document.getElementById('stage').getScreenCTM(); return [m.a, m.e, m.f]; })()"
    )
    for number, (x, y) in enumerate((start, end)):
        page.mouse.move(left + x * scale, top + y * scale, steps=4)
        page.mouse.down() if number == 0 else page.mouse.up()


def test_zones_are_drawn_corrected_and_saved(dataset: Path, new_page: Callable[..., Page]) -> None:
    page, other = new_page(Role.ENGINEER), new_page(Role.ENGINEER)
    for each in (page, other):
        each.goto("/datasets/part/zones")
        expect(each.locator("#stage .outline.presence")).to_have_count(1)
    drag(page, (60, 60), (100, 80))
    expect(page.locator("#saved")).to_have_attribute("data-state", "unsaved")
    page.get_by_label("Name", exact=True).last.fill("serial")
    page.get_by_role("button", name="Save zones").click()
    expect(page.get_by_text("Another zone has this name.")).to_be_visible()
    page.get_by_label("Name", exact=True).last.fill("leads")
    page.get_by_label("Kind").last.select_option("inspect")
    page.get_by_label("Sensitivity").last.fill("0.2")
    drag(page, (100, 80), (110, 90))  # the third corner
    page.get_by_role("button", name="Next picture").click()
    expect(page.locator("#position")).to_have_text("2 of 2")
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")
    serial, leads = read_zones(dataset / "zones.toml")
    assert (serial.kind, leads.name) == ("presence", "leads")
    assert isinstance(leads, InspectZone)
    assert leads.sensitivity == 0.2
    np.testing.assert_allclose(leads.polygon, [(0.1, 0.2), (0.5, 0.2), (0.6, 0.8), (0.1, 0.6)], atol=0.02)

    for key in ("n", "Space", "Shift+ArrowRight", "Space", "Shift+ArrowDown", "Space", "Enter"):
        other.locator("#stage").press(key)
    expect(other.locator(".zone")).to_have_count(2)
    other.get_by_role("button", name="Save zones").click()
    expect(other.get_by_role("link", name="Open the saved zones")).to_be_visible()
    expect(other.locator(".zone")).to_have_count(2)
    other.locator("#stage").press("u")
    expect(other.locator("#saved")).to_have_attribute("data-state", "saved")
    assert len(read_zones(dataset / "zones.toml")) == 2


def test_a_code_is_drawn_read_and_tried(dataset: Path, new_page: Callable[..., Page]) -> None:
    for number, text in enumerate(("L7-001", "L7-002")):
        frame = np.full((150, 200, 3), 230, np.uint8)
        code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.DataMatrix)
        drawn = np.asarray(zxingcpp.write_barcode_to_image(code, scale=3, add_quiet_zones=False))
        if number == 0:
            frame[55 : 55 + len(drawn), 60 : 60 + len(drawn)] = drawn[..., None]
        (dataset / f"images/{number}.png").write_bytes(encode_png(frame))
    page = new_page(Role.ENGINEER)
    page.goto("/datasets/part/zones")
    expect(page.locator("#position")).to_have_text("1 of 2")
    drag(page, (52, 48), (120, 99))
    page.get_by_label("Kind", exact=True).last.select_option("code")
    page.get_by_label("Pattern of the text").last.fill("(?P<lot>L[0-9])-(?P<part>.+)")
    expect(page.locator(".zone.code .read")).to_have_text("L7-001 · part 001 · lot L7")
    page.get_by_role("button", name="Try on all pictures").click()
    expect(page.get_by_text("Read on 50")).to_be_visible()
    page.get_by_text("Pictures that were not read").click()
    page.get_by_role("button", name="images/1.png").click()
    expect(page.locator("#position")).to_have_text("2 of 2")
    expect(page.locator(".zone.code .read")).to_contain_text("no code could be read")
    assert violations(page) == []
    page.get_by_role("button", name="Save zones").click()
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")
    code_zone = read_zones(dataset / "zones.toml")[1]
    assert isinstance(code_zone, CodeZone)
    assert code_zone.pattern == "(?P<lot>L[0-9])-(?P<part>.+)"
