"""Setting a station up in a browser: the form, the camera with its focus aid, two people at once."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
from fastapi import FastAPI
from playwright.sync_api import Page, expect

from gonogo.images import encode_png
from gonogo.schema import Frame
from gonogo.server.access import Role
from gonogo.station.place import Ended, Place, Wish
from pages.conftest import pwned, violations
from server_kit import XSS, file_safe


def folder_of(app: FastAPI) -> Path:
    root: Path = app.state.components.workspace.root
    return root / "stations" / "packing"


def show(folder: Path, frame: Frame, *, name: str = "a.png", at: int = 1_000_000) -> None:
    """Let another program write a picture."""
    path = folder / "incoming" / name
    path.write_bytes(encode_png(frame))
    os.utime(path, (at, at))


def textured() -> Frame:
    rng = np.random.default_rng(1)
    grey = cv2.GaussianBlur(rng.uniform(0, 255, (240, 320)), (0, 0), 1.5)
    return np.repeat(cv2.normalize(grey, None, 30, 220, cv2.NORM_MINMAX)[..., None], 3, 2).astype(np.uint8)  # type: ignore[call-overload]


def test_only_the_fields_of_the_chosen_camera_are_shown_and_sent(new_page: Callable[..., Page]) -> None:
    page = new_page(Role.ENGINEER)
    page.goto("/stations/new")
    expect(page.get_by_label("Folder on this computer")).to_be_visible()
    page.locator("[name=camera_kind]").select_option("rtsp")
    expect(page.get_by_label("Folder on this computer")).to_be_hidden()
    expect(page.locator("[name=trigger_kind]")).to_have_value("timer")
    page.get_by_label("Address").first.fill("http://192.168.0.20/")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_text("These settings cannot be used")).to_be_visible()
    expect(page.get_by_label("Address").first).to_have_value("http://192.168.0.20/")
    page.get_by_label("Address").first.fill("rtsp://192.168.0.20/stream")
    page.get_by_text("Further settings: PLC").click()
    page.get_by_label("Example", exact=True).select_option(label="tcp")
    page.get_by_role("button", name="Set up").click()
    expect(page.get_by_role("heading", name="line-1")).to_be_visible()
    expect(page.get_by_role("textbox", name="Further settings")).to_contain_text('kind = "tcp"')


def test_the_focus_aid_keeps_the_best_value_of_the_chosen_area(app: FastAPI, new_page: Callable[..., Page]) -> None:
    folder, sharp = folder_of(app), textured()
    show(folder, sharp)
    page = new_page(Role.ENGINEER)
    page.goto("/stations/packing")
    image = page.get_by_role("img", name="What the camera sees")
    expect(image).to_be_visible()
    now, best = page.locator("[data-now]"), page.locator("[data-best]")
    expect(best).to_contain_text(".")
    reached = best.inner_text()
    expect(now).to_have_text(reached)
    show(folder, cv2.GaussianBlur(sharp, (0, 0), 4).astype(np.uint8), at=1_000_010)
    expect(now).not_to_have_text(reached)
    expect(best).to_have_text(reached)
    assert float(now.inner_text()) < 0.7 * float(reached)
    box = image.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.2 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.7 * box["height"])
    page.mouse.up()
    expect(best).not_to_have_text(reached)
    assert 35 < float(page.locator(".area").get_attribute("width") or 0) < 45
    page.get_by_role("button", name="Whole picture").click()
    expect(page.locator(".area")).to_have_attribute("width", "100")
    show(folder, np.zeros((240, 320, 3), np.uint8), at=1_000_020)
    expect(page.get_by_text("A part with this picture would be a fault.")).to_be_visible()
    assert violations(page) == []


def test_two_people_do_not_overwrite_each_other(app: FastAPI, new_page: Callable[..., Page]) -> None:
    first, second = new_page(Role.ENGINEER), new_page(Role.ADMIN)
    for page in (first, second):
        page.goto("/stations/packing")
        page.get_by_text("Time limits").click()
    first.get_by_label("Parts that may wait").fill("3")
    first.get_by_role("button", name="Save").click()
    expect(first.get_by_text("Saved.")).to_be_visible()
    second.get_by_label("Parts that may wait").fill("5")
    second.get_by_role("button", name="Save").click()
    expect(second.get_by_text("The settings were changed meanwhile.")).to_be_visible()
    settings = app.state.components.stations.find("packing").settings
    assert settings.queue == 3


def test_a_station_that_dies_is_shown_on_every_page_without_a_reload(
    app: FastAPI, new_page: Callable[..., Page]
) -> None:
    """Nothing is started here: the files say what its process and people have done."""
    place = Place(folder=folder_of(app))
    app.state.components.stations.close()
    listed, setup, wall, watched = (
        new_page(role) for role in (Role.OPERATOR, Role.ENGINEER, Role.OPERATOR, Role.AUDITOR)
    )
    listed.goto("/stations")
    setup.goto("/stations/packing")
    wall.goto("/wall")
    watched.goto("/station?name=packing")
    expect(listed.get_by_role("row", name="packing")).to_contain_text("Stopped")
    expect(setup.get_by_role("button", name="Save")).to_be_enabled()
    place.write_wish(Wish(run=True, number=1, who="eve", at=datetime.now(UTC)))
    place.write_ended(Ended(number=1, why=f"port 8791 is taken {XSS[1]}", at=datetime.now(UTC)))
    expect(listed.get_by_role("row", name="packing")).to_contain_text("port 8791 is taken")
    expect(setup.locator("#standing")).to_contain_text("port 8791 is taken")
    expect(setup.get_by_role("button", name="Save")).to_be_disabled()
    expect(wall.get_by_role("region", name="packing")).to_contain_text("Fault")
    expect(watched.locator(".verdict .word").first).to_have_text("Fault")
    assert not any(pwned(page) for page in (listed, setup, wall, watched))
    place.write_wish(Wish(run=False, number=1))


def test_a_file_name_is_shown_as_text(app: FastAPI, new_page: Callable[..., Page]) -> None:
    show(folder_of(app), textured(), name=f"{file_safe(XSS[1])}.png")
    page = new_page(Role.ENGINEER)
    page.goto("/stations/packing")
    expect(page.get_by_role("img", name="What the camera sees")).to_be_visible()
    page.get_by_role("button", name="Try").click()
    expect(page.locator(".tried figcaption").first).to_have_text(f"{file_safe(XSS[1])}.png", timeout=120_000)
    assert not pwned(page)
    assert violations(page) == []
