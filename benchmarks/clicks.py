"""Clicks, keys, pages and waiting time of the standard tasks, before and after: ``python benchmarks/clicks.py``.

Fills a small workspace with rendered pictures, serves it, and does each task in headless Chromium as a person would:
label 50 pictures, find a part, raise a limit, say why a part passed. Each is done in the way that version 0.1.0 had, as
far as it still exists (the label page one picture at a time, the slider of the page Understand, the command line), and
in the way of the pages now (the grid, the search, the page of the part). Counts clicks, keys (each character that is
typed, each key of a shortcut), pages loaded, commands, and the seconds from the key or click to its result; what a
person needs to think, look, scroll and move the mouse is not counted. Every task ends with a check that its result is
there. ``--quick`` labels 10 pictures. The last line is the figures, as JSON. Needs Debian's chromium.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from fastapi import FastAPI
from playwright.sync_api import Browser, Locator, Page, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from clicks_data import BEFORE_PERCENT, DATASET, INSPECTOR, PARTS, TRAYS, furnish, is_bad
from command import print_figures, run
from gonogo.dataset import Dataset
from gonogo.errors import InputError, UnfitError
from gonogo.inspector import Inspector
from gonogo.ledger import VerdictRecord
from gonogo.schema import Label
from gonogo.server import Options, Workspace, create_app
from gonogo.server.access import Role
from gonogo.server.server_thread import running

CHROMIUM = Path("/usr/bin/chromium")
PASSWORD = "violet gasket 41 harbour"
VIEWPORT_WH = (1280, 900)
MOST_MS = 30_000
"""How long the script waits for a page at most."""
PICTURES, QUICK_PICTURES = 50, 10
AFTER_PERCENT = 10
"""The limit of bad parts that pass is raised to this one, from `clicks_data.BEFORE_PERCENT`."""
READY = "document.readyState === 'complete'"
THUMBNAILS = "[...document.querySelectorAll('#cards img[loading=eager]')].every((image) => image.complete)"
PHOTO = (
    "document.querySelector('#stage image.photo')?.getAttribute('href')?.startsWith('blob:') "
    "&& !document.querySelector('#stage-wrap[aria-busy]')"
)
"""Conditions of the pages, in JavaScript."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one way of doing a task takes."""

    clicks: int = 0
    keys: int = 0
    pages: int = 0
    commands: int = 0
    seconds: float = 0.0
    """From each key, click or command to its result, added up."""


class Hand:
    """The hand of a person at a browser: what it does is counted, from the overview on."""

    def __init__(self, page: Page, address: str) -> None:
        page.goto(f"{address}/")
        self.page, self.address = page, address
        self._clicks = self._keys = self._pages = 0
        self._seconds = 0.0
        page.on("domcontentloaded", self._loaded)

    def click(self, target: Locator, until: str = "") -> None:
        """Click, and wait until a condition in JavaScript is true."""
        self._clicks += 1
        self._do(target.click, until)

    def press(self, keys: str, until: str = "") -> None:
        """Press a key, or several together, such as ``Control+a``."""
        self._keys += keys.count("+") + 1
        self._do(lambda: self.page.keyboard.press(keys), until)

    def type(self, text: str) -> None:
        """Type into the field that has the focus."""
        self._keys += len(text)
        self.page.keyboard.type(text)

    def wait(self, until: str) -> None:
        """Wait for what an earlier key or click has asked for."""
        self._do(lambda: None, until)

    def cost(self) -> Cost:
        """What was counted; ends the counting."""
        self.page.remove_listener("domcontentloaded", self._loaded)
        return Cost(clicks=self._clicks, keys=self._keys, pages=self._pages, seconds=round(self._seconds, 2))

    def _do(self, act: Callable[[], None], until: str) -> None:
        begun = time.perf_counter()
        act()
        if until:
            self.page.wait_for_function(f"() => {until}", timeout=MOST_MS)
            self._seconds += time.perf_counter() - begun

    def _loaded(self, _: Page) -> None:
        self._pages += 1


@dataclass(frozen=True, kw_only=True)
class Ways:
    """A task and its ways."""

    task: str
    before: Cost | None
    """On the pages of 0.1.0; ``None`` if they had no way."""
    after: Cost
    command_line: Cost | None = None
    """With the commands of today. 0.1.0 had them too, `certify` as `operate`, except for `bundle show`."""


def main() -> None:
    """Do all tasks and print what they take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"label {QUICK_PICTURES} pictures instead of {PICTURES}")
    pictures = QUICK_PICTURES if parser.parse_args().quick else PICTURES
    if not CHROMIUM.exists():
        raise InputError(f"expected Debian's chromium in {CHROMIUM}, found none. Install it: apt-get install chromium.")
    with tempfile.TemporaryDirectory() as folder:
        space = Workspace.open(Path(folder) / "plant")
        part = furnish(space, pictures)
        other = Path(folder) / "copy"
        shutil.copytree(space.root, other)
        commands = with_commands(Workspace.open(other), part)
        ways = in_browser(space, part, commands)
    for each in ways:
        for name in ("before", "after", "command_line"):
            print(f"{each.task:36s}  {name:12s}  {written(getattr(each, name))}")  # noqa: T201
    print_figures({"pictures": pictures, "parts": PARTS, "tasks": [asdict(each) for each in ways]})


def written(cost: Cost | None) -> str:
    """The figures of one way as a line."""
    if cost is None:
        return "-"
    done = f"{cost.clicks} clicks, {cost.keys} keys, {cost.pages} pages, {cost.seconds:.1f} s"
    return f"{done}, {cost.commands} commands" if cost.commands else done


def with_commands(space: Workspace, part: VerdictRecord) -> Mapping[str, Cost]:
    """The tasks that the command line can do, in the folder of the workspace; checks each."""
    ledger, inspector = "ledger/line.ledger", f"bundles/{INSPECTOR}"
    find = f"gonogo ledger list {ledger} --part {part.part}"
    found, searching = commanded(space, find)
    row = found[0].split()[0]
    check(part.reason in found[0], f"{find}: expected the reason '{part.reason}', found {found[0]}")
    certify = f"gonogo certify {inspector} datasets/{DATASET} --max-escape {AFTER_PERCENT / 100}"
    why = (f"gonogo ledger show {ledger} {row}", f"gonogo bundle show {inspector}", f"gonogo ledger verify {ledger}")
    said, explaining = commanded(space, find, *why)
    check(f"At most {BEFORE_PERCENT} % of bad parts" in said[2], f"{why[1]}: expected its promise, found {said[2]}")
    _, raising = commanded(space, f"{certify} --max-overkill {BEFORE_PERCENT / 100}")
    check(escape_percent(space) == AFTER_PERCENT, f"{certify}: expected another limit, found {escape_percent(space)} %")
    return {"find": searching, "raise": raising, "why": explaining}


def commanded(space: Workspace, *commands: str) -> tuple[list[str], Cost]:
    """What commands print, and what they take; each is typed in full and ended with Enter."""
    begun, printed = time.perf_counter(), []
    for command in commands:
        arguments = [sys.executable, "-m", *shlex.split(command)]
        done = subprocess.run(arguments, cwd=space.root, capture_output=True, text=True, check=False)
        check(done.returncode == 0, f"{command}: expected exit code 0, found {done.returncode}: {done.stderr}")
        printed.append(done.stdout)
    keys = sum(len(command) + 1 for command in commands)
    return printed, Cost(keys=keys, commands=len(commands), seconds=round(time.perf_counter() - begun, 2))


def in_browser(space: Workspace, part: VerdictRecord, commands: Mapping[str, Cost]) -> list[Ways]:
    """Serve the workspace and do all tasks in a browser."""
    with running(open_app(space)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        try:
            return do_tasks(browser, address, space, part, commands)
        except PlaywrightError as error:
            raise UnfitError(f"a page did not do what was expected: {error}") from error
        finally:
            browser.close()


def open_app(space: Workspace) -> FastAPI:
    """The application on a workspace, with an engineer."""
    app = create_app(space, options=Options())
    people = app.state.components.accounts.people
    user, password = people.add("anna", Role.ENGINEER)
    people.change_password(user, password, PASSWORD)
    return app


def do_tasks(
    browser: Browser, address: str, space: Workspace, part: VerdictRecord, commands: Mapping[str, Cost]
) -> list[Ways]:
    """All tasks, done by the engineer; ``commands`` are the costs that `with_commands` has counted."""
    width, height = VIEWPORT_WH
    page = browser.new_page(viewport={"width": width, "height": height}, locale="en-GB")
    page.set_default_timeout(MOST_MS)
    begin(page, address)
    one_by_one = label_one_by_one(Hand(page, address), space, TRAYS[0])
    in_grid = label_in_grid(Hand(page, address), space, TRAYS[1])
    found = find_part(Hand(page, address), part)
    raised = raise_limit(Hand(page, address), space)
    explained = say_why(Hand(page, address), part)
    page.close()
    return [
        Ways(task="label pictures", before=one_by_one, after=in_grid),
        Ways(task="find a part", before=None, after=found, command_line=commands.get("find")),
        # The page has not changed for this.
        Ways(task="raise a limit", before=raised, after=raised, command_line=commands.get("raise")),
        Ways(task="say why a part passed", before=None, after=explained, command_line=commands.get("why")),
    ]


def begin(page: Page, address: str) -> None:
    """Log in, and wait until what a workspace works out once is there; nothing of it is counted."""
    page.goto(f"{address}/login")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"{address}/")
    page.goto(f"{address}/understand")
    page.locator("[data-tradeoff]").wait_for()


def open_tray(hand: Hand, tray: str, button: str, until: str) -> None:
    """From the overview over the data sets to a page of one of them."""
    hand.click(menu(hand, "Data sets"), f"location.pathname === '/datasets' && {READY}")
    name = hand.page.get_by_role("main").get_by_role("link", name=tray).first
    hand.click(name, f"location.pathname === '/datasets/{tray}' && {READY}")
    hand.click(hand.page.get_by_role("main").locator(f"a.button[href='/datasets/{tray}/{button}']").first, until)


def menu(hand: Hand, name: str) -> Locator:
    """A link of the menu."""
    return hand.page.get_by_role("navigation", name="Pages", exact=True).get_by_role("link", name=name, exact=True)


def label_one_by_one(hand: Hand, space: Workspace, tray: str) -> Cost:
    """The label page: a key for each picture."""
    open_tray(hand, tray, "label", PHOTO)
    file = hand.page.locator("#file")
    names = [sample.file_name for sample in Dataset.read(space.datasets / tray).samples]
    for number in range(len(names)):
        now = file.inner_text()
        if number < len(names) - 1:
            until = f"document.getElementById('file').textContent !== {json.dumps(now)} && {PHOTO}"
        else:
            until = "document.getElementById('saved').dataset.state === 'saved'"
        hand.press("b" if is_bad(now) else "g", until)
    return labels_checked(hand, space, tray)


def label_in_grid(hand: Hand, space: Workspace, tray: str) -> Cost:
    """The grid: the bad ones are chosen and labelled with one key, then all that are still unlabelled with another."""
    open_tray(hand, tray, "pictures", f"{READY} && document.getElementById('cards') && {THUMBNAILS}")
    files = [sample.file_name for sample in Dataset.read(space.datasets / tray).samples]
    bad = [file for file in files if is_bad(file)]
    for file in bad:
        hand.click(hand.page.locator(f"#cards label.pick:has(input[value='{file}']) img"))
    hand.press("b", labelled(f"{len(bad)} picture"))
    hand.click(hand.page.locator("select[name=label]"))
    hand.press("u")
    hand.press("Enter")
    shown = f"location.search.includes('label=open') && {READY} && {THUMBNAILS}"
    hand.click(hand.page.get_by_role("button", name="Show"), shown)
    hand.press("Control+a")
    hand.press("g", labelled(f"{len(files) - len(bad)} pictures labelled good"))
    return labels_checked(hand, space, tray)


def labelled(text: str) -> str:
    """The condition that the grid says what was labelled."""
    note = f"document.getElementById('undo-note')?.textContent.includes({json.dumps(text)})"
    return f"{note} && {READY} && {THUMBNAILS}"


def labels_checked(hand: Hand, space: Workspace, tray: str) -> Cost:
    """Check that all labels are saved."""
    samples = Dataset.read(space.datasets / tray).samples
    said = {each.file_name: each.label for each in samples}
    wrong = [file for file, label in said.items() if label is not (Label.BAD if is_bad(file) else Label.GOOD)]
    check(not wrong, f"{tray}: expected every picture to be labelled, found {len(wrong)} that are not: {wrong[:5]}")
    return hand.cost()


def search_part(hand: Hand, part: VerdictRecord) -> None:
    """Type the name of a part into the search, which has the focus when its page opens."""
    hand.click(menu(hand, "Parts"), f"document.activeElement?.name === 'text' && {READY}")
    hand.type(part.part or "")
    hand.press("Enter", f"/^.parts.[0-9]+$/.test(location.pathname) && {READY}")
    name = hand.page.get_by_role("heading", level=1).inner_text()
    check(name == part.part, f"expected the page of {part.part}, found that of {name}")


def find_part(hand: Hand, part: VerdictRecord) -> Cost:
    """The search leads to the page of the part."""
    search_part(hand, part)
    return hand.cost()


def say_why(hand: Hand, part: VerdictRecord) -> Cost:
    """The page of the part says why it passed, what was promised then, and that nobody has changed the record."""
    search_part(hand, part)
    chain = "document.getElementById('chain').textContent.includes('This row is one of them.')"
    hand.click(hand.page.get_by_role("button", name="Verify the whole chain"), chain)
    said = " ".join(hand.page.get_by_role("main").inner_text().split())
    for expected in (
        "is below the limit for go",
        f"At most {BEFORE_PERCENT} % of bad parts pass",
        "The record of this part is unchanged",
    ):
        check(expected in said, f"the page of {part.part}: expected '{expected}', found {said}")
    return hand.cost()


def raise_limit(hand: Hand, space: Workspace) -> Cost:
    """The slider of the page Understand, one key a step, then the button and its question."""
    hand.click(menu(hand, "Understand"), f"document.querySelector('[data-tradeoff]') && {READY}")
    slider = hand.page.locator("[data-tradeoff] input[type=range]")
    values = (slider.get_attribute("data-values") or "").replace("\xa0", " ").split("|")
    now, wanted = int(slider.input_value()), values.index(f"{AFTER_PERCENT} %")
    check(values[now] == f"{BEFORE_PERCENT} %", f"expected a limit of {BEFORE_PERCENT} %, found {values[now]}")
    hand.click(slider)
    clicked = int(slider.input_value())
    for _ in range(abs(wanted - clicked)):
        hand.press("ArrowRight" if wanted > clicked else "ArrowLeft")
    chosen = f"document.querySelector('.chosen').dataset.maxEscape == {AFTER_PERCENT / 100}"
    hand.wait(chosen)
    hand.click(hand.page.locator("button[data-apply]"))
    words = json.dumps(f"At most {AFTER_PERCENT} % of bad parts pass")
    promise = "document.querySelector('section[aria-labelledby=now] .promise').textContent"
    done = f"{promise}.replaceAll('\\u00a0', ' ').includes({words})"
    hand.click(hand.page.locator("#confirm").get_by_role("button", name="Apply"), done)
    check(escape_percent(space) == AFTER_PERCENT, f"expected {AFTER_PERCENT} %, found {escape_percent(space)} %")
    return hand.cost()


def escape_percent(space: Workspace) -> float | None:
    """The certified limit of bad parts that pass, of the inspector in use; ``None`` if none is certified."""
    point = Inspector.load(space.bundles / INSPECTOR).operating_point
    return round(100 * point.escape.max_rate, 3) if point is not None and point.escape.holds else None


def check(holds: object, message: str) -> None:
    """Raise `UnfitError` unless a task has had its result."""
    if not holds:
        raise UnfitError(message)


if __name__ == "__main__":
    run(main)
