"""The review and the understand page in a browser: keys, undo, two people, a lost connection, a double click."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.certification import recertify
from gonogo.dataset import Dataset
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger, Where
from gonogo.operating_point import Promise
from gonogo.schema import Label, State
from gonogo.server.access import Role
from gonogo.server.review import BLIND_CHECK, REVIEWED
from gonogo.server.review.queue import LEASE_S
from pages.conftest import log_in, pwned, violations
from server_kit import XSS, add_person, record
from tiny_bundle import BAD_RED, GOOD_RED

DOUBTFUL_RED = (GOOD_RED + BAD_RED) / 2 + 2


@pytest.fixture
def desk(app: FastAPI) -> Any:
    """Twelve doubtful parts in all, and no blind checks unless a test asks for them."""
    components = app.state.components
    components.review.queue.check_share = 0.0
    rng = np.random.default_rng(7)
    judge = Inspector.load(components.workspace.bundles / "tiny.inspector", replay=False)
    with Ledger.open(components.workspace.ledger) as ledger:
        for number in range(9):
            record(ledger, 300 + number, DOUBTFUL_RED, rng=rng, judge=judge, part=f"D-{number}")
    components.inspectors.refresh()  # the number keys have their kinds once the inspector's own data set is judged
    while components.worker.busy():
        threading.Event().wait(0.02)
    return components.review.queue


def said(app: FastAPI, action: str = REVIEW) -> list[Any]:
    with app.state.components.ledger_pool.reading() as ledger:
        return [row.record for row in ledger.actions(Where(action=action))]


def open_desk(page: Page) -> None:
    page.goto("/review")
    ready(page)


def ready(page: Page) -> None:
    """The part is seen, and long enough that a decision is meant for it."""
    expect(page.locator("[data-views] img").first).to_be_visible()
    expect(page.locator("#desk")).to_have_attribute("aria-busy", "false")


def part_of(page: Page) -> str:
    return page.locator("[data-facts] dd").first.inner_text()


def press(page: Page, key: str) -> None:
    before = part_of(page)
    page.keyboard.press(key)
    expect(page.locator("[data-facts] dd").first).not_to_have_text(before)
    ready(page)


def saved(page: Page) -> None:
    expect(page.locator("[data-outbox]")).to_have_text("Everything is saved")


def test_six_parts_are_decided_with_the_keyboard_alone(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    page.get_by_role("link", name="Review", exact=True).press("Enter")
    ready(page)
    for key in ("g", "b", "1", "2"):
        press(page, key)
    page.keyboard.press("n")
    page.keyboard.type("bent pin")
    press(page, "Enter")
    press(page, "3")  # the new kind has a key of its own
    saved(page)
    found = [(each.label, each.defect) for each in said(app)]
    assert found == [
        (Label.GOOD, None),
        (Label.BAD, None),
        (Label.BAD, "crack"),
        (Label.BAD, "hole"),
        (Label.BAD, "bent pin"),
        (Label.BAD, "bent pin"),
    ]
    assert {each.who for each in said(app)} == {"reviewer"}
    assert all(each.details["ms"] > 0 for each in said(app))
    expect(page.locator("[data-waiting]")).to_have_text("6")
    app.state.components.review.collector.run(at_once=True)
    assert app.state.components.review.collector.count() == 6
    took = page.evaluate("performance.getEntriesByName('next-part').map((each) => each.duration)")
    print(f"next part shown after {np.median(took):.0f} ms (median of {len(took)}), at most {max(took):.0f} ms")  # noqa: T201
    assert len(took) == 6


def test_the_last_decision_is_taken_back_with_one_key(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    first = part_of(page)
    press(page, "b")
    saved(page)
    press(page, "u")
    assert part_of(page) == first
    press(page, "g")
    saved(page)
    assert [each.label for each in said(app)] == [Label.BAD, None, Label.GOOD]
    page.keyboard.press("u")
    page.keyboard.press("u")
    expect(page.get_by_text("Nothing to undo.")).to_be_visible()


def test_a_decision_is_undone_after_a_reload(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    first = part_of(page)
    press(page, "b")
    saved(page)
    page.reload()
    ready(page)
    assert part_of(page) != first
    press(page, "u")
    assert part_of(page) == first
    press(page, "g")
    saved(page)
    assert [each.label for each in said(app)] == [Label.BAD, None, Label.GOOD]
    other = new_page(Role.ENGINEER)
    open_desk(other)
    expect(other.locator("[data-undo]")).to_be_disabled()


def test_blind_checks_come_in_steady_work(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    with app.state.components.ledger_pool.reading() as ledger:
        waiting = [row.seq for row in ledger.verdicts(Where(states=(State.REVIEW,), undecided=True))]
    for seq in waiting[:4]:
        app.state.components.ledger_pool.act(REVIEW, "anna", about=seq, label=Label.BAD)
    page = new_page(Role.REVIEWER)
    open_desk(page)  # five parts, no check among them
    desk.check_share = 1.0  # from now on the page asks for one part at a time
    for _ in range(8):
        press(page, "b")
    saved(page)
    assert said(app, BLIND_CHECK)


def test_number_keys_appear_without_a_reload_once_the_kinds_are_known(
    app: FastAPI, new_page: Callable[..., Page]
) -> None:
    hold = threading.Event()
    app.state.components.worker.submit("hold", "something else", lambda task: bool(hold.wait(30)) and None)
    page = new_page(Role.REVIEWER)
    open_desk(page)
    assert page.locator("[data-kind]").count() == 0
    hold.set()
    page.locator('[data-key="2"]').wait_for(timeout=10_000)
    assert [button.get_attribute("data-kind") for button in page.locator("[data-key]").all()] == ["crack", "hole"]


def test_parts_in_hand_are_looked_at_in_any_order(desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    first = part_of(page)
    press(page, "ArrowRight")
    assert part_of(page) != first
    press(page, "ArrowLeft")
    assert part_of(page) == first


def test_heat_map_and_zoom_have_keys_and_buttons(desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    page.keyboard.press("h")
    expect(page.locator("[data-views] img[src*='heat=true']")).to_be_visible()
    page.keyboard.press("h")
    expect(page.locator("[data-views] img[src*='heat=false']")).to_be_visible()
    page.keyboard.press("+")
    page.get_by_role("button", name="Larger").click()
    expect(page.locator("[data-scale]")).to_have_text("196\N{NO-BREAK SPACE}%")
    expect(page.locator("[data-views] img[src*='width=1920']")).to_be_visible()
    before = page.locator("[data-views]").get_attribute("style")
    page.keyboard.press("Shift+ArrowRight")
    assert page.locator("[data-views]").get_attribute("style") != before
    page.keyboard.press("0")
    expect(page.locator("[data-scale]")).to_have_text("100\N{NO-BREAK SPACE}%")


def test_the_nearest_taught_examples_appear_by_themselves(desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    expect(page.locator("[data-nearest] li")).to_have_count(6)
    expect(page.locator("[data-nearest] img").first).to_be_visible()
    expect(page.get_by_text("From the data set tiny, on which the inspector in use was trained.")).to_be_visible()


def test_a_double_click_decides_one_part(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    page.get_by_role("button", name="Bad B").dblclick()
    saved(page)
    ready(page)
    assert len(said(app)) == 1


def test_a_blind_check_looks_like_any_part(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    components = app.state.components
    with components.ledger_pool.reading() as ledger:
        known = [row.seq for row in ledger.verdicts(Where(states=(State.REVIEW,)), limit=3)]
    for seq in known:
        components.ledger_pool.act(REVIEW, "anna", about=seq, label=Label.BAD)
    desk.check_share, desk.dice = 1.0, random.Random(5)
    page = new_page(Role.REVIEWER)
    open_desk(page)
    assert "blind" not in page.locator("#desk").inner_html().lower()
    for _ in range(4):
        press(page, "b")
    saved(page)
    checks = said(app, BLIND_CHECK)
    assert len(checks) == 2
    assert {each.about for each in checks} <= set(known)
    assert len([each for each in said(app) if each.who == "reviewer"]) == 2
    rate = components.review.decisions.agreement()["reviewer"]
    assert (rate.count, rate.of) == (2, 2)


def test_two_reviewers_have_different_parts_and_the_slower_one_is_told(
    app: FastAPI, desk: Any, new_page: Callable[..., Page]
) -> None:
    add_person(app, "Berta", Role.REVIEWER)
    slow, quick = new_page(Role.REVIEWER), new_page()
    log_in(quick, "Berta")
    open_desk(slow)
    open_desk(quick)
    assert part_of(slow) != part_of(quick)
    # The slow one's page falls asleep, and the parts in its hands go to the other.
    page_part = part_of(slow)
    slow.route("**/review/deal", lambda route: route.abort())
    app.state.components.accounts.now.now += LEASE_S + 1
    for _ in range(12):
        quick.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        if part_of(quick) == page_part:
            break
        press(quick, "g")
    press(quick, "b")
    saved(quick)
    slow.keyboard.press("g")
    expect(slow.get_by_text("Berta already decided this part: bad. Your decision was not recorded.")).to_be_visible()
    saved(slow)
    assert [each.who for each in said(app) if each.about == desk_seq(app, page_part)] == ["Berta"]


def desk_seq(app: FastAPI, part: str) -> int:
    with app.state.components.ledger_pool.reading() as ledger:
        return next(ledger.verdicts(Where(part=part))).seq


def test_decisions_made_without_a_connection_are_kept_and_sent_later(
    app: FastAPI, desk: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    page.context.set_offline(True)
    press(page, "b")
    press(page, "g")
    expect(page.locator("[data-outbox]")).to_have_text("No connection. Decisions waiting to be sent: 2", timeout=15_000)
    assert said(app) == []
    press(page, "u")  # was never sent: nothing has to be taken back on the server
    press(page, "1")
    page.context.set_offline(False)
    expect(page.get_by_text("Connected again. Every decision is saved.")).to_be_visible()
    saved(page)
    assert [(each.label, each.defect) for each in said(app)] == [(Label.BAD, None), (Label.BAD, "crack")]


def test_what_is_kept_survives_a_reload(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.REVIEWER)
    open_desk(page)
    page.route("**/review/decide", lambda route: route.abort())
    press(page, "b")
    expect(page.locator("[data-outbox]")).to_contain_text("No connection")
    page.unroute_all()
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()
    saved(page)
    assert [each.label for each in said(app)] == [Label.BAD]


def test_an_empty_desk_says_so_and_fills_by_itself(app: FastAPI, desk: Any, new_page: Callable[..., Page]) -> None:
    space = app.state.components.workspace
    with app.state.components.ledger_pool.reading() as ledger:
        waiting = list(ledger.verdicts(Where(states=(State.REVIEW,), undecided=True)))
    for row in waiting:
        app.state.components.ledger_pool.act(REVIEW, "anna", about=row.seq, label=Label.GOOD)
    page = new_page(Role.REVIEWER)
    page.goto("/review")
    expect(page.get_by_text("All caught up")).to_be_visible()
    assert violations(page) == []
    with Ledger.open(space.ledger) as ledger:
        record(ledger, 900, DOUBTFUL_RED, rng=np.random.default_rng(1), part="late")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("[data-facts] dd").first).to_have_text("late")


def test_names_from_the_line_and_from_people_are_not_executed(
    app: FastAPI, desk: Any, new_page: Callable[..., Page]
) -> None:
    space, names = app.state.components.workspace, [name for name in XSS if name.isprintable()]
    rng, judge = np.random.default_rng(2), Inspector.load(space.bundles / "tiny.inspector", replay=False)
    with Ledger.open(space.ledger) as ledger:
        for number, name in enumerate(names):
            record(ledger, 600 + number, DOUBTFUL_RED, rng=rng, judge=judge, part=name, lot=name, station=name)
            row = ledger.head().seq
            app.state.components.ledger_pool.act(REVIEW, name, about=row, label=Label.BAD, defect=name[:60])
            record(ledger, 700 + number, DOUBTFUL_RED, rng=rng, judge=judge, part=name, lot=name, station=name)
    page = new_page(Role.ENGINEER)
    open_desk(page)
    for _ in range(12):
        press(page, "3")
        assert not pwned(page)
    page.keyboard.press("n")
    page.keyboard.type(names[1][:60])
    page.keyboard.press("Enter")
    saved(page)
    for path in ("/understand", "/review"):
        page.goto(path)
        page.wait_for_timeout(300)
        assert not pwned(page)


def test_both_pages_in_use_have_no_faults_in_accessibility(
    app: FastAPI, new_page: Callable[..., Page], desk: Any
) -> None:
    page = new_page(Role.ENGINEER, reduced_motion="reduce")
    open_desk(page)
    press(page, "b")
    page.locator(".help summary").click()
    expect(page.locator("[data-nearest] li")).to_have_count(6)
    assert violations(page) == []
    set_limits(app)
    open_understand(page)
    assert violations(page) == []


def set_limits(app: FastAPI) -> None:
    space = app.state.components.workspace
    inspector = Inspector.load(space.bundles / "tiny.inspector")
    recertify(inspector, Dataset.read(space.datasets / "tiny"), Promise(max_escape=0.1, max_overkill=0.1, guard=None))


def open_understand(page: Page) -> None:
    page.goto("/understand")
    expect(page.locator("[data-tradeoff]")).to_be_visible()
    expect(page.locator("#tasks p")).to_have_count(0)


def test_the_slider_changes_the_figures_by_key_and_by_mouse(app: FastAPI, new_page: Callable[..., Page]) -> None:
    set_limits(app)
    page = new_page(Role.ENGINEER)
    open_understand(page)
    expect(page.get_by_text("At most 10\N{NO-BREAK SPACE}% of bad parts pass").first).to_be_visible()
    slider = page.get_by_role("slider")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator(".chosen .promise").first).to_contain_text("At most 15\N{NO-BREAK SPACE}% of bad parts")
    assert slider.get_attribute("aria-valuetext") == "15\N{NO-BREAK SPACE}%"
    lenient = page.locator(".chosen .figures dd").first.inner_text()
    page.keyboard.press("Home")
    expect(page.locator(".chosen .promise").first).to_contain_text("cannot be promised")
    assert page.locator(".chosen .figures dd").first.inner_text() != lenient
    page.get_by_label("Good parts that may be rejected (maximum)").select_option(label="30\N{NO-BREAK SPACE}%")
    expect(page.locator(".chosen")).to_have_attribute("data-max-overkill", "0.3")


def test_an_engineer_applies_new_limits_from_the_slider(app: FastAPI, new_page: Callable[..., Page]) -> None:
    set_limits(app)
    page = new_page(Role.ENGINEER)
    open_understand(page)
    page.get_by_role("slider").press("ArrowRight")
    expect(page.locator(".chosen")).to_have_attribute("data-max-escape", "0.15")
    page.get_by_role("button", name="Apply these limits to tiny.inspector").click()
    page.get_by_role("dialog").get_by_role("button", name="Apply").click()
    expect(page.get_by_text("engineer set the limits of tiny.inspector")).to_be_visible(timeout=90_000)
    expect(page.locator("section", has=page.locator("#now")).get_by_text("At most 15")).to_be_visible()
    assert app.state.components.inspectors.in_use().point.escape.max_rate == 0.15


def test_reviewed_pictures_are_added_to_a_data_set_with_one_click(
    app: FastAPI, desk: Any, new_page: Callable[..., Page]
) -> None:
    page = new_page(Role.ENGINEER)
    open_desk(page)
    press(page, "1")
    saved(page)
    page.locator(".help summary").click()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_text("Pictures added: 1. Already there: 0.")).to_be_visible()
    assert REVIEWED in app.state.components.datasets.names()
    copied = [name for name in app.state.components.datasets.read("tiny").samples if name.startswith("reviewed/")]
    assert len(copied) == 1
