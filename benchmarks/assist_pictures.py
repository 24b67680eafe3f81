"""Screenshots of assisted labelling on rendered boards: ``python benchmarks/assist_pictures.py [--out docs/images]``.

Grows the defect of a part from one click, and sorts the pictures by similarity to it. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from fastapi import FastAPI
from playwright.sync_api import Page, sync_playwright

from gonogo.dataset import write_metadata
from gonogo.schema import Label
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.server_thread import running
from gonogo.synthetic import Defect, Mix, write_dataset
from screenshots import CHROMIUM, PASSWORD, keep

PICTURES = 24


def main() -> None:
    """Take the screenshots."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    out = parser.parse_args().out
    with TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "plant")
        mix = Mix(bad=0.5, without_chip=0, with_two_chips=0, defects=(Defect.STAIN,))
        data = write_dataset(space.datasets / "boards", PICTURES, difficulty=0.3, mix=mix)
        bad = next(each for each in data.samples if each.label is Label.BAD)
        mask = data.load_mask(bad, (480, 640))
        assert mask is not None, "every bad part has one"
        rows, columns = np.nonzero(mask)
        middle = np.argmin(np.hypot(rows - rows.mean(), columns - columns.mean()))
        at = (float(columns[middle]), float(rows[middle]))
        hidden = {"label": None, "defect": None, "mask_file_name": None, "split": None}
        write_metadata(data.root, [each.model_copy(update=hidden) for each in data.samples])
        app = create_app(space, options=Options())
        people = app.state.components.accounts.people
        user, password = people.add("engineer", Role.ENGINEER)
        people.change_password(user, password, PASSWORD)
        with running(app) as address:
            take(app, address, bad.file_name, at, out)


def take(app: FastAPI, address: str, file: str, at: tuple[float, float], out: Path) -> None:
    """Visit the label page and the grid."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(base_url=address, viewport={"width": 1280, "height": 800}, locale="en-GB")
        page.set_default_timeout(120_000)
        page.goto("/login")
        page.get_by_label("Name").fill("engineer")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(lambda url: "/login" not in url)
        grow(page, file, at, out)
        page.goto(f"/datasets/boards/pictures?like={file}")
        while app.state.components.worker.busy():
            time.sleep(0.2)
        page.reload()
        page.wait_for_timeout(2000)
        keep(page.screenshot(), out / "pictures-similar.jpg")
        browser.close()


def grow(page: Page, file: str, at: tuple[float, float], out: Path) -> None:
    """Grow the area around a point."""
    page.goto(f"/datasets/boards/label?file={file}")
    page.wait_for_selector("#stage image[href^=blob]")
    page.keyboard.press("w")
    place = page.locator("#stage").evaluate(
        "(svg, [x, y]) => { const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }", at
    )
    page.mouse.click(place[0], place[1])
    page.wait_for_selector("#stage .outline")
    page.wait_for_timeout(1500)
    keep(page.screenshot(), out / "label-grow.jpg")


if __name__ == "__main__":
    main()
