"""Long work in Chromium: the bar on every page, the message at the end, and continuing after a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable

from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.server.access import Role
from gonogo.server.background_work import Asked, Task, WorkKind, WorkState
from pages.conftest import violations


def test_the_bar_and_the_message_follow_a_person_over_the_pages(app: FastAPI, new_page: Callable[..., Page]) -> None:
    released = threading.Event()

    def work(task: Task) -> None:
        task.step(0, 10)
        while not released.wait(0.02):
            task.step(4, 10)

    worker, ask = app.state.components.worker, Asked(kind=WorkKind.JUDGE, who="engineer", about="tiny")
    page, other = new_page(Role.ENGINEER), new_page(Role.AUDITOR)
    page.goto("/datasets")
    expect(page.locator("#work")).to_be_hidden()
    worker.submit("long", "Judging the pictures of a data set", work, asked=ask)
    page.goto("/datasets/tiny")
    bar = page.locator("#work")
    expect(bar).to_contain_text("40 %")
    other.goto("/audit")
    expect(other.locator("#work")).to_be_hidden()
    bar.click()
    expect(page.get_by_role("heading", name="Running and waiting")).to_be_visible()
    expect(page.locator("#work-lists progress")).to_have_attribute("value", "4")
    assert violations(page) == []
    page.goto("/training")
    expect(page.locator("#work")).to_be_visible()
    released.set()
    expect(page.locator("#toasts")).to_contain_text("Judging the pictures of a data set: tiny")
    expect(page.locator("#work")).to_be_hidden()
    page.goto("/datasets")
    page.wait_for_timeout(500)
    expect(page.locator("#toasts .toast")).to_have_count(0)
    assert other.locator("#toasts .toast").count() == 0


def test_an_interrupted_export_is_continued_with_one_click(app: FastAPI, new_page: Callable[..., Page]) -> None:
    journal = app.state.components.journal
    asked = Asked(
        kind=WorkKind.EXPORT, who="auditor", about="verdicts-0001.csv", arguments={"request": {"kind": "verdicts"}}
    )
    journal.set_state(journal.add(asked), WorkState.INTERRUPTED)
    page = new_page(Role.AUDITOR, viewport={"width": 390, "height": 844})
    page.goto("/audit")
    expect(page.locator("#work")).to_be_visible()
    page.locator("#work").click()
    assert violations(page) == []
    page.get_by_role("button", name="Continue").click()
    expect(page.locator("#toasts")).to_contain_text("Done")
    page.goto("/export")
    expect(page.get_by_role("link", name="Download")).to_be_visible()
