"""The label page in a browser: two people on one picture, a lost connection, touch, keys."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Locator, Page, Route, expect

from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.images import encode_png
from gonogo.schema import Label
from gonogo.server.access import Role
from pages.conftest import PATIENCE_MS, log_in, pwned, violations
from server_kit import PASSWORD, XSS, add_person, file_safe


@pytest.fixture
def dataset(app: FastAPI) -> Path:
    """Six pictures without labels, each of 200 x 150 pixels."""
    root: Path = app.state.components.workspace.datasets / "part"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    samples = []
    for number in range(6):
        frame = np.kron(rng.integers(40, 220, (6, 8, 3)), np.ones((25, 25, 1), int)).astype(np.uint8)
        (root / f"images/{number}.png").write_bytes(encode_png(frame))
        samples.append(Sample(file_name=f"images/{number}.png"))
    write_metadata(root, samples)
    return root


def labels(root: Path) -> list[Label | None]:
    return [sample.label for sample in Dataset.read(root).samples]


def opened(page: Page, file: str = "") -> Locator:
    """Open the label page and wait for its picture."""
    page.goto("/datasets/part/label" + (f"?file={file}" if file else ""))
    settled(page)
    return page.locator("#stage")


def settled(page: Page) -> None:
    expect(page.locator("#stage image.photo")).to_have_attribute("href", re.compile("^blob:"))
    expect(page.locator("#stage-wrap[aria-busy]")).to_have_count(0)


def saved(page: Page) -> None:
    expect(page.locator("#saved")).to_have_attribute("data-state", "saved")


def box_of(root: Path, number: int = 0) -> tuple[float, float, float, float] | None:
    return Dataset.read(root).samples[number].box_xyxy


def test_a_box_is_drawn_moved_and_resized_with_the_mouse(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    stage = opened(page)
    at = placed(stage)
    drag(page, at(50, 40), at(150, 110))
    saved_box(page, dataset, (50, 40, 150, 110))
    drag(page, at(100, 75), at(110, 85))
    saved_box(page, dataset, (60, 50, 160, 120))
    drag(page, at(160, 120), at(140, 100))
    saved_box(page, dataset, (60, 50, 140, 100))
    drag(page, at(60, 75), at(2, 75))
    saved_box(page, dataset, (0, 50, 140, 100))
    page.keyboard.press("u")
    saved_box(page, dataset, (60, 50, 140, 100))


def test_a_box_is_drawn_with_the_keyboard_alone(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.keyboard.press("ArrowRight")
    saved_box(page, dataset, (50, 37.5, 150, 112.5))
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowDown")
    saved_box(page, dataset, (51, 47.5, 151, 122.5))
    page.keyboard.press("r")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("ArrowUp")
    saved_box(page, dataset, (51, 47.5, 141, 121.5))
    page.keyboard.press("g")
    expect(page.locator("#file")).to_have_text("images/1.png")
    settled(page)
    page.keyboard.press("c")
    page.keyboard.press("2")
    saved_box(page, dataset, (51, 47.5, 141, 121.5), number=1)
    page.keyboard.press("e")
    expect(page.locator("#drawn")).to_have_text("No box")


def test_a_turned_box_and_an_outline_are_drawn(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    at = placed(opened(page))
    page.keyboard.press("q")
    drag(page, at(60, 50), at(140, 100))
    for _ in range(10):
        page.keyboard.press("]")
    saved(page)
    expect_in(page, lambda: Dataset.read(dataset).samples[0].quad is not None)
    quad = Dataset.read(dataset).samples[0].quad
    assert quad is not None
    edge = np.subtract(quad[1], quad[0])
    assert np.degrees(np.arctan2(edge[1], edge[0])) == pytest.approx(10, abs=0.1)
    assert np.hypot(*edge) == pytest.approx(80, abs=2)

    page.keyboard.press("m")
    for corner in ((70, 60), (110, 60), (90, 90)):
        page.mouse.click(*at(*corner))
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=re.compile("^Bad"))).to_have_attribute("aria-pressed", "true")
    expect_in(page, lambda: Dataset.read(dataset).samples[0].mask_file_name is not None)
    data = Dataset.read(dataset)
    mask = data.load_mask(data.samples[0], (150, 200))
    assert mask is not None
    assert mask[65, 90]
    assert not mask[95, 90]


def test_a_finger_draws_a_box(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER, has_touch=True, is_mobile=True, viewport={"width": 390, "height": 800})
    at = placed(opened(page))
    session = page.context.new_cdp_session(page)
    for kind, corner in (("touchStart", (50, 40)), ("touchMove", (100, 80)), ("touchMove", (150, 110))):
        x, y = at(*corner)
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y}]})
    session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    saved_box(page, dataset, (50, 40, 150, 110))
    good = page.get_by_role("button", name=re.compile("^Good"))
    good.evaluate("button => button.addEventListener('click', () => { button.dataset.clicked = 'yes'; })")
    for _ in range(5):  # on a busy machine Chromium makes no click of a synthetic tap now and then
        good.tap()
        page.wait_for_timeout(200)
        if good.get_attribute("data-clicked"):
            break
    expect(page.locator("#file")).to_have_text("images/1.png")
    expect_in(page, lambda: labels(dataset)[0] is Label.GOOD)


def test_two_people_on_one_picture_lose_nothing(app: FastAPI, dataset: Path, new_page: Callable[..., Page]) -> None:
    anna, berta = new_page(Role.ENGINEER), new_page(Role.ADMIN)
    # She does not hear of it in time. From the start: what opening the page sends may be answered after the other save.
    berta.route("**/look", lambda route: route.abort())
    for page in (anna, berta):
        opened(page, "images/0.png")
    anna.keyboard.press("g")
    saved(anna)
    berta.keyboard.press("b")
    dialog = berta.get_by_role("dialog")
    expect(dialog).to_contain_text("engineer changed this picture in the meantime.")
    expect(dialog.locator("#conflict-theirs")).to_have_text("Good")
    expect(dialog.locator("#conflict-mine")).to_have_text("Bad")
    assert violations(berta) == []
    assert labels(dataset)[0] is Label.GOOD
    dialog.get_by_role("button", name="Save mine").click()
    expect_in(berta, lambda: labels(dataset)[0] is Label.BAD)
    with app.state.components.ledger_pool.reading() as ledger:
        said = [(row.record.who, row.record.label) for row in ledger.actions() if row.record.action == "label"]
    assert said == [("engineer", Label.GOOD), ("admin", Label.BAD)]


def test_two_people_are_led_to_different_pictures(dataset: Path, new_page: Callable[..., Page]) -> None:
    anna, berta = new_page(Role.ENGINEER), new_page(Role.ADMIN)
    opened(anna, "images/0.png")
    opened(berta, "images/1.png")
    expect(berta.locator("#about")).to_have_text("")
    opened(anna, "images/0.png")
    anna.wait_for_function("() => document.getElementById('position').textContent")
    anna.wait_for_timeout(300)
    anna.keyboard.press("g")
    expect(anna.locator("#file")).to_have_text(re.compile("images/[23].png"))  # 1 is open, one may be set aside


def test_a_lost_connection_is_shown_and_nothing_is_lost(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.evaluate("fetch('/datasets/part/picture.jpg?file=images/1.png&width=960')")

    def lose(route: Route) -> None:
        route.abort()

    page.route("**/save", lose)
    page.keyboard.press("g")
    expect(page.locator("#file")).to_have_text("images/1.png")
    settled(page)
    expect(page.locator("#saved")).to_have_attribute("data-state", "unsaved")
    expect(page.locator("#saved")).to_contain_text("Not saved yet")
    page.keyboard.press("b")
    assert labels(dataset)[:2] == [None, None]
    page.on("dialog", lambda dialog: dialog.accept())
    page.reload()  # even the page may go away meanwhile
    settled(page)
    page.unroute("**/save", lose)
    saved(page)
    expect_in(page, lambda: labels(dataset)[:2] == [Label.GOOD, Label.BAD])


def test_what_is_drawn_while_a_save_is_on_its_way_is_saved_too(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    waiting: list[Route] = []
    page.route("**/save", lambda route: waiting.append(route) if not waiting else route.continue_())
    page.keyboard.press("ArrowRight")
    expect_in(page, lambda: len(waiting) == 1)
    page.keyboard.press("Shift+ArrowRight")
    waiting[0].continue_()
    saved_box(page, dataset, (60, 37.5, 160, 112.5))


def test_a_save_whose_answer_was_lost_counts_once(app: FastAPI, dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    lost = []

    def swallow(route: Route) -> None:
        if lost:
            route.continue_()
        else:
            lost.append(route.fetch().status)  # it arrives; its answer does not
            route.abort()

    page.route("**/save", swallow)
    page.keyboard.press("g")
    expect_in(page, lambda: lost == [200])
    saved(page)
    expect(page.get_by_role("dialog")).to_have_count(0)
    with app.state.components.ledger_pool.reading() as ledger:
        assert sum(row.record.action == "label" for row in ledger.actions()) == 1


def test_a_decision_made_when_the_session_has_ended_is_saved_after_the_next_login(
    dataset: Path, new_page: Callable[..., Page]
) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.context.clear_cookies()
    page.keyboard.press("g")
    page.get_by_label("Name").fill(Role.ENGINEER.value)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    settled(page)
    saved(page)
    expect_in(page, lambda: labels(dataset)[0] is Label.GOOD)


def test_a_double_click_decides_one_picture(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.get_by_role("button", name=re.compile("^Good")).dblclick()
    expect(page.locator("#file")).to_have_text("images/1.png")
    saved(page)
    page.wait_for_timeout(300)
    assert labels(dataset) == [Label.GOOD] + [None] * 5


def test_kinds_and_keys_are_edited_and_used(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.get_by_role("button", name="Edit kinds").click()
    page.get_by_label("One per line").fill("scratch\ncrack")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="crack")).to_be_visible()
    page.keyboard.press("2")
    expect(page.locator("#file")).to_have_text("images/1.png")
    expect_in(page, lambda: Dataset.read(dataset).samples[0].defect == "crack")

    page.locator(".settings summary").click()
    page.get_by_role("button", name="Keyboard shortcuts").click()
    dialog = page.get_by_role("dialog")
    assert violations(page) == []
    dialog.get_by_label("Good", exact=True).fill("b")
    dialog.get_by_role("button", name="Save").click()
    expect(dialog.get_by_text("Two actions have the same key.")).to_be_visible()
    expect(dialog.get_by_label("Good", exact=True)).to_have_value("b")  # nothing typed is lost
    dialog.get_by_label("Good", exact=True).fill("k")
    page.keyboard.press("Enter")
    expect(page.locator(".good kbd")).to_have_text("K")
    settled(page)
    page.keyboard.press("k")
    expect_in(page, lambda: labels(dataset)[1] is Label.GOOD)


def test_undo_goes_back_through_pictures(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    for number in range(3):
        expect(page.locator("#file")).to_have_text(f"images/{number}.png")
        settled(page)
        page.keyboard.press("g")
    expect_in(page, lambda: labels(dataset)[:3] == [Label.GOOD] * 3)
    settled(page)
    page.keyboard.press("u")
    expect(page.locator("#file")).to_have_text("images/2.png")
    page.keyboard.press("u")
    expect(page.locator("#file")).to_have_text("images/1.png")
    expect_in(page, lambda: labels(dataset)[:3] == [Label.GOOD, None, None])


def test_undo_works_after_a_reload_and_leaves_what_others_said(
    app: FastAPI, dataset: Path, new_page: Callable[..., Page]
) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    for number in range(2):
        expect(page.locator("#file")).to_have_text(f"images/{number}.png")
        settled(page)
        page.keyboard.press("g")
    expect_in(page, lambda: labels(dataset)[:2] == [Label.GOOD] * 2)
    saved(page)
    with app.state.components.datasets.changing("part") as draft:
        sample = draft.before.find("images/1.png")
        draft.put([sample.model_copy(update={"label": Label.BAD, "labelled_by": "Berta"})])
    page.reload()
    settled(page)
    page.keyboard.press("u")
    expect(page.get_by_text("Berta just labelled this picture.")).to_be_visible()
    page.keyboard.press("u")
    expect(page.locator("#file")).to_have_text("images/0.png")
    expect_in(page, lambda: labels(dataset)[:2] == [None, Label.BAD])


def test_the_last_label_is_shown(dataset: Path, new_page: Callable[..., Page]) -> None:
    samples = Dataset.read(dataset).samples
    write_metadata(dataset, [*(each.model_copy(update={"label": Label.GOOD}) for each in samples[:-1]), samples[-1]])
    page = new_page(Role.ENGINEER)
    opened(page)
    expect(page.locator("#file")).to_have_text("images/5.png")
    page.keyboard.press("b")
    expect(page.get_by_text("All pictures are labelled.")).to_be_visible()
    expect(page.locator("#verdict")).to_have_text("Bad")
    expect(page.locator("[data-do=bad]")).to_have_attribute("aria-pressed", "true")


def test_a_second_person_begins_and_goes_on_with_pictures_of_their_own(
    app: FastAPI, dataset: Path, new_page: Callable[..., Page]
) -> None:
    add_person(app, "Berta", Role.ENGINEER)
    one, two = new_page(Role.ENGINEER), new_page()
    log_in(two, "Berta")
    opened(one)
    opened(two)
    file = [page.locator("#file") for page in (one, two)]
    expect(file[0]).to_have_text("images/0.png")
    assert file[1].inner_text() not in ("images/0.png", "images/1.png")  # the second is set aside for the first
    seen: list[set[str]] = [set(), set()]
    for _ in range(3):
        for number, page in enumerate((one, two)):
            settled(page)
            seen[number].add(file[number].inner_text())
            page.keyboard.press("g")
            saved(page)
    assert not seen[0] & seen[1]
    expect_in(one, lambda: labels(dataset) == [Label.GOOD] * 6)


def test_nobody_is_told_about_themselves_after_a_reload(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.goto("/datasets/part/label")
    settled(page)
    expect(page.locator("#file")).to_have_text("images/0.png")
    expect(page.locator("#about")).to_be_empty()
    again = page.context.new_page()
    opened(again, "images/0.png")
    expect(again.locator("#about")).to_have_text("You also have this picture open in another tab.")


@pytest.mark.parametrize(("key", "label"), [("m", Label.GOOD), ("t", Label.BAD)])
def test_keys_answer_a_conflict_and_go_on_afterwards(
    app: FastAPI, dataset: Path, new_page: Callable[..., Page], key: str, label: Label
) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.locator(".settings summary").click()
    page.get_by_label("After each decision").click()
    page.get_by_label("After each decision").click()  # has the focus when the keys are pressed
    page.route("**/look", lambda route: route.abort())
    with app.state.components.datasets.changing("part") as draft:
        sample = draft.before.find("images/0.png")
        draft.put([sample.model_copy(update={"label": Label.BAD, "labelled_by": "Berta"})])
    page.keyboard.press("g")
    expect(page.get_by_text("Berta changed this picture in the meantime.")).to_be_visible()
    page.wait_for_timeout(500)
    page.keyboard.press(key)
    expect(page.locator("#conflict")).to_be_hidden()
    expect_in(page, lambda: labels(dataset)[0] is label)
    expect(page.locator("#stage")).to_be_focused()
    expect(page.locator("#file")).to_have_text("images/1.png")
    settled(page)
    page.keyboard.press("b")
    expect_in(page, lambda: labels(dataset)[1] is Label.BAD)


def test_the_data_set_page_counts_what_was_just_uploaded(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    page.goto("/datasets/part")
    figures = page.locator("#figures dd")
    expect(figures.first).to_have_text("6")
    page.get_by_label("Name of the inspector").fill("mine")
    page.get_by_label("Use folder names").check()
    rng = np.random.default_rng(8)
    frames = [encode_png(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8)) for _ in range(20)]
    names = [f"{'good' if number < 10 else 'bad/crack'}/{number}.png" for number in range(20)]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, frame in zip(names, frames, strict=True):
            file.writestr(name, frame)
    expect(page.get_by_text("10 more good pictures needed")).to_be_visible()
    expect(page.get_by_role("button", name="Train")).to_be_disabled()
    page.locator("#files").set_input_files(
        files=[{"name": "more.zip", "mimeType": "application/zip", "buffer": archive.getvalue()}]
    )
    expect(figures.first).to_have_text("26")
    expect(page.get_by_text("more good pictures needed")).to_have_count(0)
    expect(page.get_by_text("crack · 10")).to_be_visible()
    expect(page.get_by_role("button", name="Train")).to_be_enabled()
    expect(page.get_by_label("Name of the inspector")).to_have_value("mine")  # what is being typed stays


def test_an_unreadable_picture_is_said_so_and_passed(dataset: Path, new_page: Callable[..., Page]) -> None:
    (dataset / "images/0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    page = new_page(Role.ENGINEER)
    page.goto("/datasets/part/label")
    expect(page.locator("#trouble")).to_contain_text("0.png")
    page.keyboard.press("n")
    expect(page.locator("#file")).to_have_text("images/1.png")
    settled(page)
    expect(page.locator("#trouble")).to_be_hidden()


def test_names_and_kinds_of_others_run_nothing(app: FastAPI, dataset: Path, new_page: Callable[..., Page]) -> None:
    samples = []
    for number, payload in enumerate(XSS):
        name = f"images/{number}{file_safe(payload)[:60]}.png"
        (dataset / name).write_bytes((dataset / "images/0.png").read_bytes())
        samples.append(Sample(file_name=name, label=Label.BAD, defect=payload[:60], labelled_by=payload))  # type: ignore[call-arg]
    write_metadata(dataset, [*samples, Sample(file_name="images/0.png")])
    name = next(payload for payload in XSS if payload.isprintable())[:60]
    add_person(app, name, Role.ENGINEER)
    page = new_page()
    log_in(page, name)
    for path in ("/datasets", "/datasets/part", "/datasets/part/label"):
        page.goto(path)
        page.wait_for_timeout(400)
        assert not pwned(page)
    settled(page)
    for _ in XSS:
        page.keyboard.press("n")
        settled(page)
    page.get_by_role("button", name="Edit kinds").click()
    assert not pwned(page)


def test_a_report_cannot_run_or_reach_anything(app: FastAPI, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    report = app.state.components.workspace.jobs / "0001" / "report.html"
    report.write_text("<body>Report<script>document.body.textContent='ran'</script><img src=x onerror=alert(1)>")
    page.context.new_page().goto("/training/1/report")
    shown = page.context.pages[-1]
    expect(shown.locator("body")).to_contain_text("Report")


def test_axe_finds_nothing_while_labelling(dataset: Path, new_page: Callable[..., Page]) -> None:
    for scheme in ("light", "dark"):
        page = new_page(Role.ENGINEER, color_scheme=scheme, reduced_motion="reduce")
        stage = opened(page)
        at = placed(stage)
        drag(page, at(50, 40), at(150, 110))
        page.locator(".settings summary").click()
        assert violations(page) == []
        page.keyboard.press("b")
        page.get_by_role("button", name="Previous picture").click()
        settled(page)
        assert violations(page) == []
        page.get_by_role("button", name="Edit kinds").click()
        assert violations(page) == []


# What hands do


def placed(stage: Locator) -> Callable[[float, float], tuple[float, float]]:
    """From frame pixels to the screen."""

    def at(x: float, y: float) -> tuple[float, float]:
        found: Any = stage.evaluate(
            "(svg, [x, y]) => { const p = new DOMPoint(x, y).matrixTransform(svg.getScreenCTM()); return [p.x, p.y]; }",
            [x, y],
        )
        return found[0], found[1]

    return at


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def expect_in(page: Page, true: Callable[[], bool], timeout_ms: int = PATIENCE_MS) -> None:
    """Wait until something is true on the server's side."""
    for _ in range(timeout_ms // 100):
        if true():
            return
        page.wait_for_timeout(100)
    raise AssertionError("it did not become true")


def saved_box(page: Page, root: Path, box_xyxy: tuple[float, float, float, float], *, number: int = 0) -> None:
    def there() -> bool:
        found = box_of(root, number)
        return found is not None and np.allclose(found, box_xyxy, atol=1.0)

    expect_in(page, there)
