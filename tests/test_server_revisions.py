"""The page of a data set's revisions: list, compare, restore."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gonogo.dataset import Dataset, revisions
from gonogo.images import encode_png
from gonogo.server import Workspace
from label_kit import upload
from server_kit import Browser, make_app, text_of
from tiny_bundle import make_frame


@pytest.fixture
def engineer(tmp_path: Path) -> Browser:
    Workspace.open(tmp_path)
    browser = Browser(make_app(tmp_path))
    browser.login("engineer")
    browser.post("/datasets", name="part")
    rng = np.random.default_rng(2)
    for name in ("a.png", "b.png"):
        assert upload(browser, {name: encode_png(make_frame(60, rng))}).status_code == 200
    return browser


def test_uploads_and_restores_are_revisions_with_the_person_who_made_them(engineer: Browser, tmp_path: Path) -> None:
    root = tmp_path / "datasets" / "part"
    assert [(each.what, each.who) for each in revisions(root)] == [("upload", "engineer")] * 2
    assert "Compare or restore" in text_of(engineer.get("/datasets/part"))
    said = text_of(engineer.get("/datasets/part/revisions?first=1"))
    assert "From revision 1 to revision 2" in said
    assert "images/b.png" in said
    answer = engineer.post("/datasets/part/restore", revision="1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/datasets/part/revisions")
    assert len(Dataset.read(root).samples) == 1
    assert (revisions(root)[-1].what, revisions(root)[-1].who) == ("restore", "engineer")
    assert "restored" in text_of(engineer.get("/datasets/part/revisions?first=99"))
    engineer.post("/datasets/part/restore", revision="2")
    assert len(Dataset.read(root).samples) == 2


def test_a_revision_that_is_not_there_is_refused_and_an_empty_data_set_has_none(engineer: Browser) -> None:
    assert engineer.post("/datasets/part/restore", revision="9").status_code in (303, 400, 409, 422)
    engineer.post("/datasets", name="empty")
    assert "No revisions yet" in text_of(engineer.get("/datasets/empty/revisions"))
    assert engineer.get("/datasets/nowhere/revisions").status_code in (303, 404, 422)
