"""Another data set than the bundle's: it certifies nothing and supplies no kinds, neighbours or blind checks."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI

from gonogo import bundle
from gonogo.certification import recertify
from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger
from gonogo.operating_point import Promise
from gonogo.schema import Label
from gonogo.server import Workspace
from server_kit import Browser, fill, make_app, record, text_of
from tiny_bundle import make_parts


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The inspector of tiny is in use; a larger data set of another product, with kinds of its own, lies beside it."""
    root = tmp_path_factory.mktemp("other") / "plant"
    space = Workspace.open(root)
    fill(space)
    recertify(
        Inspector.load(space.bundles / "tiny.inspector"), Dataset.read(space.datasets / "tiny"), Promise(guard=None)
    )
    other = make_parts(space.datasets / "boards", np.random.default_rng(9), kinds=("burn", "bridge"))
    write_metadata(other.root, [_more(sample) for sample in other.samples])
    return root


def _more(sample: Sample) -> Sample:
    return sample.model_copy(update={"split": Split.TRAIN}) if sample.split is Split.TEST else sample


@pytest.fixture
def app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant", symlinks=True)
    made = make_app(tmp_path / "plant")
    yield made
    made.state.components.worker.close()


def change_tiny(app: FastAPI, split: Split = Split.TRAIN) -> Dataset:
    """Add a picture for training, so that the data set is no longer the bundle's; returns what it was."""
    root = app.state.components.workspace.datasets / "tiny"
    before = Dataset.read(root)
    shutil.copy(root / "images/test-000.png", root / "images/new.png")
    new = Sample(file_name="images/new.png", label=Label.BAD, defect="dent", part="new", split=split)
    write_metadata(root, [*before.samples, new])
    return before


def keep_snapshot(app: FastAPI, before: Dataset) -> None:
    """The labels of run 1, as a training run here writes them down."""
    snapshot = app.state.components.workspace.jobs / "0001" / "tiny"
    snapshot.mkdir()
    (snapshot / "images").symlink_to(before.root / "images")
    write_metadata(snapshot, before.samples)


def learned(app: FastAPI) -> object:
    components = app.state.components
    components.inspectors.refresh()
    while components.worker.busy():
        threading.Event().wait(0.02)
    return components.inspectors.pictures()


def login(app: FastAPI, name: str = "engineer") -> Browser:
    browser = Browser(app)
    browser.login(name)
    return browser


LIMITS = {"max_escape": 0.1, "max_overkill": 0.1, "bad_share": 0.05}


@pytest.mark.slow
def test_another_data_set_never_certifies_however_large_it_is(app: FastAPI) -> None:
    change_tiny(app)
    assert learned(app) is None
    path = app.state.components.workspace.bundles / "tiny.inspector"
    before, browser = bundle.read_bundle(path).sha256, login(app)
    told = text_of(browser.get("/understand"))
    assert "boards" not in told.partition("Compare two inspectors")[0]
    assert "Training pictures or labels have changed since this inspector was trained" in told
    assert "data-tradeoff" not in browser.get("/understand").text
    refused = browser.call("/understand/apply", LIMITS)
    assert refused.status_code == 422
    assert "so no data set is used for certification" in refused.text
    learned(app)
    assert bundle.read_bundle(path).sha256 == before


@pytest.mark.slow
def test_the_labels_of_the_training_run_stand_in_for_a_data_set_that_has_changed(app: FastAPI) -> None:
    keep_snapshot(app, change_tiny(app))
    known = learned(app)
    assert known is not None
    assert (known.dataset, known.run) == ("tiny", 1)  # type: ignore[attr-defined]
    assert all(picture.file != "images/new.png" for picture in known.pictures)  # type: ignore[attr-defined]
    browser = login(app)
    assert "data set tiny as of training run 1" in text_of(browser.get("/understand"))
    assert browser.call("/understand/apply", LIMITS).json() == {"done": True}
    learned(app)
    assert app.state.components.inspectors.in_use().point.escape.max_rate == 0.1


@pytest.mark.slow
def test_a_calibration_label_that_was_corrected_since_is_not_certified_as_it_was(app: FastAPI) -> None:
    before = change_tiny(app)
    keep_snapshot(app, before)
    root = app.state.components.workspace.datasets / "tiny"
    corrected = [
        each.model_copy(update={"label": Label.BAD}) if each.file_name == "images/calibrate-000.png" else each
        for each in Dataset.read(root).samples
    ]
    write_metadata(root, corrected)
    learned(app)
    browser = login(app)
    browser.call("/understand/apply", LIMITS)
    learned(app)
    assert "Labels of calibration pictures have changed" in text_of(browser.get("/understand"))


def keys(app: FastAPI) -> list[str]:
    import re

    return re.findall(r'data-kind="([^"]+)"', login(app, "reviewer").get("/review").text)


@pytest.mark.slow
def test_review_keys_keep_their_meaning_when_data_sets_change(app: FastAPI) -> None:
    learned(app)
    assert keys(app) == ["crack", "hole"]
    components = app.state.components
    judge = Inspector.load(components.workspace.bundles / "tiny.inspector")
    with Ledger.open(components.workspace.ledger) as ledger:
        record(ledger, 900, 92.0, rng=np.random.default_rng(1), judge=judge)
        seq = ledger.head().seq
    components.ledger_pool.act(REVIEW, "anna", about=seq, label=Label.BAD, defect="abrasion")
    assert keys(app) == ["crack", "hole", "abrasion"]
    change_tiny(app)
    assert keys(app) == ["crack", "hole", "abrasion"], "while it is looked for"
    assert learned(app) is None
    assert keys(app) == ["crack", "hole", "abrasion"], "where there is none"


def test_neighbours_come_from_the_bundles_own_data_set_or_not_at_all(app: FastAPI) -> None:
    change_tiny(app)
    assert learned(app) is None
    browser = login(app, "reviewer")
    browser.get("/review")
    ticket = browser.call("/review/deal", {"want": 1}).json()["items"][0]["ticket"]
    found = browser.get(f"/review/{ticket}/nearest")
    assert found.status_code == 200, found.text
    assert "boards" not in found.text
    assert "No data set" in found.text or "no data set is used" in found.text


def test_parts_of_another_product_never_come_back_as_blind_checks(app: FastAPI) -> None:
    queue, inspectors = app.state.components.review.queue, app.state.components.inspectors
    assert inspectors.same_product(inspectors.in_use().sha256)
    assert not inspectors.same_product("0" * 64)
    assert queue.comparable is not None


@pytest.mark.slow
def test_now_and_dial_name_the_same_shortfall_and_say_it_in_pictures(app: FastAPI) -> None:
    space = app.state.components.workspace
    path, tiny = space.bundles / "tiny.inspector", Dataset.read(space.datasets / "tiny")
    recertify(Inspector.load(path), tiny, Promise(max_escape=0.02, max_overkill=0.02, guard=None), force=True)
    learned(app)
    told = text_of(login(app).get("/understand")).replace("\N{NO-BREAK SPACE}", " ")
    assert told.count("49 more bad calibration parts are needed") == 2, "once under Now, once under Dial"
    assert "A limit of 2 % needs 149 bad calibration parts. There are 100, in 100 pictures" in told
    assert "more bad pictures" in told
    assert "No part is rejected" in told or "cannot be promised: 49 more good" in told
