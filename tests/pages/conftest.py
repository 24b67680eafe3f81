"""A server on a port of its own, Debian's Chromium, and a logged-in page for each role."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, Page, expect, sync_playwright

from gonogo.server import Workspace
from gonogo.server.access import Role
from gonogo.server.server_thread import running
from server_kit import PASSWORD, fill, make_app

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE_MS = 30_000
"""How long a page may take on a machine that is busy with other work; none of the tests measures time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.pages)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no {CHROMIUM}; install it: apt-get install chromium")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    """On a workspace of its own with a data set, a bundle and a few judged parts; see `server_kit.fill`."""
    fill(Workspace.open(tmp_path / "workspace"))
    return make_app(tmp_path / "workspace")


@pytest.fixture
def address(app: FastAPI) -> Iterator[str]:
    with running(app) as found:
        yield found


@pytest.fixture
def new_page(chromium: Browser, address: str) -> Iterator[Callable[..., Page]]:
    """Open a page in a browser of its own: ``new_page()``, or logged in: ``new_page(Role.ADMIN, color_scheme="dark")``.

    At the end of the test every error that a page's script raised, and everything the policy refused, fails it.
    """
    contexts, complaints = [], []

    def open_page(role: Role | None = None, **options: Any) -> Page:
        context = chromium.new_context(base_url=address, **{"locale": "en-GB", **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda line: complaints.append(line.text) if _is_complaint(line.text) else None)
        if role is not None:
            log_in(page, role.value)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


def _is_complaint(text: str) -> bool:
    return "Content Security Policy" in text or "violates" in text


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Log in as a person does."""
    page.goto("/login")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(lambda url: "/login" not in url)


def violations(page: Page) -> list[str]:
    """What axe-core finds wrong with a page as it stands: rule, element, explanation."""
    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']}: {node['target']} {node.get('failureSummary', '')}" for rule in found for node in rule["nodes"]
    ]


def pwned(page: Page) -> bool:
    """Whether one of `server_kit.XSS` was executed."""
    return bool(page.evaluate("window.pwned === 1"))
