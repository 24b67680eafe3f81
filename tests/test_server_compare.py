"""Comparing inspectors and operating points in process: which pictures, what it says, sliders, heat maps."""

from __future__ import annotations

import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image

from gonogo.dataset import Dataset, Sample, Split, write_metadata
from gonogo.dataset.judged import judged_before
from gonogo.inspector import Inspector
from gonogo.ledger import REVIEW, Ledger, Where
from gonogo.schema import Label, Prediction, State
from gonogo.server.compare.comparing import InspectorComparison, ScorePair, _by_part
from server_kit import XSS, Browser, file_safe, record, text_of
from shadow_kit import NEW, OLD, open_app, set_point, two_inspectors
from tiny_bundle import GOOD_RED


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("compare") / "plant"
    space = two_inspectors(root)
    dataset = Dataset.read(space.datasets / "tiny")  # its test split is enough, and quick to copy
    kept = [*dataset.split(Split.TRAIN)[:2], *dataset.split(Split.TEST)]
    names = {sample.file_name for sample in kept}
    for path in (dataset.root / "images").iterdir():
        if f"images/{path.name}" not in names:
            path.unlink()
    write_metadata(dataset.root, kept)
    rng, judge = np.random.default_rng(4), Inspector.load(space.bundles / OLD)
    with Ledger.open(space.ledger) as ledger:
        for number in range(12):
            record(ledger, 100 + number, GOOD_RED + float(rng.normal(0, 28)), rng=rng, judge=judge)
    return root


@pytest.fixture
def app(template: Path, tmp_path: Path) -> Iterator[FastAPI]:
    shutil.copytree(template, tmp_path / "plant")
    made = open_app(tmp_path / "plant")
    yield made
    made.state.components.worker.close()


def browse(app: FastAPI, name: str = "engineer", **more: Any) -> Browser:
    browser = Browser(app, **more)
    browser.login(name)
    return browser


def compare(app: FastAPI, browser: Browser, on: str = "tiny", a: str = OLD, b: str = NEW) -> Any:
    """Compare two on the page, wait, and return what it then shows."""
    answer = browser.post("/compare/start", a=a, b=b, on=on)
    assert answer.status_code == 303, text_of(answer)
    while app.state.components.worker.busy():
        threading.Event().wait(0.02)
    return browser.get(answer.headers["location"])


def result(app: FastAPI, on: str = "tiny") -> InspectorComparison:
    found = app.state.components.comparing.comparer.latest()
    assert isinstance(found, InspectorComparison)
    assert found.dataset == on
    return found


@pytest.mark.slow
def test_two_bundles_are_compared_on_the_same_reviewed_parts(app: FastAPI) -> None:
    components = app.state.components
    set_point(components.workspace.bundles / OLD, go_below=30.0, no_go_above=105.0)
    with components.ledger_pool.reading() as ledger:
        rows = [row.seq for row in ledger.verdicts(Where(states=(State.REVIEW, State.GO)))][:6]
    for seq in rows:
        components.ledger_pool.act(REVIEW, "anna", about=seq, label=Label.GOOD)
    browser = browse(app)
    shown = compare(app, browser, on="")
    found = result(app, "")
    assert len(found.pairs) == 6
    first, second = found.verdicts(second=False), found.verdicts(second=True)
    assert first.review.count > second.review.count
    assert first.auroc is None, "all of them are good"
    told = text_of(shown)
    assert "6 reviewed parts, judged by both" in told
    assert f"The training pictures of {NEW} are unknown." in told
    assert f"/compare/picture.jpg?seq={found.changes[0].picture.removeprefix('seq=')}&amp;by={OLD}" in shown.text
    heat = browser.client.get(f"/compare/picture.jpg?{found.changes[0].picture}&by={NEW}")
    assert Image.open(io.BytesIO(heat.content)).size == (32, 32)


@pytest.mark.slow
def test_two_bundles_are_compared_on_test_pictures_that_neither_was_made_with(app: FastAPI) -> None:
    space = app.state.components.workspace
    tiny = Dataset.read(space.datasets / "tiny")
    test = tiny.split(Split.TEST)
    snapshot = space.jobs / "0001" / "tiny"  # run 1 made tiny.inspector, let us say also with five of these pictures
    snapshot.mkdir()
    (snapshot / "images").symlink_to(tiny.root / "images")
    shutil.copy(tiny.path(test[7]), tiny.root / "images/again.png")
    seen = [
        *(sample.model_copy(update={"split": Split.TRAIN}) for sample in test[:3]),
        Sample(file_name="images/again.png", split=Split.VAL, label=test[7].label),
        test[9].model_copy(update={"file_name": "images/gone.png", "split": Split.CALIBRATE}),
    ]
    write_metadata(snapshot, [*seen, *test[20:]])
    shown = text_of(compare(app, browse(app)))
    found = result(app)
    assert (found.used, found.unknown, found.seen) == (5, (NEW,), ())
    left = [sample.file_name for row, sample in enumerate(test) if row not in (0, 1, 2, 7, 9)]
    assert [pair.name for pair in found.pairs] == left
    assert found.verdicts(second=False).auroc == found.verdicts(second=True).auroc, "the same graph"
    assert "5 parts were skipped because one of the two inspectors was trained or calibrated on them." in shown
    assert set(judged_before(Dataset.read(space.datasets / "tiny"))) >= set(left), "they count as seen from now on"


@pytest.mark.slow
def test_where_one_knows_every_picture_the_page_says_so(app: FastAPI) -> None:
    space = app.state.components.workspace
    tiny = Dataset.read(space.datasets / "tiny")
    snapshot = space.jobs / "0001" / "tiny"
    snapshot.mkdir()
    (snapshot / "images").symlink_to(tiny.root / "images")
    write_metadata(snapshot, [each.model_copy(update={"split": Split.TRAIN}) for each in tiny.samples])
    shown = text_of(compare(app, browse(app, accept_language="de")))
    assert result(app).seen == (OLD,)
    assert len(result(app).pairs) == len(tiny.samples)
    assert f"{OLD} kennt einige dieser Bilder" in shown


@pytest.mark.slow
def test_the_sliders_compare_other_operating_points_of_one_inspector_as_well(app: FastAPI) -> None:
    browser = browse(app)
    shown = text_of(compare(app, browser, a=OLD, b=OLD))
    assert "0 parts on which they differ" in shown
    query = {"a": OLD, "b": OLD, "on": "tiny"}
    lenient = browser.get(f"/compare/setting?{urlencode({**query, 'b_go': 999, 'b_no_go': 999})}").json()["html"]
    assert "These are not the thresholds in force." in lenient
    assert "100.0\N{NO-BREAK SPACE}%</b> <small>30 of 30" in lenient, "it passes every bad part"
    assert "0 parts on which" not in lenient
    same = browser.get(f"/compare/setting?{urlencode(query)}").json()["html"]
    assert "These are not the thresholds in force." not in same
    assert browser.get(f"/compare/setting?{urlencode({**query, 'on': 'none'})}").status_code == 422


@pytest.mark.slow
def test_heat_maps_are_drawn_of_judged_pictures_only_and_in_the_colour_of_each_verdict(app: FastAPI) -> None:
    browser = browse(app)
    query = {"dataset": "tiny", "file": "images/test-000.png", "by": OLD}
    assert browser.client.get(f"/compare/picture.jpg?{urlencode(query)}").status_code == 404, "nobody has judged it"
    compare(app, browser)
    pair = result(app).changes[0]
    first, second = (browser.client.get(f"/compare/picture.jpg?{pair.picture}&by={name}") for name in (OLD, NEW))
    assert first.headers["content-type"] == "image/jpeg"
    assert first.content != second.content, "the same graph, but another verdict"
    for more in ({"by": "../x"}, {"file": "../../x"}, {"dataset": "none"}):
        assert browser.client.get(f"/compare/picture.jpg?{urlencode({**query, **more})}").status_code == 404
    assert browser.client.get(f"/compare/picture.jpg?seq=1&by={OLD}").status_code == 404, "no part"


@pytest.mark.slow
def test_the_page_prefers_pictures_that_are_held_out_and_refuses_what_is_not_there(app: FastAPI) -> None:
    browser = browse(app)
    told = text_of(browser.get("/compare"))
    assert "test pictures of tiny (60)" in told
    assert "Not compared yet" in told
    browser.post("/compare/start", a=OLD, b="none.inspector", on="tiny")
    assert "There is no inspector none.inspector" in text_of(browser.get("/compare"))
    browser.post("/compare/start", a=OLD, b=NEW, on="none")
    assert app.state.components.comparing.comparer.latest() is None
    auditor = browse(app, "auditor")
    assert auditor.post("/compare/start", a=OLD, b=NEW, on="tiny").status_code == 403
    compare(app, browser)
    seen = text_of(auditor.get(f"/compare?a={OLD}&b={NEW}"))
    assert "60 parts of tiny, judged by both" in seen, "what an engineer has compared, an auditor can read"


@pytest.mark.slow
def test_two_comparisons_at_once_are_both_kept(app: FastAPI) -> None:
    anna, admin = browse(app), browse(app, "admin")
    first = anna.post("/compare/start", a=OLD, b=NEW, on="tiny").headers["location"]
    second = admin.post("/compare/start", a=NEW, b=OLD, on="tiny").headers["location"]
    while app.state.components.worker.busy():
        threading.Event().wait(0.02)
    for browser, place, order in ((anna, first, (OLD, NEW)), (admin, second, (NEW, OLD))):
        shown = text_of(browser.get(place))
        table = shown[shown.index("judged by both") :]
        assert table.index(order[0]) < table.index(order[1])
        assert browser.get(place.replace("/compare?", "/compare/state?")).json()["over"] is True


def test_nothing_that_people_typed_comes_out_as_markup(app: FastAPI) -> None:
    browser, root = browse(app), app.state.components.workspace.datasets / "tiny"
    samples = []
    for name in [name for name in XSS if name.isprintable()]:
        file = f"images/{file_safe(name)[:60]}.png"
        shutil.copy(root / "images/test-000.png", root / file)
        said = {"label": Label.BAD, "defect": name[:60], "labelled_by": name}
        samples.append(Sample(file_name=file, **said))  # type: ignore[arg-type]
    write_metadata(root, samples)
    set_point(app.state.components.workspace.bundles / NEW, go_below=1.0, no_go_above=2.0)
    shown = compare(app, browser).text
    assert len(result(app).changes) == len(samples)
    assert not any(each in shown for each in ("<script>window.pwned", "<img src=x", "<svg onload", "<iframe"))


def test_a_part_counts_once_however_many_pictures_show_it() -> None:
    def pair(part: str, first: State, second: State) -> ScorePair:
        rows = [
            Prediction(file="", part=part, label=Label.BAD, defect=None, state=each, score=0.0)
            for each in (first, second)
        ]
        return ScorePair(picture="", name=part, who="", first=rows[0], second=rows[1])

    found = _by_part(
        [
            pair("a", State.GO, State.GO),
            pair("b", State.REVIEW, State.GO),
            pair("a", State.GO, State.NO_GO),
        ]
    )
    assert [(each.name, each.first.state, each.second.state) for each in found] == [
        ("a", State.GO, State.NO_GO),
        ("b", State.REVIEW, State.GO),
    ]


def test_one_bundle_is_better_where_it_is_right_more_often_and_the_chance_is_exact() -> None:
    def pair(label: Label, first: State, second: State) -> ScorePair:
        rows = [
            Prediction(file="", part="", label=label, defect=None, state=each, score=0.0) for each in (first, second)
        ]
        return ScorePair(picture="", name="", who="", first=rows[0], second=rows[1])

    pairs = [
        *[pair(Label.BAD, State.REVIEW, State.NO_GO)] * 4,
        pair(Label.BAD, State.GO, State.REVIEW),
        pair(Label.GOOD, State.FAULT, State.GO),
        pair(Label.GOOD, State.GO, State.NO_GO),
        pair(Label.GOOD, State.FAULT, State.REVIEW),
    ]
    found = InspectorComparison(first=None, second=None, dataset="", pairs=tuple(pairs), gone=0, used=0, unknown=())  # type: ignore[arg-type]
    assert (found.better, found.worse) == (6, 1)
    assert found.chance == pytest.approx(2 * (1 + 7) / 2**7)
    assert [each.first.label for each in found.changes] == [Label.BAD] * 5 + [Label.GOOD] * 3
