"""Open every page of the built documentation at two widths, from the folder and with the network cut.

``make docs`` runs it after the build. A page that is wider than the screen, writes an error to the console, shows a
picture that does not load or asks the network for something is a failure. ``--pictures FOLDER`` keeps a screenshot of
each. The last line holds the figures as JSON. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from command import print_figures, run
from gonogo.errors import InputError, UnfitError
from gonogo.progress import track

WIDTHS = (390, 1440)
_BROKEN = "[...document.images].filter(each => each.complete && !each.naturalWidth).map(each => each.src)"
_WIDER = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


def main() -> None:
    """Look at every page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the narrow width alone")
    parser.add_argument("--site", type=Path, default=Path("build/site"))
    parser.add_argument("--pictures", type=Path)
    given = parser.parse_args()
    files = sorted(each for each in given.site.glob("*.html") if each.name != "404.html")
    if not files:
        raise InputError(f"{given.site}: expected the built site, found no page. Run make docs.")
    widths = WIDTHS[:1] if given.quick else WIDTHS
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for width in widths:
            context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
            for file in track(files, f"Looking at pages {width} px wide"):
                page = context.new_page()
                faults += [f"{file.name} at {width} px: {fault}" for fault in faults_of(page, file)]
                if given.pictures:
                    given.pictures.mkdir(parents=True, exist_ok=True)
                    page.evaluate("scrollTo(0, 0)")
                    page.screenshot(path=given.pictures / f"{file.stem}-{width}.png")
                page.close()
        browser.close()
    print_figures({"pages": len(files), "widths": list(widths), "faults": faults})
    if faults:
        raise UnfitError("expected pages without faults, found:\n" + "\n".join(faults))


def faults_of(page: Page, file: Path) -> list[str]:
    """Open a page and return what is wrong with it."""
    found: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: found.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: asked.append(request.url) if request.url.startswith("http") else None)
    page.goto(file.resolve().as_uri(), wait_until="load")
    for picture in page.query_selector_all("article img"):
        picture.scroll_into_view_if_needed()
    found += [f"{source} does not load" for source in page.evaluate(_BROKEN)]
    if page.evaluate(_WIDER):
        found.append("wider than the screen")
    return [*found, *(f"asks the network for {url}" for url in asked)]


if __name__ == "__main__":
    run(main)
