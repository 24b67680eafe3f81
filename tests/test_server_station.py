"""The station page: what it shows, how it stays live, and the pictures of parts."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from gonogo import images
from gonogo.ledger import Ledger, Where
from gonogo.schema import State
from gonogo.server import Workspace
from gonogo.server.parts.pictures import smaller_picture
from gonogo.server.server_thread import running
from gonogo.server.station.feed import Snapshot
from gonogo.server.station.trend import HEIGHT, WIDTH, lay_out
from server_kit import PASSWORD, XSS, Browser, beat, fill, make_app, record, record_fault, text_of
from tiny_bundle import BAD_RED, GOOD_RED


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> FastAPI:
    root = tmp_path_factory.mktemp("plant") / "workspace"
    fill(Workspace.open(root))
    app = make_app(root)
    last = rows_of(app)[-1].at
    app.state.components.feed.now = lambda: last + timedelta(seconds=12)  # else slow tests would find it old
    return app


@pytest.fixture
def browser(plant: FastAPI) -> Browser:
    browser = Browser(plant)
    browser.login("operator")
    return browser


def rows_of(app: FastAPI) -> list[Any]:
    with app.state.components.ledger_pool.reading() as ledger:
        return list(ledger.verdicts())


@pytest.mark.slow
def test_the_page_shows_the_newest_verdict_with_word_symbol_and_reason(plant: FastAPI, browser: Browser) -> None:
    page = browser.get("/station")
    last = rows_of(plant)[-1].record
    assert last.state is State.NO_GO
    assert 'class="panel no_go"' in page.text
    assert '<p class="word">No-go</p>' in page.text
    assert last.reason in text_of(page)
    assert last.part in text_of(page)


def test_the_counters_are_those_of_the_ledger(plant: FastAPI, browser: Browser) -> None:
    shown = text_of(browser.get("/station"))
    states = [row.record.state for row in rows_of(plant)]
    assert f"Parts today {len(states)}" in shown
    for state, word in ((State.GO, "Go"), (State.NO_GO, "No-go"), (State.REVIEW, "Review"), (State.FAULT, "Fault")):
        assert f"{word} {states.count(state)} " in shown


def test_faults_are_listed_with_their_cause(browser: Browser) -> None:
    shown = text_of(browser.get("/station"))
    assert "Camera lost 1" in shown
    assert "no camera" in shown


def test_a_station_without_a_heartbeat_shows_no_verdict(plant: FastAPI, browser: Browser) -> None:
    space = plant.state.components.workspace
    try:
        beat(space)
        assert '<p class="word">No-go</p>' in browser.get("/station").text
        beat(space, ago_s=60)
        silent = browser.get("/station").text
        assert '<p class="word long">Silent</p>' in silent
        assert "panel no_go" not in silent
        beat(space, health="stopped")
        assert '<p class="word long">Stopped</p>' in browser.get("/station").text
        beat(space, alarms=("<b>the disk is nearly full</b>",))
        assert "&lt;b&gt;the disk is nearly full" in browser.get("/station").text
    finally:
        (space.station_state / "status.json").unlink()


def test_a_ledger_that_cannot_be_read_is_a_fault_on_the_page(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    browser = Browser(app)
    browser.login("operator")
    feed = app.state.components.feed
    feed._ledger_pool.reading = _unreadable
    assert '<p class="word long">Fault</p>' in browser.get("/station").text


@contextmanager
def _unreadable() -> Iterator[Ledger]:
    raise_error()
    yield  # type: ignore[misc]


def raise_error() -> None:
    from gonogo.errors import LedgerError

    raise LedgerError("line.ledger: cannot be read")


def test_a_workspace_without_a_station_says_so_and_one_with_a_station_is_ready(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    browser = Browser(app)
    browser.login("operator")
    assert '<p class="word long">No station</p>' in browser.get("/station").text
    assert "No inspector yet" in browser.get("/").text
    beat(app.state.components.workspace)
    assert '<p class="word long">Ready</p>' in browser.get("/station").text


def test_the_age_of_a_verdict_stands_beside_it(plant: FastAPI, browser: Browser) -> None:
    at = rows_of(plant)[-1].at.isoformat()
    assert f'<span class="age" data-at="{at}">12 seconds ago</span>' in browser.get("/station").text


@pytest.mark.parametrize("later", [timedelta(seconds=61), timedelta(hours=30), timedelta(hours=-1)])
def test_an_old_verdict_is_not_shown_as_the_present_one(plant: FastAPI, later: timedelta) -> None:
    feed, space = plant.state.components.feed, plant.state.components.workspace
    browser = Browser(plant)
    browser.login("operator")
    before, last = feed.now, rows_of(plant)[-1].at
    try:
        feed.now = lambda: last + later
        alone = browser.get("/station")
        assert '<p class="word long">No station</p>' in alone.text
        beat(space)
        idle = browser.get("/station")
        assert '<p class="word long">Waiting</p>' in idle.text
        for page in (alone, idle):
            assert "panel no_go" not in page.text
            assert 'data-current="no"' in page.text
            assert "Last verdict: No-go" in text_of(page)
        assert "No part at present" in text_of(browser.get("/"))
    finally:
        feed.now = before
        (space.station_state / "status.json").unlink(missing_ok=True)


def test_a_verdict_from_before_the_stations_start_is_not_the_present_one(plant: FastAPI, browser: Browser) -> None:
    space, last = plant.state.components.workspace, rows_of(plant)[-1].at
    status = space.station_state / "status.json"
    try:
        beat(space)
        told = json.loads(status.read_text())
        status.write_text(json.dumps({**told, "since": (last + timedelta(seconds=1)).isoformat()}))
        assert "No part since the station was started" in text_of(browser.get("/station"))
        status.write_text(json.dumps({**told, "since": (last - timedelta(seconds=1)).isoformat()}))
        assert "panel no_go" in browser.get("/station").text
        status.write_text('["no status"]')
        assert browser.get("/station").status_code == 200
    finally:
        status.unlink()


def test_the_stream_turns_neutral_when_the_verdict_has_become_old(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    feed = app.state.components.feed
    with running(app) as address, Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 1, GOOD_RED - 20, rng=np.random.default_rng(0))
        last = next(iter(ledger.verdicts())).at
        feed.now = lambda: last + timedelta(seconds=1)
        stream = Stream(address, log_in(address, "operator"))
        number, said = stream.wait("station")
        assert (said["state"], said["now"]) == ("go", (last + timedelta(seconds=1)).isoformat())
        feed.now = lambda: last + timedelta(seconds=61)
        _, said = stream.wait("station", after=number + 1)
        assert said["state"] is None
        assert "panel go" not in said["pieces"]["verdict"]


@pytest.mark.parametrize("name", [name for name in XSS if name.isprintable()])
def test_markup_in_parts_reasons_and_causes_comes_out_as_text(tmp_path: Path, name: str) -> None:
    app = make_app(tmp_path / "workspace")
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 1, GOOD_RED, rng=np.random.default_rng(0), part=name, lot=name, station=name, reason=name)
        record_fault(ledger, 2, reason=name)
    browser = Browser(app)
    browser.login("operator")
    for path in ("/station", "/"):
        page = browser.get(path).text
        assert "<img src=x" not in page
        assert "<script>window" not in page
        assert "<iframe" not in page
        assert "<b>100%" not in page


def test_the_picture_of_a_part_is_its_stored_frame_with_its_region_outlined(plant: FastAPI, browser: Browser) -> None:
    row = rows_of(plant)[0]
    answer = browser.get(f"/parts/{row.seq}/picture.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    drawn = images.decode(answer.content)
    assert drawn.shape == (32, 32, 3)
    assert drawn[0, :, 1].mean() > drawn[0, :, 0].mean()  # a green edge around a go


def test_the_heat_is_drawn_where_the_bundle_is_known(plant: FastAPI, browser: Browser) -> None:
    row = rows_of(plant)[-1]
    plain = images.decode(browser.get(f"/parts/{row.seq}/picture.jpg").content).astype(int)
    heated = images.decode(browser.get(f"/parts/{row.seq}/picture.jpg?heat=true").content).astype(int)
    assert np.abs(plain - heated).mean() > 5


@pytest.mark.parametrize("path", ["/parts/1/picture.jpg", "/parts/999/picture.jpg", "/parts/2/picture.jpg?view=7"])
def test_what_has_no_picture_is_not_found(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 404


@pytest.mark.slow
def test_a_frame_that_retention_removed_is_not_found(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    with Ledger.open(app.state.components.workspace.ledger) as ledger:
        record(ledger, 1, GOOD_RED, rng=np.random.default_rng(0))
        row = next(ledger.verdicts())
        ledger.frames.remove(row.record.views[0].frame_sha256 or "")
    browser = Browser(app)
    browser.login("operator")
    assert browser.get(f"/parts/{row.seq}/picture.jpg").status_code == 404


def test_drawn_pictures_are_remembered_within_bounds(plant: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    from gonogo.server.parts import pictures as module

    pictures = plant.state.components.pictures
    monkeypatch.setattr(module, "_CACHE_BYTES", 4000)
    for row in rows_of(plant) * 2:
        pictures.jpeg(row.record)
    assert pictures._held == sum(map(len, pictures._drawn.values())) <= 4000
    newest = rows_of(plant)[-1].record
    assert pictures.jpeg(newest) is pictures.jpeg(newest)


def test_a_large_frame_is_reduced_and_a_small_one_left_alone() -> None:
    large, small = np.zeros((900, 1600, 3), np.uint8), np.zeros((9, 16, 3), np.uint8)
    assert smaller_picture(large, 960)[0].shape == (540, 960, 3)
    assert smaller_picture(small, 960) == (small, 1.0)


def test_the_trend_keeps_every_mark_inside_and_higher_scores_higher(plant: FastAPI) -> None:
    rows = rows_of(plant)
    trend = lay_out(rows)
    assert len(trend.marks) == len(rows)
    assert all(0 <= mark.x <= WIDTH and 0 <= mark.y <= HEIGHT for mark in trend.marks)
    judged = [(mark.y, -row.record.score) for mark, row in zip(trend.marks, rows, strict=True) if row.record.score]
    assert sorted(judged) == sorted(judged, key=lambda pair: pair[1])
    assert trend.go_y is not None
    assert trend.no_go_y is not None
    assert trend.no_go_y < trend.go_y


def test_the_threshold_lines_stay_when_the_last_part_is_a_fault(plant: FastAPI) -> None:
    rows = plant.state.components.feed.read().recent
    number = next(n for n, row in enumerate(rows) if row.record.state is State.FAULT)
    until_fault = lay_out(rows[: number + 1])
    assert rows[number].record.go_below is None
    assert until_fault.go_y is not None
    assert until_fault.no_go_y is not None
    assert lay_out(rows[number : number + 1]).go_y is None  # nothing is known of any limits
    assert lay_out(()).marks == ()


class Stream:
    """An open stream of events, read in a thread of its own."""

    def __init__(self, address: str, cookies: httpx.Cookies) -> None:
        self.events: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        self._client = httpx.Client(cookies=cookies, timeout=30)
        threading.Thread(target=self._read, args=(address,), daemon=True).start()

    def _read(self, address: str) -> None:
        try:
            with self._client.stream("GET", f"{address}/station/events") as answer:
                name = ""
                for line in answer.iter_lines():
                    if line.startswith("event: "):
                        name = line[7:]
                    elif line.startswith("data:"):
                        self.events.append((name, json.loads(line[5:]) if line[5:].strip() else None))
        except httpx.HTTPError:
            pass
        finally:
            self.ended.set()

    def wait(self, name: str, *, after: int = 0) -> tuple[int, Any]:
        for _ in range(1500):
            for number, (event, said) in enumerate(self.events[after:], after):
                if event == name:
                    return number, said
            time.sleep(0.01)
        raise AssertionError(f"expected an event {name}, found {[event for event, _ in self.events]}")

    def close(self) -> None:
        self._client.close()


def log_in(address: str, name: str) -> httpx.Cookies:
    with httpx.Client(headers={"origin": address}) as client:
        page = client.get(f"{address}/login").text
        csrf = page.split('name="csrf" content="')[1].split('"')[0]
        client.post(f"{address}/login", data={"name": name, "password": PASSWORD, "csrf": csrf})
        return client.cookies


def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("waited in vain")


def test_the_stream_sends_the_present_then_each_change_then_ends_with_the_session(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    components = app.state.components
    with running(app) as address, Ledger.open(components.workspace.ledger) as ledger:
        stream = Stream(address, log_in(address, "operator"))
        number, said = stream.wait("station")
        assert said["seq"] is None
        record(ledger, 1, BAD_RED, rng=np.random.default_rng(0))
        number, said = stream.wait("station", after=number + 1)
        assert said["state"] == "no_go"
        assert "No-go" in said["pieces"]["verdict"]
        number, _ = stream.wait("beat", after=number)
        components.accounts.people.set_disabled(
            next(u.id for u in components.accounts.people.all() if u.name == "operator"), True
        )
        stream.wait("goodbye", after=number)
        assert stream.ended.wait(5)
        until(lambda: components.feed.watchers == 0)


@pytest.mark.slow
def test_streams_are_limited_and_a_closed_page_gives_its_place_back(tmp_path: Path) -> None:
    app = make_app(tmp_path / "workspace")
    feed = app.state.components.feed
    feed._max_streams = 3
    with running(app) as address:
        cookies = log_in(address, "operator")
        streams = [Stream(address, cookies) for _ in range(3)]
        for stream in streams:
            stream.wait("station")
        refused = httpx.get(f"{address}/station/events", cookies=cookies)
        assert refused.status_code == 503
        for stream in streams:
            stream.close()
        until(lambda: feed.watchers == 0)
        assert feed._poller is None
        Stream(address, cookies).wait("station")


def test_a_snapshot_of_a_silent_station_is_not_to_be_believed(plant: FastAPI) -> None:
    space = plant.state.components.workspace
    try:
        beat(space, ago_s=60)
        snapshot: Snapshot = plant.state.components.feed.read()
        assert not snapshot.believable
        assert snapshot.last is not None
    finally:
        (space.station_state / "status.json").unlink()


# --- selecting what the station makes


def products_beat(app: FastAPI, **changes: Any) -> None:
    space = app.state.components.workspace
    beat(space)
    path = space.station_state / "status.json"
    status = json.loads(path.read_text()) | {"station": "s1", "products": ["chip", "pill"], "product": None} | changes
    path.write_text(json.dumps(status))


def test_an_operator_selects_the_product_and_the_request_is_on_record(plant: FastAPI, browser: Browser) -> None:
    try:
        products_beat(plant)
        assert "No product is selected" in text_of(browser.get("/station"))
        answer = browser.post("/station/product", product="pill")
        assert answer.status_code == 303
        assert "Selected" in text_of(browser.get("/station"))
        with plant.state.components.ledger_pool.reading() as ledger:
            [row] = list(ledger.actions(Where(action="product_requested", station="s1")))
        assert (row.record.who, row.record.details["product"]) == ("operator", "pill")
        products_beat(plant, product="pill", selected_by="person")
        assert "Product pill selected by a person" in text_of(browser.get("/station"))
        browser.post("/station/product", product="screw")
        assert "has no product screw" in text_of(browser.get("/station"))
        beat(plant.state.components.workspace, ago_s=60)
        browser.post("/station/product", product="pill")
        assert "not running" in text_of(browser.get("/station"))
    finally:
        (plant.state.components.workspace.station_state / "status.json").unlink()


def test_a_station_for_one_product_offers_no_choice_and_an_auditor_may_not_choose(plant: FastAPI) -> None:
    auditor = Browser(plant)
    auditor.login("auditor")
    assert 'action="/station/product"' not in auditor.get("/station").text
    try:
        products_beat(plant)
        assert 'action="/station/product"' not in auditor.get("/station").text
        assert auditor.post("/station/product", product="pill").status_code == 403
    finally:
        (plant.state.components.workspace.station_state / "status.json").unlink()
