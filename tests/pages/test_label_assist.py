"""Assisted labelling in a browser: magnetic lasso, region growing, proposals in turn, and the keys for all of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.dataset import Dataset, Sample, write_metadata
from gonogo.images import encode_png
from gonogo.schema import Label, Mask
from gonogo.server.access import Role
from pages.conftest import violations
from pages.test_label_page import expect_in, opened, placed, settled


@pytest.fixture
def dataset(app: FastAPI) -> Path:
    """Two pictures of a light part with a dark round stain, 320 x 240 pixels."""
    root: Path = app.state.components.workspace.datasets / "part"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(3)
    for number in range(2):
        frame = np.clip(rng.normal(50, 3, (240, 320, 3)), 0, 255).astype(np.uint8)
        frame[20:220, 40:280] = np.clip(rng.normal(180, 4, (200, 240, 3)), 0, 255)
        cv2.circle(frame, (150, 120), 40, (125, 112, 108), -1, cv2.LINE_AA)
        (root / f"images/{number}.png").write_bytes(encode_png(frame))
    write_metadata(root, [Sample(file_name=f"images/{number}.png") for number in range(2)])
    return root


def stain() -> Mask:
    mask = np.zeros((240, 320), np.uint8)
    cv2.circle(mask, (150, 120), 40, 1, -1)
    return mask.astype(bool)


def iou(root: Path) -> float:
    data = Dataset.read(root)
    mask = data.load_mask(data.samples[0], (240, 320))
    return 0.0 if mask is None else float((mask & stain()).sum() / (mask | stain()).sum())


def test_the_lasso_follows_the_edge_between_a_few_points(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    stage = opened(page)
    page.keyboard.press("l")
    expect(page.locator("#hint")).to_contain_text("Magnetic lasso")
    expect(page.locator("#stage[data-wired=true]")).to_have_count(1)
    at = placed(stage)
    # Five points, each some pixels off the edge, and one that is taken back.
    for degrees in (0, 75, 150, 215, 285):
        x, y = 150 + 42 * np.cos(np.radians(degrees)), 120 + 42 * np.sin(np.radians(degrees))
        page.mouse.move(*at(x - 1, y))
        page.mouse.click(*at(x, y))
    page.mouse.click(*at(60, 60))
    page.keyboard.press("Backspace")
    assert page.locator("#stage circle.handle").count() == 5
    page.keyboard.press("Enter")
    expect_in(page, lambda: iou(dataset) > 0.93)
    assert Dataset.read(dataset).samples[0].label is Label.BAD
    page.mouse.click(*at(100, 100))
    page.keyboard.press("Escape")
    expect(page.locator("#stage .outline.open")).to_have_count(0)
    expect(page.locator("#drawn")).to_contain_text("outlines: 1")


def test_an_area_grows_with_a_click_and_follows_the_tolerance(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    stage = opened(page)
    page.keyboard.press("w")
    expect(page.get_by_label("Tolerance")).to_be_visible()
    page.mouse.click(*placed(stage)(150, 120))
    expect(page.locator("#grown")).to_contain_text(re.compile(r"6\.[5-9] % of the picture"))
    expect_in(page, lambda: iou(dataset) > 0.95)
    for _ in range(25):
        page.keyboard.press("]")
    expect(page.locator("#grown")).to_contain_text("lower the tolerance")
    for _ in range(25):
        page.keyboard.press("[")
    expect(page.locator("#grown")).to_contain_text(re.compile(r"6\.[5-9] % of the picture"))
    expect_in(page, lambda: iou(dataset) > 0.95)
    assert violations(page) == []
    page.mouse.click(*placed(stage)(60, 40))  # into the part: too much
    expect(page.locator("#drawn")).to_contain_text("outlines: 1")
    expect(page.locator("#grown")).to_contain_text("56 %")
    page.keyboard.press("Escape")
    expect_in(page, lambda: iou(dataset) > 0.95)


def test_an_area_is_grown_and_taken_away_without_a_pointer(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.keyboard.press("w")
    page.keyboard.press("ArrowLeft")  # the cursor begins in the middle, which is in the stain
    page.keyboard.press("Space")
    expect_in(page, lambda: iou(dataset) > 0.95)
    page.keyboard.press("a")
    expect(page.locator("#erase")).to_be_checked()
    page.keyboard.press("Space")
    expect_in(page, lambda: Dataset.read(dataset).samples[0].mask_file_name is None)
    page.keyboard.press("u")
    expect_in(page, lambda: iou(dataset) > 0.95)


def test_a_proposed_box_is_accepted_with_one_key(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    expect(page.locator("#hint")).to_contain_text("The box marks the part, not the defect")
    page.keyboard.press("f")
    expect(page.locator("#stage .region.suggested")).to_have_count(1)
    page.keyboard.press("Escape")
    expect(page.locator("#stage .region")).to_have_count(0)
    page.keyboard.press("f")
    expect(page.locator("#stage .region.suggested")).to_have_count(1)
    page.keyboard.press("Enter")
    expect_in(page, lambda: Dataset.read(dataset).samples[0].box_xyxy is not None)
    box = Dataset.read(dataset).samples[0].box_xyxy
    assert box is not None
    assert np.allclose(box, (40, 20, 280, 220), atol=12)
    assert Dataset.read(dataset).samples[0].label is None, "a box is no verdict"


def test_similar_pictures_are_shown_and_near_duplicates_labelled_with_one_key_each(
    dataset: Path, new_page: Callable[..., Page]
) -> None:
    rng = np.random.default_rng(8)
    fine = cv2.resize(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)
    for number, frame in enumerate((fine, (fine * 0.8).astype(np.uint8))):
        (dataset / f"images/{number}.png").write_bytes(encode_png(frame))
    write_metadata(dataset, [Sample(file_name=f"images/{number}.png", group=1) for number in range(2)])
    page = new_page(Role.ENGINEER)
    opened(page, "images/0.png")
    page.locator(".settings summary").click()
    page.get_by_label("After each decision").uncheck()
    page.locator("#stage").focus()
    page.keyboard.press("ArrowRight")  # a box
    page.keyboard.press("b")
    page.keyboard.press("d")
    expect(page.locator(".toast").last).to_contain_text("1 near-duplicate was labelled: bad.")
    found = Dataset.read(dataset).samples[1]
    assert found.label is Label.BAD
    assert found.box_xyxy is not None
    page.keyboard.press("u")
    expect(page.locator(".toast").last).to_contain_text("The label of 1 near-duplicates was taken back.")
    assert Dataset.read(dataset).samples[1].label is None
    page.keyboard.press("s")
    expect(page.locator(".note").first).to_contain_text("Most similar to images/0.png first.")
    expect(page.locator("#cards input").first).to_have_value("images/0.png")
    page.locator("#cards input").nth(1).focus()
    page.keyboard.press("s")
    expect(page.locator(".note").first).to_contain_text("Most similar to images/1.png first.")
    assert violations(page) == []


def test_the_question_mark_lists_every_key(dataset: Path, new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    opened(page)
    page.keyboard.press("?")
    dialog = page.get_by_role("dialog")
    for text in ("Magnetic lasso", "Grow an area", "Find similar pictures", "Label near-duplicates alike"):
        expect(dialog).to_contain_text(text)
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    for button in page.locator(".tools [data-do]").all():
        assert re.fullmatch("[A-Z]", button.locator("kbd").inner_text())
    settled(page)
