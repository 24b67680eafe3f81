"""The grid page in a browser: axe, widths, and labelling with the keys."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, expect

from gonogo.server.access import Role

HERE = "/datasets/tiny/pictures"


def test_pictures_are_labelled_with_the_keys_and_undone(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER, viewport={"width": 1280, "height": 900})
    page.goto(f"{HERE}?label=good&split=train")
    boxes = page.locator("#cards input")
    before = boxes.count()
    boxes.nth(0).focus()
    page.keyboard.press("Space")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Space")
    expect(page.locator("#chosen")).to_have_text("2 chosen")
    page.keyboard.press("b")
    expect(page.locator("#undo-note")).to_contain_text("2 pictures labelled bad.")
    expect(boxes).to_have_count(before - 2)
    page.keyboard.press("u")
    expect(boxes).to_have_count(before)
